import pytest

from services.demo.demand_story import demand_story, scarce_topics, seemingly_scarce, trend_of
from tests.demo.uses_replies import demand_client, with_trend


def test_topics_asked_more_than_served_are_the_scarce_ones_scarcest_first():
    demand = demand_client().forecast_demand()
    assert [one.topic_id for one in seemingly_scarce(demand)] == ["t3", "t2"]


def test_rising_topics_come_before_scarcer_ones_that_do_not_rise():
    client = demand_client()
    demand = client.forecast_demand()
    briefs = {key: client.draft_brief(topic_id=key) for key in ("t2", "t3")}
    still = scarce_topics(demand, briefs)
    assert [one.topic.topic_id for one in still] == ["t3", "t2"]
    assert still[0].ratio == float("inf")
    assert still[1].ratio == pytest.approx(0.3 / (9 / 99))
    briefs["t2"] = with_trend(briefs["t2"], "t2", 3.5, is_gap=True)
    briefs["t3"] = with_trend(briefs["t3"], "t3", -2.5)
    rising = scarce_topics(demand, briefs)
    assert [(one.topic.topic_id, one.is_rising, one.is_gap) for one in rising] == [
        ("t2", True, True),
        ("t3", False, False),
    ]


def test_a_trend_is_of_the_topic_asked_for():
    brief = demand_client().draft_brief(topic_id="t2")
    assert trend_of(brief, "t2") is None
    assert trend_of(with_trend(brief, "t1", 2.0), "t2") is None
    assert trend_of(with_trend(brief, "t2", 2.0), "t2") == 2.0


def test_the_topic_most_wanted_is_drawn_where_none_rises():
    story = demand_story(demand_client())
    assert story.drawn.topic_id == "t1"
    assert "bread" in story.brief.text
    assert len(story.drawn.history) == 30
    assert story.asked == 2
