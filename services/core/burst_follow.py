"""Follows users' bursts from one period's close to a later one: what is stored, and when it changed.

The state is all that is kept of a user's past, so that following in steps is following at once.

Shape suffixes: U = users, T = periods, G = topics, R = changes, M = bursts kept.
"""

from dataclasses import dataclass

import numpy as np

from services.core.burst_state import Bools, BurstModel, BurstState, BurstType, Moved
from services.core.bursts import advance, measure
from services.core.pooling import F64, I64
from services.core.trajectories import TrajectoryBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What was known of users' bursts at the closes at which it became another, oldest first."""

    user_R: I64
    # On the state's scale.
    period_R: I64
    # Topic, first period, last period and type of the last bursts; see BurstState.
    past_RM4: I64
    peak_RM: F64
    is_lasting_R: Bools


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """What came of a batch."""

    state: BurstState
    changes: Changes
    # By period on the state's scale; periods in which nobody was seen are left out.
    moved: dict[int, Moved]


def follow(
    model: BurstModel, state: BurstState, batch: TrajectoryBatch, *, asked_UT: Bools | None = None
) -> Followed:
    """Take the columns of a batch in, the first of which is `state.period`.

    A burst of everyone is not told from one of a user's own here: that takes all users
    (`core.burst_everyone`). Days that a machine filled enter no vector and are not seen.

    Args:
        model: what was fitted.
        state: at the close before the first column.
        batch: trajectories.
        asked_UT: closes that are told of even where nothing changed.
    """
    users, periods = batch.mask_UT.shape
    none_G, none_U = np.zeros(len(model.topics_GD), bool), np.zeros(users, bool)
    moved: dict[int, Moved] = {}
    parts: list[tuple[I64, I64, I64, F64, Bools]] = []
    for t in range(periods):
        count_U = batch.count_UT[:, t] * batch.mask_UT[:, t]
        found = measure(model, state, batch.vec_UTD[:, t], batch.mask_UT[:, t], count_U)
        if len(found.seen):
            moved[state.period] = found.moved()
        was_lasting_U = state.topic_U >= 0
        state, of = advance(model, state, found, count_U, risen_G=none_G, bulk_U=none_U)
        is_lasting_U = state.topic_U >= 0
        is_told_U = (of.kind != BurstType.NONE) | (was_lasting_U & ~is_lasting_U)
        if asked_UT is not None:
            is_told_U = is_told_U | asked_UT[:, t]
        row = np.flatnonzero(is_told_U)
        period_R = np.full(len(row), state.period - 1)
        parts.append(
            (row, period_R, state.past_UM4[row], state.peak_UM[row], is_lasting_U[row])
        )  # fmt: skip
    return Followed(state=state, changes=_joined(parts, state), moved=moved)


def _joined(parts: list[tuple[I64, I64, I64, F64, Bools]], state: BurstState) -> Changes:
    nothing = (
        np.zeros(0, np.int64), np.zeros(0, np.int64), state.past_UM4[:0], state.peak_UM[:0],
        np.zeros(0, bool),
    )  # fmt: skip
    user_R, period_R, past_RM4, peak_RM, is_lasting_R = (
        np.concatenate(column) for column in zip(nothing, *parts, strict=True)
    )
    return Changes(
        user_R=user_R, period_R=period_R, past_RM4=past_RM4, peak_RM=peak_RM,
        is_lasting_R=is_lasting_R,
    )  # fmt: skip
