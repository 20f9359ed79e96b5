"""The gateway's reads of portraits and briefs without a server: for jobs that word them anew."""

from dataclasses import dataclass

from services.core.topics import Topics
from services.gateway.content import Content
from services.gateway.portraits import Portraits
from services.gateway.state import GatewayState
from services.gateway.tenants import read_ranker
from services.runtime.settings import Settings
from services.store.demand_files import FolderDemand
from services.store.erasures import ErasedUsers
from services.store.index import FolderCatalogues
from services.store.layout import Layout
from services.store.models import FolderRegistry
from services.store.online_reader import open_online_reader
from services.store.overlays import open_overlays


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """One tenant's stores as they stood when they were opened."""

    portraits: Portraits
    content: Content
    # None where none were published yet.
    topics: Topics | None


async def open_reads(settings: Settings, tenant: str) -> Reads:
    """Open a tenant's stores.

    Raises:
        NotReady: no model is live. DependencyUnavailable: the stores do not answer.
    """
    layout = Layout(settings.data_dir, settings.bucket_count)
    state = GatewayState(
        tenant=tenant,
        registry=FolderRegistry(layout),
        catalogues=FolderCatalogues(layout),
        erased=ErasedUsers(layout),
        load_ranker=read_ranker,
    )
    await state.start()
    stock = state.served().stock
    stale_after = settings.stale_after_periods
    overlays = open_overlays(layout, settings.online_store, settings.redis_url)
    return Reads(
        portraits=Portraits(
            state,
            open_online_reader(settings.feast_config(), layout, serves=True),
            overlays,
            stale_after_periods=stale_after,
        ),
        content=Content(
            state,
            FolderDemand(layout),
            settings.release_terms().name,
            stale_after_periods=stale_after,
        ),
        topics=stock.topic_map.topics if stock is not None and stock.topic_map else None,
    )
