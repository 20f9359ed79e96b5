"""What is compared, as scorers: at an origin, scores of all items for some users.

    driftline           core/ranking.py with the trained model
    frozen_mean         the article's way: cosine to the mean of the frozen text vectors of what
                        a user had in a window
    popularity          events of a window, counted
    frequency           how often the user had the item
    recency_frequency   periods with the item, decayed

neighbours.py and factors.py hold those that learn from other users. Every method sees the events
before the origin; constants are chosen on the validation block (baselines.py).

Shape suffixes: U = users, N = items, B = users asked, V = width of text vectors.
"""

from collections.abc import Callable

import numpy as np

from services.core.dataset import Dataset, rank_states
from services.core.model import Model
from services.core.pooling import DAY_S, I64, RankStates
from services.core.ranking import popularity_shares, score_items
from services.core.records import F32
from services.evaluation.matrices import counts, decayed_periods, incidence, recent_share

# Scores of all items for some users [B, N].
Scorer = Callable[[I64], F32]
# Past events, and now in seconds since 1970 -> a scorer.
Method = Callable[[Dataset, float], Scorer]

# Popularity that only breaks ties.
TIE = 1e-3


def driftline(model: Model, items_ND: F32) -> Method:
    """Return our method: the functions that serving calls."""

    def prepare(past: Dataset, now: float) -> Scorer:
        states = rank_states(past, items_ND, model.pooling)
        stats = popularity_shares(
            past.item_ix_E, past.time_E, now, past.item_count,
            model.ranker.popularity_half_lives_days,
        )  # fmt: skip
        return lambda users_B: (
            score_items(take_users(states, users_B), stats, items_ND, model.ranker, now).score_UN
        )

    return prepare


def take_users(states: RankStates, users_B: I64) -> RankStates:
    """Return the states of some users (ascending rows), in their order."""
    row_R = np.searchsorted(users_B, states.repeat_user_ix_R)
    is_theirs = users_B[np.minimum(row_R, len(users_B) - 1)] == states.repeat_user_ix_R
    return RankStates(
        query_sums_UHD=states.query_sums_UHD[users_B],
        query_weights_UH=states.query_weights_UH[users_B],
        activity_UH=states.activity_UH[users_B],
        state_time_U=states.state_time_U[users_B],
        repeat_user_ix_R=row_R[is_theirs],
        repeat_item_ix_R=states.repeat_item_ix_R[is_theirs],
        repeat_counts_RH=states.repeat_counts_RH[is_theirs],
        repeat_last_times_R=states.repeat_last_times_R[is_theirs],
    )


def frozen_mean(text_NV: F32, window_days: float) -> Method:
    """Return the article's way, over what the user had in the last `window_days`."""

    def prepare(past: Dataset, now: float) -> Scorer:
        counts_UN = counts(past.between(now - window_days * DAY_S, now))

        def score(users_B: I64) -> F32:
            mean_BV = (counts_UN[users_B] @ text_NV).astype(np.float32)
            norm_B1 = np.linalg.norm(mean_BV, axis=1, keepdims=True)
            scores: F32 = (mean_BV / np.maximum(norm_B1, 1e-12)) @ text_NV.T
            return scores

        return score

    return prepare


def popularity(window_days: float) -> Method:
    """Return the events of the last `window_days`, counted."""

    def prepare(past: Dataset, now: float) -> Scorer:
        share_N = recent_share(past, now, window_days)
        return lambda users_B: np.broadcast_to(share_N, (len(users_B), len(share_N)))

    return prepare


def frequency() -> Method:
    """Return each user's own counts."""

    def prepare(past: Dataset, now: float) -> Scorer:
        own_UN = counts(past)
        return lambda users_B: np.asarray(own_UN[users_B].toarray(), np.float32)

    return prepare


def recency_frequency(half_life: float) -> Method:
    """Return periods with the item, decayed by `half_life` periods."""

    def prepare(past: Dataset, now: float) -> Scorer:
        own_UN = decayed_periods(past, half_life)
        return lambda users_B: np.asarray(own_UN[users_B].toarray(), np.float32)

    return prepare


def with_popularity(method: Method, window_days: float, weight: float) -> Method:
    """Add popularity, whose best item counts `weight`, to scores whose best is made 1.

    What the method cannot score (a user without history, an item that it has not learned) is
    ranked by popularity then.
    """

    def prepare(past: Dataset, now: float) -> Scorer:
        scorer = method(past, now)
        added_N = np.float32(weight) * recent_share(past, now, window_days)

        def score(users_B: I64) -> F32:
            raw_BN = scorer(users_B)
            best_B1 = np.abs(raw_BN).max(axis=1, keepdims=True)
            mixed_BN: F32 = raw_BN / np.maximum(best_B1, np.float32(1e-30)) + added_N
            return mixed_BN

        return score

    return prepare


def scored_once(method: Method) -> Method:
    """Remember a method's scores by origin and users; pasts are told apart by identity."""
    held: dict[tuple[int, bytes], tuple[Dataset, F32]] = {}

    def prepare(past: Dataset, now: float) -> Scorer:
        def score(users_B: I64) -> F32:
            key = (id(past), users_B.tobytes())
            if key not in held:
                # The past is held too: its id is then no other's.
                held[key] = past, method(past, now)(users_B)
            return held[key][1]

        return score

    return prepare


def without_had(method: Method) -> Method:
    """Put what the user had before behind everything else: right where nobody repeats."""

    def prepare(past: Dataset, now: float) -> Scorer:
        scorer, had_UN = method(past, now), incidence(past)

        def score(users_B: I64) -> F32:
            score_BN = np.array(scorer(users_B), np.float32)
            had_BN = had_UN[users_B].tocoo()
            score_BN[had_BN.row, had_BN.col] = -np.inf
            return score_BN

        return score

    return prepare
