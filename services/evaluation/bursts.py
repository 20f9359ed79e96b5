"""`driftline evaluate bursts`: detection and forecasts on real trajectories with planted bursts.

Users are split: 40% choose (level, noise and thresholds from their trajectories as they are), the
figures are of the others. Both are given bursts; every method gets the same.

Shape suffixes: U = users, T = periods, D = width, G = topics, N = items, S = samples.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from services.core.burst_state import BurstModel, Bursts
from services.core.bursts import detect
from services.core.dataset import Dataset, vector_grid
from services.core.errors import InvalidArgument
from services.core.forecasts import Forecaster
from services.core.periods import PERIODS_A_YEAR
from services.core.pooling import I64, PoolingConfig
from services.core.progress import Progress
from services.core.records import F32
from services.core.schema import Granularity
from services.core.trajectories import TrajectoryBatch
from services.evaluation import burst_rivals as rivals
from services.evaluation.burst_forecasts import forecast_figures
from services.evaluation.burst_page import example, write_page
from services.evaluation.burst_scores import Matched, by_part, f1, match, scores
from services.evaluation.planted_bursts import Planted, plant

# Columns at most, newest; columns in front without planted bursts, and whose alarms do not count.
COLUMNS, BURN_IN = 104, 16
SEASONS = {Granularity.DAY: 28, Granularity.WEEK: 13, Granularity.MONTH: 12}
CHOOSING = 0.4
# Active periods in the burn-in that a user needs.
LEAST_ACTIVE = 6
# Alarms a user-year that thresholds are set to on the users who choose: ours and the rivals'; the goal is
# .2. Rivals would find less with ours.
ALARMS_A_YEAR, RIVAL_ALARMS_A_YEAR = 0.1, 0.15


class BurstFitter(Protocol):
    """services.training.bursts.fit_burst_detection; neither package imports the other."""

    def __call__(
        self, batch: TrajectoryBatch, topics_GD: F32, *, granularity: Granularity, season: int,
        alarms_a_year: float, has_forecaster: bool,
    ) -> tuple[BurstModel, Forecaster | None]:  # fmt: skip
        """Fit to users as they are."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """Where items lie, and what interest can burst for."""

    # Said in the report: the frozen text space, or a model's.
    name: str
    items_ND: F32
    # Of the texts as they are: topics that are planted.
    text_NV: F32
    # Category of each item, -1 without one; all -1 where the file has none.
    group_N: I64
    # Clusters of items by the space's vectors, for files without categories.
    cluster_N: I64
    topics_GD: F32
    pooling: PoolingConfig
    # Of the model folder; None: fitted here.
    forecaster: Forecaster | None = None


def run_bursts(
    data: Dataset, space: Space, fitter: BurstFitter, *, out: Path, least_events: int,
    user_limit: int, seed: int, on_progress: Progress = lambda stage, done, total: None,
) -> dict[str, Any]:  # fmt: skip
    """Evaluate and write report.json and report.html.

    Args:
        data: real events.
        space: vectors of items, and topics.
        fitter: fits detection, and a forecaster where the space has none.
        out: folder, made if absent.
        least_events: median events of an active period that a user needs to be asked.
        user_limit: more users than this are sampled.
        seed: of bursts, samples and intervals.
        on_progress: called with stage, done, total.

    Raises:
        InvalidArgument: too few users are active enough, or the data span too few periods.
    """
    started, rng = time.perf_counter(), np.random.default_rng(seed)
    season, year = SEASONS[data.granularity], PERIODS_A_YEAR[data.granularity]
    last = int(data.period_E.max()) - 1
    first = max(int(data.period_E.min()), last - COLUMNS + 1)
    if last - first + 1 < BURN_IN + season + 4:
        raise InvalidArgument(
            "events", f"span {last - first + 1} full periods, {BURN_IN + season + 4} are needed; "
            "choose shorter periods"
        )  # fmt: skip
    real = _batch(data, space, first, last)
    users = _asked(real, least_events, user_limit, rng)
    cut = int(CHOOSING * len(users))
    choosing, measured = np.sort(users[:cut]), np.sort(users[cut:])
    on_progress("bursts", 0, 5)
    model, forecaster = fitter(
        real.users(choosing), space.topics_GD, granularity=data.granularity, season=season,
        alarms_a_year=ALARMS_A_YEAR, has_forecaster=space.forecaster is None,
    )  # fmt: skip
    on_progress("bursts", 1, 5)
    planted = [
        plant(
            data, users=group, periods=(first, last), burn_in=BURN_IN, season=season,
            items_ND=space.text_NV, group_N=space.group_N, rng=rng,
        )
        for group in (choosing, measured)
    ]  # fmt: skip
    on_progress("bursts", 2, 5)
    work = _Work(
        data=data, space=space, model=model, first=first, last=last, real=real,
        choosing=choosing, measured=measured, tuned=planted[0], asked=planted[1], year=year,
    )  # fmt: skip
    found = work.methods()
    on_progress("bursts", 3, 5)
    years = (last - first + 1 - BURN_IN) / year
    matched = {
        name: match(bursts, planted[1].bursts, measured, BURN_IN) for name, bursts in found.items()
    }
    inner = space.forecaster or forecaster
    assert inner is not None
    batch = _batch(planted[1].data, space, first, last)
    nll = forecast_figures(
        inner, model, batch, found["driftline"], planted[1].bursts, measured, BURN_IN, rng
    )
    on_progress("bursts", 4, 5)
    table = _table(matched, planted[1], years, rng)
    table["driftline"] |= nll["with_bursts"]
    table["driftline_unaware"] = nll["without"]
    report = {
        **work.facts(years, least_events),
        "bursts": table,
        "parts": {name: by_part(one, planted[1].bursts) for name, one in matched.items()},
        "forecast": nll,
        "example": example(model, batch, found["driftline"], planted[1], matched["driftline"]),
        "seconds": {"total": time.perf_counter() - started},
        "seed": seed,
    }
    _write(out, report)
    on_progress("bursts", 5, 5)
    return report


def _write(out: Path, report: dict[str, Any]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    write_page(out / "report.html", report)


def _table(
    matched: dict[str, Matched], planted: Planted, years: float, rng: np.random.Generator
) -> dict[str, Any]:  # fmt: skip
    table: dict[str, Any] = {name: scores(one, years, rng) for name, one in matched.items()}
    controls = {int(user) for user in planted.roles["control"]}
    for name, row in table.items():
        quiet = sum(user in controls for user, _ in matched[name].false)
        row["false_alarms_per_control_year"] = quiet / max(len(controls) * years, 1e-9)
    return table


@dataclass(slots=True, kw_only=True)
class _Work:
    """Detection by every method, each chosen by the same users."""

    data: Dataset
    space: Space
    model: BurstModel
    first: int
    last: int
    real: TrajectoryBatch
    choosing: I64
    measured: I64
    tuned: Planted
    asked: Planted
    year: int
    chosen: dict[str, Any] = field(default_factory=dict)

    def methods(self) -> dict[str, Bursts]:
        """Return what each method finds; rows are all users of the data."""
        found = {"driftline": self._ours(), "zscore": self._zscore()}
        if rivals.has_ruptures():
            found["ruptures"] = self._ruptures()
        return found

    def facts(self, years: float, least_events: int) -> dict[str, Any]:
        """Return what the report says of data, space, plants and fit."""
        count = self.real.count_UT[self.measured][self.real.mask_UT[self.measured]]
        return {
            "dataset": {
                "granularity": str(self.data.granularity),
                "sha256": self.data.sha256(),
                "users_choosing": len(self.choosing),
                "users_measured": len(self.measured),
                "user_years": len(self.measured) * years,
                "periods": self.last - self.first + 1,
                "least_events": least_events,
                "events_a_period": float(np.median(count)),
            },
            "space": {"name": self.space.name, "topics": len(self.space.topics_GD)},
            "planted": {
                "bursts": len(self.asked.bursts),
                "roles": {name: len(rows) for name, rows in self.asked.roles.items()},
            },
            "fit": {
                "threshold": self.model.threshold,
                "shift": self.model.shift,
                "count_offset": self.model.count_offset,
                "alarms_a_year": ALARMS_A_YEAR,
                "rivals_alarms_a_year": RIVAL_ALARMS_A_YEAR,
                **self.chosen,
            },
        }

    def _ours(self) -> Bursts:
        batch = _batch(self.asked.data, self.space, self.first, self.last).users(self.measured)
        bulk_UT = self.asked.bulk_UT[self.measured]
        return self._everyone(detect(self.model, batch, bulk_UT=bulk_UT), self.measured)

    def _zscore(self) -> Bursts:
        periods = self.last - self.first + 1
        has_groups = bool((self.space.group_N >= 0).any())
        group_N = self.space.group_N if has_groups else self.space.cluster_N
        share, events = rivals.category_shares(self.data, group_N, self.first, periods)
        share, events = share[self.choosing], events[self.choosing]
        threshold = rivals.quietest(
            lambda z: rivals.zscore(share, events, z), self._is_quiet, 1.0, 200.0
        )
        self.chosen["zscore_threshold"] = threshold
        share, events = rivals.category_shares(self.asked.data, group_N, self.first, periods)
        of = rivals.zscore(share[self.measured], events[self.measured], threshold)
        return self._everyone(of, self.measured)

    def _ruptures(self) -> Bursts:
        """Let planted bursts of the users who choose decide kernel and components."""
        real = self.real.users(self.choosing)
        tuned = _batch(self.tuned.data, self.space, self.first, self.last).users(self.choosing)
        asked = _batch(self.asked.data, self.space, self.first, self.last).users(self.measured)
        seen_PD = real.vec_UTD[real.mask_UT]
        centre_D = seen_PD.mean(axis=0)
        moment_DD = ((seen_PD - centre_D).T @ (seen_PD - centre_D)).astype(np.float64)
        axes_DD = np.linalg.eigh(moment_DD)[1][:, ::-1].astype(np.float32)
        best: tuple[float, str, int, float] | None = None
        for kernel, components in rivals.RUPTURES:
            axes_DK = axes_DD[:, :components]
            quiet, loud = (rivals.signals(b, centre_D, axes_DK) for b in (real, tuned))
            penalty = rivals.quietest(_ruptures_of(real, quiet, kernel), self._is_quiet, 1e-3, 1e3)
            of = self._everyone(_ruptures_of(tuned, loud, kernel)(penalty), self.choosing)
            reached = f1(match(of, self.tuned.bursts, self.choosing, BURN_IN))
            if best is None or reached > best[0]:
                best = (reached, kernel, components, penalty)
        assert best is not None
        _, kernel, components, penalty = best
        self.chosen["ruptures"] = {"kernel": kernel, "components": components, "pen": penalty}
        signal = rivals.signals(asked, centre_D, axes_DD[:, :components])
        return self._everyone(_ruptures_of(asked, signal, kernel)(penalty), self.measured)

    def _is_quiet(self, bursts: Bursts) -> bool:
        users, periods = bursts.onset.shape
        years = users * (periods - BURN_IN) / self.year
        return bool(bursts.onset[:, BURN_IN:].sum() <= RIVAL_ALARMS_A_YEAR * years)

    def _everyone(self, bursts: Bursts, users: I64) -> Bursts:
        """Lay the users' rows among those of all."""
        shape = (self.data.user_count, bursts.kind.shape[1])
        kind, onset = np.zeros(shape, np.int64), np.zeros(shape, bool)
        topic, share = np.full(shape, -1), np.zeros(shape)
        kind[users], onset[users] = bursts.kind, bursts.onset
        topic[users], share[users] = bursts.topic, bursts.share
        return Bursts(kind=kind, onset=onset, topic=topic, share=share)


def _ruptures_of(
    batch: TrajectoryBatch, signal_U: list[Any], kernel: str
) -> Callable[[float], Bursts]:
    return lambda penalty: rivals.ruptures_bursts(batch, signal_U, kernel, penalty)


def _batch(data: Dataset, space: Space, first: int, last: int) -> TrajectoryBatch:
    return vector_grid(data, space.items_ND, space.pooling, first=first, last=last)


def _asked(
    batch: TrajectoryBatch, least_events: int, limit: int, rng: np.random.Generator
) -> I64:  # fmt: skip
    """Return the users who are active enough, in random order."""
    count = np.where(batch.mask_UT, batch.count_UT, np.nan).astype(np.float64)
    is_active = batch.mask_UT[:, :BURN_IN].sum(axis=1) >= LEAST_ACTIVE
    able = np.flatnonzero(is_active)
    able = able[np.nanmedian(count[able], axis=1) >= least_events] if len(able) else able
    if len(able) < 50:
        raise InvalidArgument(
            "events", f"{len(able)} users have {LEAST_ACTIVE} of the first {BURN_IN} periods and a "
            f"median of {least_events} events in a period, 50 are needed; lower --least-events or "
            "choose longer periods"
        )  # fmt: skip
    return rng.permutation(able)[:limit]
