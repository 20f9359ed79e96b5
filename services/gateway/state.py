"""What a gateway holds besides connections: the live model's ranker, the catalogue, and whom to refuse."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from services.core.errors import CoreError, NotReady
from services.core.ranking import Ranker
from services.core.recommend import Shelf, shelf_of
from services.store.erasures import ErasedUsers
from services.store.model_folder import load_ranker
from services.store.ports import Catalogue, CatalogueStore, ModelRegistry

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """One consistent view; readers hold it for the whole of a call."""

    space_id: str
    model_version: str
    ranker: Ranker
    # None until an index was published in this space.
    catalogue: Catalogue | None
    shelf: Shelf | None
    # Changes when the catalogue does.
    token: str

    def published(self) -> tuple[Catalogue, Shelf]:
        """Return the catalogue and its shelf.

        Raises:
            NotReady: no index was published yet.
        """
        if self.catalogue is None or self.shelf is None:
            raise NotReady("item index", "import items and run `driftline refresh`")
        return self.catalogue, self.shelf


class GatewayState:
    """Polls registry, index and erasures, and swaps what changed in one assignment."""

    def __init__(
        self, tenant: str, models: ModelRegistry, catalogues: CatalogueStore, erased: ErasedUsers
    ) -> None:
        self.tenant = tenant
        self._models, self._catalogues, self._erased = models, catalogues, erased
        self._live: Live | None = None
        self._refused: frozenset[str] = frozenset()

    def live(self) -> Live:
        """Return the live model and catalogue.

        Raises:
            NotReady: no model is live.
        """
        if self._live is None:
            raise NotReady("live model", "run `driftline train` and `driftline refresh`")
        return self._live

    def is_erased(self, user_id: str) -> bool:
        """Tell whether a request to erase the user is under way."""
        return user_id in self._refused

    def poll(self) -> None:
        """Look for a new model, index or erasure; load what changed."""
        self.poll_erased()
        with suppress(NotReady):
            self._live = self._load(self._live)

    def poll_erased(self) -> None:
        """Look for new erasures only."""
        self._refused = self._erased.users(self.tenant)

    async def follow(self, every_s: float) -> None:
        """Poll for ever; a store that does not answer leaves what is held as it is."""
        while True:
            try:
                await asyncio.to_thread(self.poll)
            except CoreError as error:
                log.warning("poll failed; serving what is held", problem=error.message)
            await asyncio.sleep(every_s)

    def _load(self, held: Live | None) -> Live:
        info = self._models.live(self.tenant)
        token = self._catalogues.current_token(self.tenant, info.space_id)
        is_same_model = held is not None and held.model_version == info.model_version
        if held is not None and is_same_model and held.token == token:
            return held
        if held is not None and is_same_model:
            ranker = held.ranker
        else:
            ranker = load_ranker(Path(self._models.folder(self.tenant, info.model_version)))
        catalogue = self._catalogues.current(self.tenant, info.space_id) if token else None
        shelf = _shelf(catalogue) if catalogue else None
        return Live(
            space_id=info.space_id,
            model_version=info.model_version,
            ranker=ranker,
            catalogue=catalogue,
            shelf=shelf,
            token=token,
        )


def _shelf(catalogue: Catalogue) -> Shelf:
    return shelf_of(catalogue.item_ids, catalogue.categories, catalogue.items_ND, catalogue.stats)
