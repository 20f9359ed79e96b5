"""Looking after a store: what is wrong with it, and putting it right."""

import asyncio
from typing import Annotated

import typer

from services.cli.app import app, console, print_figures, print_rows
from services.core.schema import DEFAULT_TENANT
from services.runtime.settings import load_settings
from services.terminal import StageBars


@app.command()
def doctor(
    mend: Annotated[bool, typer.Option(help="Put right what is safe to put right.")] = False,
    idle: Annotated[
        bool, typer.Option(help="Nothing else runs on the store: leftovers of the last hour too.")
    ] = False,
) -> None:
    """Find what crashes left behind and what is damaged; say what to do. Fails where something is left."""
    from services.pipeline.doctor import examine
    from services.pipeline.stores import open_stores
    from services.store.layout import Layout
    from services.store.online_reader import open_online_reader

    settings = load_settings()
    reader = open_online_reader(
        settings.feast_config(), Layout(settings.data_dir, settings.bucket_count)
    )
    found = asyncio.run(
        examine(open_stores(settings), reader, settings, is_mending=mend, is_idle=idle)
    )
    print_rows("found", found)
    left = [one for one in found if not one.is_mended]
    console.print(f"{len(found)} found, {len(found) - len(left)} mended, {len(left)} left")
    if left:
        raise SystemExit(1)


@app.command("rebuild-online")
def rebuild_online() -> None:
    """Fill the online store from the offline history, and rank states from the events.

    Needs a running encoder (`driftline up`, or k8s); run it while no refresh runs.
    """
    from services.pipeline.compute import open_compute
    from services.pipeline.rebuild import rebuild_online as run
    from services.pipeline.stores import open_stores
    from services.store.layout import Layout
    from services.store.online_reader import open_online_reader

    settings = load_settings()
    reader = open_online_reader(
        settings.feast_config(), Layout(settings.data_dir, settings.bucket_count)
    )
    with open_compute(settings, DEFAULT_TENANT) as compute, StageBars(console) as bars:
        summary = asyncio.run(
            run(open_stores(settings), reader, compute, settings, on_progress=bars.report)
        )
    print_figures("rebuilt", summary)
