"""The registry's models, page by page."""

import asyncio

from services.core.errors import InvalidArgument
from services.gateway.answers import ModelsAnswer, ModelsQuery
from services.store.ports import ModelRegistry


class ModelList:
    """Reads the registry; it is small, and asked rarely."""

    def __init__(self, tenant: str, registry: ModelRegistry) -> None:
        self._tenant, self._registry = tenant, registry

    async def page(self, query: ModelsQuery) -> ModelsAnswer:
        """Return models, newest first.

        Raises:
            InvalidArgument: the page token names no model.
        """
        models = await asyncio.to_thread(self._registry.list, self._tenant)
        start = 0
        if query.after:
            versions = [model.model_version for model in models]
            if query.after not in versions:
                raise InvalidArgument("page_token", "is not of this registry; start without one")
            start = versions.index(query.after) + 1
        end = start + query.limit
        return ModelsAnswer(models=tuple(models[start:end]), has_more=end < len(models))
