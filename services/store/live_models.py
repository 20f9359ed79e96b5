"""The live model, kept in memory and looked up at each call: a promotion needs no restart."""

import threading
from pathlib import Path

from services.core.model import Model
from services.store.model_folder import load_model
from services.store.ports import ModelRegistry

# Models of a tenant kept in memory: the live one, and the one that is migrated to or from.
KEPT = 2


class LiveModels:
    """Loads each model that is asked for once. Safe between threads."""

    def __init__(self, registry: ModelRegistry) -> None:
        self._registry = registry
        # By tenant and version; of each tenant the last few that were asked for.
        self._models: dict[tuple[str, str], Model] = {}
        self._loading = threading.Lock()

    def model(self, tenant: str) -> Model:
        """Return the live model.

        Raises:
            NotReady: no model is live. InvalidArgument: its folder is damaged.
        """
        return self._held(tenant, self._registry.live(tenant).model_version)

    def named(self, tenant: str, model_version: str) -> Model:
        """Return a model of the registry, live or not; an empty name means the live one.

        Raises:
            NotReady: no model is live. InvalidArgument: there is no such model, or its folder is
                damaged.
        """
        if not model_version:
            return self.model(tenant)
        return self._held(tenant, model_version)

    def _held(self, tenant: str, version: str) -> Model:
        held = self._models.get((tenant, version))
        if held is not None:
            return held
        with self._loading:
            held = self._models.get((tenant, version))
            if held is None:
                held = load_model(Path(self._registry.folder(tenant, version)))
                mine = [key for key in self._models if key[0] == tenant]
                for old in mine[: len(mine) - KEPT + 1]:
                    del self._models[old]
                self._models[tenant, version] = held
        return held
