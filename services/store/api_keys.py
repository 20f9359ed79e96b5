"""API keys: hashes in one file, which any number of processes read.

A key is `dlk_ID_SECRET`: ID finds its row, SECRET (256 random bits) is kept nowhere, only its HMAC under a salt of the
row's own. A slow hash would add nothing to a secret that cannot be guessed, and reads would pay for it.
"""

import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from filelock import FileLock

from services.core.access import Principal, Scope
from services.core.errors import DependencyUnavailable, InvalidArgument
from services.store.layout import read_json, write_json

PREFIX = "dlk"
KEY = re.compile(r"dlk_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
VERSION = 1
# Compared with where an id is unknown, so that it takes as long as a wrong secret.
_NOBODY = (b"\0" * 16, b"\0" * 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A row of the file: nothing in it lets anyone in."""

    key_id: str
    tenant: str
    scopes: frozenset[Scope]
    # For people: which application holds it.
    name: str
    created_time: datetime
    # None: never.
    expires_time: datetime | None = None
    revoked_time: datetime | None = None
    # None: what the server allows any key.
    calls_per_s: float | None = None
    max_concurrent_calls: int | None = None

    def state(self, now: datetime) -> str:
        """Return active, expired or revoked."""
        if self.revoked_time is not None:
            return "revoked"
        return "expired" if self.expires_time and self.expires_time <= now else "active"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A key that was just made. Its secret can be shown this once."""

    row: ApiKey
    secret: str

    def __repr__(self) -> str:
        return f"NewKey(row={self.row!r})"


class KeyFile:
    """The file of keys, for whoever may change it. Changes are atomic; two at once follow each other."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def list(self) -> list[ApiKey]:
        """Return every key, oldest first. Raises DependencyUnavailable where the file is damaged."""
        rows = [_row(key_id, given) for key_id, given in _read(self._path).items()]
        return sorted(rows, key=lambda row: (row.created_time, row.key_id))

    def create(
        self,
        *,
        tenant: str,
        scopes: frozenset[Scope],
        name: str,
        now: datetime,
        expires_time: datetime | None = None,
        calls_per_s: float | None = None,
        max_concurrent_calls: int | None = None,
    ) -> NewKey:
        """Make a key.

        Raises:
            InvalidArgument: no scope, or an expiry that has passed.
        """
        if not scopes:
            raise InvalidArgument("scope", "is empty; name read, write or admin")
        if expires_time is not None and expires_time <= now:
            raise InvalidArgument("expires", "lies in the past; name a later date")
        row = ApiKey(
            key_id=secrets.token_hex(8),
            tenant=tenant,
            scopes=scopes,
            name=name,
            created_time=now,
            expires_time=expires_time,
            calls_per_s=calls_per_s,
            max_concurrent_calls=max_concurrent_calls,
        )
        with self._alone():
            return self._add(_read(self._path), row)

    def rotate(self, key_id: str, *, now: datetime, grace: timedelta) -> NewKey:
        """Make a key like another, which ends after `grace`.

        Raises:
            InvalidArgument: there is no such key, or it is no longer active.
        """
        with self._alone():
            rows = _read(self._path)
            old = self._find(rows, key_id)
            if old.state(now) != "active":
                raise InvalidArgument("key_id", f"is {old.state(now)}; create a new key")
            ends = min(now + grace, old.expires_time or now + grace)
            rows[key_id] = _packed(replace(old, expires_time=ends), rows[key_id])
            return self._add(
                rows, replace(old, key_id=secrets.token_hex(8), created_time=now, expires_time=None)
            )

    def revoke(self, key_id: str, *, now: datetime) -> ApiKey:
        """End a key; it stays listed. Again changes nothing. Raises InvalidArgument: no such key."""
        with self._alone():
            rows = _read(self._path)
            row = self._find(rows, key_id)
            if row.revoked_time is None:
                row = replace(row, revoked_time=now)
                rows[key_id] = _packed(row, rows[key_id])
                self._write(rows)
            return row

    def _add(self, rows: dict[str, Any], row: ApiKey) -> NewKey:
        secret, salt = secrets.token_urlsafe(32), secrets.token_bytes(16)
        digest = hmac.digest(salt, secret.encode(), "sha256")
        rows[row.key_id] = _packed(row, {"salt": salt.hex(), "hash": digest.hex()})
        self._write(rows)
        return NewKey(row=row, secret=f"{PREFIX}_{row.key_id}_{secret}")

    def _find(self, rows: Mapping[str, Any], key_id: str) -> ApiKey:
        if key_id not in rows:
            raise InvalidArgument("key_id", "names no key; see `driftline keys list`")
        return _row(key_id, rows[key_id])

    def _write(self, rows: Mapping[str, Any]) -> None:
        write_json(self._path, {"version": VERSION, "keys": rows}, is_private=True)

    def _alone(self) -> FileLock:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(self._path.with_suffix(".lock"), mode=0o600)


@dataclass(frozen=True, slots=True)
class _Held:
    principal: Principal
    salt: bytes
    digest: bytes
    # Seconds since 1970; infinity where it never ends.
    ends_at: float


class KeyRing:
    """The keys that are good now, in memory: what a server asks at each call."""

    def __init__(self, path: Path) -> None:
        """Hold nothing yet; `reload` reads the file."""
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._held: dict[str, _Held] = {}

    def reload(self) -> bool:
        """Read the file where it changed; tell whether it did. A file that is gone holds no keys.

        Raises:
            DependencyUnavailable: it is damaged; what was read before stays in force.
        """
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            changed, self._seen, self._held = bool(self._held), None, {}
            return changed
        except OSError as error:
            raise DependencyUnavailable("the file of API keys", "cannot be read") from error
        token = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        if token == self._seen:
            return False
        held = {}
        for key_id, given in _read(self._path).items():
            row = _row(key_id, given)
            if row.revoked_time is None:
                held[key_id] = _held(row, given)
        self._held, self._seen = held, token
        return True

    def __len__(self) -> int:
        return len(self._held)

    def principal(self, key: str, now: float) -> Principal | None:
        """Return whose a key is; None where it is malformed, unknown, wrong, expired or revoked.

        Args:
            key: as the caller sent it.
            now: seconds since 1970.
        """
        parts = KEY.fullmatch(key)
        if parts is None:
            return None
        held = self._held.get(parts[1])
        salt, digest = (held.salt, held.digest) if held else _NOBODY
        is_right = hmac.compare_digest(hmac.digest(salt, parts[2].encode(), "sha256"), digest)
        if held is None or not is_right or now >= held.ends_at:
            return None
        return held.principal


def _held(row: ApiKey, given: Mapping[str, Any]) -> _Held:
    try:
        salt, digest = bytes.fromhex(given["salt"]), bytes.fromhex(given["hash"])
    except (KeyError, TypeError, ValueError) as error:
        raise DependencyUnavailable("the file of API keys", "is damaged") from error
    return _Held(
        principal=Principal(
            tenant=row.tenant,
            scopes=row.scopes,
            key_id=row.key_id,
            calls_per_s=row.calls_per_s,
            max_concurrent_calls=row.max_concurrent_calls,
        ),
        salt=salt,
        digest=digest,
        ends_at=row.expires_time.timestamp() if row.expires_time else float("inf"),
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except OSError as error:
        raise DependencyUnavailable("the file of API keys", "cannot be read") from error
    if content == {}:
        return {}
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise DependencyUnavailable("the file of API keys", "is damaged or of another version")
    return dict(content["keys"]) if isinstance(content.get("keys"), dict) else {}


def _row(key_id: str, given: Mapping[str, Any]) -> ApiKey:
    try:
        return ApiKey(
            key_id=key_id,
            tenant=given["tenant"],
            scopes=frozenset(Scope(name) for name in given["scopes"]),
            name=given["name"],
            created_time=datetime.fromisoformat(given["created_time"]),
            expires_time=_instant(given["expires_time"]),
            revoked_time=_instant(given["revoked_time"]),
            calls_per_s=given["calls_per_s"],
            max_concurrent_calls=given["max_concurrent_calls"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DependencyUnavailable("the file of API keys", "is damaged") from error


def _packed(row: ApiKey, hashes: Mapping[str, str]) -> dict[str, Any]:
    return {
        "tenant": row.tenant,
        "scopes": sorted(row.scopes),
        "name": row.name,
        "created_time": row.created_time.isoformat(),
        "expires_time": row.expires_time.isoformat() if row.expires_time else None,
        "revoked_time": row.revoked_time.isoformat() if row.revoked_time else None,
        "calls_per_s": row.calls_per_s,
        "max_concurrent_calls": row.max_concurrent_calls,
        "salt": hashes["salt"],
        "hash": hashes["hash"],
    }


def _instant(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
