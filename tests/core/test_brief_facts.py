"""A brief as evidence: its own sentences hold, and what they do not say does not."""

import pytest

from services.core.brief import brief_of_cohort, brief_of_topic
from services.core.brief_facts import brief_facts
from services.core.demand import EVERYONE
from services.core.wording import reasons_against
from tests.core.test_brief import SUPPLY, USERS, facts_of, seen

NAMES = dict(zip(SUPPLY.topic_ids, SUPPLY.names, strict=True))


def briefs(slopes=(8.0, 0.0, 0.0)):
    facts = facts_of(seen(slopes))
    return [brief_of_cohort(EVERYONE, USERS, facts), *(brief_of_topic(one, {}) for one in facts)]


def against(text, brief):
    sentences = [one.text for one in brief]
    return reasons_against(text, sentences, brief_facts(brief, NAMES), SUPPLY.names)


@pytest.mark.parametrize("slopes", [(8.0, 0.0, 0.0), (-4.0, 3.0, 0.0)])
def test_the_templates_own_brief_holds_to_the_last_word(slopes):
    for brief in briefs(slopes):
        assert against(" ".join(one.text for one in brief), brief) == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("tea: green has demand, and chess.", "it names 'chess'"),
        ("tea: green is fading.", "it says 'fading' of what is not fading"),
        ("tea: green is expected at 99%.", "it says 99"),
        ("Young users like tea: green.", "it says 'young', which no fact does"),
    ],
)
def test_what_a_brief_does_not_say_is_refused(text, reason):
    assert reason in against(text, briefs()[1])
