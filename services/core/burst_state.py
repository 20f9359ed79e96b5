"""What detection of bursts is fitted to, what it keeps of a user, and what it says.

Shape suffixes: U = users, T = periods, D = width, K = coordinates, G = topics, M = bursts kept;
4 = topic, first period, last period, type of one of those.
"""

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from services.core.local_level import LocalLevel
from services.core.pooling import F64, I64
from services.core.records import F32

Bools = NDArray[np.bool_]

# Periods of scale 1 that a user's own noise scale starts from.
PRIOR = 5.0
# What of the evidence is left after an active period: a slow drift of the level is no burst.
FORGET = 0.7
# A burst is over where its share is no more than this.
ENDS = 0.15
# A period's part in the noise scale, at most, times the scale so far.
LUMPIEST = 3.0
# Standard deviations of log count above a user's own, and least events, that no person reaches.
AUTOMATED, AUTOMATED_EVENTS = 4.0, 30
# Log counts: their spread across a person's periods before any is seen, and its weight in periods.
COUNT_SPREAD, COUNT_PRIOR = 0.6, 6.0
# Bursts kept of a user to know a season by.
KEPT = 4
# Topics whose centred directions are nearer than this are one interest.
ALIKE = 0.6
# Periods of silence after which the same topic is a new burst.
PAUSE = 2
# Population: decay of a topic's usual movement, periods before it is known, standard deviations and
# share of everyone's mass that make a rise.
POPULATION_DECAY, POPULATION_WARMUP, POPULATION_Z, POPULATION_SHARE = 0.9, 6, 5.0, 0.02
NEVER = -1_000_000


class BurstType(IntEnum):
    """What a burst is of; stored as its number."""

    NONE = 0
    PERSONAL = 1
    POPULATION = 2
    SEASONAL = 3
    AUTOMATED = 4


@dataclass(frozen=True, kw_only=True)
class BurstModel:
    """What detection was fitted to; see services/training/bursts.py."""

    level: LocalLevel
    # Unit vectors of what interest can burst for: categories, or clusters of items.
    topics_GD: F32
    # Events that a period's noise is less by than it would be of independent ones.
    count_offset: float
    # Of the cumulative sum, nats.
    threshold: float
    # What each topic is called; a name may be empty. Empty: none has a name.
    names_G: tuple[str, ...] = ()
    # Share of a period's mass that evidence is weighed for, in (0, 1): what is asked to be found may be larger.
    shift: float = 0.15
    # Active periods after which a burst is a new level.
    longest: int = 12
    # Lengths of seasons in periods, and how far off a repeat may be.
    seasons: tuple[int, ...] = (52,)
    season_slack: int = 1
    # Chance that a burst goes on for another period; for forecasts.
    persistence: float = 0.7

    @cached_property
    def topics_GK(self) -> F64:  # noqa: N802 - a shape suffix
        """Topics as coordinates of the level."""
        return (self.topics_GD - self.level.centre_D).astype(np.float64) @ self.level.inverse_KD.T

    @cached_property
    def alike_GG(self) -> Bools:  # noqa: N802 - a shape suffix
        """Which topics are one interest."""
        centred_GD = (self.topics_GD - self.topics_GD.mean(axis=0)).astype(np.float64)
        centred_GD /= np.maximum(np.linalg.norm(centred_GD, axis=1, keepdims=True), 1e-12)
        alike: Bools = (centred_GD @ centred_GD.T >= ALIKE) | np.eye(len(centred_GD), dtype=bool)
        return alike


@dataclass(frozen=True, slots=True, kw_only=True)
class BurstState:
    """What is known of users at a period's close; of fixed size a user, arrays are never written.

    Periods are counted on one scale of the caller's: columns of a batch, or ordinals.
    """

    # Of the next period, on the caller's scale: empty ones count too.
    period: int
    mean_UK: F64
    variance_UK: F64
    evidence_UG: F64
    # Sum and count of e'We / K.
    lumps_U2: F64
    # Count, sum and sum of squares of log counts.
    counts_U3: F64
    # The burst that lasts: its topic (-1: none), active periods of it, its type.
    topic_U: I64
    age_U: I64
    kind_U: I64
    # Its share of the user's last active period.
    share_U: F64
    # The last bursts, newest first, periods of machines (topic -1) among them; NEVER where none was.
    past_UM4: I64
    # The largest share that each had; 0 where it has no topic.
    peak_UM: F64


@dataclass(frozen=True, slots=True, kw_only=True)
class PopulationState:
    """How far all users together usually move to each topic; see `advance_population`."""

    periods: int
    mean_G: F64
    variance_G: F64


@dataclass(frozen=True, slots=True, kw_only=True)
class Bursts:
    """What was found in a period [U], or in all periods of a batch [U, T]."""

    # BurstType.
    kind: I64
    # Whether a burst was first told of here.
    onset: Bools
    # -1 where there is none, or none that has a topic.
    topic: I64
    # Estimated share of the period's mass that the burst has, in [0, 1].
    share: F64

    def until(self, columns: int) -> "Bursts":
        """Return the first columns: what was known when the last of them closed."""
        return Bursts(
            kind=self.kind[:, :columns], onset=self.onset[:, :columns],
            topic=self.topic[:, :columns], share=self.share[:, :columns],
        )  # fmt: skip

    def users(self, rows: I64) -> "Bursts":
        """Return some users."""
        return Bursts(
            kind=self.kind[rows], onset=self.onset[rows], topic=self.topic[rows],
            share=self.share[rows],
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A period's innovations against the level; rows are the users seen."""

    seen: I64
    innovation_UK: F64
    weight_UK: F64
    # e'Wd and d'Wd of each topic, and e'We / K; all before the user's noise scale.
    pull_UG: F64
    precision_UG: F64
    lump_U: F64

    def moved(self) -> "Moved":
        """Return what these users say of everyone."""
        return Moved(pull_G=self.pull_UG.sum(axis=0), precision_G=self.precision_UG.sum(axis=0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """Sums over users of one period: where they all move. Zero where nobody was seen."""

    pull_G: F64
    precision_G: F64

    def __add__(self, other: "Moved") -> "Moved":
        return Moved(
            pull_G=self.pull_G + other.pull_G, precision_G=self.precision_G + other.precision_G
        )
