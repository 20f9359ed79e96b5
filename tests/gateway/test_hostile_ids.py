"""Ids are opaque: what looks like a path, a pattern, a format or a line end is stored as it is and does nothing."""

import re

import pytest
from driftline.v1 import event_service_pb2, interest_service_pb2, privacy_service_pb2
from hypothesis import given
from hypothesis import strategies as st

from services.core.errors import CoreError, InvalidArgument
from services.core.schema import DEFAULT_TENANT, Granularity
from services.gateway.translate.pages import before_from_token, trajectory_token
from services.store.erasures import ErasedUsers
from services.store.inbox import DeltaInbox
from services.store.layout import Layout
from services.store.tables import DeltaTables
from services.store.wire import entity_key, redis_key
from tests.gateway.test_events import event
from tests.gateway.world import World, refusal, serve

HOSTILE = (
    "../../etc/passwd", "/etc/passwd", "..", ".", "C:\\nul", "a/b\\c", "a\nb", "a\r\n\r\nHost: x", "\x1b[2J",
    "a\tb", "a\x00b", "%s%n%x", "{0.__class__.__mro__}", "${jndi:ldap://x/y}", "$(touch pwned)", "`id`",
    "'; DROP TABLE events; --", "\" OR 1=1", "(a+)+$", "*", "?", "[a-z]", "<script>", "\u202egnp.exe",
    "\ufeffu", "null", "None", "NaN", "0", "-1", "user_id", "__proto__", " ", "ü" * 128,
)  # fmt: skip


async def test_hostile_ids_are_stored_as_they_are_and_name_no_file(tmp_path, capfd):
    layout = Layout(tmp_path / "data", 2)
    inbox = DeltaInbox(layout, "gateway-0")
    async with serve(World(inbox=inbox)) as world:
        events = [event(one, user_id=one, item_id=one) for one in HOSTILE]
        request = event_service_pb2.RecordEventsRequest(events=events)
        assert (await world.event_service.RecordEvents(request)).event_count == len(HOSTILE)
        messages = set()
        for one in HOSTILE:
            asked = interest_service_pb2.GetInterestRequest(user_id=one)
            told = await refusal(world.interest_service.GetInterest(asked))
            assert (told.code, told.metadata["user_id"]) == ("NOT_FOUND", one)
            messages.add(told.message)
            await world.privacy_service.EraseUser(privacy_service_pb2.EraseUserRequest(user_id=one))
    await inbox.close()
    # What is told to people is the same for all.
    assert len(messages) == 1
    stored = DeltaTables(layout).read_inbox(DEFAULT_TENANT, {}).events
    for column in ("event_id", "user_id", "item_id"):
        assert set(stored[column]) == set(HOSTILE)
    assert ErasedUsers(layout).users(DEFAULT_TENANT) == set(HOSTILE)
    names = [path.name for path in tmp_path.rglob("*")]
    plain = re.compile(r"[A-Za-z0-9_.-]+")
    assert [name for name in names if not plain.fullmatch(name)] == []
    assert not [one for one in HOSTILE if len(one) > 4 and one in "\n".join(names)]
    # A line of the log is a line: nothing that callers send is in it.
    logged = capfd.readouterr().out
    assert not [one for one in HOSTILE if len(one) > 5 and one in logged]


@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=40))
def test_two_users_or_two_tenants_never_share_a_key(one, other):
    try:
        keys = {
            redis_key(tenant, entity_key("user_id", user))
            for tenant in ("a", "ab", "b")
            for user in (one, other)
        }
    except UnicodeEncodeError:
        return
    assert len(keys) == 3 * len({one, other})


@pytest.mark.parametrize(
    "name", ["../up", "a/b", "", "A", "a-b", "a\n", "ü", "x" * 65, "a.b", "a\x00"]
)
def test_a_name_that_becomes_a_folder_has_a_pattern(tmp_path, name):
    layout = Layout(tmp_path / "data", 2)
    with pytest.raises(InvalidArgument):
        layout.tenant_dir(name)
    with pytest.raises(InvalidArgument):
        layout.make_tenant(name)
    if name != "a-b":
        with pytest.raises(InvalidArgument):
            layout.inbox_dir(DEFAULT_TENANT, name)
    for folder in (layout.index_dir, layout.vectors_dir, layout.offline_dir):
        with pytest.raises(InvalidArgument):
            folder(DEFAULT_TENANT, name if len(name) < 65 else 2 * name)
    assert not (tmp_path / "up").exists()


@given(st.text(max_size=64))
def test_a_page_token_is_ours_or_refused(token):
    try:
        before = before_from_token(token, Granularity.WEEK)
    except CoreError:
        return
    assert (
        before is None
        or before_from_token(trajectory_token(Granularity.WEEK, before), Granularity.WEEK) == before
    )
