"""Bursts: a user's periods that move away from their level by more than their noise explains.

One pass, a state of fixed size a user; `detect` is `advance` over the columns of a batch.

Level. The filter of core/local_level.py predicts the period's coordinates: mean m, variance v, plus
the noise of a period, noise / (n + count_offset) for n events: few events, wide noise. With e the
innovation and S = v + noise the variance, W = 1 / S (times the user's own noise scale, below).

Displacement. A burst moves a share f of the period's mass from the level to a topic g, so e is
f d + noise with d = topic_g - m. The share's least-squares estimate and its precision are

    f = e' W d / d' W d        precision = d' W d

Evidence. The log likelihood ratio of a share `shift` against none is shift e'Wd - shift^2 d'Wd / 2;
Page's cumulative sum C' = max(0, FORGET C + ratio) (Page, Continuous inspection schemes, Biometrika 1954)
raises an alarm for the topic that first passes `threshold`. With FORGET 1 it is optimal for the delay
at a given rate of false alarms (Lorden 1971; Moustakides 1986); it is less than 1 because a level
that drifts slowly would add up too. While a burst lasts (share above
`ENDS`) the level stands still, so neither it nor the return is mistaken; what lasts longer than
`longest` active periods is a new level.

Noise scale. Users differ in how lumpy their periods are: e'We / K, averaged over their own periods
with `PRIOR` periods of 1 before, multiplies S.

Types, the first that holds: automated, a period with a bulk day or far more events than the user's
own (log count above its mean by `AUTOMATED` standard deviations); seasonal, the same topic a season
(or whole seasons) after an earlier burst of the user; population, a topic that rises for all users
in that period (`PopulationState`); personal, all else. An empty period changes nothing but age.

Shape suffixes: U = users, T = periods, D = width, K = coordinates, G = topics, M = bursts kept.
"""

from dataclasses import replace

import numpy as np

from services.core.burst_state import (
    ENDS,
    FORGET,
    KEPT,
    NEVER,
    POPULATION_DECAY,
    POPULATION_SHARE,
    POPULATION_WARMUP,
    POPULATION_Z,
    PRIOR,
    Bools,
    BurstModel,
    Bursts,
    BurstState,
    BurstType,
    Measured,
    Moved,
    PopulationState,
)
from services.core.burst_steps import automated, moved_level, recorded, typed
from services.core.pooling import F64, I64
from services.core.records import F32
from services.core.trajectories import TrajectoryBatch


def new_state(model: BurstModel, users: int, period: int = 0) -> BurstState:
    """Return what is known of users before any period; the first one is `period`."""
    return BurstState(
        period=period,
        mean_UK=np.zeros((users, len(model.level.rho_K))),
        variance_UK=np.tile(model.level.variance_K.astype(np.float64), (users, 1)),
        evidence_UG=np.zeros((users, len(model.topics_GD))),
        lumps_U2=np.full((users, 2), PRIOR),
        counts_U3=np.zeros((users, 3)),
        topic_U=np.full(users, -1),
        age_U=np.zeros(users, np.int64),
        kind_U=np.zeros(users, np.int64),
        share_U=np.zeros(users),
        past_UM4=np.full((users, KEPT, 4), NEVER),
        peak_UM=np.zeros((users, KEPT)),
    )


def new_population(model: BurstModel) -> PopulationState:
    """Return what is known of everyone before any period."""
    topics = len(model.topics_GD)
    return PopulationState(periods=0, mean_G=np.zeros(topics), variance_G=np.zeros(topics))


def measure(
    model: BurstModel, state: BurstState, vec_UD: F32, mask_U: Bools, count_U: I64
) -> Measured:
    """Compare a period's vectors with what the level foretold."""
    level, seen = model.level, np.flatnonzero(mask_U)
    mean_UK, variance_UK = level.aged(state.mean_UK[seen], state.variance_UK[seen])
    z_UK = (vec_UD[seen] - level.centre_D).astype(np.float64) @ level.inverse_KD.T
    events_U = np.maximum(count_U[seen], 1) + model.count_offset
    weight_UK = 1.0 / (variance_UK + level.noise_K / events_U[:, None])
    innovation_UK = z_UK - mean_UK
    pulled_UK = innovation_UK * weight_UK
    heavy_UK = weight_UK * mean_UK
    topics_KG = model.topics_GK.T
    return Measured(
        seen=seen,
        innovation_UK=innovation_UK,
        weight_UK=weight_UK,
        pull_UG=pulled_UK @ topics_KG - (pulled_UK * mean_UK).sum(axis=1, keepdims=True),
        precision_UG=np.maximum(
            weight_UK @ topics_KG**2
            - 2.0 * heavy_UK @ topics_KG
            + (heavy_UK * mean_UK).sum(axis=1, keepdims=True),
            1e-9,
        ),
        lump_U=(innovation_UK * pulled_UK).mean(axis=1),
    )


def advance_population(
    state: PopulationState, moved: Moved
) -> tuple[PopulationState, Bools]:  # fmt: skip
    """Return the new state, and which topics rise for everyone in this period [G].

    The share that all users move to a topic, sum e'Wd / sum d'Wd, is compared with its own
    exponentially weighted mean and variance; a rise does not enter them.
    """
    if not moved.precision_G.any():
        return state, np.zeros(len(state.mean_G), bool)
    moved_G = moved.pull_G / moved.precision_G
    is_known = state.periods >= POPULATION_WARMUP
    off_G = moved_G - state.mean_G
    sd_G = np.sqrt(state.variance_G + 1.0 / moved.precision_G)
    risen_G = is_known & (off_G > POPULATION_Z * sd_G) & (off_G > POPULATION_SHARE)
    keep = POPULATION_DECAY if is_known else state.periods / (state.periods + 1.0)
    mean_G = np.where(risen_G, state.mean_G, state.mean_G + (1.0 - keep) * off_G)
    spread_G = keep * (state.variance_G + (1.0 - keep) * off_G**2)
    variance_G = np.where(risen_G, state.variance_G, spread_G)
    risen: Bools = risen_G
    return PopulationState(periods=state.periods + 1, mean_G=mean_G, variance_G=variance_G), risen


def weighed(model: BurstModel, state: BurstState, found: Measured) -> F64:
    """Return the cumulative sums with a period taken in, before an alarm empties them [seen, G].

    Args:
        model: what was fitted.
        state: at the close of the period before.
        found: from `measure` of the same state.
    """
    ratio_UG = model.shift * found.pull_UG - 0.5 * model.shift**2 * found.precision_UG
    scale_U1 = noise_scale(state)[found.seen, None]
    evidence_UG: F64 = np.maximum(FORGET * state.evidence_UG[found.seen] + ratio_UG / scale_U1, 0.0)
    return evidence_UG


def noise_scale(state: BurstState) -> F64:
    """Return how much lumpier than foretold each user's periods are, as a factor of the variance [U]."""
    scale_U: F64 = state.lumps_U2[:, 0] / state.lumps_U2[:, 1]
    return scale_U


def advance(
    model: BurstModel, state: BurstState, found: Measured, count_U: I64, *,
    risen_G: Bools, bulk_U: Bools,
) -> tuple[BurstState, Bursts]:  # fmt: skip
    """Take one period in.

    Args:
        model: what was fitted.
        state: at the close of the period before.
        found: from `measure` of the same state.
        count_U: events of the period, bulk days included.
        risen_G: topics that rise for everyone, from `advance_population`.
        bulk_U: whether the period holds a bulk day (core/classify.py).

    Returns:
        The state at the period's close, and what the period is [U].
    """
    seen, users = found.seen, len(state.topic_U)
    is_auto_U, counts_U3 = automated(state.counts_U3, count_U, bulk_U)
    scale_U = noise_scale(state)[seen]
    evidence_UG = weighed(model, state, found)
    before_U = state.topic_U[seen]
    row = np.arange(len(seen))
    best_U = evidence_UG.argmax(axis=1)
    is_auto_seen_U = is_auto_U[seen]
    alarm_U = (before_U < 0) & (evidence_UG[row, best_U] > model.threshold) & ~is_auto_seen_U
    topic_U = np.where(alarm_U, best_U, before_U)
    held_U = np.maximum(topic_U, 0)
    share_U = np.clip(found.pull_UG[row, held_U] / found.precision_UG[row, held_U], 0.0, 1.0)
    lasts_U = (topic_U >= 0) & (alarm_U | (share_U > ENDS))
    age_U = np.where(lasts_U, state.age_U[seen] + 1, 0)
    is_level_U = age_U > model.longest
    is_burst_U = lasts_U & ~is_level_U
    evidence_UG[(topic_U >= 0) | is_auto_seen_U] = 0.0
    level = moved_level(
        model, state, found, scale_U, is_still_U=is_burst_U | is_auto_seen_U, is_new_U=is_level_U
    )
    all_topic_U = state.topic_U.copy()
    all_topic_U[seen] = np.where(is_burst_U, topic_U, -1)
    all_share_U = np.zeros(users)
    all_share_U[seen] = np.where(is_burst_U, share_U, 0.0)
    is_alarm_U = np.zeros(users, bool)
    is_alarm_U[seen] = alarm_U
    goes_on_U = np.zeros(users, bool)
    goes_on_U[seen] = is_burst_U
    is_same_U, kind_U = typed(model, state, all_topic_U, is_alarm_U, risen_G)
    onset_U = (is_alarm_U & ~is_same_U) | (is_auto_U & (state.kind_U != BurstType.AUTOMATED))
    kind_U = np.where(all_topic_U >= 0, kind_U, BurstType.NONE)
    kind_U = np.where(is_auto_U, BurstType.AUTOMATED, kind_U)
    all_age_U, all_evidence_UG = state.age_U.copy(), state.evidence_UG.copy()
    all_age_U[seen], all_evidence_UG[seen] = np.where(is_burst_U, age_U, 0), evidence_UG
    is_told_U = goes_on_U | is_auto_U
    of = Bursts(
        kind=np.where(is_told_U, kind_U, BurstType.NONE),
        onset=onset_U,
        topic=np.where(goes_on_U, all_topic_U, -1),
        share=all_share_U,
    )
    past_UM4, peak_UM = recorded(
        state, of, is_new_U=is_alarm_U & ~is_same_U, goes_on_U=goes_on_U, is_auto_U=is_auto_U
    )
    last_share_U = state.share_U.copy()
    last_share_U[seen] = all_share_U[seen]
    new = replace(
        level,
        period=state.period + 1,
        evidence_UG=all_evidence_UG,
        counts_U3=counts_U3,
        topic_U=all_topic_U,
        age_U=all_age_U,
        kind_U=kind_U,
        share_U=last_share_U,
        past_UM4=past_UM4,
        peak_UM=peak_UM,
    )
    return new, of


def update(
    model: BurstModel, state: BurstState, vec_UD: F32, mask_U: Bools, count_U: I64, *,
    risen_G: Bools | None = None, bulk_U: Bools | None = None,
) -> tuple[BurstState, Bursts]:  # fmt: skip
    """Take one period of one or many users in: the online form.

    Args:
        model: what was fitted.
        state: at the close of the period before.
        vec_UD: the period's vectors; rows of gaps are not read.
        mask_U: False in a gap.
        count_U: events of the period.
        risen_G: topics that rise for everyone; unset: none is known to.
        bulk_U: whether the period holds a bulk day; unset: it holds none.
    """
    none_U = np.zeros(len(mask_U), bool)
    return advance(
        model, state, measure(model, state, vec_UD, mask_U, count_U), count_U,
        risen_G=np.zeros(len(model.topics_GD), bool) if risen_G is None else risen_G,
        bulk_U=none_U if bulk_U is None else bulk_U,
    )  # fmt: skip


def detect(model: BurstModel, batch: TrajectoryBatch, *, bulk_UT: Bools | None = None) -> Bursts:
    """Return what every period of a batch is [U, T]; the batch is the population.

    Nothing from after a column enters it.
    """
    users, periods = batch.mask_UT.shape
    state, everyone = new_state(model, users), new_population(model)
    bulk_UT = np.zeros((users, periods), bool) if bulk_UT is None else bulk_UT
    kind, topic = np.zeros((users, periods), np.int64), np.full((users, periods), -1)
    onset, share = np.zeros((users, periods), bool), np.zeros((users, periods))
    for t in range(periods):
        count_U = batch.count_UT[:, t] * batch.mask_UT[:, t]
        found = measure(model, state, batch.vec_UTD[:, t], batch.mask_UT[:, t], count_U)
        everyone, risen_G = advance_population(everyone, found.moved())
        state, of = advance(model, state, found, count_U, risen_G=risen_G, bulk_U=bulk_UT[:, t])
        kind[:, t], onset[:, t], topic[:, t], share[:, t] = of.kind, of.onset, of.topic, of.share
    return Bursts(kind=kind, onset=onset, topic=topic, share=share)
