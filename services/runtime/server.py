"""One gRPC server process: listening, TLS, health, reflection, metrics, and a drain on SIGTERM."""

import asyncio
import ipaddress
import signal
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from services.core.errors import CoreError
from services.runtime.checks import Check, Checks
from services.runtime.guard import Gatekeeper, gatekeeper
from services.runtime.interceptors import Access, Calls, Limits, OpenTenant, only_one_tenant
from services.runtime.logs import CallLines
from services.runtime.method_table import MethodTable
from services.runtime.metrics import Metrics
from services.runtime.open_calls import OpenCalls
from services.runtime.open_files import connections_within, limit
from services.runtime.quotas import QuotaConfig
from services.runtime.settings import Settings
from services.runtime.validation import shared_rules
from services.store.files import replace_file

log = structlog.get_logger()

# The stubs name grpc.aio.Server; what they are given is a table that wraps every method (interceptors.py).
Register = Callable[[Any], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One gRPC service: its full name and what adds its handler to a server."""

    # driftline.v1.InterestService
    full_name: str
    register: Register
    # What its health hangs on, looked at every `poll_s`; None: it serves while the process does.
    check: Check | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """Where a started server listens."""

    port: int
    # 0 where metrics are off.
    metrics_port: int


@asynccontextmanager
async def serving(
    settings: Settings,
    services: Sequence[Service],
    metrics: Metrics,
    open_tenant: OpenTenant = only_one_tenant,
) -> AsyncIterator[Serving]:
    """Serve until the end of the block, then refuse new calls and let those under way finish.

    Args:
        settings: where to listen, and who may call.
        services: with the handlers of the default tenant.
        metrics: counts calls.
        open_tenant: makes the handlers of another one at its first call.

    Raises:
        SystemExit: the address is not safe or not free, or a file of TLS or of keys cannot be read;
            the message says what to do.
    """
    check_listening_is_safe(settings)
    keeper = await _keeper(settings)
    rules = shared_rules()
    for service in services:
        rules.warm(*rules.requests_of(service.full_name))
    limits = Limits(
        max_concurrent_calls=settings.max_concurrent_calls,
        default_deadline_s=settings.default_deadline_s,
        request_s=settings.request_s,
    )
    table = MethodTable()
    server = grpc.aio.server(handlers=(table,), options=_options(settings))
    lines = CallLines(settings.log_every_s)
    access = _access(settings, keeper, open_tenant)
    wrapping = Calls(rules, limits, metrics, lines, access).around(table)
    for service in services:
        service.register(wrapping)
    status = health.aio.HealthServicer()
    # By name, beside the table: a queue of their own, so that probes pass where calls are refused.
    health_pb2_grpc.add_HealthServicer_to_server(status, OpenCalls(server, settings.request_s))
    names = [service.full_name for service in services]
    shown = reflection.aio.ReflectionServicer(
        [*names, health.SERVICE_NAME, reflection.SERVICE_NAME]
    )
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(shown, wrapping)
    port = _bind(server, settings)
    async with AsyncExitStack() as stack:
        metrics_port = stack.enter_context(metrics.serve(settings.host, settings.metrics_port))
        if keeper is not None:
            reading = asyncio.create_task(keeper.keep_reading(settings.poll_s))
            stack.callback(reading.cancel)
        await server.start()
        for name in ("", *names):
            await status.set(name, health_pb2.HealthCheckResponse.SERVING)
        checks = Checks(status, {s.full_name: s.check for s in services if s.check is not None})
        await checks.look()
        looking = asyncio.create_task(checks.keep_looking(settings.poll_s))
        stack.callback(looking.cancel)
        try:
            yield Serving(port=port, metrics_port=metrics_port)
        finally:
            # Load balancers look at health first; then nothing new is taken.
            await status.enter_graceful_shutdown()
            await server.stop(settings.drain_s)
            lines.flush()


async def serve_until_stopped(
    settings: Settings,
    services: Sequence[Service],
    metrics: Metrics,
    open_tenant: OpenTenant = only_one_tenant,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain. See `announce` for where it listens."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
    async with serving(settings, services, metrics, open_tenant) as where:
        announce(settings, where)
        await stopped.wait()
        log.info("draining", limit_s=settings.drain_s)
    log.info("stopped")


def announce(settings: Settings, where: Serving) -> None:
    """Log the ports, and write them to `settings.port_file` in one atomic step."""
    if settings.port_file:
        replace_file(settings.port_file, f"{where.port} {where.metrics_port}\n".encode())
    log.info("serving", host=settings.host, port=where.port, metrics_port=where.metrics_port)


def check_listening_is_safe(settings: Settings) -> None:
    """Refuse to listen where others can connect, in the clear or for anyone, unless told so in words.

    Raises:
        SystemExit: outside loopback without TLS and without `insecure_listen`, or without credentials
            and without `auth` none; or half of a pair.
    """
    if (settings.tls_cert is None) != (settings.tls_key is None):
        raise SystemExit("DRIFTLINE_TLS_CERT and DRIFTLINE_TLS_KEY: set both or neither")
    if settings.tls_client_ca and not settings.tls_cert:
        raise SystemExit("DRIFTLINE_TLS_CLIENT_CA: needs DRIFTLINE_TLS_CERT and DRIFTLINE_TLS_KEY")
    if settings.jwt_key_set and not (settings.jwt_issuer and settings.jwt_audience):
        raise SystemExit(
            "DRIFTLINE_JWT_KEY_SET: needs DRIFTLINE_JWT_ISSUER and DRIFTLINE_JWT_AUDIENCE; without them "
            "a token that was made for another service would count here"
        )
    if is_loopback(settings.host):
        return
    if not (settings.tls_cert or settings.insecure_listen):
        raise SystemExit(
            f"DRIFTLINE_HOST: {settings.host} can be reached from other machines; "
            "set DRIFTLINE_TLS_CERT and DRIFTLINE_TLS_KEY, "
            "or DRIFTLINE_INSECURE_LISTEN=true where something in front encrypts (--insecure)"
        )
    if not (settings.asks_for_credentials() or settings.auth == "none"):
        raise SystemExit(
            f"DRIFTLINE_HOST: {settings.host} can be reached from other machines, and anyone there could call; "
            "make a key with `driftline keys create`, or set DRIFTLINE_JWT_KEY_SET, "
            "or DRIFTLINE_AUTH=none where something in front lets nobody else in (--insecure)"
        )


def told_insecure(settings: Settings) -> Settings:
    """Return settings under which any address is listened on, in the clear and for anyone: --insecure."""
    return settings.model_copy(update={"insecure_listen": True, "auth": "none"})


async def _keeper(settings: Settings) -> Gatekeeper | None:
    """Return who asks for credentials, ready; None where nobody has to show any."""
    if not is_loopback(settings.host):
        if not settings.tls_cert:
            log.warning("listens without TLS; what lies in front must encrypt", host=settings.host)
        if not settings.asks_for_credentials():
            log.warning("anyone who can connect may call", host=settings.host)
    if not settings.asks_for_credentials():
        return None
    try:
        keeper = gatekeeper(settings)
        await keeper.start()
    except CoreError as error:
        raise SystemExit(f"DRIFTLINE_AUTH: {error.message}") from None
    return keeper


def _access(settings: Settings, keeper: Gatekeeper | None, open_tenant: OpenTenant) -> Access:
    quotas = QuotaConfig(
        calls_per_s=settings.key_calls_per_s,
        max_concurrent_calls=settings.key_max_concurrent_calls,
        tenant_max_concurrent_calls=settings.tenant_max_concurrent_calls,
    )
    if keeper is None:
        return Access(quotas=quotas)
    return Access(guard=keeper, quotas=quotas, open_tenant=open_tenant)


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can connect to a host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _options(settings: Settings) -> list[tuple[str, int]]:
    longest = settings.max_message_mib << 20
    options = [
        ("grpc.max_receive_message_length", longest),
        ("grpc.max_send_message_length", longest),
        # gRPC's default is to share, and two stray processes would then split the calls.
        ("grpc.so_reuseport", int(settings.reuse_port)),
        ("grpc.max_connection_idle_ms", round(1e3 * settings.idle_connection_s)),
        ("grpc.server_handshake_timeout_ms", round(1e3 * settings.handshake_s)),
    ]
    if settings.max_waiting_calls:
        # Between the two a new call is refused with a probability that grows from 0 to 1.
        options += [
            ("grpc.server.max_pending_requests", settings.max_waiting_calls // 2),
            ("grpc.server.max_pending_requests_hard_limit", settings.max_waiting_calls),
        ]
    if most := settings.max_calls_per_connection:
        # Calls that have ended count until Python lets go of them; without room for those, polite clients of a busy
        # server would be refused.
        options += [
            ("grpc.max_concurrent_streams", most),
            ("grpc.http2.max_deallocating_streams", max(100, most)),
        ]
    connections = connections_within(limit(), settings.max_connections)
    return [*options, ("grpc.max_allowed_incoming_connections", connections)]


def _bind(server: grpc.aio.Server, settings: Settings) -> int:
    host = f"[{settings.host}]" if ":" in settings.host.strip("[]") else settings.host
    address = f"{host}:{settings.port}"
    try:
        if settings.tls_cert:
            return server.add_secure_port(address, _credentials(settings))
        return server.add_insecure_port(address)
    except RuntimeError:
        raise SystemExit(
            f"DRIFTLINE_PORT: cannot listen on {address}; is another process there?"
        ) from None


def _credentials(settings: Settings) -> grpc.ServerCredentials:
    assert settings.tls_cert and settings.tls_key
    try:
        pair = (settings.tls_key.read_bytes(), settings.tls_cert.read_bytes())
        authority = settings.tls_client_ca.read_bytes() if settings.tls_client_ca else None
    except OSError as error:
        raise SystemExit(f"DRIFTLINE_TLS_*: cannot read {error.filename}") from None
    return grpc.ssl_server_credentials([pair], authority, require_client_auth=bool(authority))
