"""A brief as evidence: what a text about demand may say."""

from collections.abc import Mapping, Sequence

from services.core.brief import Measure, Part, Sentence
from services.core.grounding import Fact, figures_in


def brief_facts(sentences: Sequence[Sentence], names: Mapping[str, str]) -> tuple[Fact, ...]:
    """Return what a brief's sentences say, one fact a sentence.

    Args:
        sentences: of the brief; each number in their text is one of their figures.
        names: of topics, by id.
    """
    return tuple(_fact(one, names) for one in sentences)


def _fact(one: Sentence, names: Mapping[str, str]) -> Fact:
    numbers, periods = figures_in(one.text)
    topic_ids = dict.fromkeys(figure.topic_id for figure in one.figures if figure.topic_id)
    # A cohort may be that of a topic, named by its id.
    cohorts = dict.fromkeys(names.get(f.cohort, f.cohort) for f in one.figures if f.cohort)
    trends = [figure.value for figure in one.figures if figure.measure is Measure.TREND]
    directions = ["rising" if value > 0 else "fading" for value in trends]
    if one.part is Part.GAP:
        directions.append("rising")
    return Fact(
        names=(*(names.get(topic, topic) for topic in topic_ids), *one.titles, *cohorts),
        numbers=numbers,
        periods=periods,
        directions=tuple(dict.fromkeys(directions)),
    )
