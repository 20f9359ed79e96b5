"""A live server asks who calls before anything else, and its log knows no secret."""

import asyncio
import urllib.request
from datetime import UTC, datetime

import grpc
import pytest
from driftline import AsyncClient, Client, ClientOptions, Tls
from driftline.errors import AccessDeniedError, OverloadedError, UserNotFoundError
from driftline.v1 import interest_service_pb2 as pb
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from services.core.access import Scope
from services.core.errors import UserNotFound
from services.runtime.metrics import Metrics
from services.runtime.server import Service, serving
from services.runtime.settings import Settings
from services.store.api_keys import KeyFile
from tests.runtime.scripted import Scripted, call, free_port, running, until
from tests.runtime.test_server import Authority
from tests.runtime.test_tokens import Issuer

NOW = datetime(2026, 11, 24, tzinfo=UTC)
READ, WRITE = frozenset({Scope.READ}), frozenset({Scope.WRITE})


@pytest.fixture
def keys(tmp_path):
    return KeyFile(tmp_path / "keys.json")


def made(keys, scopes=READ, **changes):
    given = {"tenant": "default", "name": "test", "now": NOW, "scopes": scopes}
    return keys.create(**(given | changes))


def bearer(secret: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {secret}"),)


def guarded(tmp_path, **settings):
    return running(
        **({"keys_file": tmp_path / "keys.json", "auth": "required", "poll_s": 0.05} | settings)
    )


async def refused(channel, user_id="u", **options):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(channel, user_id, **options)
    info = ErrorInfo()
    rpc_status.from_call(caught.value).details[0].Unpack(info)
    return caught.value.code().name, info.reason, caught.value.details(), dict(info.metadata)


async def test_a_good_key_is_let_in_and_its_line_names_key_and_tenant(tmp_path, keys):
    key = made(keys)
    async with guarded(tmp_path) as server, server.channel() as channel:
        await call(channel, metadata=bearer(key.secret))
        lines, text = server.log_lines(), server.log_text()
    (line,) = [line for line in lines if line["event"] == "rpc"]
    assert (line["tenant"], line["key_id"], line["code"]) == ("default", key.row.key_id, "OK")
    assert key.secret[21:] not in text


async def test_whoever_shows_nothing_good_is_refused_alike_and_before_the_request_is_read(
    tmp_path, keys
):
    key = made(keys)
    wrong = key.secret[:-4] + "AAAA"
    told = set()
    async with guarded(tmp_path) as server, server.channel() as channel:
        for metadata in (
            bearer(wrong),
            bearer("dlk_" + "0" * 16 + key.secret[20:]),
            bearer("a.b.c"),
            bearer(""),
            (("authorization", key.secret),),
            (("authorization", f"Basic {key.secret}"),),
        ):
            # An empty user is INVALID_ARGUMENT to those who may ask.
            told.add(str(await refused(channel, "", metadata=metadata)))
        nothing = await refused(channel, "")
        twice = await refused(channel, metadata=bearer(key.secret) + bearer(wrong))
        text, seen = server.log_text(), server.handler.seen
    assert len(told) == 1
    assert "unknown, expired or revoked" in told.pop()
    assert nothing[:2] == ("UNAUTHENTICATED", "ERROR_REASON_UNAUTHENTICATED")
    assert "authorization: Bearer" in nothing[2]
    assert twice == nothing
    assert seen == []
    assert key.secret[21:-4] not in text


async def test_a_key_without_the_scope_is_refused_before_existence(tmp_path, keys):
    async def nobody(request):
        raise UserNotFound(request.user_id)

    writer, reader = made(keys, WRITE), made(keys)
    async with (
        running(nobody, keys_file=tmp_path / "keys.json") as server,
        server.channel() as channel,
    ):
        told = [await refused(channel, user, metadata=bearer(writer.secret)) for user in "abc"]
        found = await refused(channel, metadata=bearer(reader.secret))
        seen = server.handler.seen
    assert {str(one) for one in told} == {str(told[0])}
    assert told[0][:2] == ("PERMISSION_DENIED", "ERROR_REASON_PERMISSION_DENIED")
    assert told[0][3] == {"scope": "read"}
    assert found[0] == "NOT_FOUND"
    assert seen == ["u"]


async def test_health_is_open_and_reflection_is_not(tmp_path, keys):
    key = made(keys)
    async with guarded(tmp_path) as server, server.channel() as channel:
        reply = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)

        async def listed(**options):
            asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
            return [reply async for reply in stub.ServerReflectionInfo(asked, **options)]

        assert len(await listed(metadata=bearer(key.secret))) == 1
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await listed()
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_keys_made_and_revoked_while_it_runs_count_within_a_look(tmp_path, keys):
    async with guarded(tmp_path) as server, server.channel() as channel:
        # None yet: nobody is let in, and the log says what to do.
        assert "keys create" in server.log_text()
        key = made(keys)

        async def code() -> str:
            try:
                await call(channel, metadata=bearer(key.secret))
            except grpc.aio.AioRpcError as error:
                return error.code().name
            return "OK"

        async def becomes(wanted: str) -> None:
            async with asyncio.timeout(5):
                while await code() != wanted:
                    await asyncio.sleep(0.02)

        await becomes("OK")
        keys.revoke(key.row.key_id, now=NOW)
        await becomes("UNAUTHENTICATED")


async def test_a_token_of_the_named_issuer_is_let_in(tmp_path):
    issuer = Issuer()
    (tmp_path / "jwks.json").write_bytes(issuer.key_set())
    async with (
        running(
            jwt_key_set=str(tmp_path / "jwks.json"),
            jwt_issuer="https://id.example",
            jwt_audience="driftline",
        ) as server,
        server.channel() as channel,
    ):
        good = issuer.token(tenant="default", exp=datetime.now(UTC).timestamp() + 60)
        await call(channel, metadata=bearer(good))
        late = issuer.token(tenant="default", exp=datetime.now(UTC).timestamp() - 60)
        stranger = issuer.token(tenant="nobody", exp=datetime.now(UTC).timestamp() + 60)
        for token in (late, stranger, Issuer().token()):
            assert (await refused(channel, metadata=bearer(token)))[0] == "UNAUTHENTICATED"
        text = server.log_text()
    assert good.split(".")[1] not in text


async def test_a_rate_is_refused_early_and_says_when_to_come_back(tmp_path, keys):
    key = made(keys, calls_per_s=1.0)
    async with guarded(tmp_path) as server, server.channel() as channel:
        for _ in range(2):
            await call(channel, metadata=bearer(key.secret))
        code, reason, _, metadata = await refused(channel, metadata=bearer(key.secret))
        assert (code, reason) == ("RESOURCE_EXHAUSTED", "ERROR_REASON_OVERLOADED")
        assert metadata == {"limit": "1 calls a second by one key"}
        options = ClientOptions(api_key=key.secret)
        async with AsyncClient(f"localhost:{server.port}", options) as client:
            with pytest.raises(OverloadedError) as caught:
                await client.get_interest("u")
        assert 0 < caught.value.retry_after_s <= 1
        assert len(server.handler.seen) == 2


async def test_one_keys_calls_at_once_leave_places_for_another(tmp_path, keys):
    blocked = asyncio.Event()

    async def wait(request):
        if request.user_id == "slow":
            await blocked.wait()
        return pb.GetInterestResponse()

    greedy, other = made(keys, max_concurrent_calls=2), made(keys)
    path = tmp_path / "keys.json"
    async with running(wait, keys_file=path) as server, server.channel() as channel:
        held = [
            asyncio.create_task(call(channel, "slow", metadata=bearer(greedy.secret)))
            for _ in range(2)
        ]
        await until(lambda: len(server.handler.seen) == 2)
        assert (await refused(channel, metadata=bearer(greedy.secret)))[0] == "RESOURCE_EXHAUSTED"
        await call(channel, metadata=bearer(other.secret))
        blocked.set()
        await asyncio.gather(*held)
        await call(channel, metadata=bearer(greedy.secret))


async def test_metrics_tell_tenants_apart_and_those_who_were_not_let_in(tmp_path, keys):
    key = made(keys)
    async with (
        guarded(tmp_path, metrics_port=free_port()) as server,
        server.channel() as channel,
    ):
        await call(channel, metadata=bearer(key.secret))
        await refused(channel)
        url = f"http://127.0.0.1:{server.metrics_port}/metrics"
        text = await asyncio.to_thread(lambda: urllib.request.urlopen(url).read().decode())
    method = 'method="driftline.v1.InterestService/GetInterest"'
    assert f'driftline_rpc_calls_total{{code="OK",{method},tenant="default"}}' in text
    assert f'driftline_rpc_calls_total{{code="UNAUTHENTICATED",{method},tenant=""}}' in text
    assert key.row.key_id not in text


async def test_the_sdk_brings_key_and_certificate_over_mutual_tls(tmp_path, keys):
    authority = Authority(tmp_path)
    (cert, private), (own_cert, own_key) = authority.issue("server"), authority.issue("client")
    reader, writer = made(keys), made(keys, WRITE)
    tls = Tls(ca=authority.path, cert=own_cert, key=own_key)
    async with guarded(
        tmp_path, tls_cert=cert, tls_key=private, tls_client_ca=authority.path
    ) as server:
        target = f"localhost:{server.port}"

        def blocking() -> None:
            with Client(target, ClientOptions(tls=tls, api_key=reader.secret)) as client:
                client.get_interest("u")
            with (
                Client(target, ClientOptions(tls=tls, token=lambda: writer.secret)) as client,
                pytest.raises(AccessDeniedError) as caught,
            ):
                client.get_interest("u")
            assert caught.value.reason == "PERMISSION_DENIED"

        await asyncio.to_thread(blocking)
        options = ClientOptions(tls=tls, token=reader.secret)
        async with AsyncClient(target, options) as client:
            await client.get_interest("u")
        assert reader.secret not in repr(options)
        async with AsyncClient(target, ClientOptions(tls=tls)) as client:
            with pytest.raises(AccessDeniedError) as caught:
                await client.get_interest("u")
            assert caught.value.reason == "UNAUTHENTICATED"


async def test_a_damaged_file_of_keys_stops_the_start(tmp_path):
    (tmp_path / "keys.json").write_text("{")
    with pytest.raises(SystemExit, match=r"DRIFTLINE_AUTH.*damaged"):
        async with guarded(tmp_path):
            pass


async def test_on_loopback_without_keys_everyone_is_let_in(tmp_path):
    async with running(keys_file=tmp_path / "keys.json") as server, server.channel() as channel:
        await call(channel)


async def test_an_rpc_without_a_scope_is_not_served():
    class Unlisted(Scripted):
        def service(self) -> Service:
            def register(server):
                handler = grpc.unary_unary_rpc_method_handler(self.GetInterest)
                server.add_registered_method_handlers("driftline.v1.NewService", {"Do": handler})

            return Service(full_name="driftline.v1.InterestService", register=register)

    with pytest.raises(LookupError, match="NewService/Do has no scope"):
        async with serving(Settings(port=0, metrics_port=0), [Unlisted().service()], Metrics()):
            pass


async def test_nobody_elses_existence_can_be_told_from_a_missing_users_error(tmp_path, keys):
    """Kept here as well: what the core raises names only what the caller sent."""

    async def nobody(request):
        raise UserNotFound(request.user_id)

    key = made(keys)
    async with running(nobody, keys_file=tmp_path / "keys.json") as server:
        options = ClientOptions(api_key=key.secret)
        async with AsyncClient(f"localhost:{server.port}", options) as client:
            with pytest.raises(UserNotFoundError) as caught:
                await client.get_interest("u")
    assert caught.value.metadata == {"user_id": "u"}
