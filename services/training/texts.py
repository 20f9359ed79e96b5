"""Texts are encoded once per backbone and kept: for the next training, and for one that was killed.

They lie beside the spaces' item vectors (store/text_vectors.py), under a name of the backbone's own.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np

from services.core.records import F32
from services.core.tower import BackboneSpec
from services.store.ports import TextEncoder
from services.store.text_vectors import TextVectors

# Texts that are kept at once.
CHUNK = 4096


class KeptTexts:
    """A backbone that remembers across processes.

    A vector depends, in its last bits, on the texts that it was encoded with; a kept one stays.
    """

    def __init__(
        self, backbone: TextEncoder, vectors: TextVectors, tenant: str, *, is_fresh: bool = False
    ) -> None:
        self.spec = backbone.spec
        self._backbone, self._vectors, self._tenant = backbone, vectors, tenant
        # Nothing is read then, nor kept.
        self._is_fresh = is_fresh

    def encode(
        self, texts: Sequence[str], on_progress: Callable[[int, int], None] | None = None
    ) -> F32:
        """Return one unit-norm row per text; those that are missing are encoded and kept."""
        name = place_of(self.spec)
        hash_of = {text: _hash(text) for text in texts}
        vec_of = {} if self._is_fresh else dict(self._vectors.read(self._tenant, name))
        missing = [text for text, key in hash_of.items() if key not in vec_of]
        for start in range(0, len(missing), CHUNK):
            chunk = missing[start : start + CHUNK]
            keys = [hash_of[text] for text in chunk]
            vec_NB = self._backbone.encode(
                chunk, _shifted(on_progress, start + len(hash_of) - len(missing), len(hash_of))
            )
            if not self._is_fresh:
                self._vectors.add(self._tenant, name, keys, vec_NB)
            vec_of |= dict(zip(keys, vec_NB, strict=True))
        if on_progress is not None:
            on_progress(len(hash_of), len(hash_of))
        return np.stack([vec_of[hash_of[text]] for text in texts]).astype(np.float32)


def place_of(spec: BackboneSpec) -> str:
    """Return where a backbone's vectors lie: everything that moves one is in the name."""
    content = json.dumps({**asdict(spec), "name": ""}, sort_keys=True)
    return f"texts_{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _shifted(
    on_progress: Callable[[int, int], None] | None, by: int, total: int
) -> Callable[[int, int], None] | None:
    if on_progress is None:
        return None
    return lambda done, _: on_progress(by + done, total)
