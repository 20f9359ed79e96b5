"""Item catalogues in memory: the tests' default for CatalogueStore."""

from dataclasses import replace

import numpy as np

from services.core.errors import NotReady
from services.store.index import check_catalogue, check_same_shape
from services.store.ports import Catalogue


class MemoryCatalogues:
    """Keeps the current generation of each tenant and space."""

    def __init__(self) -> None:
        # The generation with its segments merged, and how many those are.
        self._held: dict[tuple[str, str], tuple[Catalogue, int]] = {}

    def publish(self, tenant: str, catalogue: Catalogue) -> None:
        """Make a generation current."""
        check_catalogue(catalogue)
        self._held[tenant, catalogue.space_id] = (catalogue, 0)

    def publish_segment(self, tenant: str, catalogue: Catalogue) -> None:
        """Add items to the current generation, or new versions of its items."""
        check_catalogue(catalogue)
        base = self.current(tenant, catalogue.space_id)
        check_same_shape(base, catalogue)
        count = self._held[tenant, catalogue.space_id][1]
        self._held[tenant, catalogue.space_id] = (_merged(base, catalogue), count + 1)

    def current(self, tenant: str, space_id: str) -> Catalogue:
        """Return the current generation with its segments merged."""
        if (tenant, space_id) not in self._held:
            raise NotReady("item index", "import items and run `driftline refresh`")
        return self._held[tenant, space_id][0]

    def current_token(self, tenant: str, space_id: str) -> str:
        """Return a token that changes whenever `current` would."""
        if (tenant, space_id) not in self._held:
            return ""
        catalogue, segments = self._held[tenant, space_id]
        return f"{catalogue.generation}/{segments}"


def _merged(base: Catalogue, added: Catalogue) -> Catalogue:
    row_of = {item_id: row for row, item_id in enumerate(base.item_ids + added.item_ids)}
    ids = tuple(sorted(row_of))
    rows = [row_of[item_id] for item_id in ids]
    titles, categories = base.titles + added.titles, base.categories + added.categories
    return replace(
        base,
        item_ids=ids,
        titles=tuple(titles[row] for row in rows),
        categories=tuple(categories[row] for row in rows),
        items_ND=np.concatenate([base.items_ND, added.items_ND])[rows],
        stats=base.stats.joined(added.stats).take(rows),
    )
