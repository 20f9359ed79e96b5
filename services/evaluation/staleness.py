"""What a query vector loses with age, and how much of that a forecast gives back.

A query is served at an origin and asked again h periods later, for what is new to the user in
period origin + h - 1:

    stale      the query vector as it was served at the origin
    oracle     the same pooling on the events up to the period asked
    forecast   the rank state of the origin, rolled forward: each period between is added as if the
               user's usual weight of events had been spread as the forecast says

Only the query differs: popularity and activity are those of the period asked for all three, and
candidates are the items that the user had not had by then. At h = 1 nothing lies between; there the
question is whether a forecast of the period asked belongs in the query at all, and `forecast` rolls
that one in.

Shape suffixes: U = users, N = items, D = width, H = half-lives, A = users asked, K = places,
G = periods between, S = (user, origin) samples.
"""

from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
from scipy import sparse

from services.core.dataset import Dataset, rank_states
from services.core.forecasters import forecaster_of
from services.core.forecasts import Forecaster
from services.core.metrics import bootstrap_mean, rank_figures, resampled_means
from services.core.model import Model
from services.core.pooling import DAY_S, F64, I64, RankStates
from services.core.progress import Progress
from services.core.ranking import popularity_shares, query_vectors, score_items
from services.core.records import F32
from services.core.top import contains, top_rows, top_without
from services.core.trajectories import TrajectoryBatch
from services.evaluation.matrices import incidence
from services.evaluation.protocol import Split
from services.evaluation.scorers import take_users
from services.evaluation.trajectories import Trajectories

QUERIES = ("stale", "forecast", "oracle")
AHEAD = (1, 4, 8)
K = 10
# Users of a chunk.
_USERS = 1000


@dataclass(slots=True)
class _Samples:
    """NDCG@10 of each query on the same (user, origin) samples."""

    user: list[I64] = field(default_factory=list)
    ndcg: dict[str, list[F64]] = field(default_factory=lambda: {name: [] for name in QUERIES})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Past:
    """What is known at an instant."""

    data: Dataset
    states: RankStates
    now: float


def staleness_report(
    data: Dataset, split: Split, model: Model, items_ND: F32, seen: Trajectories, *,
    ahead: tuple[int, ...] = AHEAD, user_limit: int, rng: np.random.Generator,
    on_progress: Progress = lambda stage, done, total: None,
) -> dict[str, dict[str, object]]:  # fmt: skip
    """Return {hH: NDCG@10 by query, gap and closed share with 95% intervals, users, samples}.

    `gap` is oracle minus stale, `gain` forecast minus stale, `closed` gain / gap; `closed` is null
    where the gap's interval holds zero. At h1 there is no oracle, only the gain.

    Args:
        data: all events.
        split: where the origins stand.
        model: ours, with a forecaster of the granularity; without one nothing is returned.
        items_ND: vectors of all items.
        seen: vectors of all users in that space.
        ahead: h; those without an origin whose target is in the data are left out.
        user_limit: more users than this at an origin are sampled.
        rng: of the samples and the bootstrap.
        on_progress: called with stage, done, total.
    """
    spec = model.forecasters.get(split.granularity)
    if spec is None:
        return {}
    forecaster = forecaster_of(spec)

    # Asked for at most once a period of the test block, whatever the horizons.
    @cache
    def known_at(period: int) -> _Past:
        return _past(data, model, items_ND, split.start(period))

    report: dict[str, dict[str, object]] = {}
    total, done = len(ahead) * len(split.origins), 0
    for h in ahead:
        samples = _Samples()
        for origin in split.origins:
            done += 1
            on_progress("staleness", done, total)
            target = origin + h - 1
            if target > split.last:
                continue
            past, asked = known_at(origin), known_at(target)
            truth_UN = incidence(data.between(asked.now, split.start(target + 1)))
            truth_UN = truth_UN - truth_UN.multiply(incidence(asked.data))
            truth_UN.eliminate_zeros()
            users = np.flatnonzero((np.diff(truth_UN.indptr) > 0) & (past.states.state_time_U > 0))
            if len(users) > user_limit:
                users = np.sort(rng.choice(users, user_limit, replace=False))
            known = seen.before(origin)
            for start in range(0, len(users), _USERS):
                users_A = users[start : start + _USERS]
                periods = [split.start(origin + g) for g in range(max(h - 1, 1) + 1)]
                rolled = rolled_forward(
                    take_users(past.states, users_A), forecaster, known.users(users_A), model,
                    periods,
                )  # fmt: skip
                _measure(samples, model, items_ND, past, asked, rolled, users_A, truth_UN)
        if samples.user:
            report[f"h{h}"] = _figures(samples, rng, has_gap=h > 1)
    return report


def rolled_forward(
    states: RankStates, forecaster: Forecaster, batch: TrajectoryBatch, model: Model,
    periods: list[float],
) -> RankStates:  # fmt: skip
    """Return the states at periods[-1] if each period between had been as the forecast says.

    A period's vector is a direction: its expected weight is the user's mean weight a period, gaps
    included, and the length of its mean item the user's usual one.

    Args:
        states: at periods[0].
        forecaster: of the granularity.
        batch: the same users' trajectories, up to periods[0].
        model: its half-lives.
        periods: starts of the periods, seconds since 1970, ascending; the last is the end.
    """
    made = forecaster.forecast(batch, list(range(1, len(periods))))
    half_life_H = np.asarray(model.pooling.half_lives_days) * DAY_S
    now, start = periods[-1], periods[0]
    fade_UH = np.exp2(-np.maximum(start - states.state_time_U, 0.0)[:, None] / half_life_H)
    weights_UH, sums_UHD = (
        states.query_weights_UH * fade_UH,
        states.query_sums_UHD * fade_UH[:, :, None],
    )
    active_U = batch.mask_UT.any(axis=1)
    first_U = np.argmax(batch.mask_UT, axis=1)
    seen_U = np.maximum(batch.mask_UT.shape[1] - first_U, 1)
    length_s = (now - start) / (len(periods) - 1)
    # The longest half-life's decayed weight is rate * sum of decays over the periods seen.
    decay = np.exp2(-length_s / half_life_H[-1])
    rate_U = active_U * weights_UH[:, -1] * (1.0 - decay) / (1.0 - decay**seen_U)
    level_UD = made.means_UHD[:, 0]
    mean_UD = sums_UHD[:, -1] / np.maximum(weights_UH[:, -1:], 1e-12)
    usual_U = np.linalg.norm(mean_UD, axis=1) / np.maximum(np.linalg.norm(level_UD, axis=1), 1e-12)
    end_G = np.asarray(periods[1:]) - 0.5 * length_s
    left_GH = np.exp2(-(now - end_G)[:, None] / half_life_H)
    through_H = np.exp2(-(now - start) / half_life_H)
    added_UHD = np.einsum("gh,ugd->uhd", left_GH, made.means_UHD, optimize=True)
    sums_UHD = sums_UHD * through_H[:, None] + (rate_U * usual_U)[:, None, None] * added_UHD
    weights_UH = weights_UH * through_H + rate_U[:, None] * left_GH.sum(axis=0)
    return replace(
        states,
        query_sums_UHD=sums_UHD.astype(np.float32),
        query_weights_UH=weights_UH.astype(np.float32),
        activity_UH=(states.activity_UH * fade_UH * through_H).astype(np.float32),
        state_time_U=np.full(len(rate_U), now),
    )


def _measure(
    samples: _Samples, model: Model, items_ND: F32, past: _Past, asked: _Past, rolled: RankStates,
    users_A: I64, truth_UN: sparse.csr_matrix,
) -> None:  # fmt: skip
    stats = popularity_shares(
        asked.data.item_ix_E, asked.data.time_E, asked.now, asked.data.item_count,
        model.ranker.popularity_half_lives_days,
    )  # fmt: skip
    then = take_users(asked.states, users_A)
    popularity_AN = score_items(then, stats, items_ND, model.ranker, asked.now).popularity_UN
    query_AD = {
        "stale": query_vectors(take_users(past.states, users_A), model.ranker, past.now),
        "forecast": query_vectors(rolled, model.ranker, asked.now),
        "oracle": query_vectors(then, model.ranker, asked.now),
    }
    had_AN, truth_AN = incidence(asked.data)[users_A], truth_UN[users_A]
    samples.user.append(users_A)
    for name in QUERIES:
        score_AN = (query_AD[name] @ items_ND.T + popularity_AN).astype(np.float32)
        top_AK = top_without(score_AN, had_AN, top_rows(score_AN, 8 * K), K)
        figures = rank_figures(contains(truth_AN, top_AK), np.diff(truth_AN.indptr), (K,))
        samples.ndcg[name].append(figures[f"ndcg_at_{K}"])


def _figures(samples: _Samples, rng: np.random.Generator, *, has_gap: bool) -> dict[str, object]:
    user_S = np.concatenate(samples.user)
    stale_S, forecast_S, oracle_S = (np.concatenate(samples.ndcg[name]) for name in QUERIES)
    gain = bootstrap_mean(forecast_S - stale_S, user_S, rng)
    found: dict[str, object] = {
        "users": len(np.unique(user_S)),
        "samples": len(user_S),
        "stale": float(stale_S.mean()),
        "forecast": float(forecast_S.mean()),
        "gain": gain.mean,
        "gain_ci": [gain.low, gain.high],
    }
    if not has_gap:
        return found
    gap = bootstrap_mean(oracle_S - stale_S, user_S, rng)
    found |= {"oracle": float(oracle_S.mean()), "gap": gap.mean, "gap_ci": [gap.low, gap.high]}
    found |= {"closed": None, "closed_ci": None}
    if gap.low > 0.0:
        drawn_M2 = resampled_means(
            np.stack([forecast_S - stale_S, oracle_S - stale_S], axis=1), user_S, rng
        )
        share_M = drawn_M2[:, 0] / np.maximum(drawn_M2[:, 1], 1e-12)
        found["closed"] = gain.mean / gap.mean
        found["closed_ci"] = [float(edge) for edge in np.quantile(share_M, [0.025, 0.975])]
    return found


def _past(data: Dataset, model: Model, items_ND: F32, now: float) -> _Past:
    past = data.before(now)
    states = rank_states(past, items_ND, model.pooling)
    return _Past(data=past, states=states, now=now)
