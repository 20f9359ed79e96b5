"""JSON Web Tokens: who signed, for whom, until when; and whose data and which scopes they grant.

Only signatures by a private key count (no shared secrets, no "none"), only by keys of the set that the
settings name: what a token's own header says of where its key lies (jku, x5u, jwk) is never looked at.
"""

import hashlib
import json
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from services.core.access import Principal, Scope
from services.core.errors import DependencyUnavailable

ALGORITHMS = ("RS256", "PS256", "ES256", "ES384", "EdDSA")
LEAST_RSA_BITS = 2048
# Longer ones are refused unread; gRPC's own cap on metadata is 8 KiB.
MAX_CHARACTERS = 8192
# Verified tokens that are remembered by hash, so that the next call pays a hash and not a signature.
REMEMBERED = 4096
_TENANT = re.compile(r"[a-z0-9_]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRules:
    """What a token must say."""

    issuer: str
    audience: str
    # Claim that names the tenant.
    tenant_claim: str = "tenant"
    # Claim that lists scopes: a string with blanks between, or a list. Words that are no scopes are passed over.
    scope_claim: str = "scope"
    # What is put before a scope, like "driftline:".
    scope_prefix: str = ""
    # By how much clocks may differ, seconds.
    leeway_s: float = 30.0


class Tokens:
    """Verifies tokens against the key set that was read last. Used from one thread."""

    def __init__(self, rules: TokenRules) -> None:
        """Know no keys yet; `use` gives them."""
        self._rules = rules
        self._keys: dict[str, tuple[str, Any]] = {}
        self._verified: OrderedDict[bytes, tuple[float, Principal]] = OrderedDict()

    def use(self, key_set: bytes) -> int:
        """Take the keys of a set in place of those before; return how many there are.

        Raises:
            DependencyUnavailable: it is no key set, or holds no key that signs by an allowed algorithm.
        """
        keys = _usable_keys(key_set)
        if not keys:
            raise DependencyUnavailable("the key set", "holds no key of " + ", ".join(ALGORITHMS))
        self._keys = keys
        self._verified.clear()
        return len(keys)

    def principal(
        self, token: str, now: float, on_unknown_key: Callable[[], None]
    ) -> Principal | None:
        """Return whose a token is; None where it is not valid.

        Args:
            token: as the caller sent it.
            now: seconds since 1970.
            on_unknown_key: called where the token names a key that the set does not hold.
        """
        if len(token) > MAX_CHARACTERS:
            return None
        name = hashlib.sha256(token.encode()).digest()
        if (known := self._verified.get(name)) is not None:
            if now < known[0]:
                return known[1]
            del self._verified[name]
        claims = self._claims(token, on_unknown_key)
        if claims is None:
            return None
        principal = self._principal(claims)
        # The library asks the machine's clock, which may have been set back since `now`.
        ends_at = float(claims["exp"]) + self._rules.leeway_s
        if now >= ends_at:
            return None
        if principal is not None:
            self._verified[name] = (ends_at, principal)
            if len(self._verified) > REMEMBERED:
                self._verified.popitem(last=False)
        return principal

    def _claims(self, token: str, on_unknown_key: Callable[[], None]) -> Mapping[str, Any] | None:
        try:
            header = jwt.get_unverified_header(token)
            found = self._keys.get(str(header.get("kid", "")))
            if found is None:
                on_unknown_key()
                return None
            algorithm, key = found
            claims: Mapping[str, Any] = jwt.decode(
                token,
                key,
                # The key's own, never the one that the token names.
                algorithms=[algorithm],
                audience=self._rules.audience,
                issuer=self._rules.issuer,
                leeway=self._rules.leeway_s,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
            return claims
        # What a stranger sends may make the library fail in its own ways; none of them lets anyone in.
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            return None

    def _principal(self, claims: Mapping[str, Any]) -> Principal | None:
        tenant = claims.get(self._rules.tenant_claim)
        if not isinstance(tenant, str) or not _TENANT.fullmatch(tenant):
            return None
        # The subject may be a person: logs and limits know it by a hash.
        subject = hashlib.sha256(f"{claims['iss']}\0{claims['sub']}".encode()).hexdigest()
        return Principal(tenant=tenant, scopes=self._scopes(claims), key_id=f"jwt-{subject[:16]}")

    def _scopes(self, claims: Mapping[str, Any]) -> frozenset[Scope]:
        said = claims.get(self._rules.scope_claim, "")
        words = said.split() if isinstance(said, str) else said if isinstance(said, list) else []
        prefix = self._rules.scope_prefix
        known = {f"{prefix}{scope}": scope for scope in Scope}
        return frozenset(known[word] for word in words if isinstance(word, str) and word in known)


def _usable_keys(key_set: bytes) -> dict[str, tuple[str, Any]]:
    """Return public keys by id, each with the one algorithm that it signs by."""
    try:
        entries = json.loads(key_set)["keys"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DependencyUnavailable("the key set", "is not a JSON Web Key Set") from None
    keys = {}
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
            continue
        if entry.get("kty") not in {"RSA", "EC", "OKP"} or "d" in entry:
            continue
        try:
            key = jwt.PyJWK(entry, algorithm=entry.get("alg"))
        except (jwt.PyJWTError, ValueError, TypeError):
            continue
        is_weak = entry["kty"] == "RSA" and key.key.key_size < LEAST_RSA_BITS
        if key.algorithm_name in ALGORITHMS and not is_weak:
            keys[str(entry.get("kid", ""))] = (str(key.algorithm_name), key.key)
    return keys
