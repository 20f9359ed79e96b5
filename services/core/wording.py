"""A paragraph in a model's words, or else the template's: nothing is shown that was not checked.

The model is told the template's sentences and no more. What it answers is shown only where it is
true to the facts (core/grounding.py), is of plain words, the sentences' own and the facts' names
alone, and names the first fact. After so many refused answers the template stands.
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from services.core.grounding import Fact, check_text, names_any, strange_words, words_beside

# Answers asked for, at most.
TRIES = 3
# The prompt is given a text of these sentences; which attempt it is comes with it, from 0.
Write = Callable[[str, int], str]

# They claim nothing by themselves. No negation is among them, nor what orders or compares.
_PLAIN = (
    "a about active activity also an and are around as at be been being between both but by can "
    "during each event events example examples for from goes going had has have having here in "
    "include includes including interest interested interests is it item items its like likes "
    "mostly of often on or period periods person range ranging say share shares show showing shows "
    "since so some such that the their them these they this those to topic topics towards turn turns "
    "turned typical typically until user users was week weekly weeks went were what when where which "
    "while who whose with within"
)
PLAIN_WORDS = frozenset(_PLAIN.split())
_MARK = re.compile(r"^\s*[-*\u2022]\s+", re.MULTILINE)
_SPACE = re.compile(r"\s+")
_END = re.compile(r"[.!?](?=\s|$)")


class Source(StrEnum):
    """Whose words a text is in."""

    MODEL = "model"
    TEMPLATE = "template"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An answer that was not shown."""

    text: str
    # At least one.
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Worded:
    """A checked paragraph."""

    text: str
    source: Source
    # Answers before it, in the order of the attempts.
    refused: tuple[Refusal, ...]


def worded(
    sentences: Sequence[str],
    facts: Sequence[Fact],
    write: Write,
    *,
    known_names: Collection[str],
    tries: int = TRIES,
) -> Worded:
    """Return sentences as a paragraph of a model where an answer holds, else as they are.

    Args:
        sentences: of the template; with none the model is not asked.
        facts: what they say, the most important first.
        write: the model.
        known_names: every topic, category and title that there is.
        tries: answers to ask for, at most.
    """
    refused: list[Refusal] = []
    prompt = prompt_of(sentences)
    for attempt in range(tries if sentences else 0):
        text = whole_sentences(write(prompt, attempt))
        reasons = reasons_against(text, sentences, facts, known_names)
        if not reasons:
            return Worded(text=text, source=Source.MODEL, refused=tuple(refused))
        refused.append(Refusal(text=text, reasons=reasons))
    return Worded(text=" ".join(sentences), source=Source.TEMPLATE, refused=tuple(refused))


def prompt_of(sentences: Sequence[str]) -> str:
    """Return what the model is told: what to do, and the facts."""
    facts = "\n".join(f"- {sentence}" for sentence in sentences)
    return (
        "Rewrite these facts as one short paragraph of plain sentences. Use only these facts: add "
        f"no other interest, number, week or reason.\n\n{facts}"
    )


def whole_sentences(text: str) -> str:
    """Return a text in one line, a list's marks left out, up to its last whole sentence's end."""
    line = _SPACE.sub(" ", _MARK.sub("", text)).strip()
    ends = [found.end() for found in _END.finditer(line)]
    return line[: ends[-1]] if ends else ""


def reasons_against(
    text: str, sentences: Sequence[str], facts: Sequence[Fact], known_names: Collection[str]
) -> tuple[str, ...]:
    """Return why a text may not be shown; empty where it may. As `worded` has them, `sentences` too."""
    verdict = check_text(text, facts, known_names)
    if not text:
        return verdict.reasons
    said = [part for one in _END.split(text.lower()) if (part := one.strip())]
    plain = PLAIN_WORDS.union(words_beside(" ".join(sentences), facts))
    first = next((fact for fact in facts if fact.names), None)
    left_out = first is not None and not names_any(text, first)
    return (
        *verdict.reasons,
        *strange_words(text, facts, plain).reasons,
        *(["it repeats itself"] if len(set(said)) < len(said) else ()),
        *([f"it does not name {first.names[0]!r}"] if first is not None and left_out else ()),
    )
