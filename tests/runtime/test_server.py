"""Listening, TLS, health, reflection, metrics, drain."""

import asyncio
import datetime as dt
import ipaddress
import socket
import urllib.request
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from driftline.v1 import interest_service_pb2 as pb
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.runtime.metrics import Metrics
from services.runtime.server import check_listening_is_safe, is_loopback, serving, told_insecure
from services.runtime.settings import Settings
from tests.runtime.scripted import call, free_port, running, until

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def test_health_names_every_service():
    async with running() as server, server.channel() as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", "driftline.v1.InterestService"):
            reply = await health.Check(health_pb2.HealthCheckRequest(service=name))
            assert reply.status == SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health.Check(health_pb2.HealthCheckRequest(service="driftline.v1.Nothing"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_health_and_reflection_pass_where_calls_are_refused():
    blocked = asyncio.Event()

    async def wait(request):
        await blocked.wait()
        return pb.GetInterestResponse()

    async with running(wait, max_concurrent_calls=1) as server, server.channel() as channel:
        held = asyncio.create_task(call(channel))
        await until(lambda: len(server.handler.seen) == 1)
        reply = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert reply.status == SERVING
        blocked.set()
        await held


async def test_reflection_lists_the_services_and_their_files():
    async with running() as server, server.channel() as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = reflection_pb2.ServerReflectionRequest
        stream = stub.ServerReflectionInfo(
            iter(
                [
                    asked(list_services=""),
                    asked(file_containing_symbol="driftline.v1.InterestService"),
                ]
            )
        )
        listed, found = [reply async for reply in stream]
    names = {service.name for service in listed.list_services_response.service}
    assert {"driftline.v1.InterestService", "grpc.health.v1.Health"} <= names
    assert found.file_descriptor_response.file_descriptor_proto


async def test_a_drain_answers_what_was_accepted_and_refuses_what_is_new():
    release = asyncio.Event()

    async def wait(request):
        await release.wait()
        return pb.GetInterestResponse()

    manager = running(wait, drain_s=10)
    server = await manager.__aenter__()
    async with server.channel() as channel, server.channel() as late:
        await late.channel_ready()
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        held = [asyncio.create_task(call(channel, f"u{i}")) for i in range(5)]
        await until(lambda: len(server.handler.seen) == 5)
        stopping = asyncio.create_task(manager.__aexit__(None, None, None))
        assert (await watch.read()).status == NOT_SERVING
        watch.cancel()
        await asyncio.sleep(0.1)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(late, timeout=2)
        assert refused.value.code() in {
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.CANCELLED,
        }
        assert not stopping.done()
        release.set()
        assert len(await asyncio.gather(*held)) == 5
        await asyncio.wait_for(stopping, 5)


async def test_a_stop_writes_the_lines_that_wait():
    async with running(log_every_s=3600) as server:
        async with server.channel() as channel:
            await call(channel)
        assert server.log_lines() == []
    assert [line["code"] for line in server.log_lines()] == ["OK"]


async def test_metrics_count_calls_by_method_and_code():
    async with running(metrics_port=free_port()) as server, server.channel() as channel:
        url = f"http://127.0.0.1:{server.metrics_port}/metrics"

        async def scrape() -> tuple[str, dict[str, float]]:
            text = await asyncio.to_thread(lambda: urllib.request.urlopen(url).read().decode())
            lines = [line.rsplit(" ", 1) for line in text.splitlines() if line[:1] != "#"]
            return text, {name: float(value) for name, value in lines}

        # Where Feast was imported before, it made prometheus_client share values between all
        # registries of a process: so the difference counts, not the value.
        await call(channel)
        with pytest.raises(grpc.aio.AioRpcError):
            await call(channel, "")
        _, before = await scrape()
        await call(channel)
        await call(channel)
        with pytest.raises(grpc.aio.AioRpcError):
            await call(channel, "")
        text, after = await scrape()
    method = 'method="driftline.v1.InterestService/GetInterest",tenant="default"'
    for name, count in {
        f'driftline_rpc_calls_total{{code="OK",{method}}}': 2,
        f'driftline_rpc_calls_total{{code="INVALID_ARGUMENT",{method}}}': 1,
        f"driftline_rpc_duration_seconds_count{{{method}}}": 3,
    }.items():
        assert after[name] - before[name] == count
    assert "driftline_rpc_in_flight 0.0" in text
    assert "process_cpu_seconds_total" in text


async def test_a_message_above_the_limit_is_refused():
    async with running(max_message_mib=1) as server, server.channel() as channel:
        raw = channel.unary_unary("/driftline.v1.InterestService/GetInterest")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await raw(b"x" * (2 << 20))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_port_belongs_to_one_process_unless_it_is_shared():
    async with running() as server:
        taken = Settings(port=server.port, metrics_port=0)
        with pytest.raises(SystemExit, match="DRIFTLINE_PORT"):
            async with serving(taken, [server.handler.service()], Metrics()):
                pass
    async with running(reuse_port=True) as server:
        shared = Settings(port=server.port, metrics_port=0, reuse_port=True)
        async with serving(shared, [server.handler.service()], Metrics()) as where:
            assert where.port == server.port


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org"])
def test_it_refuses_to_listen_in_the_clear_where_others_can_connect(host):
    with pytest.raises(SystemExit, match="DRIFTLINE_HOST"):
        check_listening_is_safe(Settings(host=host))
    with pytest.raises(SystemExit, match=r"DRIFTLINE_HOST.*anyone there could call.*keys create"):
        check_listening_is_safe(Settings(host=host, insecure_listen=True))
    with pytest.raises(SystemExit, match=r"DRIFTLINE_HOST.*TLS"):
        check_listening_is_safe(Settings(host=host, auth="required"))
    check_listening_is_safe(Settings(host=host, insecure_listen=True, auth="required"))
    check_listening_is_safe(Settings(host=host, insecure_listen=True, auth="none"))
    check_listening_is_safe(told_insecure(Settings(host=host)))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "[::1]", "localhost"])
def test_loopback_needs_no_tls(host):
    assert is_loopback(host)
    check_listening_is_safe(Settings(host=host))


def test_half_of_a_tls_pair_is_refused():
    with pytest.raises(SystemExit, match="set both or neither"):
        check_listening_is_safe(Settings(tls_cert=Path("c.pem")))
    with pytest.raises(SystemExit, match="DRIFTLINE_TLS_CLIENT_CA"):
        check_listening_is_safe(Settings(tls_client_ca=Path("ca.pem")))


async def test_a_missing_tls_file_is_named():
    settings = Settings(port=0, metrics_port=0, tls_cert=Path("no.crt"), tls_key=Path("no.key"))
    with pytest.raises(SystemExit, match=r"no\.key"):
        async with serving(settings, [], Metrics()):
            pass


class Authority:
    """A certificate authority in a folder."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.cert = self._sign(self._name, self._key, is_authority=True)
        self.path = folder / f"{name}.crt"
        self.path.write_bytes(self.cert)

    def issue(self, name: str) -> tuple[Path, Path]:
        """Return paths of a certificate for localhost and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        cert_path, key_path = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        cert_path.write_bytes(self._sign(subject, key, is_authority=False))
        key_path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return cert_path, key_path

    def _sign(self, subject, key, *, is_authority):
        now = dt.datetime.now(dt.UTC)
        hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(minutes=5))
            .not_valid_after(now + dt.timedelta(hours=1))
            .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
        )


async def test_tls_serves_who_trusts_the_authority_and_nobody_in_the_clear(tmp_path):
    authority = Authority(tmp_path)
    cert, key = authority.issue("server")
    async with running(tls_cert=cert, tls_key=key, host="127.0.0.1") as server:
        async with server.channel(grpc.ssl_channel_credentials(authority.cert)) as channel:
            await call(channel, timeout=5)
        async with server.channel() as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(channel, timeout=2)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert server.handler.seen == ["u"]


async def test_mutual_tls_wants_a_certificate_of_the_clients_authority(tmp_path):
    authority, clients = Authority(tmp_path), Authority(tmp_path, "clients")
    stranger = Authority(tmp_path, "strangers")
    cert, key = authority.issue("server")

    def credentials(issuer: Authority | None):
        if issuer is None:
            return grpc.ssl_channel_credentials(authority.cert)
        own_cert, own_key = issuer.issue("client")
        return grpc.ssl_channel_credentials(
            authority.cert, own_key.read_bytes(), own_cert.read_bytes()
        )

    async with running(tls_cert=cert, tls_key=key, tls_client_ca=clients.path) as server:
        async with server.channel(credentials(clients)) as channel:
            await call(channel, timeout=5)
        for other in (None, stranger):
            async with server.channel(credentials(other)) as channel:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call(channel, timeout=2)
            assert caught.value.code() in {
                grpc.StatusCode.UNAVAILABLE,
                grpc.StatusCode.DEADLINE_EXCEEDED,
            }
        assert len(server.handler.seen) == 1


async def test_a_taken_metrics_port_is_named_with_its_setting():
    port = free_port()
    with socket.create_server(("127.0.0.1", port)), pytest.raises(SystemExit, match="METRICS_PORT"):
        async with running(metrics_port=port):
            pass
