"""What the privacy calls return."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Erasure:
    """An erasure that was committed."""

    # Names it in logs and in `driftline status`.
    erasure_id: str
    # Events before this instant are erased.
    requested_time: datetime | None


class ErasureState(Enum):
    """How far an erasure is."""

    # Bytes may still lie somewhere; readers refuse the user meanwhile.
    PENDING = "pending"
    DONE = "done"


@dataclass(frozen=True, kw_only=True)
class ErasedPlace:
    """What an erasure did in one place."""

    # Such as "events".
    name: str
    removed_count: int
    state: ErasureState
    # Why bytes may still lie there; empty where they are gone.
    pending_reason: str = ""
    # When they are gone at the latest, where that is known.
    gone_by_time: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class ErasureReceipt:
    """What an erasure did so far. It never names the user."""

    erasure_id: str
    state: ErasureState
    requested_time: datetime | None
    # When the rows were removed; None before.
    removed_time: datetime | None
    # When the last bytes were found gone; None before.
    completed_time: datetime | None
    # Every place that was looked at; none before the rows were removed.
    places: tuple[ErasedPlace, ...]
    # Models that had learned from the user.
    predated_model_count: int
    # What is signed, the Ed25519 signature of its UTF-8, and the key's name; empty before.
    signed_json: str
    signature: bytes
    key_id: str


@dataclass(frozen=True, kw_only=True)
class UserRecord:
    """One thing that is held about a user."""

    # Where it lies, such as "events".
    source: str
    # When it was made or happened, where that is known.
    time: datetime | None
    # JSON values; vectors stand beside the id of their space.
    content: dict[str, Any]
