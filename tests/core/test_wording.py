"""Wording: a faithful model is shown, one that makes things up never is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.grounding import Fact
from services.core.wording import (
    Source,
    prompt_of,
    reasons_against,
    whole_sentences,
    worded,
)

SENTENCES = (
    "Mostly toys (53%, 41 to 64%; like Doll) and tools (26%) (2025-W31 to 2026-W18).",
    "toys is rising (like Doll, 2026-W06 to 2026-W18).",
    "Active in 40 of 41 weeks, with 7 events in each.",
)
FACTS = (
    Fact(
        names=("toys", "Doll"), numbers=("53", "41", "64"), directions=("rising",),
        periods=("2026-W06", "2026-W18"),
    ),
    Fact(names=("tools",), numbers=("26",), directions=("fading",)),
    Fact(numbers=("40", "41", "7"), periods=("2025-W31", "2026-W18")),
)  # fmt: skip
KNOWN = ("toys", "tools", "food")
FAITHFUL = "The user is mostly interested in toys (53%), rising since 2026-W06, and in tools (26%)."


class Fake:
    """Gives its answers one after the other."""

    def __init__(self, *answers):
        self.answers, self.asked = answers, []

    def __call__(self, prompt, attempt):
        self.asked.append((prompt, attempt))
        return self.answers[attempt % len(self.answers)]


def word(*answers, sentences=SENTENCES, tries=3):
    fake = Fake(*answers)
    return worded(sentences, FACTS, fake, known_names=KNOWN, tries=tries), fake


def test_a_faithful_answer_is_shown_and_the_model_is_asked_once():
    made, fake = word(FAITHFUL)
    assert (made.text, made.source, made.refused) == (FAITHFUL, Source.MODEL, ())
    assert fake.asked == [(prompt_of(SENTENCES), 0)]
    assert all(sentence in fake.asked[0][0] for sentence in SENTENCES)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("The user likes toys and food.", "it names 'food'"),
        ("The user likes toys (54%).", "it says 54"),
        ("The user likes toys (26%).", "it says 26 of what it is not of"),
        ("The user likes toys, fading lately.", "it says 'fading' of what is not fading"),
        ("The user likes toys since 2024-W01.", "it names the period 2024-W01"),
        ("The user does not like toys.", "it says 'not', which no fact does"),
        ("A user named Emma likes toys.", "it says 'emma', which no fact does"),
        ("The user likes tools.", "it does not name 'toys'"),
        ("They like toys. They like toys.", "it repeats itself"),
        ("The user likes toys and", "it says nothing"),
    ],
)
def test_an_answer_that_makes_things_up_is_refused_and_the_template_stands(answer, reason):
    made, fake = word(answer, tries=2)
    assert (made.text, made.source) == (" ".join(SENTENCES), Source.TEMPLATE)
    assert [attempt for _, attempt in fake.asked] == [0, 1]
    assert len(made.refused) == 2
    assert all(reason in refusal.reasons for refusal in made.refused)


def test_a_later_answer_that_holds_is_shown_with_those_that_did_not():
    made, _ = word("Toys and food.", FAITHFUL)
    assert made.source is Source.MODEL
    assert [refusal.text for refusal in made.refused] == ["Toys and food."]


def test_nothing_to_say_is_not_asked_for():
    made, fake = word(FAITHFUL, sentences=())
    assert (made.text, made.source, fake.asked) == ("", Source.TEMPLATE, [])


def test_an_answer_is_cut_to_whole_sentences_and_lists_become_lines():
    assert whole_sentences("- Toys, 3.5%.\n* Tools rise.\n\nAnd th") == "Toys, 3.5%. Tools rise."
    assert whole_sentences("no end") == ""


def test_the_templates_own_sentences_hold():
    made, _ = word(" ".join(SENTENCES))
    assert made.source is Source.MODEL


@given(
    st.lists(
        st.sampled_from(
            ["toys", "tools", "food", "rising", "fading", "53%", "26%", "7", "is", "not", "vegan",
             "2026-W18", "2026-W17", "and", ".", "Doll", "monday", "\n"]
        ),
        max_size=12,
    ).map(" ".join)
)  # fmt: skip
def test_whatever_is_answered_nothing_unchecked_is_shown(answer):
    made, _ = word(answer, tries=1)
    if made.source is Source.MODEL:
        assert reasons_against(made.text, SENTENCES, FACTS, KNOWN) == ()
        assert not {"food", "not", "vegan", "2026-W17", "monday"} & set(made.text.split())
    else:
        assert made.text == " ".join(SENTENCES)
        assert all(refusal.reasons for refusal in made.refused)
