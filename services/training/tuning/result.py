"""A tuning's result in words: a table, and what it means."""

from collections.abc import Iterator

from services.training.tuning.config import Mode, Objective
from services.training.tuning.outcomes import Change
from services.training.tuning.retrieval import METRIC
from services.training.tuning.tune import TuneResult

COLUMNS = ("metric", "before", "after", "change", "95% interval", "proven")
MEANINGS = {
    METRIC: "next period's items that are new to the user, by cosine to the mean of what the user had",
    "macro_f1": "F1 of the labels, mean over classes",
    "r2": "share of the values' variance that is explained",
    "perplexity": "of the catalogue's words; lower is better",
}
# What `before` is in head mode; in the others it is the head on the backbone as it was.
UNREAD = {
    Objective.CONTRASTIVE: "plain cosine, without a head",
    Objective.CLASSIFICATION: "always the most frequent label",
    Objective.REGRESSION: "always the mean",
    Objective.MLM: "each token by its frequency",
    Objective.CAUSAL: "each token by its frequency",
}
# The same of the baseline.
BLIND = UNREAD | {Objective.CONTRASTIVE: "what is popular, alike for all"}


def result_rows(result: TuneResult) -> list[tuple[str, ...]]:
    """Return the table's rows, cells as COLUMNS."""
    changes = list(result.changes.values())
    if result.retrieval is not None and result.retrieval.metric not in result.changes:
        changes.append(result.retrieval)
    return [_cells(change) for change in changes]


def result_lines(result: TuneResult) -> Iterator[str]:
    """Yield what the table means, a sentence a line."""
    own, config = result.own, result.config
    is_unread = config.mode is Mode.HEAD and config.objective is not Objective.CONTRASTIVE
    yield f"{own.metric}: {MEANINGS[own.metric]}. {_verdict(own)}"
    before = UNREAD[config.objective]
    if config.mode is not Mode.HEAD:
        before = "the head on the backbone as it was"
    yield f"Before: {before}. Measured on {own.rows} {_held_out(own)}."
    if not is_unread:
        blind = result.baseline[own.metric]
        beats = own.after.mean < blind if own.is_lower_better else own.after.mean > blind
        yield (
            f"Without reading a text ({BLIND[config.objective]}): {_figure(blind)}, "
            f"{'worse' if beats else 'no worse'} than after tuning."
        )
    left_out = result.report.get("notes", {}).get("texts_of_rare_labels_left_out")
    if left_out:
        yield f"{left_out} texts of labels too rare to learn are left out of all this."
    if result.curves.loss:
        taken, best = len(result.curves.loss), result.curves.best_step
        kept = f"the weights kept are those after step {best}" if best else "no step helped there"
        yield f"{taken} steps taken; by the part that decides when to stop, {kept}."
    other = result.retrieval
    if other is not None and other is not own:
        yield f"{other.metric}: {MEANINGS[other.metric]}. {_verdict(other)}"
    if config.mode is Mode.HEAD:
        yield f"The backbone is as it was; the head lies in {result.folder}/heads"
        return
    yield (
        "What the whole ranking gains is not said by this: compare `driftline evaluate` with and "
        f"without DRIFTLINE_BACKBONE={result.folder}"
    )


def _cells(change: Change) -> tuple[str, ...]:
    proven = "better" if change.is_better else "worse" if change.is_worse else "no"
    return (
        change.metric,
        _figure(change.before.mean),
        _figure(change.after.mean),
        _figure(change.change.mean, "+"),
        f"{_figure(change.change.low, '+')} to {_figure(change.change.high, '+')}",
        proven,
    )


def _verdict(change: Change) -> str:
    if change.is_better:
        return "It is better, and proven: the whole interval of the change is on the good side."
    if change.is_worse:
        return "It is WORSE, and proven: the whole interval of the change is on the bad side."
    if change.change.low == change.change.high == 0:
        return "Nothing changed."
    return "Not proven: the interval of the change holds zero."


def _figure(value: float, sign: str = "") -> str:
    """Return four decimals, or one of what is large; so narrow that a row fits a terminal."""
    return f"{value:{sign}.4f}" if abs(value) < 10 else f"{value:{sign}.1f}"


def _held_out(change: Change) -> str:
    if change.metric == METRIC:
        return "users in periods that tuning did not learn from"
    return "texts that tuning did not learn from"
