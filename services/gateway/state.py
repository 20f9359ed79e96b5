"""What the gateway holds in memory: live model, catalogue, and whom it refuses.

A look at the stores happens off the event loop; what it found is swapped in whole, so that no call
sees the ranker of one model with the catalogue of another.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog

from services.core.errors import CoreError, NotReady, UserNotFound
from services.core.ranker import Ranker
from services.core.recommend import Shelf, shelf_of
from services.core.records import ModelInfo
from services.core.spaces import require_space
from services.core.topics import TopicMap, map_topics
from services.store.ports import Catalogue, CatalogueStore, ModelRegistry

log = structlog.get_logger()


class ErasedReader(Protocol):
    """Whom readers refuse: requests of every writer that are not carried out yet."""

    def users(self, tenant: str) -> frozenset[str]:
        """Return the users. Raises DependencyUnavailable where the store does not answer."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """One generation of the catalogue, ready to rank."""

    # The store's token that it was read under.
    token: str
    catalogue: Catalogue
    shelf: Shelf
    # None where the catalogue was published without topics.
    topic_map: TopicMap | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What serves now. Immutable: a call takes it once and keeps to it."""

    model: ModelInfo
    ranker: Ranker
    # None where no index was published in the model's space yet.
    stock: Stock | None

    def stocked(self) -> Stock:
        """Return the catalogue.

        Raises:
            NotReady: no index was published yet.
        """
        if self.stock is None:
            raise NotReady("item index", "import items and run `driftline refresh`")
        return self.stock


class GatewayState:
    """Polls the stores of one tenant. Everything but `_look` runs on the event loop."""

    def __init__(
        self,
        *,
        tenant: str,
        registry: ModelRegistry,
        catalogues: CatalogueStore,
        erased: ErasedReader,
        load_ranker: Callable[[str], Ranker],
    ) -> None:
        """Hold nothing yet; `start` takes the first look.

        Args:
            tenant: whose data.
            registry: which model is live.
            catalogues: published item indexes.
            erased: whom to refuse.
            load_ranker: reads the ranker of a model folder.
        """
        self._tenant, self._registry, self._catalogues = tenant, registry, catalogues
        self._erased, self._load_ranker = erased, load_ranker
        self._served: Served | None = None
        self._erased_users: frozenset[str] = frozenset()
        # Users erased through this process -> polls begun by then; see `hide`.
        self._hidden: dict[str, int] = {}
        self._polls = 0

    @property
    def tenant(self) -> str:
        """Whose data."""
        return self._tenant

    def served(self) -> Served:
        """Return what serves now.

        Raises:
            NotReady: no model is live.
        """
        if self._served is None:
            raise NotReady("live model", "run `driftline train`")
        return self._served

    def is_erased(self, user_id: str) -> bool:
        """Tell whether a user asked to be erased and is not yet gone from the stores."""
        return user_id in self._hidden or user_id in self._erased_users

    def refuse_erased(self, user_id: str, what: str) -> None:
        """Treat an erased user as unknown.

        Raises:
            UserNotFound: the user asked to be erased.
        """
        if self.is_erased(user_id):
            raise UserNotFound(user_id, what)

    def hide(self, user_id: str) -> None:
        """Refuse a user whose erasure was just committed, before the next look finds it."""
        self._hidden[user_id] = self._polls

    async def start(self) -> None:
        """Take the first look; a store that is still empty is fine.

        Raises:
            DependencyUnavailable: whom to refuse cannot be read, so nobody may be served.
        """
        self._erased_users = await asyncio.to_thread(self._erased.users, self._tenant)
        await self.poll()

    async def poll(self) -> None:
        """Look once, and swap in what changed. What cannot be read stays as it is, with a log line."""
        self._polls += 1
        poll, before = self._polls, self._served
        erased, served = await asyncio.to_thread(self._look, before)
        self._served = served
        if erased is not None:
            self._erased_users = erased
            # This look began after these were committed, so it saw them.
            self._hidden = {user: begun for user, begun in self._hidden.items() if begun >= poll}

    async def keep_polling(self, poll_s: float) -> None:
        """Poll until cancelled."""
        while True:
            await asyncio.sleep(poll_s)
            try:
                await self.poll()
            except Exception:
                log.exception("poll failed; trying again")

    def _look(self, before: Served | None) -> tuple[frozenset[str] | None, Served | None]:
        erased: frozenset[str] | None = None
        try:
            erased = self._erased.users(self._tenant)
        except CoreError as error:
            log.warning("cannot read erasures", problem=error.message)
        try:
            return erased, self._newest(before)
        except CoreError as error:
            if before is not None:
                log.warning("cannot read model or index", problem=error.message)
            return erased, before

    def _newest(self, before: Served | None) -> Served:
        model = self._registry.live(self._tenant)
        if before is not None and before.model.model_version == model.model_version:
            stock = self._stock(model.space_id, before.stock)
            return before if stock is before.stock else _with(before, stock)
        folder = self._registry.folder(self._tenant, model.model_version)
        held = before.stock if before and before.model.space_id == model.space_id else None
        stock = self._stock(model.space_id, held)
        if before is not None and before.stock is not None and stock is None:
            # A new space without an index: the old one serves until the first refresh.
            return before
        served = Served(model=model, ranker=self._load_ranker(folder), stock=stock)
        log.info("model serves", model_version=model.model_version, space_id=model.space_id)
        return served

    def _stock(self, space_id: str, held: Stock | None) -> Stock | None:
        token = self._catalogues.current_token(self._tenant, space_id)
        if held is not None and held.token == token:
            return held
        if not token:
            return None
        catalogue = self._catalogues.current(self._tenant, space_id)
        require_space(space_id, catalogue.space_id)
        shelf = shelf_of(
            catalogue.item_ids,
            catalogue.categories,
            catalogue.items_ND,
            catalogue.stats,
            catalogue.space_id,
        )
        log.info("index serves", generation=catalogue.generation, items=len(catalogue.item_ids))
        topics = catalogue.topics
        # The widest window of popularity is the steadiest.
        share_N = catalogue.stats.share_NW[:, -1]
        topic_map = map_topics(topics, catalogue.items_ND, share_N) if topics else None
        return Stock(token=token, catalogue=catalogue, shelf=shelf, topic_map=topic_map)


def _with(served: Served, stock: Stock | None) -> Served:
    return Served(model=served.model, ranker=served.ranker, stock=stock)
