"""Who may call: turns the `authorization` header of a call into a principal, or refuses it."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog

from services.core.access import ANYONE, Principal
from services.core.errors import CoreError, Unauthenticated
from services.runtime.jwks import check_url, read_key_set
from services.runtime.settings import Settings
from services.runtime.tokens import TokenRules, Tokens
from services.store.api_keys import PREFIX, KeyRing

log = structlog.get_logger()

# One message for every credential that lets nobody in: what is wrong with it is not told.
MISSING = "no credential came with the call"
INVALID = "the credential is unknown, expired or revoked"
# Seconds between reads of a key set, and the least between two where tokens name unknown keys.
KEY_SET_EVERY_S = 300.0
KEY_SET_LEAST_S = 10.0
# A key set that could not be read again for this long is trusted no longer.
KEY_SET_TRUSTED_S = 24 * 3600.0


class Guard(Protocol):
    """Knows callers by what they send."""

    def principal(self, header: str | None) -> Principal:
        """Return who calls.

        Args:
            header: the call's `authorization`; None where it sent none, or several.

        Raises:
            Unauthenticated: nobody who is known.
        """
        ...


class OpenDoor:
    """Asks nobody: for a server on loopback, or one that was told so."""

    def principal(self, header: str | None) -> Principal:
        """Return anyone."""
        return ANYONE


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySetSource:
    """Where the keys of tokens are read."""

    # A path, or an https URL.
    source: str
    allows_private: bool = False


class Gatekeeper:
    """Asks everyone for an API key or a token. `start` before the first call, then `keep_reading`."""

    def __init__(
        self,
        ring: KeyRing,
        tokens: Tokens | None = None,
        key_set: KeySetSource | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ring, self._tokens, self._key_set = ring, tokens, key_set
        self._clock, self._latest = clock, 0.0
        self._wants_key_set = asyncio.Event()
        self._read_at = self._tried_at = -KEY_SET_TRUSTED_S

    def principal(self, header: str | None) -> Principal:
        """Return who calls; see Guard."""
        if header is None:
            raise Unauthenticated(MISSING)
        kind, _, credential = header.partition(" ")
        if kind.lower() != "bearer" or not credential.isascii():
            raise Unauthenticated(INVALID)
        found: Principal | None = None
        if credential.startswith(f"{PREFIX}_"):
            found = self._ring.principal(credential, self._now())
        elif self._tokens is not None and self._is_key_set_trusted():
            found = self._tokens.principal(credential, self._now(), self._wants_key_set.set)
        if found is None:
            raise Unauthenticated(INVALID)
        return found

    def _now(self) -> float:
        """Return seconds since 1970; a clock that is set back lets no credential in that had expired."""
        self._latest = max(self._latest, self._clock())
        return self._latest

    async def start(self) -> None:
        """Read keys and key set once.

        Raises:
            CoreError: the file of keys is damaged. A key set that does not answer is only logged.
        """
        await asyncio.to_thread(self._ring.reload)
        if not len(self._ring) and self._tokens is None:
            log.warning("nobody can call: no API key is active; run `driftline keys create`")
        await self._read_key_set()

    async def keep_reading(self, poll_s: float) -> None:
        """Take in what changed, until cancelled."""
        while True:
            await asyncio.sleep(poll_s)
            try:
                if await asyncio.to_thread(self._ring.reload):
                    log.info("API keys were read", active=len(self._ring))
            except CoreError as error:
                log.error("cannot read API keys; those read before stay", problem=error.message)
            since = time.monotonic() - self._tried_at
            is_asked = self._wants_key_set.is_set() and since >= KEY_SET_LEAST_S
            if is_asked or since >= KEY_SET_EVERY_S:
                await self._read_key_set()

    async def _read_key_set(self) -> None:
        if self._tokens is None or self._key_set is None:
            return
        self._tried_at = time.monotonic()
        self._wants_key_set.clear()
        try:
            content = await asyncio.to_thread(_read_key_set, self._key_set)
            self._tokens.use(content)
        except CoreError as error:
            log.error("cannot read the key set of tokens", problem=error.message)
            return
        self._read_at = time.monotonic()

    def _is_key_set_trusted(self) -> bool:
        return time.monotonic() - self._read_at < KEY_SET_TRUSTED_S


def gatekeeper(settings: Settings) -> Gatekeeper:
    """Return the gatekeeper that the settings describe.

    Raises:
        InvalidArgument: the key set's URL is none that is read.
    """
    ring = KeyRing(settings.keys_path())
    if not settings.jwt_key_set:
        return Gatekeeper(ring)
    if "://" in settings.jwt_key_set:
        check_url(settings.jwt_key_set)
    rules = TokenRules(
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        tenant_claim=settings.jwt_tenant_claim,
        scope_claim=settings.jwt_scope_claim,
        scope_prefix=settings.jwt_scope_prefix,
    )
    source = KeySetSource(
        source=settings.jwt_key_set, allows_private=settings.jwt_key_set_is_private
    )
    return Gatekeeper(ring, Tokens(rules), source)


def _read_key_set(source: KeySetSource) -> bytes:
    return read_key_set(source.source, allows_private=source.allows_private)
