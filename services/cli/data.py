"""What goes in, what is computed from it, what is taken out."""

from pathlib import Path
from typing import Annotated

import typer

from services.cli.app import app, console, print_figures, print_rows
from services.core.schema import DEFAULT_TENANT
from services.runtime.settings import load_settings
from services.terminal import StageBars, wait_for_stop

Files = Annotated[list[Path], typer.Argument(help="CSV, JSONL or Parquet files of events.")]


@app.command("import")
def import_(
    files: Files, kind: Annotated[str, typer.Option(help="Kind of events that name none.")] = ""
) -> None:
    """Take files of events (and the items they name) into the inbox.

    Columns are recognised by their usual names: user_id/user, item_id/item, event_time/ts/timestamp, kind/event,
    value/rating/quantity, text/title, categories. Rows that cannot be used go to the rejects with file, line and
    reason; importing a file again changes nothing. Run `driftline refresh` afterwards.
    """
    from services.pipeline.importer import import_files

    with StageBars(console) as bars:
        summary = import_files(files, load_settings(), kind=kind or None, on_progress=bars.report)
    print_figures("imported", summary)
    if summary.failed_files:
        raise SystemExit(1)


@app.command()
def refresh(
    follow: Annotated[bool, typer.Option(help="Keep going until Ctrl-C.")] = False,
    full: Annotated[bool, typer.Option(help="Make every vector again.")] = False,
) -> None:
    """Take all that came in to served features: clean, encode, forecast, publish.

    Incremental and idempotent; needs a live model (`driftline train`) and a running encoder and forecaster
    (`driftline up`, or k8s).
    """
    from services.pipeline.compute import open_compute
    from services.pipeline.follow import Follower
    from services.pipeline.refresh import refresh as run_refresh
    from services.pipeline.stores import open_stores

    settings = load_settings()
    with open_compute(settings, DEFAULT_TENANT) as compute:
        stores = open_stores(settings)
        if not follow:
            with StageBars(console) as bars:
                summary = run_refresh(
                    stores, compute, settings, is_full=full, on_progress=bars.report
                )
            print_figures("refreshed", summary)
            return
        follower = Follower(stores=stores, compute=compute, settings=settings)
        follower.start()
        wait_for_stop(console, "following the inbox; Ctrl-C stops")
        follower.stop()


@app.command()
def status() -> None:
    """Show what is stored, what waits, what was rejected and why, and which model is live."""
    from services.pipeline.status import newest_rejects
    from services.pipeline.status import status as read_status
    from services.pipeline.stores import open_stores

    settings = load_settings()
    print_figures("status", read_status(settings))
    print_rows("newest rejects (all: ListRejects)", newest_rejects(settings))
    for model in open_stores(settings).models.list(DEFAULT_TENANT):
        console.print(f"model {model.model_version} in space {model.space_id}: {model.stage}")


@app.command()
def erase(user_id: str) -> None:
    """Erase a user: hidden at once, removed from every table, view and index by the next refresh."""
    from services.pipeline.erasure import request_erasure

    erasure_id = request_erasure(load_settings(), DEFAULT_TENANT, user_id)
    console.print(f"erasure {erasure_id} is recorded; `driftline refresh` carries it out")
