"""Takes in the one request of a call, when it is due and for so long: bytes that come late are no reason to wait."""

import asyncio
from typing import TYPE_CHECKING, Any

import grpc

from services.core.errors import InvalidArgument
from services.runtime.errors import DeadlinePassed

if TYPE_CHECKING:  # generic in its stubs only
    Context = grpc.aio.ServicerContext[Any, Any]

# A call that gRPC itself ended (its message was too large, its caller left) is cancelled well within this.
_ENDED_S = 1.0
# A loop that was held up finds the request and the end of its time at once; the request takes some turns to be read.
_TURNS = 5


async def received(context: "Context", method: str, longest_s: float) -> bytes:
    """Return the request's bytes.

    Args:
        context: of a call that is handled as a stream of requests without a deserializer.
        method: its name.
        longest_s: how long the request may take to come in, seconds.

    Raises:
        DeadlinePassed: it took longer.
        InvalidArgument: the caller sent none.
    """
    remaining_s = context.time_remaining()
    if remaining_s is not None and remaining_s <= longest_s:
        # gRPC itself cancels a call at its client's deadline.
        data: Any = await context.read()
    else:
        # In a task of its own, which is left to end with the call: gRPC writes into what a read holds.
        reading: asyncio.Future[Any] = asyncio.ensure_future(context.read())
        reading.add_done_callback(_look)
        await asyncio.wait({reading}, timeout=longest_s)
        for _ in range(_TURNS):
            if not reading.done():
                await asyncio.sleep(0)
        if not reading.done():
            raise DeadlinePassed(f"{method}: the request", longest_s)
        data = reading.result()
    if data is grpc.aio.EOF:
        await asyncio.sleep(_ENDED_S)
        raise InvalidArgument("request", "did not come; a call sends one")
    assert isinstance(data, bytes)
    return data


def _look(reading: "asyncio.Future[Any]") -> None:
    """Take note of how a read ended that nobody waits for any more."""
    if not reading.cancelled():
        reading.exception()
