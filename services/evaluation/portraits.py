"""Are portraits true of what comes? The first half of a stretch predicts the shares of the second.

Beside the portrait's weights stand the user's own last week and last four weeks, the plain shares
of the whole first half, and the population's. Topics are learned from items that were seen in the
first half alone; items that came later are assigned to them.

Shape suffixes: U = users, T = topics (or categories), E = events, I = items, D = width, C = figures.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import rankdata

from services.core.activity import Activity, make_activities
from services.core.dataset import first_categories
from services.core.errors import InvalidArgument
from services.core.metrics import bootstrap_means
from services.core.pooling import F64, I64
from services.core.portrait import topic_shares
from services.core.progress import Progress
from services.core.records import F32
from services.core.schema import EVENT_TIME, ITEM_ID, TEXT, USER_ID
from services.core.topics import NO_TOPIC
from services.evaluation.frames import read_events
from services.evaluation.topics import learned_topics
from services.store.ports import TextEncoder

# Users with fewer events in either half are left out: their shares are mostly noise.
LEAST_EVENTS = 10
PORTRAIT = "portrait"
_WEEK = timedelta(weeks=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Events around the middle."""

    start: datetime
    middle: datetime
    end: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Halves:
    """Users who count, and their events in both halves."""

    user_ids: tuple[str, ...]
    # user_ix, item_ix, event_time.
    before: pl.DataFrame
    after: pl.DataFrame
    item_ids: tuple[str, ...]
    activities: tuple[Activity, ...]


Vectors = Callable[[list[str], list[str]], F32]


def run_portraits(
    source: Path | pl.DataFrame,
    *,
    encoder: TextEncoder,
    out: Path,
    weeks: int = 52,
    until: datetime | None = None,
    seed: int = 0,
    on_progress: Progress = lambda stage, done, total: None,
) -> dict[str, Any]:
    """Judge portraits on a file of events; write portraits.json and return it.

    Args:
        source: Parquet file or frame: user_id, item_id, event_time, text; categories where known.
        encoder: gives the items' vectors: the frozen space of its texts.
        out: folder, made if absent.
        weeks: length of the stretch, which ends at `until`; even.
        until: events at or after it are not read; None means all.
        seed: of topics and resamples.
        on_progress: called with stage, done, total.

    Raises:
        InvalidArgument: unreadable events, or nobody has enough of them.
    """
    if weeks < 4 or weeks % 2:
        raise InvalidArgument("weeks", f"must be even and at least 4, not {weeks}")
    events = read_events(source, until)
    if events.is_empty():
        raise InvalidArgument("events", "there are none before `until`")
    end: datetime = until or _newest(events) + timedelta(microseconds=1)
    stretch = Stretch(start=end - weeks * _WEEK, middle=end - weeks // 2 * _WEEK, end=end)
    halves = _halves(events, stretch)
    texts = dict(
        events.drop_nulls(TEXT).select(ITEM_ID, TEXT).unique(ITEM_ID, keep="last").iter_rows()
    )
    said = {item: texts[item] for item in halves.item_ids if item in texts}
    encoded = encoder.encode(
        list(said.values()), lambda done, total: on_progress("encode items", done, total)
    )
    categories = first_categories(events)
    kinds = {"topics": _topics(halves, said, encoded, seed)}
    if categories:
        names = sorted({categories[item] for item in halves.item_ids if item in categories})
        row_of = {name: row for row, name in enumerate(names)}
        kinds["categories"] = {
            item: row_of[categories[item]] for item in halves.item_ids if item in categories
        }
    report = {
        "stretch": {
            name: getattr(stretch, name).isoformat() for name in ("start", "middle", "end")
        },
        "users": len(halves.user_ids),
        "portraits": {kind: _judge(halves, label_of, seed) for kind, label_of in kinds.items()},
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "portraits.json").write_text(json.dumps(report, indent=1))
    return report


def _newest(events: pl.DataFrame) -> datetime:
    newest = events[EVENT_TIME].max()
    assert isinstance(newest, datetime)
    return newest


def _halves(events: pl.DataFrame, stretch: Stretch) -> _Halves:
    time = pl.col(EVENT_TIME)
    before = events.filter((time >= stretch.start) & (time < stretch.middle))
    after = events.filter((time >= stretch.middle) & (time < stretch.end))
    counts = [
        half.group_by(USER_ID).len().filter(pl.col("len") >= LEAST_EVENTS)
        for half in (before, after)
    ]
    users = counts[0].join(counts[1], on=USER_ID, how="semi")[USER_ID].sort()
    if users.is_empty():
        raise InvalidArgument(
            "events", f"nobody has {LEAST_EVENTS} events in both halves; take more weeks"
        )
    items = pl.concat([before[ITEM_ID], after[ITEM_ID]]).unique().sort()

    def rows(half: pl.DataFrame) -> pl.DataFrame:
        return half.join(
            users.to_frame().with_row_index("user_ix"), on=USER_ID, how="left"
        ).join(items.to_frame().with_row_index("item_ix"), on=ITEM_ID).sort(EVENT_TIME, USER_ID, ITEM_ID)  # fmt: skip

    first = rows(before)
    own = first.drop_nulls("user_ix")
    return _Halves(
        user_ids=tuple(users.to_list()),
        before=first,
        after=rows(after).drop_nulls("user_ix"),
        item_ids=tuple(items.to_list()),
        activities=make_activities(
            own["user_ix"].cast(pl.Int64).to_numpy(),
            own[EVENT_TIME].dt.timestamp("us").to_numpy(),
            own["item_ix"].cast(pl.Int64).to_numpy(),
            tuple(items.to_list()),
            len(users),
        ),
    )


def _topics(halves: _Halves, said: Mapping[str, str], items_ID: F32, seed: int) -> dict[str, int]:
    """Return each item's topic; learned from the items of the first half."""
    items = list(said)
    seen = set(halves.before[ITEM_ID].unique().to_list())
    old = [row for row, item in enumerate(items) if item in seen]
    _, topic_I = learned_topics(items_ID, list(said.values()), old, seed=seed)
    return {
        item: topic
        for item, topic in zip(items, topic_I.tolist(), strict=True)
        if topic != NO_TOPIC
    }


def _judge(halves: _Halves, label_of: Mapping[str, int], seed: int) -> dict[str, Any]:
    """Return every method's figures on one kind of label, and what the portrait gains on each."""
    label_I = np.array([label_of.get(item, NO_TOPIC) for item in halves.item_ids], np.int64)
    count = int(label_I.max()) + 1
    truth_UT = _shares(halves.after, label_I, len(halves.user_ids), count)
    has_truth_U = truth_UT.sum(1) > 0
    prior_T = np.bincount(
        label_I[_items(halves.before)][label_I[_items(halves.before)] != NO_TOPIC], minlength=count
    ).astype(np.float64)
    prior_T /= prior_T.sum()
    guesses = _guesses(halves, label_I, label_of, prior_T)
    scores = {
        (name, figure): score(guess_UT[has_truth_U], truth_UT[has_truth_U])
        for name, guess_UT in guesses.items()
        for figure, score in _FIGURES.items()
    }
    columns = {f"{name} {figure}": value_U for (name, figure), value_U in scores.items()} | {
        f"{name} portrait_{figure}_difference": scores[PORTRAIT, figure] - value_U
        for (name, figure), value_U in scores.items()
    }
    users = int(has_truth_U.sum())
    mean_C, low_C, high_C = bootstrap_means(
        np.stack(list(columns.values()), axis=1), np.arange(users), np.random.default_rng(seed)
    )
    methods: dict[str, dict[str, Any]] = {name: {} for name in guesses}
    for column, mean, low, high in zip(columns, mean_C, low_C, high_C, strict=True):
        name, _, figure = column.partition(" ")
        methods[name] |= {figure: float(mean), f"{figure}_ci": [float(low), float(high)]}
    return {"labels": count, "users": users, "methods": methods}


def _guesses(
    halves: _Halves, label_I: I64, label_of: Mapping[str, int], prior_T: F64
) -> dict[str, F64]:
    users, count = len(halves.user_ids), len(prior_T)
    own = halves.before.drop_nulls("user_ix")
    newest = pl.col(EVENT_TIME).max().over(USER_ID)
    age = newest - pl.col(EVENT_TIME)
    plain = {
        "first_half": own,
        "last_4_weeks": own.filter(age < 4 * _WEEK),
        "last_week": own.filter(age < _WEEK),
    }
    guesses = {
        PORTRAIT: np.stack([topic_shares(one, label_of, prior_T) for one in halves.activities])
    }
    for name, rows in plain.items():
        share_UT = _shares(rows, label_I, users, count)
        # Who has none of a known label then is guessed to be like all.
        guesses[name] = np.where(share_UT.sum(1, keepdims=True) > 0, share_UT, prior_T)
    return guesses | {"population": np.tile(prior_T, (users, 1))}


def _shares(rows: pl.DataFrame, label_I: I64, users: int, count: int) -> F64:
    """Return each user's shares; zeros where there is no event of a known label."""
    label_E = label_I[_items(rows)]
    user_E = rows["user_ix"].cast(pl.Int64).to_numpy()[label_E != NO_TOPIC]
    flat = user_E * count + label_E[label_E != NO_TOPIC]
    count_UT = np.bincount(flat, minlength=users * count).reshape(users, count).astype(np.float64)
    share_UT: F64 = count_UT / np.maximum(count_UT.sum(1, keepdims=True), 1)
    return share_UT


def _items(rows: pl.DataFrame) -> I64:
    return rows["item_ix"].cast(pl.Int64).to_numpy()


def rank_correlation(guess_UT: F64, truth_UT: F64) -> F64:
    """Return Spearman's correlation of each row, ties averaged; 0 where a row is constant."""
    ranks = [rankdata(values, axis=1) for values in (guess_UT, truth_UT)]
    a_UT, b_UT = (rank - rank.mean(1, keepdims=True) for rank in ranks)
    norm_U = np.sqrt((a_UT**2).sum(1) * (b_UT**2).sum(1))
    found_U: F64 = np.where(norm_U > 0, (a_UT * b_UT).sum(1) / np.maximum(norm_U, 1e-12), 0.0)
    return found_U


def total_variation(guess_UT: F64, truth_UT: F64) -> F64:
    """Return the part of each row's mass that is guessed elsewhere, in [0, 1]."""
    wrong_U: F64 = np.abs(guess_UT - truth_UT).sum(1) / 2
    return wrong_U


_FIGURES = {"rank_correlation": rank_correlation, "error": total_variation}
