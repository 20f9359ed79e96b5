"""`driftline evaluate`: train before the first origin, compare, write the report."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl

from services.core.dataset import Dataset, dataset_from_frame, instant
from services.core.errors import InvalidArgument
from services.core.model import Model
from services.core.pooling import PoolingConfig
from services.core.progress import Progress
from services.core.records import F32
from services.core.schema import Granularity
from services.core.top import top_rows
from services.evaluation.baselines import Choices, Methods, build_methods, choose_baselines
from services.evaluation.classification import classification_report, refuse_tuned_later
from services.evaluation.frames import read_events
from services.evaluation.html import write_html
from services.evaluation.leave_one_out import (
    WARNING,
    leave_one_out_tables,
    leave_one_out_view,
    without_last,
)
from services.evaluation.medoids import medoids_report
from services.evaluation.peers import PeerProcess, Peers
from services.evaluation.protocol import Split, make_split
from services.evaluation.reasons import reasons_report
from services.evaluation.recommendation import OURS, Part, Samples, rank_all
from services.evaluation.scorers import driftline
from services.evaluation.summary import by_origin, origins_lost, summarise
from services.evaluation.vectors import vector_report
from services.store.ports import TextEncoder

# Users of predictions.parquet, the first ids in order, and items of each.
PREDICTED_USERS, PREDICTED_ITEMS = 1000, 10
# Users asked at an origin, at most.
USER_LIMIT = 5000


class Trainer(Protocol):
    """services.training.evaluated.EvaluatedTrainer; neither package imports the other."""

    def __call__(
        self,
        events: pl.DataFrame,
        backbone: TextEncoder,
        *,
        granularity: Granularity,
        until: datetime,
        on_progress: Progress,
    ) -> Model:
        """Return a model of the events strictly before `until`."""
        ...


class EncodedTexts:
    """A backbone that remembers: a text is encoded once for training and evaluation together."""

    def __init__(self, backbone: TextEncoder) -> None:
        self.spec = backbone.spec
        self.seconds = 0.0
        self._backbone = backbone
        self._known: dict[str, F32] = {}

    def encode(
        self, texts: Sequence[str], on_progress: Callable[[int, int], None] | None = None
    ) -> F32:
        """Return one unit-norm row per text."""
        start = time.perf_counter()
        new = sorted(set(texts) - self._known.keys())
        if new:
            self._known.update(zip(new, self._backbone.encode(new, on_progress), strict=True))
        self.seconds += time.perf_counter() - start
        return np.stack([self._known[text] for text in texts])


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The report, and the model that it is about."""

    report: dict[str, Any]
    model: Model


def run_evaluate(
    events: Path | pl.DataFrame,
    *,
    granularity: Granularity,
    origins: int,
    horizons: tuple[int, ...],
    out: Path,
    backbone: TextEncoder,
    trainer: Trainer,
    model: Model | None = None,
    variants: Mapping[str, Model | Trainer] | None = None,
    frozen: Trainer | None = None,
    every: int = 1,
    until: datetime | None = None,
    user_limit: int = USER_LIMIT,
    leave_one_out: bool = False,
    peers: PeerProcess | None = None,
    predict_at: datetime | None = None,
    data_note: str = "",
    seed: int = 0,
    on_progress: Progress = lambda stage, done, total: None,
) -> Evaluation:
    """Evaluate on a file of events and write report.json, report.html, predictions.parquet.

    Args:
        events: Parquet file or frame: user_id, item_id, event_time, kind, text (see read_events).
        granularity: length of a period.
        origins: how many, in the last full periods.
        horizons: periods ahead, each at least 1.
        out: folder, made if absent.
        backbone: encodes texts.
        trainer: trains on the events before the first origin.
        model: use this one instead; it must not have seen the first origin.
        variants: other models of ours by name, or what trains them (driftline_without_vector);
            compared, but not counted as rivals. Trained as strictly.
        frozen: fits forecasters to the frozen texts' vectors; they are reported beside ours.
        every: periods between origins; horizons of as many periods are then disjoint.
        until: events at or after it are not read.
        user_limit: more users than this at an origin are sampled.
        leave_one_out: measure by leave-one-out too, of a second model that is trained for it. It
            leaks (see leave_one_out.py).
        peers: answers for other libraries' recommenders (peers.PeerVenv); they are compared like
            every other method, but not by leave-one-out. Their files stay in `out`/peers.
        predict_at: instant of predictions.parquet; unset means the last origin.
        data_note: said in the report: where the data come from.
        seed: of samples and intervals.
        on_progress: called with stage, done, total.

    Raises:
        InvalidArgument: unreadable events, too few periods, or a model that saw the test block.
    """
    started = time.perf_counter()
    if peers is not None and leave_one_out:
        raise InvalidArgument("peers", "leave-one-out does not ask them; choose one of the two")
    frame = read_events(events, until)
    pooling = model.pooling if model is not None else PoolingConfig()
    data = dataset_from_frame(frame, granularity, pooling)
    split = make_split(data, origins, _checked(horizons), every)
    first_origin = instant(split.start(split.origins[0]))
    refuse_tuned_later(backbone.spec.name, first_origin)
    encoder = EncodedTexts(backbone)
    text_NV = encoder.encode(data.texts, lambda done, total: on_progress("encode", done, total))
    training = time.perf_counter()
    given = {"model": model or trainer, **(variants or {})} | ({"frozen": frozen} if frozen else {})
    others = _models(
        given, frame, encoder, granularity,
        first_origin, on_progress,
    )  # fmt: skip
    model, beside = others.pop("model"), others.pop("frozen", None)
    evaluating = time.perf_counter()
    items_ND = model.tower.item_vectors(text_NV, data.item_ids)
    asked = None
    if peers is not None:
        asked = Peers(peers, out / "peers", data, split, horizons, user_limit, seed=seed)
    choices = choose_baselines(
        data, split, text_NV, horizons, peers=asked, seed=seed, on_progress=on_progress
    )
    methods = build_methods(
        choices, data.before(split.start(split.origins[0])), model, items_ND, text_NV,
        variants=others,
    )  # fmt: skip
    samples = rank_all(
        data, split, methods.by_name, horizons,
        user_limit=user_limit, seed=seed, on_progress=on_progress,
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    report = {
        "dataset": _dataset(data, granularity, data_note, events_read=frame.height),
        "protocol": _protocol(split, horizons, methods, every=every, users=user_limit, seed=seed),
        **_model(model),
        **_uses(data, split, model, items_ND, on_progress, seed=seed),
        **classification_report(backbone.spec.name),
        **_rankings(samples, split, (OURS, *methods.variants), rng),
        **vector_report(
            data, split, model, items_ND, text_NV, horizons=max(horizons),
            user_limit=user_limit, seed=seed, rng=rng, on_progress=on_progress, frozen=beside,
        ),
    }  # fmt: skip
    predicted = predict_at or instant(split.start(split.origins[-1]))
    write_predictions(out, data, model, items_ND, at=predicted)
    if leave_one_out:
        report["leave_one_out"] = _leave_one_out(
            data, frame, choices, trainer, encoder, text_NV,
            user_limit=user_limit, seed=seed, on_progress=on_progress,
        )  # fmt: skip
    ended = time.perf_counter()
    _write(
        out, report, encode=encoder.seconds, train=evaluating - training,
        evaluate=ended - evaluating, total=ended - started,
    )  # fmt: skip
    return Evaluation(report=report, model=model)


def _write(out: Path, report: dict[str, Any], **seconds: float) -> None:
    report["seconds"] = seconds
    (out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    write_html(out / "report.html", report)


def write_predictions(
    out: Path, data: Dataset, model: Model, items_ND: F32, *, at: datetime
) -> None:
    """Write the best items of up to PREDICTED_USERS users from events strictly before an instant.

    Columns user_id, rank (from 1), item_id, score, as_of (UTC), model_version. Same core functions
    as serving, so the gateway asked at that instant must answer the same.
    """
    now = at.timestamp()
    past = data.before(now)
    users = np.unique(past.user_ix_E)[:PREDICTED_USERS]
    score_BN = driftline(model, items_ND)(past, now)(users)
    top_BK = top_rows(score_BN, PREDICTED_ITEMS)
    out.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(
        {
            "user_id": [data.user_ids[u] for u in users for _ in range(top_BK.shape[1])],
            "rank": np.tile(np.arange(1, top_BK.shape[1] + 1), len(users)),
            "item_id": [data.item_ids[i] for i in top_BK.ravel()],
            "score": np.take_along_axis(score_BN, top_BK, axis=1).ravel(),
            "as_of": [at] * top_BK.size,
            "model_version": [model.model_version] * top_BK.size,
        }
    ).write_parquet(out / "predictions.parquet")


def _models(
    given: Mapping[str, Model | Trainer], frame: pl.DataFrame, encoder: EncodedTexts,
    granularity: Granularity, first_origin: datetime, on_progress: Progress,
) -> dict[str, Model]:  # fmt: skip
    """Train what is not trained yet; refuse what saw the test block."""
    models = {
        name: one
        if isinstance(one, Model)
        else one(
            frame, encoder, granularity=granularity, until=first_origin, on_progress=on_progress
        )
        for name, one in given.items()
    }
    for name, model in models.items():
        if model.trained_until > first_origin:
            raise InvalidArgument(
                name, f"saw events up to {model.trained_until}, the first origin is {first_origin}"
            )
    return models


def _checked(horizons: tuple[int, ...]) -> tuple[int, ...]:
    if not horizons or min(horizons) < 1:
        raise InvalidArgument("horizons", "name at least one, each at least 1")
    return horizons


def _leave_one_out(
    data: Dataset, frame: pl.DataFrame, choices: Choices, trainer: Trainer, encoder: EncodedTexts,
    text_NV: F32, *, user_limit: int, seed: int, on_progress: Progress,
) -> dict[str, Any]:  # fmt: skip
    view = leave_one_out_view(data, user_limit=user_limit, seed=seed)
    model = trainer(
        without_last(frame, data), encoder,
        granularity=data.granularity, until=instant(view.now), on_progress=on_progress,
    )  # fmt: skip
    items_ND = model.tower.item_vectors(text_NV, data.item_ids)
    methods = build_methods(choices, view.past, model, items_ND, text_NV)
    rng = np.random.default_rng(seed)
    tables = leave_one_out_tables(view, methods.by_name, rng, on_progress)
    return {"warning": WARNING, "recommendation": tables}


def _rankings(
    samples: Mapping[Part, Samples], split: Split, ours: tuple[str, ...], rng: np.random.Generator
) -> dict[str, Any]:
    tables, ndcg_by_origin = summarise(samples, rng), by_origin(samples, split)
    return {
        "recommendation": tables,
        "recommendation_by_origin": ndcg_by_origin,
        "origins_lost": origins_lost(tables, ndcg_by_origin, ours),
    }


def _model(model: Model) -> dict[str, Any]:
    return {
        "model": {
            "model_version": model.model_version,
            "space_id": model.space_id,
            "backbone": model.backbone.name,
            "trained_until": model.trained_until.isoformat(),
        },
        "training": {name: list(curve) for name, curve in model.curves.items()},
    }


def _uses(
    data: Dataset, split: Split, model: Model, items_ND: F32, on_progress: Progress, *, seed: int
) -> dict[str, Any]:  # fmt: skip
    """Return what the vectors are worth to who asks why, and to who has several interests."""
    return {
        "reasons": reasons_report(data, split, model, items_ND, seed=seed, on_progress=on_progress),
        "several_interests": medoids_report(data, split, items_ND, model.pooling, seed=seed),
    }


def _dataset(
    data: Dataset, granularity: Granularity, note: str, *, events_read: int
) -> dict[str, Any]:
    return {
        "users": data.user_count,
        "items": data.item_count,
        "events": data.event_count,
        "sha256": data.sha256(),
        "granularity": str(granularity),
        "first_event": instant(float(data.time_E[0])).isoformat(),
        "last_event": instant(float(data.time_E[-1])).isoformat(),
        # Of items without a text, and of bulk days: no method sees them.
        "events_left_out": events_read - data.event_count,
        "note": note,
    }


def _protocol(
    split: Split, horizons: tuple[int, ...], methods: Methods, *, every: int, users: int, seed: int
) -> dict[str, Any]:
    return {
        "origins": [instant(split.start(origin)).isoformat() for origin in split.origins],
        "data_end": instant(split.start(split.last + 1)).isoformat(),
        "validation": [instant(split.start(period)).isoformat() for period in split.validation],
        "horizons": list(horizons),
        "every": every,
        "users_per_origin": users,
        # Not JSON's infinity: it is not JSON.
        "baselines": {
            name: {key: value if np.isfinite(value) else "inf" for key, value in chosen.items()}
            for name, chosen in methods.chosen.items()
        },
        "notes": methods.notes,
        "variants": list(methods.variants),
        "seed": seed,
    }
