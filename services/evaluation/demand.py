"""Is the demand for topics foretold? Rolling origins over the last periods of a set of events.

Everything at an origin is as the service would have it: topics of items seen before the first
origin, counts with their noise, forecasts of counts up to the origin. The truth is what happened,
without noise; coverage is told of that and of what would be published.

Shape suffixes: E = events, I = items, O = origins, T = topics, P = periods, B = resamples.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from services.core.dataset import period_ordinals
from services.core.demand import (
    COHORT_PERIODS,
    PUBLISHED_PERIODS,
    Cells,
    ReleaseTerms,
    Told,
    cohorts_of,
    count_cells,
    publish,
    told,
)
from services.core.demand_forecast import (
    LAST,
    QUANTILES,
    SEASONAL,
    SeriesForecast,
    forecast_series,
    seasonal_naive,
    share_noise,
    shares,
)
from services.core.errors import InvalidArgument
from services.core.periods import PERIODS_A_YEAR, Period
from services.core.pooling import F64
from services.core.progress import Progress
from services.core.schema import EVENT_TIME, ITEM_ID, TEXT, USER_ID
from services.core.topics import NO_TOPIC
from services.evaluation.demand_page import write_page
from services.evaluation.frames import read_events
from services.evaluation.topics import learned_topics
from services.store.ports import TextEncoder

OURS, WITHOUT_NOISE = "driftline", "without_noise"
RIVALS = (LAST, SEASONAL)
FIGURES = ("share", "volume", "audience")
RESAMPLES = 1_000
# Periods of the page's fan.
FAN = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandProtocol:
    """What is asked for."""

    terms: ReleaseTerms
    # Periods ahead.
    horizons: tuple[int, ...]
    # Last full periods that are foretold.
    origins: int
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Series:
    """One figure: what was published and what was true."""

    noised_TP: F64
    true_TP: F64
    # Variance of the noise, period by period.
    noise_P: F64


def run_demand(
    source: Path | pl.DataFrame, *, encoder: TextEncoder, protocol: DemandProtocol, out: Path,
    until: datetime | None = None, on_progress: Progress = lambda stage, done, total: None,
) -> dict[str, Any]:  # fmt: skip
    """Evaluate; write report.json and report.html, and return the report.

    Args:
        source: Parquet file or frame: user_id, item_id, event_time, text.
        encoder: gives the items' vectors: the frozen space of its texts.
        protocol: terms, horizons, origins.
        out: folder, made if absent.
        until: events at or after it are not read; None means all.
        on_progress: called with stage, done, total.

    Raises:
        InvalidArgument: unreadable events, or too few periods of them.
    """
    events = read_events(source, until)
    cells, kept, names, items = _cells(events, encoder, protocol, on_progress)
    topic_ids, parts = cells.topic_ids, cohorts_of(protocol.terms.partition, cells.topic_ids)
    key = protocol.seed.to_bytes(32, "big")
    published = publish(cells, None, protocol.terms, key)
    plain = replace(
        published, audience_CTP=cells.audience_CTP, volume_CTP=cells.volume_CTP,
        size_CP=cells.size_CP,
    )  # fmt: skip
    seen = told(published, topic_ids, parts)
    figures = _figures(seen, told(plain, topic_ids, parts))
    season = PERIODS_A_YEAR[protocol.terms.granularity]
    rng = np.random.default_rng(protocol.seed)
    table: dict[str, dict[str, dict[str, Any]]] = {}
    for done, h in enumerate(protocol.horizons, 1):
        table[f"h{h}"] = {
            name: _judge(series, h, protocol.origins, season, rng)
            for name, series in figures.items()
        }
        on_progress("forecast", done, len(protocol.horizons))
    report = {
        "dataset": {
            "users": events[USER_ID].n_unique(), "events": len(events), "items": items,
            "granularity": str(protocol.terms.granularity), "topics": len(topic_ids),
            "periods": seen.size_P.shape[0],
            "last_period": published.newest.name,
        },
        "protocol": {
            "origins": protocol.origins, "partition": str(protocol.terms.partition),
            "epsilon": protocol.terms.epsilon, "event_cap": protocol.terms.event_cap,
            "seed": protocol.seed,
            "volume_kept": kept,
            "cohort_users": {
                name: int(size) for name, size in zip(cells.cohorts, cells.size_CP[:, -1], strict=True)
            },
        },
        "demand": table,
        "losses": losses(table),
        "example": _example(figures["share"], names, published.newest, season),
    }  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").write_text(json.dumps(report, indent=1))
    write_page(out / "report.html", report)
    return report


def _cells(
    events: pl.DataFrame, encoder: TextEncoder, protocol: DemandProtocol, on_progress: Progress
) -> tuple[Cells, float, tuple[str, ...], int]:
    """Return the full periods' counts, the part of events that the cap keeps, topics' names, items."""
    granularity = protocol.terms.granularity
    period_E = period_ordinals(events[EVENT_TIME].dt.timestamp("us").to_numpy() / 1e6, granularity)
    if not len(period_E):
        raise InvalidArgument("events", "there are none before `until`")
    # The period of the newest event may be a part of one.
    last = int(period_E.max()) - 1
    first = max(int(period_E.min()), last + 1 - PUBLISHED_PERIODS[granularity])
    count = last - first + 1
    if count < protocol.origins + max(protocol.horizons) + COHORT_PERIODS:
        raise InvalidArgument("events", f"{count} full periods are too few for these origins")
    texts = dict(events.drop_nulls(TEXT).select(ITEM_ID, TEXT).unique(ITEM_ID, keep="last").iter_rows())  # fmt: skip
    texts = dict(sorted(texts.items()))
    items_ID = encoder.encode(
        list(texts.values()), lambda done, total: on_progress("encode items", done, total)
    )
    old = set(events.filter(pl.Series(period_E <= last - protocol.origins))[ITEM_ID].unique())
    rows = [row for row, item in enumerate(texts) if item in old]
    said = list(texts.values())
    topics, topic_I = learned_topics(items_ID, said, rows, seed=protocol.seed)
    topic_of = pl.DataFrame({ITEM_ID: list(texts), "topic": topic_I})
    topic_E = events.join(topic_of, on=ITEM_ID, how="left", maintain_order="left")["topic"]
    user_E = events[USER_ID].rank("dense").cast(pl.Int64).to_numpy() - 1
    cells, bare = (
        count_cells(
            user_E, topic_E.fill_null(NO_TOPIC).cast(pl.Int64).to_numpy(), period_E,
            user_count=int(user_E.max()) + 1, topic_ids=topics.ids, first=first,
            period_count=count, terms=terms,
        )
        for terms in (protocol.terms, replace(protocol.terms, event_cap=len(events)))
    )  # fmt: skip
    kept = float(cells.volume_CTP.sum() / max(bare.volume_CTP.sum(), 1))
    return cells, kept, topics.names, len(texts)


def _figures(seen: Told, plain: Told) -> dict[str, _Series]:
    def positive(rows_TP: F64) -> F64:
        return np.maximum(rows_TP, 0)

    return {
        "share": _Series(
            noised_TP=shares(seen.volume_TP), true_TP=shares(plain.volume_TP),
            noise_P=share_noise(seen),
        ),
        "volume": _Series(
            noised_TP=positive(seen.volume_TP), true_TP=plain.volume_TP,
            noise_P=seen.cohorts_P * seen.volume_variance,
        ),
        "audience": _Series(
            noised_TP=positive(seen.audience_TP), true_TP=plain.audience_TP,
            noise_P=seen.cohorts_P * seen.audience_variance,
        ),
    }  # fmt: skip


def _judge(
    series: _Series, horizon: int, origins: int, season: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Return every method's error at one horizon, and how often ours' intervals hold."""
    periods = series.true_TP.shape[1]
    columns = range(periods - origins - 1, periods - horizon)
    truth_OT = np.stack([series.true_TP[:, column + horizon] for column in columns])
    came_OT = np.stack([series.noised_TP[:, column + horizon] for column in columns])
    made = [
        forecast_series(
            series.noised_TP[:, : c + 1], horizon, season, first=horizon,
            noise_P=series.noise_P[: c + 1],
        )
        for c in columns
    ]  # fmt: skip
    bare = [
        forecast_series(series.true_TP[:, : c + 1], horizon, season, first=horizon) for c in columns
    ]
    guess = {
        OURS: _means(made),
        LAST: np.stack([_filled(series.noised_TP[:, : c + 1]) for c in columns]),
        SEASONAL: np.stack(
            [seasonal_naive(series.noised_TP[:, : c + 1], horizon, season)[:, -1] for c in columns]
        ),
        WITHOUT_NOISE: _means(bare),
    }
    error = {name: np.abs(mean_OT - truth_OT) for name, mean_OT in guess.items()}
    weights = _resamples(len(truth_OT), truth_OT.shape[1], rng)
    rows: dict[str, Any] = {}
    for name, error_OT in error.items():
        row: dict[str, Any] = {"mae": float(np.nanmean(error_OT))}
        row["mae_ci"] = _interval(error_OT, weights)
        if name != OURS:
            row["driftline_difference"] = float(np.nanmean(error[OURS] - error_OT))
            row["driftline_difference_ci"] = _interval(error[OURS] - error_OT, weights)
        rows[name] = row
    bound_OTQ = np.stack([one.bound_NHQ[:, -1] for one in made])
    for name, of_OT in (("", truth_OT), ("_published", came_OT)):
        for level, low in ((80, 0), (95, 2)):
            inside_OT = (of_OT >= bound_OTQ[..., low]) & (of_OT <= bound_OTQ[..., low + 1])
            held_OT = np.where(np.isnan(of_OT), np.nan, inside_OT)
            rows[OURS][f"coverage_{level}{name}"] = float(np.nanmean(held_OT))
            rows[OURS][f"coverage_{level}{name}_ci"] = _interval(held_OT, weights)
    rows[OURS]["methods"] = dict(sorted(_counted([one.methods[-1] for one in made]).items()))
    rows[OURS]["samples"] = int(np.isfinite(error[OURS]).sum())
    return rows


def _means(made: list[SeriesForecast]) -> F64:
    return np.stack([one.mean_NH[:, -1] for one in made])


def _filled(series_TP: F64) -> F64:
    """Return the last value of each series that there is."""
    return seasonal_naive(series_TP, 1, series_TP.shape[1] + 1)[:, -1]


def _counted(names: list[str]) -> dict[str, int]:
    return {name: names.count(name) for name in set(names)}


def _resamples(origins: int, topics: int, rng: np.random.Generator) -> tuple[F64, F64]:
    """Return weights of origins [B, O] and of topics [B, T]: both are drawn, for both share fates."""
    return (
        rng.multinomial(origins, np.full(origins, 1 / origins), RESAMPLES).astype(np.float64),
        rng.multinomial(topics, np.full(topics, 1 / topics), RESAMPLES).astype(np.float64),
    )


def _interval(value_OT: F64, weights: tuple[F64, F64]) -> list[float]:
    known_OT = np.isfinite(value_OT).astype(np.float64)
    weight_BO, weight_BT = weights
    sum_B = ((weight_BO @ np.nan_to_num(value_OT)) * weight_BT).sum(1)
    count_B = ((weight_BO @ known_OT) * weight_BT).sum(1)
    return [float(b) for b in np.percentile(sum_B / np.maximum(count_B, 1e-9), [2.5, 97.5])]


def losses(table: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """Return, in words, what ours does not win beyond doubt, and intervals that are off by over 3 points."""
    said = []
    for horizon, figures in table.items():
        for figure, rows in figures.items():
            for name in RIVALS:
                low, high = rows[name]["driftline_difference_ci"]
                if high >= 0:
                    how = "loses to" if low > 0 else "is not proven better than"
                    said.append(
                        f"{horizon}, {figure}: ours {how} {name} ({low:+.4g} to {high:+.4g})"
                    )
            for level in (80, 95):
                for of in ("", "_published"):
                    held = rows[OURS][f"coverage_{level}{of}"]
                    if abs(held - level / 100) > 0.03:
                        what = "what was published" if of else "the truth"
                        said.append(
                            f"{horizon}, {figure}: the {level}% interval held {held:.1%} of {what}"
                        )
    return said


def _example(
    series: _Series, names: tuple[str, ...], newest: Period, season: int
) -> dict[str, Any]:
    """Return the largest topic's share, and its fan from some periods before the end."""
    topic = int(np.argmax(np.nan_to_num(series.true_TP).sum(1)))
    periods = series.true_TP.shape[1]
    cut = slice(0, periods - FAN)
    made = forecast_series(series.noised_TP[:, cut], FAN, season, noise_P=series.noise_P[cut])
    return {
        "name": names[topic],
        "periods": [(newest + (column + 1 - periods)).name for column in range(periods)],
        "published": [None if np.isnan(x) else float(x) for x in series.noised_TP[topic]],
        "mean": made.mean_NH[topic].tolist(),
        "bounds": {str(q): made.bound_NHQ[topic, :, at].tolist() for at, q in enumerate(QUANTILES)},
    }
