"""Who wants what: audience and volume by cohort, topic and period, published with noise.

Each cell is drawn once and then stands: later answers repeat it, whatever the data have become, so
that no two answers differ by one user. What is made of the cells (sums, shares, forecasts, briefs)
reads them alone and so tells no more than they do.

What the noise protects: that a user was there in one cell. Whoever knows all else can raise the odds
of a guess by at most exp(epsilon) from an audience, and by as much again from a volume. What it does
not: a user is in as many cells as they have topics and periods, and what each tells adds up.

Shape suffixes: E = events, U = users, C = cohorts, T = topics, P = periods.
"""

import hashlib
import hmac
import math
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from services.core.periods import Period
from services.core.pooling import F64, I64
from services.core.schema import Granularity
from services.core.topics import NO_TOPIC

# A cell without a value: never drawn, or of a cohort that was too small.
NOT_DRAWN = int(np.iinfo(np.int64).min)
# A user outside every cohort.
NO_COHORT = -1
# A user's cohort in a period rests on this many periods up to its end.
COHORT_PERIODS = 8
# Active periods of these from which on a user is regular, frequent.
ACTIVITY_STEPS = (3, 6)
ACTIVITY_COHORTS = ("occasional", "regular", "frequent")
# The sum of a partition's cohorts, and the only cohort of a partition of one.
EVERYONE = "all"
# Periods that a first publication reaches back.
PUBLISHED_PERIODS = {Granularity.DAY: 182, Granularity.WEEK: 156, Granularity.MONTH: 72}
# The chance that the noise of a size tells for sure whether a user is there.
SIZE_DELTA = 1e-6

_USERS_A_CHUNK = 512


class Partition(StrEnum):
    """How users are divided: in a period each is in at most one cohort."""

    # One cohort: everyone with an event in the last COHORT_PERIODS.
    ALL = "all"
    # By how many of these periods had an event.
    ACTIVITY = "activity"
    # By the topic of most events in these periods.
    TOPIC = "topic"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseTerms:
    """What a publication promises. Other terms are another publication, with draws of its own."""

    granularity: Granularity = Granularity.WEEK
    partition: Partition = Partition.ACTIVITY
    # Odds that one cell can give away of one user, as a logarithm; above 0.
    epsilon: float = 1.0
    # A user's events of a topic in a period count up to this many.
    event_cap: int = 8
    # A cohort is published where its size, less noise, is at least this.
    least_users: int = 20

    @property
    def name(self) -> str:
        """Names the publication; `least_users` only decides what of it is shown."""
        return f"{self.granularity}-{self.partition}-e{self.epsilon:g}-v{self.event_cap}"

    @property
    def size_margin(self) -> int:
        """A size's noise lies within this of its mean, which is this much below the true size."""
        return math.ceil(math.log(1 / SIZE_DELTA) / self.epsilon)

    @property
    def audience_variance(self) -> float:
        """Variance of an audience's noise, users squared."""
        return _geometric_variance(self.epsilon)

    @property
    def volume_variance(self) -> float:
        """Variance of a volume's noise, events squared."""
        return _geometric_variance(self.epsilon / self.event_cap)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """True counts. They leave a refresh only through `publish`."""

    cohorts: tuple[str, ...]
    topic_ids: tuple[str, ...]
    # Ordinal of the first period.
    first: int
    audience_CTP: I64
    # Each user's part capped.
    volume_CTP: I64
    size_CP: I64


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Cells with their noise; a value that was drawn never changes."""

    terms: ReleaseTerms
    # 1, and one more after each time that everything was drawn anew.
    edition: int
    # Every cohort and topic that was ever published.
    cohorts: tuple[str, ...]
    topic_ids: tuple[str, ...]
    first: int
    # NOT_DRAWN where there is no value; may be negative.
    audience_CTP: I64
    volume_CTP: I64
    # At most the true size.
    size_CP: I64

    @property
    def newest(self) -> Period:
        """The last period that was published."""
        return Period(self.terms.granularity, self.first + self.size_CP.shape[1] - 1)


def cohorts_of(partition: Partition, topic_ids: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of a partition's cohorts."""
    match partition:
        case Partition.ALL:
            return (EVERYONE,)
        case Partition.ACTIVITY:
            return ACTIVITY_COHORTS
        case Partition.TOPIC:
            return topic_ids


def count_cells(
    user_ix_E: I64, topic_E: I64, period_E: I64, *, user_count: int, topic_ids: tuple[str, ...],
    first: int, period_count: int, terms: ReleaseTerms,
) -> Cells:  # fmt: skip
    """Count the events of some users. Counts of other users are added to these (see `add_cells`).

    Args:
        user_ix_E: rows of users.
        topic_E: rows of `topic_ids`; NO_TOPIC: the event tells that its user was active, no more.
        period_E: ordinals; from COHORT_PERIODS - 1 before `first` on they count for cohorts.
        user_count: rows of users.
        topic_ids: names of topics.
        first: ordinal of the first period that is counted.
        period_count: periods counted.
        terms: partition and cap.
    """
    cohorts = cohorts_of(terms.partition, topic_ids)
    shape = (len(cohorts), len(topic_ids), period_count)
    audience, volume = (np.zeros(math.prod(shape), np.int64) for _ in range(2))
    size = np.zeros(len(cohorts) * period_count, np.int64)
    order = np.argsort(user_ix_E, kind="stable")
    column_E = period_E[order] - first + COHORT_PERIODS - 1
    used_E = (column_E >= 0) & (column_E < period_count + COHORT_PERIODS - 1)
    user_E, topic_E, column_E = user_ix_E[order][used_E], topic_E[order][used_E], column_E[used_E]
    bounds = np.searchsorted(user_E, np.arange(0, user_count + _USERS_A_CHUNK, _USERS_A_CHUNK))
    for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        if start == end:
            continue
        _, row_E = np.unique(user_E[start:end], return_inverse=True)
        count_UTP, cohort_UP = _chunk(
            row_E, topic_E[start:end], column_E[start:end], len(topic_ids), period_count, terms
        )
        user, topic, period = np.nonzero(count_UTP)
        cohort = cohort_UP[user, period]
        kept = cohort != NO_COHORT
        flat = np.ravel_multi_index((cohort[kept], topic[kept], period[kept]), shape)
        events = np.minimum(count_UTP[user, topic, period], terms.event_cap)[kept]
        audience += np.bincount(flat, minlength=len(audience))
        volume += np.bincount(flat, events, minlength=len(volume)).astype(np.int64)
        in_one = np.nonzero(cohort_UP != NO_COHORT)
        size += np.bincount(cohort_UP[in_one] * period_count + in_one[1], minlength=len(size))
    return Cells(
        cohorts=cohorts, topic_ids=topic_ids, first=first, audience_CTP=audience.reshape(shape),
        volume_CTP=volume.reshape(shape), size_CP=size.reshape(len(cohorts), period_count),
    )  # fmt: skip


def _chunk(
    row_E: I64, topic_E: I64, column_E: I64, topics: int, periods: int, terms: ReleaseTerms
) -> tuple[I64, I64]:
    """Return some users' events by topic and period, and each one's cohort by period."""
    users, columns = int(row_E.max()) + 1, periods + COHORT_PERIODS - 1
    has = topic_E != NO_TOPIC
    flat = (row_E[has] * topics + topic_E[has]) * columns + column_E[has]
    count_UTP = np.bincount(flat, minlength=users * topics * columns)
    count_UTP = count_UTP.reshape(users, topics, columns)
    active_UP = np.zeros((users, columns), np.int64)
    active_UP[row_E, column_E] = 1
    active_UP = _windows(active_UP)
    if terms.partition is Partition.TOPIC:
        recent_UTP = _windows(count_UTP)
        cohort_UP = np.argmax(recent_UTP, axis=1)
        active_UP = recent_UTP.sum(1)
    elif terms.partition is Partition.ACTIVITY:
        cohort_UP = np.searchsorted(ACTIVITY_STEPS, active_UP, side="right")
    else:
        cohort_UP = np.zeros_like(active_UP)
    cohort_UP = np.where(active_UP > 0, cohort_UP, NO_COHORT)
    return count_UTP[:, :, COHORT_PERIODS - 1 :], cohort_UP.astype(np.int64)


def _windows(count: I64) -> I64:
    """Return the sum over each period and those before it, along the last axis."""
    total = np.cumsum(count, axis=-1)
    before = np.concatenate([np.zeros_like(total[..., :1]), total[..., :-COHORT_PERIODS]], axis=-1)
    window: I64 = total[..., COHORT_PERIODS - 1 :] - before
    return window


def add_cells(one: Cells, other: Cells) -> Cells:
    """Return the cells of both groups of users."""
    assert (one.cohorts, one.topic_ids, one.first) == (other.cohorts, other.topic_ids, other.first)
    return replace(
        one,
        audience_CTP=one.audience_CTP + other.audience_CTP,
        volume_CTP=one.volume_CTP + other.volume_CTP,
        size_CP=one.size_CP + other.size_CP,
    )


def publish(cells: Cells, former: Published | None, terms: ReleaseTerms, key: bytes) -> Published:
    """Draw the noise of cells that have none yet; what was drawn before stands.

    Args:
        cells: true counts; earlier periods than theirs are dropped.
        former: what was published under these terms.
        terms: of the publication.
        key: secret; the same key, cell and edition give the same draw.
    """
    if former is None:
        former = _nothing(cells, terms)
    held = _grown(former, cells)
    drawn = _Draws(key, terms, held.edition)
    cohort_rows = [held.cohorts.index(name) for name in cells.cohorts]
    topic_rows = [held.topic_ids.index(name) for name in cells.topic_ids]
    size_CP, audience_CTP = held.size_CP.copy(), held.audience_CTP.copy()
    volume_CTP = held.volume_CTP.copy()
    for c, row in enumerate(cohort_rows):
        for p in np.flatnonzero(size_CP[row] == NOT_DRAWN).tolist():
            noise = drawn.size(held.cohorts[row], cells.first + p)
            size_CP[row, p] = cells.size_CP[c, p] - terms.size_margin + noise
        told_P = size_CP[row] >= terms.least_users
        for t, topic in enumerate(topic_rows):
            for p in np.flatnonzero(told_P & (audience_CTP[row, topic] == NOT_DRAWN)).tolist():
                users, events = drawn.cell(
                    held.cohorts[row], held.topic_ids[topic], cells.first + p
                )
                audience_CTP[row, topic, p] = cells.audience_CTP[c, t, p] + users
                volume_CTP[row, topic, p] = cells.volume_CTP[c, t, p] + events
    return replace(
        held, terms=terms, size_CP=size_CP, audience_CTP=audience_CTP, volume_CTP=volume_CTP
    )


def nothing_again(former: Published) -> Published:
    """Return an empty publication of the next edition: everything is drawn anew."""
    none = np.zeros((0, 0, 0), np.int64)
    return replace(
        former, edition=former.edition + 1, cohorts=(), topic_ids=(), audience_CTP=none,
        volume_CTP=none, size_CP=np.zeros((0, 0), np.int64),
    )  # fmt: skip


def _nothing(cells: Cells, terms: ReleaseTerms) -> Published:
    none = np.zeros((0, 0, 0), np.int64)
    return Published(
        terms=terms, edition=1, cohorts=(), topic_ids=(), first=cells.first, audience_CTP=none,
        volume_CTP=none, size_CP=np.zeros((0, 0), np.int64),
    )  # fmt: skip


def _grown(former: Published, cells: Cells) -> Published:
    """Return what was published, with places for every cohort, topic and period of the cells."""
    cohorts = tuple(dict.fromkeys(former.cohorts + cells.cohorts))
    topic_ids = tuple(dict.fromkeys(former.topic_ids + cells.topic_ids))
    periods = cells.size_CP.shape[1]
    shape = (len(cohorts), len(topic_ids), periods)
    size_CP = np.full((len(cohorts), periods), NOT_DRAWN)
    audience_CTP, volume_CTP = np.full(shape, NOT_DRAWN), np.full(shape, NOT_DRAWN)
    old_cohorts, old_topics, old_periods = former.audience_CTP.shape
    # Periods of both, in the columns of each.
    low = max(former.first, cells.first)
    high = min(former.first + old_periods, cells.first + periods)
    if high > low:
        mine = slice(low - cells.first, high - cells.first)
        theirs = slice(low - former.first, high - former.first)
        size_CP[:old_cohorts, mine] = former.size_CP[:, theirs]
        audience_CTP[:old_cohorts, :old_topics, mine] = former.audience_CTP[:, :, theirs]
        volume_CTP[:old_cohorts, :old_topics, mine] = former.volume_CTP[:, :, theirs]
    return replace(
        former, cohorts=cohorts, topic_ids=topic_ids, first=cells.first, size_CP=size_CP,
        audience_CTP=audience_CTP, volume_CTP=volume_CTP,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Draws:
    """Noise as a function of a secret and a cell's name: the same however often it is asked for."""

    key: bytes
    terms: ReleaseTerms
    edition: int

    def cell(self, cohort: str, topic_id: str, period: int) -> tuple[int, int]:
        """Return the noise of an audience and of a volume: two-sided geometric."""
        a, b, c, d = self._uniforms("cell", cohort, topic_id, str(period))
        epsilon, cap = self.terms.epsilon, self.terms.event_cap
        users = _geometric(a, epsilon) - _geometric(b, epsilon)
        return users, _geometric(c, epsilon / cap) - _geometric(d, epsilon / cap)

    def size(self, cohort: str, period: int) -> int:
        """Return the noise of a size: two-sided geometric, cut at the margin."""
        margin = self.terms.size_margin
        weight = np.exp(-self.terms.epsilon * np.abs(np.arange(-margin, margin + 1)))
        uniform = self._uniforms("size", cohort, str(period))[0]
        return int(np.searchsorted(np.cumsum(weight) / weight.sum(), uniform)) - margin

    def _uniforms(self, *parts: str) -> list[float]:
        """Return four numbers in (0, 1)."""
        said = "\0".join((self.terms.name, str(self.edition), *parts)).encode()
        digest = hmac.digest(self.key, said, hashlib.sha256)
        words = [int.from_bytes(digest[at : at + 8], "big") for at in range(0, 32, 8)]
        return [(word >> 11) / 2**53 + 2**-54 for word in words]


def _geometric(uniform: float, epsilon: float) -> int:
    """Return k with probability (1 - a) a^k, a = exp(-epsilon)."""
    return math.floor(math.log(uniform) / -epsilon)


def _geometric_variance(epsilon: float) -> float:
    a = math.exp(-epsilon)
    return 2 * a / (1 - a) ** 2


def told(published: Published, topic_ids: tuple[str, ...], cohorts: tuple[str, ...]) -> "Told":
    """Return what may be shown of some cohorts together: the sums over those that are told.

    A cohort that is too small in a period is in no sum of it: else the difference of two sums would
    show it.
    """
    rows = [published.cohorts.index(name) for name in cohorts if name in published.cohorts]
    columns = [published.topic_ids.index(name) for name in topic_ids]
    is_told_CP = published.size_CP[rows] >= published.terms.least_users
    pick = np.ix_(rows, columns)

    def summed(count_CTP: I64) -> F64:
        chosen_CTP = count_CTP[pick]
        used_CTP = is_told_CP[:, None] & (chosen_CTP != NOT_DRAWN)
        total_TP: F64 = np.where(used_CTP, chosen_CTP, 0).sum(0).astype(np.float64)
        total_TP[~used_CTP.any(0)] = np.nan
        return total_TP

    size_P = np.where(is_told_CP, published.size_CP[rows], 0).sum(0)
    return Told(
        audience_TP=summed(published.audience_CTP),
        volume_TP=summed(published.volume_CTP),
        size_P=np.where(is_told_CP.any(0), size_P, 0),
        cohorts_P=is_told_CP.sum(0).astype(np.float64),
        audience_variance=published.terms.audience_variance,
        volume_variance=published.terms.volume_variance,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What may be shown of a cohort: noised, and nan where it was too small."""

    audience_TP: F64
    volume_TP: F64
    # At most the true size; 0 where it may not be shown.
    size_P: I64
    # Cohorts that were summed: each brings its noise.
    cohorts_P: F64
    # Variance of one cohort's noise, users squared and events squared.
    audience_variance: float
    volume_variance: float
