"""Services on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from services.cli.app import Out, app, console
from services.core.schema import DEFAULT_TENANT
from services.runtime.settings import load_settings
from services.terminal import wait_for_stop


@app.command()
def up(
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure", help="Listen anywhere, without TLS, for anyone who can connect."
        ),
    ] = False,
    gateways: Annotated[
        int, typer.Option(min=1, max=64, help="Gateway processes that share the port: one a core.")
    ] = 1,
) -> None:
    """Start encoder, forecaster, gateway and the follower on this machine; Ctrl-C stops them all.

    The follower keeps the default tenant fresh; for others run `driftline refresh --follow --tenant NAME` beside it.
    """
    from services.local import local_stack
    from services.pipeline.compute import open_compute
    from services.pipeline.follow import Follower
    from services.pipeline.stores import open_check, open_stores
    from services.runtime.server import check_listening_is_safe, told_insecure

    settings = told_insecure(load_settings()) if insecure else load_settings()
    check_listening_is_safe(settings)
    open_stores(settings).models.live(
        DEFAULT_TENANT
    )  # fails with what to do before anything starts
    with console.status("starting Ray Serve and the gateway (about a minute)"):
        stack = local_stack(settings, settings.data_dir / "logs", gateways)
        running = stack.__enter__()
    try:
        with open_compute(running.settings, DEFAULT_TENANT) as compute:
            stores = open_stores(running.settings)
            follower = Follower(
                stores=stores,
                compute=compute,
                settings=running.settings,
                open_check=lambda: open_check(stores, running.settings),
            )
            follower.start()
            console.print(
                f"gateway on [bold]{running.gateway.target}[/], metrics on "
                + ", ".join(each.metrics_url for each in (running.gateway, *running.others))
            )
            wait_for_stop(console, "Ctrl-C stops")
            follower.stop()
    finally:
        with console.status("stopping"):
            stack.__exit__(None, None, None)


@app.command()
def demo(
    out: Out = Path("build/demo"),
    keep: Annotated[
        bool, typer.Option(help="Leave the services up and say how to call them.")
    ] = False,
) -> None:
    """A year of real purchases through the whole path, ending in build/demo/report.html."""
    from services.demo.run import run_demo

    run_demo(out, keep=keep, console=console)
