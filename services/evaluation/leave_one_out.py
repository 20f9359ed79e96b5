"""Leave-one-out, on request: the last event of each user is asked, everything else is known.

It leaks. To foretell a user's last event of 2012 a method sees what others did until 2018: which
items came, which became popular, who had them together. It is here because papers report it; no
constant is chosen by it, and its figures say nothing about tomorrow.

Shape suffixes: U = users, N = items, E = events.
"""

from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from services.core.dataset import Dataset, instant
from services.core.progress import Progress
from services.core.schema import EVENT_TIME, ITEM_ID, USER_ID
from services.evaluation.matrices import incidence
from services.evaluation.protocol import OriginView, first_seen
from services.evaluation.recommendation import AskedOrigin, Part, Samples
from services.evaluation.scorers import Method
from services.evaluation.summary import Tables, summarise

WARNING = (
    "Leave-one-out leaks: the last event of a user is foretold with events of others that came "
    "after it. Its figures are not comparable with the split by time, and say nothing about tomorrow."
)
LEAVE_ONE_OUT_SLICES = ("all", "new", "warm")


def is_last_event(data: Dataset) -> NDArray[np.bool_]:
    """Mark each user's last event [E], but for users who have no other."""
    # Events are in time order: the last one written stays.
    last_U = np.full(data.user_count, -1, np.int64)
    last_U[data.user_ix_E] = np.arange(data.event_count)
    count_U = np.bincount(data.user_ix_E, minlength=data.user_count)
    marked_E = np.zeros(data.event_count, bool)
    marked_E[last_U[count_U > 1]] = True
    return marked_E


def without_last(events: pl.DataFrame, data: Dataset) -> pl.DataFrame:
    """Return the events of a frame but the last of each user, for training."""
    last = data.where(is_last_event(data))
    asked = pl.DataFrame(
        {
            USER_ID: [data.user_ids[u] for u in last.user_ix_E],
            ITEM_ID: [data.item_ids[i] for i in last.item_ix_E],
            EVENT_TIME: [instant(t) for t in last.time_E],
        }
    ).with_columns(pl.col(EVENT_TIME).cast(events.schema[EVENT_TIME]))
    return events.join(asked, on=[USER_ID, ITEM_ID, EVENT_TIME], how="anti")


def leave_one_out_view(data: Dataset, *, user_limit: int, seed: int) -> OriginView:
    """Return the view whose truth is each user's last event, at the end of the data."""
    last_E = is_last_event(data)
    past, asked = data.where(~last_E), data.where(last_E)
    users = np.unique(asked.user_ix_E)
    if len(users) > user_limit:
        users = np.sort(np.random.default_rng(seed).choice(users, user_limit, replace=False))
    seen_N = first_seen(past)
    return OriginView(
        origin=int(data.period_E[-1]) + 1,
        now=float(data.time_E[-1]) + 1.0,
        past=past,
        had_UN=incidence(past),
        is_warm_N=np.isfinite(seen_N),
        is_cold_N=~np.isfinite(seen_N),
        truth_UN={1: incidence(asked)},
        users=users,
        activity_A=np.zeros(len(users), np.int64),
        gap_A=np.full(len(users), -1, np.int64),
    )


def leave_one_out_tables(
    view: OriginView, methods: Mapping[str, Method], rng: np.random.Generator,
    on_progress: Progress = lambda stage, done, total: None,
) -> Tables:  # fmt: skip
    """Measure every method; the tables are under h1, for want of a horizon."""
    samples: dict[Part, Samples] = {}
    asked = AskedOrigin(view, LEAVE_ONE_OUT_SLICES, by_user=False)
    for done, (name, method) in enumerate(methods.items(), 1):
        asked.measure(method(view.past, view.now), name, samples)
        on_progress("leave one out", done, len(methods))
    return summarise(samples, rng)
