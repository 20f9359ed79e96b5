"""The item tower: from a backbone's text vector to an item vector, and the space's identity.

Shape suffixes: N = items, B = backbone width, D = item vector width.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemTower:
    """x = normalise((text_vec - mean) @ projection). Frozen in its space."""

    mean_B: F32
    projection_BD: F32

    @property
    def width(self) -> int:
        """D."""
        return int(self.projection_BD.shape[1])

    def item_vectors(self, text_NB: F32) -> F32:
        """Return unit-norm item vectors [N, D]; a text at the mean exactly stays a zero vector.

        Row by row the same whatever the batch, to float32 rounding.
        """
        raw_ND = (text_NB - self.mean_B) @ self.projection_BD
        norm_N = np.linalg.norm(raw_ND, axis=1, keepdims=True)
        items_ND: F32 = (raw_ND / np.maximum(norm_N, 1e-12)).astype(np.float32)
        return items_ND


def space_id_of(backbone: BackboneSpec, tower: ItemTower) -> str:
    """Return the space's short stable name, in [a-z0-9_], such as minilm_1f3c9a2b.

    Everything that moves a vector is hashed: weights, token pooling, truncation, tower, norm.
    """
    digest = hashlib.sha256()
    for part in (
        backbone.weights_sha256,
        backbone.pooling,
        str(backbone.max_tokens),
        str(tower.width),
        "l2",
    ):
        digest.update(part.encode() + b"\0")
    for array in (tower.mean_B, tower.projection_BD):
        digest.update(np.ascontiguousarray(array, "<f4").tobytes())
    return f"{_short(backbone.name)}_{digest.hexdigest()[:8]}"


def _short(name: str) -> str:
    last = name.rstrip("/").split("/")[-1].lower()
    if "minilm" in last:
        return "minilm"
    return re.sub(r"[^a-z0-9]", "", last)[:12] or "space"
