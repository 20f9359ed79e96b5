"""`python -m services.gateway.main [--insecure]`: the public server, configured by DRIFTLINE_* variables.

--insecure says in words what DRIFTLINE_INSECURE_LISTEN=true and DRIFTLINE_AUTH=none say: listen
anywhere, in the clear, for anyone.
"""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor

import structlog
import uvloop

from services.core.schema import DEFAULT_TENANT
from services.gateway.tenants import Tenants
from services.runtime.health import StoreHealth
from services.runtime.logs import configure_logs
from services.runtime.metrics import Metrics
from services.runtime.open_files import raise_limit
from services.runtime.server import serve_until_stopped, told_insecure
from services.runtime.settings import Settings, load_settings
from services.store.disk import disk_path, told
from services.store.layout import Layout

# Commits, polls and rankings of large catalogues; history's threads come on top.
THREADS = 16
INSECURE = "--insecure"

log = structlog.get_logger()


def main(arguments: list[str]) -> None:
    """Read the settings and serve until SIGTERM.

    Raises:
        SystemExit: an argument is not known, or the stores cannot be opened: a line says why.
    """
    if arguments not in ([], [INSECURE]):
        raise SystemExit(f"takes no argument but {INSECURE}")
    settings = load_settings()
    configure_logs(settings.log_level)
    raise_limit()
    try:
        # A tenth less CPU a read than asyncio's own loop (DECISIONS.md).
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(told_insecure(settings) if arguments else settings))
    except Exception as error:
        if (known := told(error)) is None:
            raise
        log.error("cannot serve", problem=known.message, path=str(disk_path(error) or ""))
        raise SystemExit(1) from None


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM, then drain: what was accepted is committed and answered."""
    threads = ThreadPoolExecutor(THREADS + 2 * settings.max_history_calls, "gateway")
    asyncio.get_running_loop().set_default_executor(threads)
    layout = Layout(settings.data_dir, settings.bucket_count)
    tenants = Tenants(settings, layout)
    try:
        services = await tenants.open(DEFAULT_TENANT)
        metrics = Metrics()
        metrics.registry.register(StoreHealth(layout))
        await serve_until_stopped(settings, services, metrics, tenants.register)
    finally:
        await tenants.close()


if __name__ == "__main__":
    main(sys.argv[1:])
