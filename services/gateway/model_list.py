"""The registry's models, page by page, and which of them serves."""

import asyncio

from services.core.errors import InvalidArgument
from services.gateway.answers import ModelsAnswer, ModelsQuery, PromoteQuery
from services.store.ports import ModelRegistry
from services.store.promotion import Promotion, promote_checked


class ModelList:
    """Reads and sets the registry; it is small, and asked rarely."""

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

    async def promote(self, query: PromoteQuery) -> Promotion:
        """Make a model live.

        Raises:
            InvalidArgument: the registry has no such model. SpaceMismatch: it is of another space
                than the live one. WorseThanLive: its card proves it worse.
        """
        return await asyncio.to_thread(
            promote_checked,
            self._registry,
            self._tenant,
            query.model_version,
            accepts_worse=query.accepts_worse,
        )
