"""What an erasure did, place by place: a receipt names the request, never the user."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

PENDING, DONE = "PENDING", "DONE"


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasedPlace:
    """What an erasure did in one place."""

    # Such as "events".
    name: str
    # Rows that were removed.
    removed: int = 0
    # Why bytes may still lie there; empty where they are gone.
    pending: str = ""
    # When they are gone at the latest, where that is known.
    gone_by: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What an erasure did so far."""

    erasure_id: str
    # Salted hash of the user's id: who has the store and the id can tell that they belong together.
    subject: str
    # Events up to this instant are erased.
    requested_time: datetime
    # When the rows were removed.
    removed_time: datetime
    # When the last bytes were found gone; None before.
    completed_time: datetime | None = None
    places: tuple[ErasedPlace, ...] = ()
    # Versions of the models that had learned from the user.
    predated_models: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        """DONE once nothing is left anywhere, else PENDING."""
        return PENDING if any(place.pending for place in self.places) else DONE


def settled(
    receipt: Receipt, left: Mapping[str, tuple[str, datetime | None]], now: datetime
) -> Receipt:
    """Return a receipt after another look at the bytes.

    Args:
        receipt: as it was.
        left: place -> why bytes may still lie there, and until when; places that are clean are
            left out.
        now: becomes the time of completion where nothing is left.
    """
    places = tuple(
        replace(
            place,
            pending=left.get(place.name, ("", None))[0],
            gone_by=left.get(place.name, ("", None))[1],
        )
        for place in receipt.places
    )
    after = replace(receipt, places=places)
    return replace(after, completed_time=now if after.state == DONE else None)


def added(before: Receipt, again: Receipt) -> Receipt:
    """Return what two passes over one request did together: a pass that was cut is made again."""
    counts = {place.name: place.removed for place in before.places}
    places = tuple(
        replace(place, removed=place.removed + counts.get(place.name, 0)) for place in again.places
    )
    models = tuple(dict.fromkeys((*before.predated_models, *again.predated_models)))
    return replace(again, places=places, predated_models=models)


def to_json(receipt: Receipt) -> str:
    """Return a receipt as JSON, the same bytes for the same receipt: this is what is signed."""
    values = {
        "erasure_id": receipt.erasure_id,
        "subject": receipt.subject,
        "state": receipt.state,
        "requested_time": receipt.requested_time.isoformat(),
        "removed_time": receipt.removed_time.isoformat(),
        "completed_time": _text(receipt.completed_time),
        "places": [
            {
                "name": place.name,
                "removed": place.removed,
                "pending": place.pending,
                "gone_by": _text(place.gone_by),
            }
            for place in receipt.places
        ],
        "predated_models": list(receipt.predated_models),
    }
    return json.dumps(values, sort_keys=True, separators=(",", ":"))


def from_json(text: str) -> Receipt:
    """Return the receipt that to_json made text of.

    Raises:
        ValueError: it is no receipt.
    """
    try:
        values: dict[str, Any] = json.loads(text)
        return Receipt(
            erasure_id=values["erasure_id"],
            subject=values["subject"],
            requested_time=datetime.fromisoformat(values["requested_time"]).astimezone(UTC),
            removed_time=datetime.fromisoformat(values["removed_time"]).astimezone(UTC),
            completed_time=_time(values["completed_time"]),
            places=tuple(
                ErasedPlace(**{**place, "gone_by": _time(place["gone_by"])})
                for place in values["places"]
            ),
            predated_models=tuple(values["predated_models"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"no receipt: {error}") from error


def _text(time: datetime | None) -> str | None:
    return time.isoformat() if time else None


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text).astimezone(UTC) if text else None
