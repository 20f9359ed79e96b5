"""A candidate beside the live model: both rank the same users' next items, from the same past.

What is asked: the last full periods of the store, each from all that came before it, all items ranked.
Both answer through core/ranking.py, as the gateway does. Each user is paired with themselves.
Shape suffixes: S = (user, origin) samples.
"""

from collections.abc import Callable

import numpy as np
import polars as pl

from services.core.dataset import dataset_from_frame, instant
from services.core.metrics import resampled_means
from services.core.model import Model
from services.core.periods import Period
from services.core.progress import Progress
from services.core.promotion import Comparison
from services.core.schema import Granularity
from services.core.tower import BackboneSpec
from services.evaluation.protocol import make_split
from services.evaluation.recommendation import FIGURES, rank_all
from services.evaluation.scorers import driftline
from services.store.ports import TextEncoder

FIGURE, PART, HORIZON = "ndcg_at_10", "all", 1
CANDIDATE, LIVE = "candidate", "live"


def compare_models(
    events: pl.DataFrame,
    texts: pl.DataFrame,
    candidate: Model,
    live: Model,
    load_encoder: Callable[[BackboneSpec], TextEncoder],
    *,
    granularity: Granularity = Granularity.WEEK,
    origins: int = 4,
    user_limit: int = 5000,
    seed: int = 0,
    on_progress: Progress = lambda stage, done, total: None,
) -> Comparison:
    """Return how much better a candidate ranks than the live model, paired.

    Args:
        events: every stored event.
        texts: item_id, text of every item, as the encoder reads them.
        candidate: the model that may become live.
        live: the model that serves.
        load_encoder: gives the text model of each; called once where they share one.
        granularity: of the periods to predict.
        origins: last full periods to predict.
        user_limit: more users at an origin are sampled.
        seed: of samples and draws.
        on_progress: called with stage, done, total.

    Raises:
        InvalidArgument: there are too few periods.
    """
    data = dataset_from_frame(events, granularity, live.pooling, texts=texts)
    split = make_split(data, origins, (HORIZON,))
    encoded = {
        spec: load_encoder(spec).encode(data.texts)
        for spec in dict.fromkeys((candidate.backbone, live.backbone))
    }
    methods = {}
    for name, model in ((CANDIDATE, candidate), (LIVE, live)):
        items_ND = model.tower.item_vectors(encoded[model.backbone], data.item_ids)
        methods[name] = driftline(model, items_ND)
    found = rank_all(
        data, split, methods, (HORIZON,),
        user_limit=user_limit, seed=seed, slices=(PART,), by_user=False, on_progress=on_progress,
    )[PART, HORIZON]  # fmt: skip
    column = FIGURES.index(FIGURE)
    value_S2 = np.stack(
        [found.methods[name].values()[:, column] for name in (CANDIDATE, LIVE)], axis=1
    ).astype(np.float64)
    gain_S1 = value_S2[:, :1] - value_S2[:, 1:]
    drawn_M = resampled_means(gain_S1, found.asked_users, np.random.default_rng(seed))[:, 0]
    low, high = np.quantile(drawn_M, [0.025, 0.975])
    first, last = (Period(granularity, split.origins[at]).name for at in (0, -1))
    begins = instant(split.start(split.origins[0]))
    return Comparison(
        against=live.model_version,
        data_sha256=data.sha256(),
        split=f"{granularity} {first} to {last}, {HORIZON} ahead",
        figure=FIGURE,
        users=len(np.unique(found.asked_users)),
        candidate=float(value_S2[:, 0].mean()),
        live=float(value_S2[:, 1].mean()),
        gain=float(gain_S1.mean()),
        gain_low=float(low),
        gain_high=float(high),
        saw_the_answers=tuple(
            model.model_version for model in (candidate, live) if model.trained_until > begins
        ),
    )
