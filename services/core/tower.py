"""The item tower: from a backbone's text vector to an item vector, and the space's identity.

    t = normalise((text_vec - mean) @ projection)
    x = normalise(t + e)        e: what training learned of a known item beside its text; else 0

Shape suffixes: N = items, B = backbone width, D = item vector width, K = known items.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from services.core.records import F32


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneSpec:
    """Which text encoder a model was trained on, and how its token vectors become one."""

    # Hugging Face name or folder, as given to load_backbone.
    name: str
    weights_sha256: str
    pooling: Literal["mean", "cls", "last"] = "mean"
    # Longer texts are cut.
    max_tokens: int = 256
    # B.
    width: int
    # Linear layers in int8: other vectors than float32 gives (cosine .99), hence another space.
    is_int8: bool = False


@dataclass(frozen=True, kw_only=True)
class ItemTower:
    """The module's formula. Frozen in its space."""

    mean_B: F32
    projection_BD: F32
    # Ascending.
    known_ids: tuple[str, ...] = ()
    known_KD: F32 | None = None

    @property
    def width(self) -> int:
        """D."""
        return int(self.projection_BD.shape[1])

    def text_parts(self, text_NB: F32) -> F32:
        """Return t [N, D], of unit norm; a text at the mean exactly stays a zero vector.

        Row by row the same whatever the batch, to float32 rounding.
        """
        raw_ND: F32 = ((text_NB - self.mean_B) @ self.projection_BD).astype(np.float32, copy=False)
        return _unit(raw_ND)

    def with_ids(self, part_ND: F32, item_ids: Sequence[str]) -> F32:
        """Return x [N, D], of unit norm, from text parts and the items they are of."""
        if self.known_KD is None:
            return part_ND
        row_N = self.rows_of(item_ids)
        known = np.flatnonzero(row_N >= 0)
        items_ND = part_ND.copy()
        items_ND[known] = _unit(part_ND[known] + self.known_KD[row_N[known]])
        return items_ND

    def item_vectors(self, text_NB: F32, item_ids: Sequence[str]) -> F32:
        """Return unit-norm item vectors [N, D] from texts and the items they are of."""
        return self.with_ids(self.text_parts(text_NB), item_ids)

    def rows_of(self, item_ids: Sequence[str]) -> NDArray[np.int64]:
        """Return each item's row of K [N]; -1 where training did not know it."""
        return np.asarray([self._row_of.get(item, -1) for item in item_ids], np.int64)

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {item: row for row, item in enumerate(self.known_ids)}


def _unit(raw_ND: F32) -> F32:
    norm_N = np.linalg.norm(raw_ND, axis=1, keepdims=True)
    unit_ND: F32 = (raw_ND / np.maximum(norm_N, 1e-12)).astype(np.float32)
    return unit_ND


def space_id_of(backbone: BackboneSpec, tower: ItemTower) -> str:
    """Return the space's short stable name, in [a-z0-9_], such as minilm_1f3c9a2b.

    Everything that moves a vector is hashed: weights, token pooling, truncation, tower, norm.
    """
    digest = hashlib.sha256()
    precision = ("int8",) if backbone.is_int8 else ()
    for part in (
        backbone.weights_sha256,
        backbone.pooling,
        str(backbone.max_tokens),
        str(tower.width),
        "l2",
        *precision,
    ):
        digest.update(part.encode() + b"\0")
    for array in (tower.mean_B, tower.projection_BD):
        digest.update(np.ascontiguousarray(array, "<f4").tobytes())
    if tower.known_KD is not None:
        digest.update("\x1f".join(tower.known_ids).encode() + b"\x1e")
        digest.update(np.ascontiguousarray(tower.known_KD, "<f4").tobytes())
    return f"{_short(backbone.name)}_{digest.hexdigest()[:8]}"


def _short(name: str) -> str:
    last = name.rstrip("/").split("/")[-1].lower()
    if "minilm" in last:
        return "minilm"
    return re.sub(r"[^a-z0-9]", "", last)[:12] or "space"
