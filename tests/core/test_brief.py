"""Briefs: what is said, and that each statement names the figures it rests on."""

import re
from dataclasses import replace

import numpy as np
import pytest

from services.core.brief import (
    Figure,
    Measure,
    Part,
    Supply,
    brief_of_cohort,
    brief_of_topic,
    topic_facts,
)
from services.core.demand import EVERYONE, Told
from services.core.demand_forecast import forecast_series, shares
from services.core.periods import period_from_name
from services.core.schema import Granularity

NEWEST = period_from_name(Granularity.WEEK, "2026-W47")
SUPPLY = Supply(
    topic_ids=("t1", "t2", "t3"),
    names=("tea: green", "chess", "garden: seeds"),
    terms=(("green",), (), ("seeds",)),
    item_counts=(10, 60, 30),
    titles=(("Green tea",), (), ("Seeds", "Bulbs")),
)


def seen(slopes=(8.0, 0.0, 0.0), periods=40):
    rng = np.random.default_rng(0)
    level = np.array([200.0, 300.0, 400.0])[:, None]
    mean = level + np.array(slopes)[:, None] * np.arange(periods)
    volume_TP = rng.poisson(mean).astype(float)
    return Told(
        audience_TP=volume_TP // 2,
        volume_TP=volume_TP,
        size_P=np.full(periods, 900),
        cohorts_P=np.ones(periods),
        audience_variance=2.0,
        volume_variance=90.0,
    )


def facts_of(told=None, supply=SUPPLY):
    told = told or seen()
    share = forecast_series(shares(told.volume_TP), 2, 52)
    return topic_facts(told, share, supply, cohort=EVERYONE, newest=NEWEST)


def of(sentences, part):
    return [one for one in sentences if one.part is part]


USERS = Figure(
    measure=Measure.COHORT_USERS, value=900.0, cohort=EVERYONE, first=NEWEST, last=NEWEST
)


def test_rising_demand_with_few_items_is_a_gap_and_many_items_are_over_served():
    tea, chess, garden = facts_of()
    assert (tea.is_rising, tea.is_gap, tea.is_over_served) == (True, True, False)
    # 60% of the items for a quarter of the demand.
    assert (chess.is_gap, chess.is_over_served) == (False, True)
    assert (garden.is_gap, garden.is_over_served) == (False, False)
    assert tea.item_share.value == pytest.approx(0.1)


def test_steady_demand_is_no_trend():
    assert not any(one.is_trend for one in facts_of(seen(slopes=(0.0, 0.0, 0.0))))


def test_an_audiences_brief_says_who_what_next_over_served_gaps_and_examples():
    said = brief_of_cohort(EVERYONE, USERS, facts_of())
    assert [one.part for one in said] == sorted(
        (one.part for one in said),
        key=[Part.WHO, Part.NEXT, Part.OVER_SERVED, Part.GAP, Part.EXAMPLES].index,
    )
    assert of(said, Part.WHO)[0].text.startswith("At least 900 users, active in the last 8 weeks")
    assert "tea: green" in of(said, Part.GAP)[0].text
    assert "chess is over-served: 60% of the items (60)" in of(said, Part.OVER_SERVED)[0].text
    assert {one.titles for one in of(said, Part.EXAMPLES)} == {("Green tea",), ("Seeds", "Bulbs")}
    assert "2026-W48" in of(said, Part.NEXT)[0].text


def test_a_topics_brief_says_which_cohorts_turn_to_it():
    tea = facts_of()[0]
    parts = {"regular": 60.0, "frequent": 20.0}
    by_cohort = {
        name: replace(tea.audience, cohort=name, value=value) for name, value in parts.items()
    }
    who = brief_of_topic(tea, by_cohort)[0]
    assert "(75% regular, 25% frequent)" in who.text
    assert [one.cohort for one in who.figures] == [EVERYONE, "regular", "frequent"]


@pytest.mark.parametrize("slopes", [(8.0, 0.0, 0.0), (0.0, 0.0, 0.0), (-4.0, 3.0, 0.0)])
def test_every_number_of_a_sentence_is_one_of_its_figures(slopes):
    facts = facts_of(seen(slopes))
    said = [*brief_of_cohort(EVERYONE, USERS, facts)]
    for one in facts:
        said += brief_of_topic(one, {})
    for sentence in said:
        assert sentence.figures
        known = set()
        for figure in sentence.figures:
            for value in (figure.value, figure.low, figure.high):
                if value is not None:
                    known |= {f"{value:.0f}", f"{100 * value:.1f}%", f"{100 * value:.0f}%"}
        text = re.sub(r"\d{4}-W\d{2}|last 8 weeks", "", sentence.text)
        assert set(re.findall(r"\d+(?:\.\d+)?%?", text)) <= known, sentence


def test_a_topic_that_the_catalogue_lost_is_named_by_its_id():
    gone = replace(SUPPLY, names=("", "chess", "garden"), item_counts=(0, 60, 40))
    assert facts_of(supply=gone)[0].name == "t1"
