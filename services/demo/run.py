"""The demo: Complete Journey through the whole path, by the processes that production runs.

train and evaluate -> import -> Ray Serve and gateway up -> refresh (clean, encode, forecast, publish) -> SDK reads
-> build/demo/report.json. The clock is replayed: the last full week is held back, and is what happens next.
"""

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import polars as pl
from driftline import Client
from rich.console import Console
from rich.progress import Progress

from services.core.schema import DEFAULT_TENANT, EVENT_TIME, ITEM_ID, USER_ID, Granularity
from services.evaluation.command import Evaluation, run_evaluate
from services.local import LocalStack, local_stack
from services.pipeline.complete_journey import complete_journey_events
from services.pipeline.compute import open_compute
from services.pipeline.importer import import_files
from services.pipeline.refresh import RefreshSummary, refresh
from services.pipeline.stores import open_stores
from services.runtime.settings import Settings
from services.store.backbone import load_backbone
from services.store.model_folder import save_model
from services.training.evaluated import train_before

# The Monday of the last full week: what is bought from here on has not happened yet.
ORIGIN = datetime(2017, 12, 18, tzinfo=UTC)
ORIGINS, HORIZONS = 8, (1, 4)


def run_demo(out: Path, *, keep: bool, console: Console) -> None:
    """Run every step, print one household, write report.json beside evaluate's report.html."""
    started = time.monotonic()
    seconds: dict[str, float] = {}
    settings = Settings(
        data_dir=out / "data",
        now=ORIGIN,
        granularities=(Granularity.WEEK, Granularity.MONTH),
        port=0,
    )
    with Progress(console=console) as bars:
        step = _Steps(bars, seconds)
        step("read Complete Journey")
        events = complete_journey_events()
        step("train and evaluate")
        made = run_evaluate(
            events.drop_nulls(ITEM_ID),
            granularity=Granularity.WEEK,
            origins=ORIGINS,
            horizons=HORIZONS,
            out=out / "evaluation",
            backbone=load_backbone(settings.backbone),
            trainer=train_before,
            predict_at=ORIGIN,
            on_progress=step.within,
        )
        step("import")
        history = out / "history.parquet"
        events.filter(pl.col(EVENT_TIME) < ORIGIN).write_parquet(history)
        imported = import_files([history], settings)
        _make_live(made, settings, out)
        step("start Ray Serve and gateway")
        with local_stack(settings, out / "logs") as stack:
            step("refresh")
            with open_compute(stack.settings, DEFAULT_TENANT) as compute:
                done = refresh(
                    open_stores(settings), compute, stack.settings, on_progress=step.within
                )
            step("read through the SDK")
            time.sleep(2 * settings.poll_s)  # the gateway looks for a new index every poll_s
            served = _read_served(stack, events, out / "evaluation/predictions.parquet")
            step("")
            report = _report(made, imported.rejected, done, stack, served)
            report["seconds"] = {**seconds, "total": time.monotonic() - started}
            (out / "report.json").write_text(json.dumps(report, indent=1, default=str))
            _print(console, served, report)
            if keep:
                console.print(f"left up: Client({stack.gateway.target!r}); Enter stops")
                input()


class _Steps:
    """Named steps with their seconds, shown as bars."""

    def __init__(self, bars: Progress, seconds: dict[str, float]) -> None:
        self._bars, self._seconds = bars, seconds
        self._tasks: dict[str, Any] = {}
        self._name, self._since = "", time.monotonic()

    def __call__(self, name: str) -> None:
        now = time.monotonic()
        if self._name:
            self._seconds[self._name] = now - self._since
            self.within(self._name, 1, 1)
        self._name, self._since = name, now
        if name:
            self.within(name, 0, 1)

    def within(self, stage: str, done: int, total: int) -> None:
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total)
        self._bars.update(self._tasks[stage], completed=done, total=total)


def _make_live(made: Evaluation, settings: Settings, out: Path) -> None:
    models = open_stores(settings).models
    folder = out / "model"
    info = save_model(folder, made.model)
    models.add(DEFAULT_TENANT, str(folder), info)
    models.promote(DEFAULT_TENANT, info.model_version)


def _read_served(stack: LocalStack, events: pl.DataFrame, predictions: Path) -> dict[str, Any]:
    """Ask the gateway for one household, and for the users of the evaluation's predictions."""
    next_week = events.filter(
        pl.col(EVENT_TIME).is_between(ORIGIN, ORIGIN + timedelta(days=7), closed="left")
    )
    expected = pl.read_parquet(predictions).sort(USER_ID, "rank")
    users = expected[USER_ID].unique(maintain_order=True).to_list()[:500]
    with Client(stack.gateway.target) as client:
        same, worst = 0, 0.0
        for user in users:
            items = client.recommend(user, page_size=10).items
            rows = expected.filter(pl.col(USER_ID) == user).head(10)
            same += [item.item_id for item in items] == rows[ITEM_ID].to_list()
            score_of = dict(zip(rows[ITEM_ID], rows["score"], strict=True))
            gaps = [abs(i.score - score_of[i.item_id]) for i in items if i.item_id in score_of]
            worst = max([worst, *gaps])
        user = users[len(users) // 2]
        return {
            "user_id": user,
            "interest": client.get_interest(user),
            "trajectory": list(client.get_trajectory(user)),
            "forecast": client.get_forecast(user),
            "recommended": client.recommend(user, page_size=10).items,
            "profile": client.get_profile(user),
            "bought_next": set(next_week.filter(pl.col(USER_ID) == user)[ITEM_ID].drop_nulls()),
            "parity": {"users": len(users), "same_top_10": same, "largest_score_gap": worst},
        }


def _report(
    made: Evaluation, rejected: int, done: RefreshSummary, stack: LocalStack, served: dict[str, Any]
) -> dict[str, Any]:
    with urlopen(stack.gateway.metrics_url) as page:  # noqa: S310 - our own loopback endpoint
        lines = page.read().decode().splitlines()
    return {
        "events": {
            "imported": done.preprocess.events,
            "rejected": rejected + done.preprocess.rejected,
            "duplicates": done.preprocess.duplicates,
        },
        "vectors": {"published": done.vectors},
        "forecasts": {"published": done.forecasts},
        "path": {
            "serve_requests": stack.cluster.request_counts(),
            "replica_pids": stack.cluster.replica_pids(),
            "gateway_pid": stack.gateway.process.pid,
            "gateway_calls": [
                line for line in lines if line.startswith("driftline_rpc_calls_total")
            ],
        },
        "serving_equals_evaluation": served["parity"],
        "evaluation": made.report,
    }


def _print(console: Console, served: dict[str, Any], report: dict[str, Any]) -> None:
    console.rule(f"household {served['user_id']}")
    console.print("interest:", served["interest"])
    console.print(f"trajectory: {len(served['trajectory'])} weeks")
    console.print("forecast:", served["forecast"])
    console.print("portrait:", served["profile"])
    for item in served["recommended"]:
        mark = "[green]bought[/]" if item.item_id in served["bought_next"] else ""
        console.print(f"  {item.score:8.3f}  {item.title}  {mark}")
    console.print({key: report[key] for key in ("events", "vectors", "forecasts", "seconds")})
    console.print("serving equals evaluation:", report["serving_equals_evaluation"])
