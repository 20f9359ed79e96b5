"""What users say, laid over what events say."""

from datetime import UTC, datetime

import numpy as np
import pytest

from services.core.corrections import Correction, Wish, correct_portrait
from services.core.portrait import NO_PORTRAIT
from services.core.portrait_text import describe
from services.core.topics import TopicMap
from tests.core.test_portrait import PRIOR, TOPICS, paint

MAP = TopicMap(topics=TOPICS, topic_N=np.arange(9) // 3, prior_T=PRIOR)
COUNTS = np.tile([[6], [3], [0]], (1, 20))


def corrected(portrait, **wishes):
    said = [
        Correction(topic_id=topic_id, wish=wish, made_time=datetime(2026, 1, 1, tzinfo=UTC))
        for topic_id, wish in wishes.items()
    ]
    made = correct_portrait(portrait, said, MAP)
    return made, {one.topic_id: one for one in made.interests}


def test_what_is_not_wanted_is_left_out_and_the_rest_takes_its_weight():
    made, _ = paint(COUNTS)
    total = sum(one.weight for one in made.interests)
    after, by_id = corrected(made, t1=Wish.NOT_INTERESTED)
    assert [one.topic_id for one in after.interests] == ["t2"]
    assert by_id["t2"].weight == pytest.approx(total)
    assert "food" not in describe(after, {})


def test_more_triples_the_odds_and_keeps_the_sum():
    made, _ = paint(COUNTS)
    food, tools = made.interests
    after, by_id = corrected(made, t2=Wish.MORE)
    assert by_id["t2"].weight / by_id["t1"].weight == pytest.approx(3 * tools.weight / food.weight)
    assert sum(one.weight for one in after.interests) == pytest.approx(food.weight + tools.weight)
    assert [one.topic_id for one in after.interests] == ["t2", "t1"]
    assert (by_id["t2"].is_wanted, by_id["t1"].is_wanted) == (True, False)
    assert by_id["t2"].evidence == tools.evidence


def test_more_of_what_was_never_had_shows_it_without_evidence():
    made, _ = paint(COUNTS)
    after, by_id = corrected(made, t3=Wish.MORE)
    assert by_id["t3"].evidence is None
    assert by_id["t3"].is_wanted
    assert 0 < by_id["t3"].weight < 3 * PRIOR[2]
    assert "toys (" in describe(after, {})
    assert "as asked for" in describe(after, {})


def test_nothing_said_and_topics_that_are_no_more_change_nothing():
    made, _ = paint(COUNTS)
    assert corrected(made)[0] is made
    assert corrected(made, gone=Wish.MORE)[0] is made


def test_nothing_wanted_is_an_empty_portrait_and_a_stranger_may_ask():
    made, _ = paint(COUNTS)
    assert corrected(made, t1=Wish.NOT_INTERESTED, t2=Wish.NOT_INTERESTED)[0].interests == ()
    assert corrected(NO_PORTRAIT, t1=Wish.NOT_INTERESTED)[0].interests == ()
    asked, by_id = corrected(NO_PORTRAIT, t1=Wish.MORE)
    assert by_id["t1"].weight == pytest.approx(PRIOR[0])
    assert describe(asked, {}) == ""
