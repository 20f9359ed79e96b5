"""What a backbone is tuned on beside the texts themselves.

Shape suffixes: N = texts, E = events, U = users.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from services.core.errors import InvalidArgument
from services.core.heads import part_of
from services.core.pooling import F64, I64
from services.training.tuning.config import TuneConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Histories:
    """Who had what when; events in time order."""

    user_ix_E: I64
    # Rows of the texts.
    text_ix_E: I64
    # Ordinals.
    period_E: I64
    # Last period that the events cover to its end.
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """What is known of texts; an objective reads its own part."""

    # One a text; empty where there is none.
    labels: tuple[str, ...] = ()
    # One a text; NaN where there is none.
    value_N: F64 = field(default_factory=lambda: np.zeros(0))
    histories: Histories | None = None

    def sha256(self, texts: Sequence[str]) -> str:
        """Return the hash of everything that tuning reads."""
        digest = hashlib.sha256()
        for names in (texts, self.labels):
            digest.update("\x1f".join(names).encode() + b"\x1e")
        arrays: list[NDArray[np.generic]] = [self.value_N]
        if (had := self.histories) is not None:
            arrays += [had.user_ix_E, had.text_ix_E, had.period_E, np.array([had.last])]
        for array in arrays:
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Rows of texts, ascending: to learn from, to stop by, to measure on. Equal texts go together."""

    train: I64
    stop: I64
    held_out: I64


def split_texts(texts: Sequence[str], is_usable_N: NDArray[np.bool_], config: TuneConfig) -> Parts:
    """Split the usable texts by their hash: the same on every machine, whatever else there is.

    Raises:
        InvalidArgument: a part is empty.
    """
    at_N = np.array([part_of(text, config.seed) for text in texts])
    is_held = at_N < config.held_out_share
    is_stop = ~is_held & (at_N < config.held_out_share + config.stop_share)
    parts = Parts(
        train=np.flatnonzero(is_usable_N & ~is_held & ~is_stop),
        stop=np.flatnonzero(is_usable_N & is_stop),
        held_out=np.flatnonzero(is_usable_N & is_held),
    )
    if not (len(parts.train) and len(parts.stop) and len(parts.held_out)):
        raise InvalidArgument(
            "items",
            f"{int(is_usable_N.sum())} texts are too few to learn from, stop by and measure on; "
            "import more items",
        )
    return parts
