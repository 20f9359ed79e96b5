"""Is a text true to its evidence? What a language model wrote is kept only where every claim is cited.

Facts say what may be named: topics, numbers, periods and directions. The check is strict and knows
no language: a text is refused for a known topic that no fact names, for a number, a period or a day
that none has, and for a number or a word of movement that is not of the topic named last before it.
What it cannot see is a claim in words that are none of these: `strange_words` finds them.
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
_NEGATIONS = frozenset({"no", "not", "non", "never", "none", "without", "free", "less", "except"})
_CALENDAR = frozenset((*_DAYS, *_MONTHS, *_SEASONS))
_PERIOD = re.compile(r"\b\d{4}-(?:W\d{2}|\d{2}(?:-\d{2})?)\b", re.ASCII)
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*", re.ASCII)
_Place = tuple[int, int, "Fact"]
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
        places = _places(words, facts, named)
        reasons += _strange_figures(sentence, numbers, periods)
        reasons += _strange_figure_words(_outside(words, places), numbers, periods)
        reasons += _strayed_numbers(sentence, numbers, places)
        reasons += _strange_moves(words, places)
    return Verdict(reasons=tuple(dict.fromkeys(reasons)))


def strange_words(text: str, facts: Sequence[Fact], plain: Collection[str]) -> Verdict:
    """Return whether a text is of plain words and those of the facts' names alone.

    Args:
        text: sentences.
        facts: the evidence.
        plain: words that claim nothing by themselves, in lower case. Words of movement, numbers and
            the calendar need not be among them: `check_text` judges those.
    """
    # A title may be shortened; what turns a claim round is part of a whole name or not said.
    parts = {word for fact in facts for phrase in _phrases(fact.names) for word in phrase}
    known = {*plain, *(parts - _NEGATIONS), *_DIRECTION_OF, *_NUMBER_WORDS, *_CALENDAR}
    reasons = []
    for word in words_beside(text, facts):
        bare = word.removesuffix("'s")
        if len(bare) > 1 and not {bare, bare.removesuffix("s")} & known:
            reasons.append(f"it says {word!r}, which no fact does")
    return Verdict(reasons=tuple(dict.fromkeys(reasons)))


def words_beside(text: str, facts: Sequence[Fact]) -> list[str]:
    """Return a text's words that are in no name of a fact, in lower case and in order."""
    named = [_phrases(fact.names) for fact in facts]
    found = []
    for sentence in _SENTENCE.split(_without_figures(text, [n for f in facts for n in f.names])):
        words = _words(_PERIOD.sub(" ", sentence))
        found += _outside(words, _places(words, facts, named))
    return found


def names_any(text: str, fact: Fact) -> bool:
    """Tell whether a text names a fact by any of its names."""
    words = _words(text)
    return any(_is_in(phrase, words) for phrase in _phrases(fact.names))


def figures_in(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the numbers and the periods that a text says, as `Fact` has them."""
    return tuple(_NUMBER.findall(_PERIOD.sub(" ", text))), tuple(_PERIOD.findall(text))


def _strange_figures(sentence: str, numbers: set[str], periods: set[str]) -> Iterable[str]:
    for found in _PERIOD.findall(sentence):
        if found.lower() not in periods:
            yield f"it names the period {found}"
    for found in _NUMBER.findall(_PERIOD.sub(" ", sentence)):
        if found not in numbers:
            yield f"it says {found}"


def _strange_figure_words(
    words: Iterable[str], numbers: set[str], periods: set[str]
) -> Iterable[str]:
    for word in words:
        bare = word.removesuffix("s")
        if word in _NUMBER_WORDS and _VALUE_OF.get(word, word) not in numbers:
            yield f"it says {word!r}"
        elif _CALENDAR & {word, bare} and not periods & {word, bare, f"{bare}s"}:
            yield f"it names the period {word!r}"


def _strayed_numbers(sentence: str, numbers: set[str], places: Sequence[_Place]) -> Iterable[str]:
    """Tell of known numbers that are of something else than what is named beside them."""
    plain = _PERIOD.sub(lambda found: " " * len(found.group()), sentence)
    for found in _NUMBER.finditer(plain):
        meant = _meant(places, len(_words(sentence[: found.start()])))
        if (
            meant
            and found.group() in numbers
            and not any(found.group() in f.numbers for f in meant)
        ):
            yield f"it says {found.group()} of what it is not of"


def _strange_moves(words: Sequence[str], places: Sequence[_Place]) -> Iterable[str]:
    """Tell of directions that are not of what is named beside them."""
    for at, word in enumerate(words):
        direction = _DIRECTION_OF.get(word)
        if direction is None or any(start <= at < stop for start, stop, _ in places):
            continue
        if not any(direction in fact.directions for fact in _meant(places, at)):
            yield f"it says {word!r} of what is not {direction}"


def _places(
    words: Sequence[str], facts: Sequence[Fact], named: Sequence[set[tuple[str, ...]]]
) -> list[_Place]:
    """Return where facts are named, from word to word; a name inside a longer one is not named."""
    found = [
        (at, at + len(phrase), fact)
        for fact, phrases in zip(facts, named, strict=True)
        for phrase in phrases
        for at in _starts(phrase, words)
    ]
    spans = {(start, stop) for start, stop, _ in found}
    outer = {
        one
        for one in spans
        if not any(other != one and other[0] <= one[0] and one[1] <= other[1] for other in spans)
    }
    return [place for place in found if place[:2] in outer]


def _outside(words: Sequence[str], places: Sequence[_Place]) -> list[str]:
    """Return the words that are in no name."""
    return [
        word
        for at, word in enumerate(words)
        if not any(start <= at < stop for start, stop, _ in places)
    ]


def _meant(places: Sequence[_Place], at: int) -> list[Fact]:
    """Return the facts named last before a word, or else first after; none where none is named."""
    before = [place for place in places if place[0] < at]
    nearest = max((p[0] for p in before), default=min((p[0] for p in places), default=-1))
    return [fact for start, _, fact in places if start == nearest]


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
