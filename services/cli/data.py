"""What goes in, what is computed from it, what is taken out."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from services.cli.app import Tenant, app, console, print_figures, print_rows
from services.core.errors import InvalidArgument
from services.core.schema import DEFAULT_TENANT
from services.runtime.settings import Settings, load_settings
from services.terminal import StageBars, wait_for_stop

if TYPE_CHECKING:
    from services.pipeline.compute import Compute

Files = Annotated[list[Path], typer.Argument(help="CSV, JSONL or Parquet files of events.")]


@app.command("import")
def import_(
    files: Files,
    kind: Annotated[str, typer.Option(help="Kind of events that name none.")] = "",
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Take files of events (and the items they name) into the inbox.

    Columns are recognised by their usual names: user_id/user, item_id/item, event_time/ts/timestamp, kind/event,
    value/rating/quantity, text/title, categories. Rows that cannot be used go to the rejects with file, line and
    reason; importing a file again changes nothing. Run `driftline refresh` afterwards.
    """
    from services.pipeline.importer import import_files

    with StageBars(console) as bars:
        summary = import_files(
            files, load_settings(), kind=kind or None, tenant=tenant, on_progress=bars.report
        )
    print_figures("imported", summary)
    if summary.failed_files:
        raise SystemExit(1)


@app.command()
def refresh(
    follow: Annotated[bool, typer.Option(help="Keep going until Ctrl-C.")] = False,
    full: Annotated[bool, typer.Option(help="Make every vector again.")] = False,
    workers: Annotated[
        int,
        typer.Option(
            min=0,
            max=256,
            help="Make vectors and forecasts on so many processes of this machine (1: in this one), not by a "
            "running encoder and forecaster; for backfills.",
        ),
    ] = 0,
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Take all that came in to served features: clean, encode, forecast, publish.

    Incremental and idempotent; needs a live model (`driftline train`) and a running encoder and forecaster
    (`driftline up`, or k8s), or --workers.
    """
    from services.pipeline.follow import Follower
    from services.pipeline.health import is_due, keep_health
    from services.pipeline.refresh import PARALLEL_CALLS
    from services.pipeline.refresh import refresh as run_refresh
    from services.pipeline.stores import open_check, open_stores

    settings = load_settings()
    if follow and workers:
        raise InvalidArgument("workers", "is for one refresh; leave --follow out")
    with _compute(settings, tenant, workers) as compute:
        stores = open_stores(settings)
        if not follow:
            with StageBars(console) as bars:
                summary = run_refresh(
                    stores,
                    compute,
                    settings,
                    tenant=tenant,
                    is_full=full,
                    parallel_calls=workers or PARALLEL_CALLS,
                    on_progress=bars.report,
                )
            print_figures("refreshed", summary)
            if is_due(stores, tenant):
                health = keep_health(stores, open_check(stores, settings, tenant), tenant)
                print_figures("health", health)
            return
        follower = Follower(
            stores=stores,
            compute=compute,
            settings=settings,
            tenant=tenant,
            open_check=lambda: open_check(stores, settings, tenant),
        )
        follower.start()
        wait_for_stop(console, "following the inbox; Ctrl-C stops")
        follower.stop()


@contextmanager
def _compute(settings: Settings, tenant: str, workers: int) -> "Iterator[Compute]":
    """Open what makes vectors: the running encoder and forecaster, this process, or workers."""
    if workers == 0:
        from services.pipeline.compute import open_compute

        with open_compute(settings, tenant) as client:
            yield client
    elif workers == 1:
        from services.backfill.here import InThisProcess

        yield InThisProcess(settings, tenant)
    else:
        from services.backfill.workers import open_workers

        with (
            console.status(f"starting {workers} workers"),
            open_workers(settings, tenant, workers) as some,
        ):
            yield some


@app.command()
def status(tenant: Tenant = DEFAULT_TENANT) -> None:
    """Show what is stored, what waits, what was rejected and why, and which model is live."""
    from services.pipeline.status import newest_rejects
    from services.pipeline.status import status as read_status
    from services.pipeline.stores import open_stores

    settings = load_settings()
    print_figures("status", read_status(settings, tenant))
    print_rows("newest rejects (all: ListRejects)", newest_rejects(settings, tenant))
    models = open_stores(settings).models
    shadow = models.shadow(tenant)
    for model in models.list(tenant):
        is_shadow = shadow is not None and shadow.model_version == model.model_version
        also = ", its space kept fresh beside the live one" if is_shadow else ""
        console.print(f"model {model.model_version} in space {model.space_id}: {model.stage}{also}")


@app.command()
def demand(
    again: Annotated[
        bool,
        typer.Option(
            help="Draw everything anew, of what the events say now; what users risk grows by it."
        ),
    ] = False,
) -> None:
    """Publish the demand for topics that closed since the last time, as each refresh does.

    Counts by cohort, topic and period get noise once and then stand: late events and old imports change none of them.
    After an import of old events use --again.
    """
    from services.core.demand import EVERYONE
    from services.pipeline.demand import refresh_demand
    from services.pipeline.stores import open_stores

    settings = load_settings()
    stores = open_stores(settings)
    space_id = stores.models.live(DEFAULT_TENANT).space_id
    published = refresh_demand(
        stores.of_demand(), settings, DEFAULT_TENANT, space_id, is_new_edition=again
    )
    console.print(f"{published} periods of demand were published")
    release = stores.demand.read(DEFAULT_TENANT, space_id, settings.release_terms().name)
    if release is None:
        return
    table = Table("cohort", "users, at least", title=f"up to {release.published.newest.name}")
    for cohort in release.cohorts:
        users = release.size(cohort)
        table.add_row(cohort, f"{users:,}" if users else f"below {release.terms.least_users}")
    console.print(table)
    if EVERYONE in release.forecasts:
        console.print(f"{len(release.topic_ids)} topics are forecast")
