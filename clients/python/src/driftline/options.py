"""How a client connects: TLS, credentials, deadlines, retries, sizes; and the channel."""

import ipaddress
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import grpc

from ._version import __version__

MetadataPairs: TypeAlias = tuple[tuple[str, str], ...]
# Called before each call; returns pairs of lower-case key and value.
MetadataHook: TypeAlias = Callable[[], Iterable[tuple[str, str]]]

_SERVICES = ("Content", "Event", "Interest", "Model", "Privacy", "Profile", "Recommendation")


@dataclass(frozen=True, kw_only=True)
class Tls:
    """TLS; `Tls()` trusts the machine's own authorities. Each is PEM bytes or a file."""

    # Authority that signed the server's certificate.
    ca: bytes | str | Path | None = None
    # The client's own certificate and key, for mutual TLS: both or neither.
    cert: bytes | str | Path | None = None
    key: bytes | str | Path | None = field(default=None, repr=False)
    # Name to expect in the server's certificate, where it differs from the target's host.
    server_name: str | None = None


@dataclass(frozen=True, kw_only=True)
class Deadlines:
    """The longest a call may take, retries included, where `timeout_s=` says nothing. Seconds."""

    read_s: float = 5.0
    write_s: float = 10.0
    # Reads with `as_of=`, and of more periods than are kept online: they go to offline history.
    history_s: float = 30.0
    # One stream of an export, up to 10,000 users.
    export_s: float = 3600.0


@dataclass(frozen=True, kw_only=True)
class Retries:
    """Retries where nobody answered, and of nothing else; every call of this SDK is safe to repeat.

    That is UNAVAILABLE, and CANCELLED, with which an overloaded server refuses calls unseen.
    """

    # Attempts in all, in [1, 5]; 1 means no retry.
    attempts: int = 4
    # Waits are random, up to 0.1, 0.2, 0.4, ... seconds, never above the longest.
    first_wait_s: float = 0.1
    longest_wait_s: float = 2.0


@dataclass(frozen=True, kw_only=True)
class ClientOptions:
    """Everything about a connection; the defaults suit a gateway on this machine."""

    # None is plain text.
    tls: Tls | None = None
    # Sent as `authorization: Bearer ...`; one of the two. Refused in plain text to another machine.
    api_key: str | None = field(default=None, repr=False)
    # A JSON Web Token, or what returns the one that is good now (asked before each call).
    token: str | Callable[[], str] | None = field(default=None, repr=False)
    # Pairs to send with each call (a request id, a rotating token), or what returns them.
    metadata: MetadataHook | MetadataPairs = field(default=(), repr=False)
    deadlines: Deadlines = field(default_factory=Deadlines)
    retries: Retries = field(default_factory=Retries)
    # Largest message to send or take in, bytes.
    max_message_bytes: int = 64 << 20
    # Put before `driftline-python/VERSION`, like `shop-web/1.4`.
    user_agent: str = ""

    def call_metadata(self) -> MetadataPairs:
        """Return the pairs to send with the next call."""
        pairs = tuple(self.metadata() if callable(self.metadata) else self.metadata)
        credential = self.token() if callable(self.token) else self.token or self.api_key
        return (*pairs, ("authorization", f"Bearer {credential}")) if credential else pairs


def open_channel(target: str, options: ClientOptions) -> grpc.Channel:
    """Return a channel for blocking calls. It connects at the first call.

    Raises:
        ValueError: the options do not fit together, or a key would travel in plain text.
        OSError: a certificate cannot be read.
    """
    arguments = _channel_arguments(target, options)
    if options.tls is None:
        return grpc.insecure_channel(target, arguments)
    return grpc.secure_channel(target, _credentials(options.tls), arguments)


def open_aio_channel(target: str, options: ClientOptions) -> grpc.aio.Channel:
    """Return a channel for asyncio; raises like `open_channel`."""
    arguments = _channel_arguments(target, options)
    if options.tls is None:
        return grpc.aio.insecure_channel(target, arguments)
    return grpc.aio.secure_channel(target, _credentials(options.tls), arguments)


def is_local(target: str) -> bool:
    """Tell whether a target is this machine."""
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    address = target.rsplit("/", 1)[-1]  # dns:///host:port, ipv4:host:port
    for scheme in ("dns:", "ipv4:", "ipv6:"):
        address = address.removeprefix(scheme)
    if address.startswith("["):
        host = address[1:].split("]", 1)[0]
    else:
        host = address.rsplit(":", 1)[0] if address.count(":") == 1 else address
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def service_config(retries: Retries) -> str:
    """Return the gRPC service config: what nobody answered is retried with backoff, nothing else is."""
    services = [{"service": f"driftline.v1.{name}Service"} for name in _SERVICES]
    method: dict[str, Any] = {"name": services}
    if retries.attempts > 1:
        method["retryPolicy"] = {
            "maxAttempts": retries.attempts,
            "initialBackoff": f"{retries.first_wait_s:g}s",
            "maxBackoff": f"{retries.longest_wait_s:g}s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
        }
    # A budget: a failure takes one, an answer gives half; below half of it nothing is retried. Where most calls
    # fail retries stop: they would keep a struggling server down.
    return json.dumps(
        {"methodConfig": [method], "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.5}}
    )


def _channel_arguments(target: str, options: ClientOptions) -> list[tuple[str, Any]]:
    if options.api_key and options.token:
        raise ValueError("api_key, token: give one of them")
    named = "api_key" if options.api_key else "token" if options.token else ""
    if named and options.tls is None and not is_local(target):
        raise ValueError(
            f"{named}: would travel to {target} in plain text; give tls=Tls(...) as well"
        )
    if not 1 <= options.retries.attempts <= 5:
        raise ValueError("retries.attempts: gRPC allows 1 to 5")
    arguments: list[tuple[str, Any]] = [
        ("grpc.service_config", service_config(options.retries)),
        # The default of 256 KiB would silently turn retries off for larger requests.
        ("grpc.per_rpc_retry_buffer_size", options.max_message_bytes),
        ("grpc.max_send_message_length", options.max_message_bytes),
        ("grpc.max_receive_message_length", options.max_message_bytes),
        # A peer that vanished is noticed while a call waits; rare enough for any server's limits.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 0),
        ("grpc.primary_user_agent", f"{options.user_agent} driftline-python/{__version__}".strip()),
        # Clients of one process must not share a broken connection's backoff.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if is_local(target):
        arguments.append(("grpc.enable_http_proxy", 0))
    if options.tls and options.tls.server_name:
        arguments.append(("grpc.ssl_target_name_override", options.tls.server_name))
    return arguments


def _credentials(tls: Tls) -> grpc.ChannelCredentials:
    if (tls.cert is None) != (tls.key is None):
        raise ValueError("tls: give cert and key, or neither")
    return grpc.ssl_channel_credentials(_pem(tls.ca), _pem(tls.key), _pem(tls.cert))


def _pem(given: bytes | str | Path | None) -> bytes | None:
    return given if given is None or isinstance(given, bytes) else Path(given).read_bytes()
