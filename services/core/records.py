"""What is stored and served of one user, as core types.

Shape suffixes: D = width, H = horizons or half-lives, R = items the user repeats.
"""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from services.core.periods import Period

F32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class InterestVector:
    """One user's interest in one period."""

    # Unit norm.
    vec_D: F32
    period: Period
    # Events that made it, at least 1.
    event_count: int
    model_version: str
    # When it could have been known; for a backfilled period its close plus the publish lag.
    known_time: datetime
    # When the row was computed.
    computed_time: datetime
    # The vector's; readers name it, for writers the view does.
    space_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """One user's forecasts, made from data up to the end of `made_at`."""

    means_HD: F32
    # Standard deviation of each component.
    scales_HD: F32
    # Periods ahead of `made_at`, ascending, at least 1.
    horizons: tuple[int, ...]
    # Last closed period that was used.
    made_at: Period
    # Which forecaster: gru, ema, ...
    forecaster: str
    model_version: str
    computed_time: datetime
    # Of means and scales; readers name it.
    space_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankState:
    """What ranking needs of one user, as of `state_time`; aged on read (see core/ranking.py)."""

    # Decayed sums of item vectors, one row per half-life.
    query_sums_HD: F32
    # Decayed sums of event weights.
    query_weights_H: F32
    # Decayed count of active periods.
    activity_H: F32
    # Items the user had, most recent first.
    repeat_item_ids: tuple[str, ...]
    # Decayed count of periods with the item.
    repeat_counts_RH: F32
    # Last time of each item, seconds since 1970.
    repeat_last_times_R: NDArray[np.int64]
    # Seconds since 1970: the user's newest event.
    state_time: float
    # Of the sums; readers name it.
    space_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A user's portrait."""

    # Category names, strongest first.
    labels: tuple[str, ...]
    # Share of decayed events, in [0, 1].
    shares: tuple[float, ...]
    # Share over the last 4 weeks of the user's activity, in [0, 1].
    recent_shares: tuple[float, ...]
    event_count: int
    # Runs of events without a pause of more than 30 minutes.
    session_count: int
    first_event_time: datetime
    last_event_time: datetime
    is_suspected_bot: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """One model of the registry."""

    model_version: str
    space_id: str
    # candidate, live, previous or an empty string.
    stage: str
    trained_time: datetime
    trained_until: datetime
    data_sha256: str
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """A row that was refused, and why."""

    # Log or file that it came in by; DISPLACED of event_ids.py where it had been stored.
    source: str
    # Line of the file; None where it came by an inbox.
    line: int | None
    reason: str
    # None where the row has none that can be read.
    event_id: str | None
    user_id: str | None
    # The row as JSON, cut.
    excerpt: str
    ingest_time: datetime
