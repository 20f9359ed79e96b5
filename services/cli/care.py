"""Looking after a store: what is wrong with it, and putting it right."""

import asyncio
from datetime import timedelta
from pathlib import Path
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


@app.command()
def backup(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New folder for it.")],
    keep_days: Annotated[
        float, typer.Option(help="After these days delete it; receipts of erasures say so.")
    ] = 30.0,
) -> None:
    """Write the whole store, every tenant, as of one instant to DIR; events are taken in meanwhile.

    It holds the store's PRIVATE KEYS and salts too (what receipts are signed with, hashes of API keys; modes are
    kept): keep it as you keep the data folder. Left out: trainings under way, logs, and what Redis
    serves (`driftline rebuild-online` makes that anew; what users said of their portraits is in).
    """
    from services.pipeline.backup import back_up

    with StageBars(console) as bars:
        summary = back_up(
            load_settings(), folder, timedelta(days=keep_days), on_progress=bars.report
        )
    print_figures("backed up", summary)
    console.print(
        f"delete {folder} by {summary.expires_time:%Y-%m-%d}; `driftline restore` brings it back"
    )


@app.command()
def restore(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the backup.")],
    erasures: Annotated[
        Path | None,
        typer.Option(
            help="Data folder that was moved aside, or a later backup: whom it knows to be erased is not brought back."
        ),
    ] = None,
) -> None:
    """Bring the backup in DIR back into an empty data folder, after every file's hash was compared.

    The store is as it was at the backup's instant, private keys included. Who was erased SINCE the backup comes
    back unless --erasures names what knows them; without it, ask for those erasures again before you serve.
    """
    from services.pipeline.backup import restore as run

    settings = load_settings()
    with StageBars(console) as bars:
        summary = run(settings, folder, erasures, on_progress=bars.report)
    print_figures("restored", summary)
    if summary.needs_rebuild:
        console.print(
            "run `driftline up`, then `driftline rebuild-online`: it fills the online store"
        )
    console.print("`driftline doctor` looks at what was restored")
