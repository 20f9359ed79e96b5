"""What the fakes have beyond the clients' methods."""

from datetime import datetime, timezone

import pytest

from driftline import (
    Client,
    Event,
    EventKind,
    InvalidArgumentError,
    OverloadedError,
    SpaceMismatchError,
    UserNotFoundError,
    cosine,
)
from driftline.testing import AsyncFakeClient, FakeClient

NOW = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)


def test_code_that_takes_a_client_takes_a_fake():
    with FakeClient() as client:
        assert isinstance(client, Client)


def test_recorded_events_can_be_looked_at_and_count_once():
    client = FakeClient(now=NOW)
    event = Event(user_id="u", item_id="i", kind="purchase", value=2.0, event_time=NOW)
    client.record_events([event])
    client.record_events([event])
    assert client.events == (event,)
    assert client.events[0].kind is EventKind.PURCHASE
    assert client.calls == ("driftline.v1.EventService/RecordEvents",) * 2


def test_an_erased_user_is_unknown():
    client = FakeClient(now=NOW)
    client.put_interest("u", [1.0], period="2026-W47")
    client.put_interest("v", [1.0], period="2026-W47")
    client.put_forecast("u", {"2026-W48": [1.0]})
    client.put_profile("u", [("food", 1.0, 1.0)])
    client.record_events([Event(user_id="u", item_id="i", kind="like", event_time=NOW)])
    client.erase_user("u")
    for read in (client.get_interest, client.get_trajectory, client.get_forecast):
        with pytest.raises(UserNotFoundError):
            read("u")
    with pytest.raises(UserNotFoundError):
        client.get_profile("u")
    assert client.events == ()
    assert client.get_interest("v").event_count == 1


async def test_a_failure_can_be_played_once():
    for client in (FakeClient(), AsyncFakeClient()):
        client.put_interest("u", [1.0], period="2026-W40")
        client.fail_next(OverloadedError("busy"), method="GetInterest")
        if isinstance(client, FakeClient):
            client.get_trajectory("u")
            with pytest.raises(OverloadedError):
                client.get_interest("u")
            client.get_interest("u")
        else:
            async with client:
                with pytest.raises(OverloadedError):
                    await client.get_interest("u")
                await client.get_interest("u")


def test_a_migration_can_be_played():
    client = FakeClient(space_id="a_1")
    client.put_interest("u", [1.0], period="2026-W40")
    before = client.get_interest("u").vector
    client.space_id = "b_1"
    client.put_interest("u", [1.0], period="2026-W41")
    with pytest.raises(SpaceMismatchError):
        cosine(before, client.get_interest("u").vector)


def test_what_cannot_be_is_not_put_in():
    client = FakeClient()
    with pytest.raises(InvalidArgumentError):
        client.put_interest("u", [1.0], period="2026-W60")
    with pytest.raises(InvalidArgumentError):
        client.put_forecast("u", {"2026-W48": [1.0]}, scale=[1.0, 2.0])
    with pytest.raises(InvalidArgumentError, match="no time zone"):
        FakeClient(now=datetime(2026, 11, 24))


def test_the_online_window_is_the_default_trajectory():
    client = FakeClient(now=NOW)
    for week in range(1, 41):
        client.put_interest("u", [float(week)], period=f"2026-W{week:02}")
    kept = client.get_trajectory("u")
    assert len(kept) == 26
    assert kept.periods[-1] == "2026-W40"
    everything = client.get_trajectory("u", limit=None)
    assert len(everything) == 40
    assert everything.to_array().tolist() == [[float(week)] for week in range(1, 41)]
