"""From one vector space to another."""

from typing import Annotated

import typer

from services.cli.app import Tenant, app, console, print_figures
from services.core.errors import InvalidArgument
from services.core.schema import DEFAULT_TENANT
from services.runtime.settings import load_settings
from services.terminal import StageBars


@app.command()
def migrate(
    to: Annotated[str, typer.Option(help="Model version of another space; see `status`.")] = "",
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Make the space before the switch live again.")
    ] = False,
    finish: Annotated[
        bool, typer.Option("--finish", help="Stop refreshing the space that is not live.")
    ] = False,
    switch: Annotated[
        bool, typer.Option(help="Switch when verified; else say what was found.")
    ] = True,
    accept_worse: Annotated[
        bool,
        typer.Option("--accept-worse", help="Switch although the verification found problems."),
    ] = False,
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Move to another vector space under load: backfill, verify, switch; or roll back, or finish.

    The new space is filled beside the old one, and every refresh writes both until --finish. Gateways follow the
    switch at their next poll; no call mixes two spaces. Train the model with `driftline train --no-promote`. Needs a
    running encoder and forecaster.
    """
    from services.pipeline.compute import open_compute
    from services.pipeline.migrate import Migration
    from services.pipeline.stores import open_stores
    from services.store.index import FolderCatalogues
    from services.store.layout import Layout

    if [bool(to), rollback, finish].count(True) != 1:
        raise InvalidArgument("migrate", "say one of --to MODEL, --rollback, --finish")
    settings = load_settings()
    with open_compute(settings, tenant) as compute:
        migration = Migration(
            stores=open_stores(settings),
            catalogues=FolderCatalogues(Layout(settings.data_dir, settings.bucket_count)),
            compute=compute,
            settings=settings,
            tenant=tenant,
        )
        if rollback:
            model = migration.rollback()
            console.print(f"model {model.model_version} is live again in space {model.space_id}")
            return
        if finish:
            migration.finish()
            console.print("one space is refreshed from now on: the live one")
            return
        model = migration.start(to)
        with StageBars(console) as bars:
            migration.backfill(model.model_version, bars.report)
        found = migration.verify(model)
        print_figures("verified", found)
        if not found.is_unseen:
            console.print("[yellow]warning:[/] a model was trained on the period that was compared")
        if switch:
            migration.switch(model, found, accepts_worse=accept_worse)
            console.print(f"model {model.model_version} is live in space {model.space_id}")
