import numpy as np
import pytest

from services.core.grounding import check_text
from services.core.portrait_facts import portrait_facts, topic_names
from services.core.portrait_text import describe
from tests.core.test_portrait import TOPICS, paint, week

TITLES = {"tools0": "Cordless drill", "toys0": "Doll no. 9"}


def moving():
    """Tools fade into toys in the middle of the year."""
    rng = np.random.default_rng(0)
    counts = np.zeros((3, 40))
    counts[1, :20], counts[2, 20:] = rng.poisson(6, 20), rng.poisson(6, 20)
    return paint(counts)[0]


def against(text, portrait):
    return check_text(text, portrait_facts(portrait, TITLES), topic_names(TOPICS)).reasons


def test_the_templates_own_paragraph_is_accepted_to_the_last_word():
    made = moving()
    text = describe(made, TITLES)
    assert "went from" in text
    assert against(text, made) == ()


def test_numbers_and_weeks_of_a_fact_are_those_of_the_portrait():
    made = moving()
    facts = portrait_facts(made, TITLES)
    toys = next(fact for fact in facts if "toys" in fact.names)
    assert week(20) in toys.periods
    assert {"0", "100"} <= set(toys.numbers)
    assert "Doll no. 9" in toys.names
    assert "rising" in toys.directions


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Mostly toys, and some food.", "it names 'food'"),
        ("Toys are fading.", "it says 'fading' of what is not fading"),
        ("Tools have 77%.", "it says 77"),
        (f"Toys since {week(3)}.", f"it names the period {week(3)}"),
    ],
)
def test_a_paragraph_that_makes_things_up_is_refused(text, reason):
    assert reason in against(text, moving())
