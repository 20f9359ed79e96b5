"""Rows of features from bursts that were followed, and back to the state that goes on.

Shape suffixes: U = users, R = changes, M = bursts kept, G = topics.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from services.core import schema as names
from services.core.burst_everyone import PastBurst, UserBursts
from services.core.burst_follow import Changes
from services.core.burst_state import NEVER, BurstModel, BurstState, BurstType, Moved
from services.core.periods import Period
from services.core.pooling import F64, I64
from services.core.schema import Granularity
from services.core.views import view_named
from services.store.frames import TIME, conform, rows_frame
from services.store.rows import features_of_bursts


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What rows of one refresh have in common."""

    granularity: Granularity
    space_id: str
    model_version: str
    computed_time: datetime
    publish_lag: timedelta

    def known_time(self, period: Period) -> datetime:
        """Return when what happened until a period's close could have been known."""
        return min(period.end + self.publish_lag, self.computed_time)


def change_rows(
    changes: Changes, users: Sequence[str], model: BurstModel, stamp: Stamp
) -> pl.DataFrame:
    """Return rows of bursts_{g}_by_period; the changes' periods are ordinals.

    Args:
        changes: of some users.
        users: ids by row of the changes.
        model: whose topics are named.
        stamp: of the rows.
    """
    view = names.bursts_by_period_view(stamp.granularity, stamp.space_id)
    periods = [Period(stamp.granularity, ordinal) for ordinal in changes.period_R.tolist()]
    features = [
        features_of_bursts(
            UserBursts(
                bursts=_bursts(past_M4, peak_M, model, stamp.granularity, is_lasting=is_lasting),
                model_version=stamp.model_version,
                known_at=period,
            )
        )
        for past_M4, peak_M, is_lasting, period in zip(
            changes.past_RM4.tolist(), changes.peak_RM.tolist(), changes.is_lasting_R.tolist(),
            periods, strict=True,
        )
    ]  # fmt: skip
    by_user = names.bursts_view(stamp.granularity, stamp.space_id)
    ids = [users[row] for row in changes.user_R.tolist()]
    rows = rows_frame(by_user, ids, features, computed_time=stamp.computed_time)
    known = [stamp.known_time(period) for period in periods]
    return conform(
        view_named(view),
        rows.with_columns(
            pl.Series(names.PERIOD, [period.name for period in periods], dtype=pl.String),
            pl.Series(names.KNOWN_TIME, known, dtype=TIME),
        ),
    )


def state_rows(users: Sequence[str], state: BurstState, stamp: Stamp) -> pl.DataFrame:
    """Return rows of burst_state_{g}; the state's periods are ordinals."""
    last = Period(stamp.granularity, state.period - 1)
    now_U3 = np.stack([state.topic_U, state.age_U, state.kind_U], axis=1)
    features = [
        {
            names.STATE_MEAN: state.mean_UK[row],
            names.STATE_VARIANCE: state.variance_UK[row],
            names.STATE_EVIDENCE: state.evidence_UG[row],
            names.STATE_LUMPS: state.lumps_U2[row],
            names.STATE_COUNTS: state.counts_U3[row],
            names.STATE_NOW: now_U3[row],
            names.STATE_SHARE: float(state.share_U[row]),
            names.STATE_PAST: state.past_UM4[row].ravel(),
            names.STATE_PEAKS: state.peak_UM[row],
            names.LAST_PERIOD: last.name,
            names.MODEL_VERSION: stamp.model_version,
        }
        for row in range(len(users))
    ]
    view = names.burst_state_view(stamp.granularity, stamp.space_id)
    return rows_frame(
        view, users, features, computed_time=stamp.computed_time,
        known_time=stamp.known_time(last),
    )  # fmt: skip


def state_of(rows: pl.DataFrame, period: int) -> BurstState:
    """Return the state in rows of burst_state_{g}, at the close before a period."""
    count = len(rows)
    now_U3 = _integers(rows, names.STATE_NOW, (count, 3))
    return BurstState(
        period=period,
        mean_UK=_doubles(rows, names.STATE_MEAN),
        variance_UK=_doubles(rows, names.STATE_VARIANCE),
        evidence_UG=_doubles(rows, names.STATE_EVIDENCE),
        lumps_U2=_doubles(rows, names.STATE_LUMPS),
        counts_U3=_doubles(rows, names.STATE_COUNTS),
        topic_U=now_U3[:, 0],
        age_U=now_U3[:, 1],
        kind_U=now_U3[:, 2],
        share_U=rows[names.STATE_SHARE].to_numpy().copy(),
        past_UM4=_integers(rows, names.STATE_PAST, (count, -1, 4)),
        peak_UM=_doubles(rows, names.STATE_PEAKS),
    )


def moved_to_json(moved: dict[int, Moved]) -> dict[str, list[str]]:
    """Return sums by period as JSON: floats of 32 bits, so that a document stays small."""
    return {
        str(period): [
            base64.b64encode(sums.astype("<f4").tobytes()).decode()
            for sums in (one.pull_G, one.precision_G)
        ]
        for period, one in moved.items()
    }


def moved_from_json(said: dict[str, list[str]]) -> dict[int, Moved]:
    """Return what `moved_to_json` was given."""
    return {
        int(period): Moved(
            **{
                name: np.frombuffer(base64.b64decode(text), "<f4").astype(np.float64)
                for name, text in zip(("pull_G", "precision_G"), texts, strict=True)
            }
        )
        for period, texts in said.items()
    }


def _bursts(
    past_M4: list[list[int]], peak_M: list[float], model: BurstModel, granularity: Granularity, *,
    is_lasting: bool,
) -> tuple[PastBurst, ...]:  # fmt: skip
    made = []
    for (topic, first, last, kind), peak in zip(past_M4, peak_M, strict=True):
        if first == NEVER:
            continue
        made.append(
            PastBurst(
                kind=BurstType(kind),
                first=Period(granularity, first),
                last=Period(granularity, last),
                topic=topic,
                name=model.names_G[topic] if topic >= 0 and model.names_G else "",
                share=peak,
                is_lasting=is_lasting and topic >= 0,
            )
        )
        is_lasting = is_lasting and not made[-1].is_lasting
    return tuple(made)


def _doubles(rows: pl.DataFrame, name: str) -> F64:
    values: Any = rows[name].explode().to_numpy()
    doubles: F64 = values.astype(np.float64).reshape(len(rows), -1)
    return doubles


def _integers(rows: pl.DataFrame, name: str, shape: tuple[int, ...]) -> I64:
    values: Any = rows[name].explode().to_numpy()
    integers: I64 = values.astype(np.int64).reshape(shape)
    return integers
