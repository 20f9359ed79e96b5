"""The live model, kept in memory and looked up at each call: a promotion needs no restart."""

import threading
from pathlib import Path

from services.core.model import Model
from services.store.model_folder import load_model
from services.store.ports import ModelRegistry


class LiveModels:
    """Loads each tenant's live model once per version. Safe between threads."""

    def __init__(self, registry: ModelRegistry) -> None:
        self._registry = registry
        self._models: dict[str, Model] = {}
        self._loading = threading.Lock()

    def model(self, tenant: str) -> Model:
        """Return the live model.

        Raises:
            NotReady: no model is live. InvalidArgument: its folder is damaged.
        """
        version = self._registry.live(tenant).model_version
        held = self._models.get(tenant)
        if held is not None and held.model_version == version:
            return held
        with self._loading:
            held = self._models.get(tenant)
            if held is None or held.model_version != version:
                held = load_model(Path(self._registry.folder(tenant, version)))
                self._models[tenant] = held
        return held
