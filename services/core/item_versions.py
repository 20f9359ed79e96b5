"""Which version of an item held when: versions as arrays, and the look-up of the one in force.

Shape suffixes: V = versions, Q = questions, D = width.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from services.core.pooling import I64
from services.core.records import F32

# No version answers: the row that stands for "unknown".
NO_VERSION = -1


@dataclass(frozen=True, kw_only=True)
class ItemVersions:
    """Every known version of every item, ordered by item, then time.

    Of two versions with one time the later row counts.
    """

    # Ascending: the catalogue's order.
    item_ids: tuple[str, ...]
    # Row of item_ids.
    item_ix_V: I64
    # When it came into force, microseconds since 1970.
    updated_us_V: I64
    # Unit norm.
    vec_VD: F32
    # Broadest first.
    categories_V: tuple[tuple[str, ...], ...]
    # Of the vectors; empty apart from any store.
    space_id: str = ""

    @property
    def width(self) -> int:
        """D."""
        return int(self.vec_VD.shape[1])

    @cached_property
    def _first(self) -> I64:
        """Row of each item's first version, by item."""
        return np.searchsorted(self.item_ix_V, np.arange(len(self.item_ids)))

    @cached_property
    def _times(self) -> I64:
        return np.unique(self.updated_us_V)

    @cached_property
    def _keys(self) -> I64:
        rank_V = np.searchsorted(self._times, self.updated_us_V)
        return self.item_ix_V * (len(self._times) + 1) + rank_V

    def known_at(self, now_us: int) -> "ItemVersions":
        """Return the versions from at or before an instant; item rows keep their meaning."""
        kept = self.updated_us_V <= now_us
        return ItemVersions(
            item_ids=self.item_ids,
            item_ix_V=self.item_ix_V[kept],
            updated_us_V=self.updated_us_V[kept],
            vec_VD=self.vec_VD[kept],
            categories_V=tuple(self.categories_V[row] for row in np.flatnonzero(kept)),
            space_id=self.space_id,
        )

    def in_force_before(self, item_ix_Q: I64, instant_us_Q: I64) -> I64:
        """Return each item's newest version from strictly before an instant, or NO_VERSION."""
        return self._look_up(item_ix_Q, np.searchsorted(self._times, instant_us_Q, side="left"))

    def in_force_at(self, item_ix_Q: I64, instant_us_Q: I64) -> I64:
        """Return each item's newest version from at or before an instant, or NO_VERSION."""
        return self._look_up(item_ix_Q, np.searchsorted(self._times, instant_us_Q, side="right"))

    def first(self, item_ix_Q: I64) -> I64:
        """Return the row of each item's first version, or NO_VERSION."""
        if not len(self.item_ix_V):
            return np.full(len(item_ix_Q), NO_VERSION, np.int64)
        row_Q = self._first[np.maximum(item_ix_Q, 0)]
        inside_Q = (item_ix_Q >= 0) & (row_Q < len(self.item_ix_V))
        row_Q = np.where(inside_Q, row_Q, 0)
        return np.where(inside_Q & (self.item_ix_V[row_Q] == item_ix_Q), row_Q, NO_VERSION)

    def _look_up(self, item_ix_Q: I64, rank_Q: I64) -> I64:
        """Return each item's last version whose time has a rank below `rank_Q`."""
        if not len(self.item_ix_V):
            return np.full(len(item_ix_Q), NO_VERSION, np.int64)
        asked_Q = item_ix_Q * (len(self._times) + 1) + rank_Q
        row_Q = np.searchsorted(self._keys, asked_Q, side="left") - 1
        found_Q = (row_Q >= 0) & (item_ix_Q >= 0)
        found_Q &= self.item_ix_V[np.maximum(row_Q, 0)] == item_ix_Q
        return np.where(found_Q, row_Q, NO_VERSION)
