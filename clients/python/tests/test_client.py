"""What the clients do on a real connection: retries, deadlines, splits, metadata, TLS."""

import json
import subprocess
import threading
import time
from datetime import datetime, timezone

import grpc
import pytest

import driftline
from driftline import (
    AsyncClient,
    Client,
    ClientOptions,
    Deadlines,
    Event,
    Item,
    Retries,
    Tls,
)
from driftline._stubs import Stubs
from driftline.options import service_config
from driftline.v1 import (
    event_service_pb2,
    interest_service_pb2,
    model_service_pb2,
    privacy_service_pb2,
)

NOON = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)
FAST = ClientOptions(retries=Retries(first_wait_s=0.01, longest_wait_s=0.05))


def event(**changes):
    return Event(**{"user_id": "u", "item_id": "i", "kind": "click", "event_time": NOON, **changes})


def stored(name, request, context):
    return event_service_pb2.RecordEventsResponse(event_count=len(request.events))


def failing_first(times, code, reply):
    """A script that fails some times, then answers."""
    left = [times]

    def script(name, request, context):
        if left[0]:
            left[0] -= 1
            context.abort(code, "not now")
        return reply(name, request, context)

    return script


def test_every_service_is_retried():
    [retried] = json.loads(service_config(Retries()))["methodConfig"]
    with grpc.insecure_channel("127.0.0.1:1") as channel:
        called = {f"driftline.v1.{name}Service" for name in Stubs(channel)._of}
    assert {one["service"] for one in retried["name"]} == called


def test_a_write_is_retried_with_the_same_event_ids(serve):
    server = serve(failing_first(2, grpc.StatusCode.UNAVAILABLE, stored))
    with Client(server.target, FAST) as client:
        assert client.record_events([event(), event()]).count == 2
    ids = [[one.event_id for one in request.events] for _, request in server.seen]
    assert len(ids) == 3
    assert ids[0] == ids[1] == ids[2]
    assert len(set(ids[0])) == 2


async def test_asyncio_calls_are_retried_too(serve):
    server = serve(failing_first(2, grpc.StatusCode.UNAVAILABLE, stored))
    async with AsyncClient(server.target, FAST) as client:
        assert (await client.record_events([event()])).count == 1
    assert len(server.seen) == 3


def test_a_large_write_is_retried_too(serve):
    # gRPC gives up retries of requests above 256 KiB unless told otherwise.
    def reply(name, request, context):
        return event_service_pb2.UpsertItemsResponse(item_count=len(request.items))

    server = serve(failing_first(1, grpc.StatusCode.UNAVAILABLE, reply))
    with Client(server.target, FAST) as client:
        items = [Item(item_id=str(i), text="x" * 16_000) for i in range(100)]
        assert client.upsert_items(items).count == 100
    assert [len(request.items) for _, request in server.seen] == [100, 100]


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.ALREADY_EXISTS,
    ],
)
def test_what_the_server_answered_is_not_retried(serve, code):
    server = serve(failing_first(1, code, stored))
    with Client(server.target, FAST) as client, pytest.raises(driftline.DriftlineError) as caught:
        client.record_events([event()])
    assert caught.value.code == code.name
    assert len(server.seen) == 1


def test_a_call_that_was_refused_unseen_is_tried_again(serve):
    # As gRPC's own limit of waiting calls ends them: CANCELLED, without details.
    server = serve(failing_first(2, grpc.StatusCode.CANCELLED, stored))
    with Client(server.target, FAST) as client:
        assert client.record_events([event()]).count == 1
    assert len(server.seen) == 3


def test_a_refusal_of_everything_is_an_overload_and_spends_the_budget_of_retries_once(serve):
    server = serve(failing_first(10_000, grpc.StatusCode.CANCELLED, stored))
    with Client(server.target, FAST) as client:
        for _ in range(150):
            with pytest.raises(
                driftline.OverloadedError, match="more calls than it can answer"
            ) as caught:
                client.record_events([event()])
            assert (caught.value.code, caught.value.is_retryable) == ("CANCELLED", True)
    # A hundred tokens, retries down to the fifty-first: no storm.
    assert 150 < len(server.seen) <= 150 + 50


def test_a_call_that_the_client_gave_up_is_no_overload(serve):
    release = threading.Event()
    server = serve(lambda name, request, context: release.wait(30))
    client, failures = Client(server.target, FAST), []

    def call():
        try:
            client.record_events([event()])
        except driftline.DriftlineError as error:
            failures.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    while not server.seen:
        time.sleep(0.001)
    client.close()
    thread.join(30)
    release.set()
    assert [type(failure) for failure in failures] == [driftline.DriftlineError]


def test_retries_end(serve):
    server = serve(failing_first(99, grpc.StatusCode.UNAVAILABLE, stored))
    with Client(server.target, FAST) as client, pytest.raises(driftline.UnavailableError):
        client.record_events([event()])
    assert len(server.seen) == 4


def test_one_attempt_means_no_retry(serve):
    server = serve(failing_first(99, grpc.StatusCode.UNAVAILABLE, stored))
    options = ClientOptions(retries=Retries(attempts=1))
    with Client(server.target, options) as client, pytest.raises(driftline.UnavailableError):
        client.record_events([event()])
    assert len(server.seen) == 1


def test_no_server_is_unavailable():
    with Client("127.0.0.1:1", FAST) as client, pytest.raises(driftline.UnavailableError):
        client.get_interest("u")


async def test_deadlines_cut_a_slow_answer(serve):
    release = threading.Event()
    server = serve(lambda name, request, context: release.wait(5))
    slow = ClientOptions(deadlines=Deadlines(read_s=0.2))
    try:
        with Client(server.target, slow) as client:
            started = time.monotonic()
            with pytest.raises(driftline.DeadlineError):
                client.similar_items("i")
            with pytest.raises(driftline.DeadlineError):
                client.erase_user("u", timeout_s=0.1)
            assert time.monotonic() - started < 3
        async with AsyncClient(server.target, slow) as client:
            with pytest.raises(driftline.DeadlineError):
                await client.similar_items("i")
    finally:
        release.set()


def test_each_kind_of_call_has_its_deadline(serve):
    left = {}

    def script(name, request, context):
        is_past = "as_of" in request.DESCRIPTOR.fields_by_name and request.HasField("as_of")
        left[name.rsplit("/")[-1], is_past] = context.time_remaining()
        context.abort(grpc.StatusCode.NOT_FOUND, "nothing")

    server = serve(script)
    options = ClientOptions(deadlines=Deadlines(read_s=20, write_s=40, history_s=60))
    with Client(server.target, options) as client:
        for call in (
            lambda: client.get_interest("u"),
            lambda: client.get_interest("u", as_of=NOON),
            lambda: client.get_trajectory("u", limit=None),
            lambda: client.erase_user("u"),
        ):
            with pytest.raises(driftline.NotFoundError):
                call()
    assert left["GetInterest", False] == pytest.approx(20, abs=5)
    assert left["GetInterest", True] == pytest.approx(60, abs=5)
    assert left["GetTrajectory", False] == pytest.approx(60, abs=5)
    assert left["EraseUser", False] == pytest.approx(40, abs=5)


def test_long_lists_of_events_are_split_in_order(serve):
    server = serve(stored)
    events = [event(event_id=str(i)) for i in range(2001)]
    with Client(server.target) as client:
        assert client.record_events(iter(events)).count == 2001
    assert [len(request.events) for _, request in server.seen] == [1000, 1000, 1]
    sent = [one.event_id for _, request in server.seen for one in request.events]
    assert sent == [str(i) for i in range(2001)]


def test_writes_are_split_by_size_below_grpc_default_limit(serve):
    def script(name, request, context):
        return event_service_pb2.UpsertItemsResponse(item_count=len(request.items))

    server = serve(script)  # with gRPC's own limit of 4 MiB
    items = [Item(item_id=str(i), text="é" * 8_000) for i in range(600)]
    with Client(server.target) as client:
        assert client.upsert_items(items).count == 600
    assert len(server.seen) > 1
    assert all(request.ByteSize() <= 3 << 20 for _, request in server.seen)


def test_a_failed_split_write_says_what_was_stored_before(serve):
    def script(name, request, context):
        if len(request.events) < 1000:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        return stored(name, request, context)

    server = serve(script)
    with Client(server.target) as client, pytest.raises(driftline.OverloadedError) as caught:
        client.record_events(event() for _ in range(1500))
    assert caught.value.committed_count == 1000


async def test_batches_of_users_are_split_at_500(serve):
    def script(name, request, context):
        return interest_service_pb2.BatchGetInterestsResponse(missing_user_ids=request.user_ids)

    server = serve(script)
    ids = [str(i) for i in range(1200)]
    async with AsyncClient(server.target) as client:
        batch = await client.get_interests([*ids, "7"])
    assert [len(request.user_ids) for _, request in server.seen] == [500, 500, 200]
    assert batch.missing_user_ids == tuple(ids)


def test_a_limit_of_models_stops_paging(serve):
    def script(name, request, context):
        names = [f"m{request.page_token}{i}" for i in range(2)]
        models = [model_service_pb2.Model(model_version=one) for one in names]
        return model_service_pb2.ListModelsResponse(models=models, next_page_token="x")

    server = serve(script)
    with Client(server.target) as client:
        found = client.list_models(limit=3)
    assert [one.model_version for one in found] == ["m0", "m1", "mx0"]
    assert [request.page_size for _, request in server.seen] == [3, 1]


def test_answers_above_grpc_default_size_arrive(serve):
    def script(name, request, context):
        return privacy_service_pb2.EraseUserResponse(erasure_id="x" * (5 << 20))

    server = serve(script)
    with Client(server.target) as client:
        assert len(client.erase_user("u").erasure_id) == 5 << 20
    with (
        Client(server.target, ClientOptions(max_message_bytes=1 << 20)) as client,
        pytest.raises(driftline.OverloadedError),
    ):
        client.erase_user("u")


def test_every_call_carries_who_asks(serve):
    server = serve(stored)
    turns = iter(("t1", "t2"))
    options = ClientOptions(
        api_key="secret",
        metadata=lambda: [("x-request-id", next(turns))],
        user_agent="shop/1.4",
    )
    with Client(server.target, options) as client:
        client.record_events([event()])
        client.record_events([event()])
    assert [m["x-request-id"] for m in server.metadata] == ["t1", "t2"]
    assert server.metadata[0]["authorization"] == "Bearer secret"
    assert server.metadata[0]["user-agent"].startswith("shop/1.4 driftline-python/")
    assert "secret" not in repr(options)


async def test_a_token_is_asked_for_before_each_call_and_is_in_no_repr(serve):
    server = serve(stored)
    turns = iter(("first-token", "second-token", "third-token"))
    options = ClientOptions(token=lambda: next(turns))
    with Client(server.target, options) as client:
        client.record_events([event()])
        client.record_events([event()])
    async with AsyncClient(server.target, options) as client:
        await client.record_events([event()])
    assert [m["authorization"] for m in server.metadata] == [
        "Bearer first-token",
        "Bearer second-token",
        "Bearer third-token",
    ]
    fixed = ClientOptions(token="my-token", api_key=None, tls=Tls(key=b"my-private-key"))
    assert "my-token" not in repr(fixed)
    assert "my-private-key" not in repr(fixed)
    with pytest.raises(ValueError, match="one of them"):
        Client(server.target, ClientOptions(token="t", api_key="k"))
    with pytest.raises(ValueError, match="token: would travel"):
        Client("gateway.example:443", ClientOptions(token="t"))


def test_an_api_key_does_not_leave_the_machine_in_plain_text():
    with pytest.raises(ValueError, match="plain text"):
        Client("gateway.example:443", ClientOptions(api_key="secret"))
    Client("gateway.example:443", ClientOptions(api_key="secret", tls=Tls())).close()
    for local in ("localhost:1", "127.0.0.1:1", "[::1]:1", "dns:///localhost:1", "unix:/tmp/x"):
        Client(local, ClientOptions(api_key="secret")).close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A self-signed certificate for a name that is not the target's."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", "/CN=gateway.test", "-addext", "subjectAltName=DNS:gateway.test",
         "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder / "cert.pem", folder / "key.pem"


async def test_tls_with_own_authority_and_client_certificate(serve, authority):
    cert, key = authority
    pair = [(key.read_bytes(), cert.read_bytes())]
    credentials = grpc.ssl_server_credentials(pair, cert.read_bytes(), require_client_auth=True)
    server = serve(stored, credentials)
    tls = Tls(ca=cert, cert=cert, key=key.read_bytes(), server_name="gateway.test")
    options = ClientOptions(tls=tls, api_key="secret")
    with Client(server.target, options) as client:
        assert client.record_events([event()]).count == 1
    async with AsyncClient(server.target, options) as client:
        assert (await client.record_events([event()])).count == 1
    stranger = ClientOptions(tls=Tls(server_name="gateway.test"), retries=Retries(attempts=1))
    with Client(server.target, stranger) as client, pytest.raises(driftline.UnavailableError):
        client.record_events([event()])


def test_options_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="cert and key"):
        Client("h:1", ClientOptions(tls=Tls(cert=b"x")))
    with pytest.raises(ValueError, match="1 to 5"):
        Client("h:1", ClientOptions(retries=Retries(attempts=9)))


def test_threads_share_a_client(serve):
    server = serve(stored)
    counts = []
    with Client(server.target) as client:
        threads = [
            threading.Thread(target=lambda: counts.append(client.record_events([event()]).count))
            for _ in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert counts == [1] * 20


def test_arguments_that_do_not_fit_the_wire_are_named():
    with Client("127.0.0.1:1") as client:
        with pytest.raises(driftline.InvalidArgumentError, match="user_id") as caught:
            client.get_interest(42)
        assert caught.value.field == "user_id"
        with pytest.raises(driftline.InvalidArgumentError) as caught:
            client.recommend("u", page_size=1 << 40)
        assert caught.value.field == "page_size"
        with pytest.raises(driftline.InvalidArgumentError) as caught:
            client.recommend("u", categories="food")
        assert caught.value.field == "categories"
        with pytest.raises(driftline.InvalidArgumentError) as caught:
            client.record_events([event(), event(value="much")])
        assert caught.value.field == "events[1].value"
        with pytest.raises(driftline.InvalidArgumentError) as caught:
            client.record_events([event(event_time="2026-11-24")])
        assert caught.value.field == "events[0].event_time"


def test_a_zone_other_than_utc_is_the_same_instant(serve):
    from datetime import timedelta

    server = serve(stored)
    tokyo = timezone(timedelta(hours=9))
    with Client(server.target) as client:
        client.record_events([event(event_time=datetime(2026, 11, 24, 21, tzinfo=tokyo))])
    assert server.seen[0][1].events[0].event_time.ToDatetime(timezone.utc) == NOON
