"""Work in pieces of a size: what is large is cut, what is small is laid together."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

Work = TypeVar("Work")


@dataclass(frozen=True, slots=True, kw_only=True)
class Share(Generic[Work]):
    """Units `start` to `stop` of a work, in a chunk with others."""

    of: Work
    start: int
    stop: int
    # No unit of the work comes after them.
    is_last: bool


def chunks(
    works: Iterable[Work], units: Callable[[Work], int], size: int
) -> Iterator[list[Share[Work]]]:
    """Yield chunks of at most `size` units; works are asked for as they are needed.

    Args:
        works: in the order to do them; one without units has a share all the same.
        units: how many a work has.
        size: at least 1.
    """
    chunk: list[Share[Work]] = []
    room = size
    for work in works:
        start, count, is_last = 0, units(work), False
        while not is_last:
            stop = min(start + room, count)
            is_last = stop == count
            chunk.append(Share(of=work, start=start, stop=stop, is_last=is_last))
            start, room = stop, room - (stop - start)
            if not room:
                yield chunk
                chunk, room = [], size
    if chunk:
        yield chunk
