"""Reads a JSON Web Key Set from a file, or from a URL that cannot be turned against this network.

A URL is https; its host's addresses are looked up once, all of them are checked, and one of those is
connected to: a name that answers differently the second time reaches nothing. No redirects, no
proxies, a size cap, one deadline for all of it.
"""

import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from services.core.errors import DependencyUnavailable, InvalidArgument

MAX_BYTES = 256 << 10
TIMEOUT_S = 5.0
_CHUNK = 16 << 10

# Of a host: its addresses, as getaddrinfo gives them.
Resolve = Callable[[str, int], list[str]]


def read_key_set(
    source: str, *, allows_private: bool = False, context: ssl.SSLContext | None = None
) -> bytes:
    """Return what a file or an https URL holds.

    Args:
        source: a path, or https://...
        allows_private: whether the URL's host may lie in a private network or on this machine.
        context: whom to trust; None: the machine's own authorities.

    Raises:
        InvalidArgument: the source is not one that is read at all.
        DependencyUnavailable: it cannot be read now.
    """
    if "://" in source:
        return _fetch(check_url(source), allows_private=allows_private, context=context)
    try:
        content = Path(source).read_bytes()
    except OSError:
        raise DependencyUnavailable("the key set", f"cannot be read from {source}") from None
    return _within_size(content)


def check_url(url: str) -> str:
    """Return a URL of a key set.

    Raises:
        InvalidArgument: it is not https, or carries a user, a password or a fragment.
    """
    try:
        parts = urlsplit(url)
        is_good = parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good or parts.username or parts.password or parts.fragment:
        raise InvalidArgument("jwt_key_set", "must be a path or https://HOST[:PORT]/PATH")
    if any(ord(character) <= 32 or ord(character) > 126 for character in url):
        raise InvalidArgument("jwt_key_set", "has characters that a URL has not")
    return url


def check_address(address: str, *, allows_private: bool) -> None:
    """Refuse an address that lies on this machine or in its networks.

    Raises:
        DependencyUnavailable: it does. Neither host nor address is named: this may reach a log of others.
    """
    ip = ipaddress.ip_address(address.split("%", 1)[0])
    mapped = getattr(ip, "ipv4_mapped", None) or ip
    is_outside = mapped.is_global and not mapped.is_multicast
    # Where private ones are allowed, still never link-local: clouds keep credentials there.
    is_private = not (mapped.is_link_local or mapped.is_multicast or mapped.is_unspecified)
    if not (is_outside or (allows_private and is_private)):
        raise DependencyUnavailable("the key set", "is at an address that is not read from")


def resolve(host: str, port: int) -> list[str]:
    """Return a host's addresses."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


class _Pinned(http.client.HTTPSConnection):
    """Connects to an address that was checked; the certificate must still be the host's."""

    def __init__(self, host: str, port: int, address: str, context: ssl.SSLContext) -> None:
        super().__init__(host, port, timeout=TIMEOUT_S, context=context)
        self._address, self._tls = address, context

    def connect(self) -> None:
        plain = socket.create_connection((self._address, self.port), self.timeout)
        self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)


def _fetch(url: str, *, allows_private: bool, context: ssl.SSLContext | None) -> bytes:
    parts = urlsplit(url)
    assert parts.hostname
    port, give_up = parts.port or 443, time.monotonic() + TIMEOUT_S
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        addresses = resolve(parts.hostname, port)
        for address in addresses:
            check_address(address, allows_private=allows_private)
        trusted = context or ssl.create_default_context()
        connection = _Pinned(parts.hostname, port, addresses[0], trusted)
        try:
            connection.request("GET", path, headers={"Accept": "application/json"})
            reply = connection.getresponse()
            if reply.status != http.HTTPStatus.OK:
                raise DependencyUnavailable("the key set", f"answered {reply.status}")
            return _read(reply, give_up)
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, IndexError) as error:
        raise DependencyUnavailable("the key set", f"failed ({type(error).__name__})") from error


def _read(reply: http.client.HTTPResponse, give_up: float) -> bytes:
    """Read a body that may trickle in, within the size and the deadline of the whole."""
    content = bytearray()
    while chunk := reply.read1(_CHUNK):
        content += chunk
        _within_size(content)
        if time.monotonic() > give_up:
            raise DependencyUnavailable("the key set", f"took longer than {TIMEOUT_S:g} s")
    return bytes(content)


def _within_size(content: bytes | bytearray) -> bytes:
    if len(content) > MAX_BYTES:
        raise DependencyUnavailable("the key set", f"is larger than {MAX_BYTES >> 10} KiB")
    return bytes(content)
