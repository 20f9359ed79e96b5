"""`python -m services.gateway.main`: the public server, configured by DRIFTLINE_* variables alone."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from services.core.ranker import Ranker
from services.core.schema import DEFAULT_TENANT
from services.gateway.services import Ports, services_of
from services.gateway.state import GatewayState
from services.runtime.logs import configure_logs
from services.runtime.metrics import Metrics
from services.runtime.server import serve_until_stopped
from services.runtime.settings import Settings, load_settings
from services.store.erasures import ErasedUsers
from services.store.history_reader import ParquetHistory
from services.store.inbox import DeltaInbox
from services.store.index import FolderCatalogues
from services.store.layout import Layout
from services.store.model_folder import load_ranker
from services.store.models import FolderRegistry
from services.store.online_reader import open_online_reader
from services.store.overlays import open_overlays
from services.store.rejects import DeltaRejects

# Commits, polls and rankings of large catalogues; history's threads come on top.
THREADS = 16


def main() -> None:
    """Read the settings and serve until SIGTERM."""
    settings = load_settings()
    configure_logs(settings.log_level)
    asyncio.run(serve(settings))


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM, then drain: what was accepted is committed and answered."""
    threads = ThreadPoolExecutor(THREADS + settings.max_history_calls, "gateway")
    asyncio.get_running_loop().set_default_executor(threads)
    layout = Layout(settings.data_dir, settings.bucket_count)
    registry = FolderRegistry(layout)
    inbox = DeltaInbox(layout, settings.writer)
    state = GatewayState(
        tenant=DEFAULT_TENANT,
        registry=registry,
        catalogues=FolderCatalogues(layout),
        erased=ErasedUsers(layout),
        load_ranker=read_ranker,
    )
    await state.start()
    polling = asyncio.create_task(state.keep_polling(settings.poll_s))
    ports = Ports(
        reader=open_online_reader(settings.feast_config(), layout),
        history=ParquetHistory(layout),
        inbox=inbox,
        rejects=DeltaRejects(layout),
        registry=registry,
        overlays=open_overlays(layout, settings.online_store, settings.redis_url),
    )
    try:
        await serve_until_stopped(settings, services_of(settings, state, ports), Metrics())
    finally:
        polling.cancel()
        await inbox.close()


def read_ranker(folder: str) -> Ranker:
    """Read the ranker of a model folder. Raises as load_ranker."""
    return load_ranker(Path(folder))


if __name__ == "__main__":
    main()
