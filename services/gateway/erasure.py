"""Erasure: committed to the inbox, refused from the next read on."""

import uuid

from services.gateway.answers import ErasureAnswer
from services.gateway.state import GatewayState
from services.store.ports import Inbox


class Eraser:
    """Takes requests to erase a user."""

    def __init__(self, state: GatewayState, inbox: Inbox) -> None:
        self._state, self._inbox = state, inbox

    async def erase(self, user_id: str) -> ErasureAnswer:
        """Commit a request and hide the user; an unknown user is not an error."""
        erasure_id = uuid.uuid4().hex
        commit = await self._inbox.append_erasure(self._state.tenant, erasure_id, user_id)
        self._state.hide(user_id)
        return ErasureAnswer(erasure_id=erasure_id, requested_time=commit.ingest_time)
