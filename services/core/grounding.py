"""Is a text true to its evidence? What a language model wrote is kept only where every claim is cited.

Facts say what may be named: topics, numbers, periods and directions. The check is strict and knows
no language: a text is refused for a known topic that no fact names, for a number, a period or a day
that none has, and for a word of movement that is not said of the topic named last before it. What
it cannot see is a claim in words that are none of these.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

# Words that say where something goes, and the direction they mean.
_MOVES = {
    "rising": (
        "rising rise rises risen rose growing grow grows grew grown increasing increase increases "
        "increased climbing climbs climbed surging surge surged up gaining gained"
    ),
    "fading": (
        "fading fade fades faded falling fall falls fell fallen declining decline declines declined "
        "decreasing decrease decreases decreased shrinking shrinks shrank dropping drop drops "
        "dropped down waning waned losing lost"
    ),
    "steady": "steady steadily stable constant unchanged consistent consistently",
    "fling": "fling brief briefly temporary temporarily short-lived",
    "core": "core long-term lasting enduring",
}
_DIRECTION_OF = {word: name for name, words in _MOVES.items() for word in words.split()}
_NUMBER_WORDS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "dozen",
    "hundred",
    "thousand",
    "half",
    "third",
    "quarter",
    "twice",
    "double",
    "triple",
    "majority",
]
_VALUE_OF = {word: str(value) for value, word in enumerate(_NUMBER_WORDS[:13])}
_DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
_MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
_SEASONS = ["spring", "summer", "autumn", "winter", "christmas", "easter", "holiday", "holidays"]
_CALENDAR = frozenset((*_DAYS, *_MONTHS, *_SEASONS))
_PERIOD = re.compile(r"\b\d{4}-(?:W\d{2}|\d{2}(?:-\d{2})?)\b", re.ASCII)
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*", re.ASCII)
_WORD = re.compile(r"[^\W\d_]+(?:[-'][^\W\d_]+)*")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One thing that a text may say."""

    # Names under which it may be spoken of: a topic's or a category's name and the words that stand
    # for it, an item's title.
    names: tuple[str, ...] = ()
    # As a text would write them: "35", "2026-W40", "Saturday".
    numbers: tuple[str, ...] = ()
    periods: tuple[str, ...] = ()
    # Of rising, fading, steady, fling, core.
    directions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a text may be shown, and what speaks against it."""

    # In the order of the text, each once; empty: accepted.
    reasons: tuple[str, ...] = field(default=())

    @property
    def is_accepted(self) -> bool:
        """Nothing speaks against it."""
        return not self.reasons


def check_text(text: str, facts: Sequence[Fact], known_names: Collection[str]) -> Verdict:
    """Return whether every claim of a text is in its evidence.

    Args:
        text: sentences.
        facts: the evidence.
        known_names: every topic, category and title that there is: one that no fact names is a
            reason to refuse.
    """
    if not text.strip():
        return Verdict(reasons=("it says nothing",))
    named = [_phrases(fact.names) for fact in facts]
    allowed = {phrase for phrases in named for phrase in phrases}
    foreign = _phrases(known_names) - allowed
    numbers = {n for fact in facts for n in fact.numbers}
    periods = {p.lower() for fact in facts for p in fact.periods}
    reasons: list[str] = []
    # Inside a name nothing is a claim of its own, nor an end: "no. 7" is no number.
    plain = _without_figures(text, [name for fact in facts for name in fact.names])
    for sentence in _SENTENCE.split(plain):
        words = _words(sentence)
        reasons += [f"it names {' '.join(p)!r}" for p in sorted(foreign) if _is_in(p, words)]
        reasons += _strange_figures(sentence, numbers, periods)
        reasons += _strange_moves(words, facts, named)
    return Verdict(reasons=tuple(dict.fromkeys(reasons)))


def _strange_figures(sentence: str, numbers: set[str], periods: set[str]) -> Iterable[str]:
    for found in _PERIOD.findall(sentence):
        if found.lower() not in periods:
            yield f"it names the period {found}"
    for found in _NUMBER.findall(_PERIOD.sub(" ", sentence)):
        if found not in numbers:
            yield f"it says {found}"
    for word in _words(sentence):
        bare = word.removesuffix("s")
        if word in _NUMBER_WORDS and _VALUE_OF.get(word, word) not in numbers:
            yield f"it says {word!r}"
        elif _CALENDAR & {word, bare} and not periods & {word, bare, f"{bare}s"}:
            yield f"it names the period {word!r}"


def _strange_moves(
    words: Sequence[str], facts: Sequence[Fact], named: Sequence[set[tuple[str, ...]]]
) -> Iterable[str]:
    """Tell of directions that are not of what was named last before them, or else first after."""
    places = [
        (at, at + len(phrase), fact)
        for fact, phrases in zip(facts, named, strict=True)
        for phrase in phrases
        for at in _starts(phrase, words)
    ]
    for at, word in enumerate(words):
        direction = _DIRECTION_OF.get(word)
        if direction is None or any(start <= at < stop for start, stop, _ in places):
            continue
        before = [place for place in places if place[0] < at]
        nearest = max((p[0] for p in before), default=min((p[0] for p in places), default=-1))
        meant = [fact for start, _, fact in places if start == nearest]
        if not any(direction in fact.directions for fact in meant):
            yield f"it says {word!r} of what is not {direction}"


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def _phrases(names: Iterable[str]) -> set[tuple[str, ...]]:
    return {phrase for name in names if (phrase := tuple(_words(name)))}


def _starts(phrase: tuple[str, ...], words: Sequence[str]) -> list[int]:
    length = len(phrase)
    places = range(len(words) - length + 1)
    return [at for at in places if tuple(words[at : at + length]) == phrase]


def _is_in(phrase: tuple[str, ...], words: Sequence[str]) -> bool:
    return bool(_starts(phrase, words))


def _without_figures(text: str, names: Sequence[str]) -> str:
    """Return the text with the words alone of the names in it, the longest names first."""
    for name in sorted({name for name in names if name}, key=len, reverse=True):
        text = re.sub(
            rf"(?<!\w){re.escape(name)}(?!\w)",
            lambda found: " ".join(_WORD.findall(found.group())) or " ",
            text,
            flags=re.IGNORECASE,
        )
    return text
