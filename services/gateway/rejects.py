"""Rows that were refused, page by page."""

import asyncio
from dataclasses import replace

from services.gateway.answers import RejectsQuery
from services.gateway.state import GatewayState
from services.store.reject_port import RejectPage, RejectReader


class Rejects:
    """Reads the rejects off the event loop; an erased user's rows are left out."""

    def __init__(self, state: GatewayState, reader: RejectReader) -> None:
        self._state, self._reader = state, reader

    async def page(self, query: RejectsQuery) -> RejectPage:
        """Return rejects, oldest first.

        Raises:
            InvalidArgument: the page token is from no page.
            DependencyUnavailable: the store does not answer.
        """
        page = await asyncio.to_thread(
            self._reader.rejects, self._state.tenant, limit=query.limit, after=query.after
        )
        shown = [row for row in page.rejects if not self._state.is_erased(row.user_id or "")]
        return replace(page, rejects=tuple(shown))
