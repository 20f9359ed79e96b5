"""What the encoder reads and writes, as ports."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from services.core.tower import BackboneSpec
from services.store.live_models import LiveModels
from services.store.ports import CatalogueStore, EventTables, FeatureWriter, TextEncoder
from services.store.text_vectors import TextVectors


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderStores:
    """Everything outside that the encoder touches."""

    models: LiveModels
    tables: EventTables
    features: FeatureWriter
    catalogues: CatalogueStore
    vectors: TextVectors
    # Loads the text model that a trained model names.
    load_encoder: Callable[[BackboneSpec], TextEncoder]


@dataclass(slots=True)
class Encoders:
    """Loaded text models, one per spec: a new model in the same space loads nothing."""

    load: Callable[[BackboneSpec], TextEncoder]
    _loaded: dict[BackboneSpec, TextEncoder] = field(default_factory=dict)
    _loading: threading.Lock = field(default_factory=threading.Lock)

    def get(self, spec: BackboneSpec) -> TextEncoder:
        """Return the text model of a spec."""
        with self._loading:
            if spec not in self._loaded:
                self._loaded[spec] = self.load(spec)
            return self._loaded[spec]
