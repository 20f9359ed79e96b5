"""A receipt is pending while any place is, adds up what repeated passes did, and reads back."""

from datetime import UTC, datetime, timedelta

import pytest

from services.core.receipts import (
    DONE,
    PENDING,
    ErasedPlace,
    Receipt,
    added,
    from_json,
    settled,
    to_json,
)

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=30)


def receipt(*places, models=()):
    return Receipt(
        erasure_id="e-1",
        subject="00ff",
        requested_time=NOW,
        removed_time=NOW,
        places=places,
        predated_models=models,
    )


def test_a_receipt_is_pending_until_no_place_is():
    before = receipt(
        ErasedPlace(name="events", removed=3, pending="x"), ErasedPlace(name="backups", pending="x")
    )
    assert before.state == PENDING
    waiting = settled(before, {"backups": ("1 of before", LATER)}, NOW)
    assert (waiting.state, waiting.completed_time) == (PENDING, None)
    assert waiting.places == (
        ErasedPlace(name="events", removed=3),
        ErasedPlace(name="backups", pending="1 of before", gone_by=LATER),
    )
    after = settled(waiting, {}, LATER)
    assert (after.state, after.completed_time) == (DONE, LATER)


def test_two_passes_over_one_request_add_up():
    first = receipt(ErasedPlace(name="events", removed=3), models=("m1",))
    again = receipt(ErasedPlace(name="events", removed=1), models=("m1", "m2"))
    both = added(first, again)
    assert both.places == (ErasedPlace(name="events", removed=4),)
    assert both.predated_models == ("m1", "m2")


def test_a_receipt_reads_back_and_says_the_same_bytes():
    made = receipt(ErasedPlace(name="backups", removed=2, pending="why", gone_by=LATER))
    assert from_json(to_json(made)) == made
    assert to_json(from_json(to_json(made))) == to_json(made)
    with pytest.raises(ValueError, match="no receipt"):
        from_json("{}")
