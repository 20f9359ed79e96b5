"""Chooses the baselines' constants on the validation periods, and builds every method."""

from collections.abc import Mapping
from dataclasses import dataclass

from services.core.dataset import Dataset
from services.core.model import Model
from services.core.records import F32
from services.evaluation import scorers
from services.evaluation.protocol import Split
from services.evaluation.recommendation import OURS, Progress, mean_ndcg, rank_all
from services.evaluation.scorers import Method

WINDOWS_DAYS = (7.0, 28.0, 90.0)
FROZEN_WINDOWS_DAYS = (7.0, 28.0, 90.0, 36_500.0)
HALF_LIVES = (4.0, 8.0, 12.0, 26.0)
OWN_SHARES = (0.5, 0.7, 0.9)
# Dense item-item and user-user matrices beyond these sizes do not fit.
ITEM_LIMIT = 8_000
USER_LIMIT = 20_000
# Users who choose the constants.
CHOOSERS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Methods:
    """What is compared, what was chosen, and what was left out and why."""

    by_name: dict[str, Method]
    chosen: dict[str, dict[str, float]]
    left_out: dict[str, str]


def make_methods(
    data: Dataset, split: Split, model: Model, items_ND: F32, text_NV: F32, *,
    on_progress: Progress = lambda stage, done, total: None,
) -> Methods:  # fmt: skip
    """Build ours and every baseline; constants are the best by NDCG on the validation periods."""
    before = data.before(split.start(split.origins[0]))
    stage = "choose baselines"
    window, popularity = _best(before, split, {(w,): scorers.popularity(w) for w in WINDOWS_DAYS})
    on_progress(stage, 1, 4)
    frozen_window, frozen = _best(
        before, split, {(w,): scorers.frozen_mean(text_NV, w) for w in FROZEN_WINDOWS_DAYS}
    )
    on_progress(stage, 2, 4)
    half_life, recency = _best(
        before, split, {(h,): scorers.recency_frequency(h, *window) for h in HALF_LIVES}
    )
    on_progress(stage, 3, 4)
    methods = {
        OURS: scorers.driftline(model, items_ND),
        "frozen_mean": frozen,
        "popularity": popularity,
        "frequency": scorers.frequency(*window),
        "recency_frequency": recency,
    }
    chosen = {
        "popularity": {"window_days": window[0]},
        "frozen_mean": {"window_days": frozen_window[0]},
        "recency_frequency": {"half_life_periods": half_life[0]},
    }
    left_out = {}
    if data.user_count <= USER_LIMIT:
        own, knn = _best(
            before, split,
            {(s,): scorers.user_knn(half_life[0], window[0], s) for s in OWN_SHARES},
        )  # fmt: skip
        methods["user_knn"] = knn
        chosen["user_knn"] = {"own_share": own[0]}
    else:
        left_out["user_knn"] = f"more than {USER_LIMIT} users"
    if data.item_count <= ITEM_LIMIT:
        methods["itemknn"] = scorers.itemknn()
        methods["ease"] = scorers.ease(before, half_life[0])
    else:
        left_out |= dict.fromkeys(("itemknn", "ease"), f"more than {ITEM_LIMIT} items")
    on_progress(stage, 4, 4)
    return Methods(by_name=methods, chosen=chosen, left_out=left_out)


def _best(
    before: Dataset, split: Split, tried: Mapping[tuple[float, ...], Method]
) -> tuple[tuple[float, ...], Method]:
    names = {str(key): key for key in tried}
    samples = rank_all(
        before, split, {name: tried[key] for name, key in names.items()}, (1,),
        origins=split.validation, user_limit=CHOOSERS, slices=("all",),
    )  # fmt: skip
    scores = {name: mean_ndcg(samples["all", 1, name]) for name in names}
    best = names[max(scores, key=lambda name: scores[name])]
    return best, tried[best]
