"""Receipts of erasures: kept in one SQLite file a tenant, each signed by the store's own key.

ROOT/keys/receipts.pem     the Ed25519 key, readable by its owner alone
ROOT/keys/receipts.pub     its public half, to give away
ROOT/{tenant}/receipts.db  what was removed where; names no user
"""

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from services.core.errors import DependencyUnavailable, InvalidArgument
from services.core.receipts import PENDING, Receipt, from_json, to_json
from services.store.files import make_file_once
from services.store.layout import Layout

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_TABLE = (
    "CREATE TABLE IF NOT EXISTS receipts (erasure_id TEXT PRIMARY KEY, state TEXT, content TEXT, "
    "signature BLOB, key_id TEXT) WITHOUT ROWID"
)
_BUSY_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedReceipt:
    """A receipt as it was signed."""

    # JSON, exactly what the signature is of.
    content: str
    signature: bytes
    key_id: str

    @property
    def receipt(self) -> Receipt:
        """Read the content."""
        return from_json(self.content)


class Receipts:
    """The receipts of a store. Safe between processes."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def get(self, tenant: str, erasure_ids: Iterable[str]) -> dict[str, SignedReceipt]:
        """Return receipts by request; unknown ones are left out. Raises DependencyUnavailable."""
        found: dict[str, SignedReceipt] = {}
        with self._open(tenant) as file:
            for erasure_id in erasure_ids if file else ():
                assert file is not None
                query = "SELECT content, signature, key_id FROM receipts WHERE erasure_id = ?"
                for row in file.execute(query, (erasure_id,)):
                    found[erasure_id] = _signed(row)
        return found

    def list(self, tenant: str, *, is_pending: bool = False) -> list[SignedReceipt]:
        """Return all receipts, or those that are pending. Raises DependencyUnavailable."""
        where = f"WHERE state = '{PENDING}' " if is_pending else ""
        query = f"SELECT content, signature, key_id FROM receipts {where}ORDER BY erasure_id"  # nosec B608  # noqa: S608
        with self._open(tenant) as file:
            return [_signed(row) for row in file.execute(query)] if file else []

    def put(self, tenant: str, receipts: Sequence[Receipt]) -> None:
        """Sign receipts and keep them in place of those before, in one step.

        Raises:
            DependencyUnavailable: they were not kept.
        """
        if not receipts:
            return
        key = _key(self._layout.keys_dir())
        key_id = _key_id(key)
        rows = []
        for receipt in receipts:
            content = to_json(receipt)
            signature = key.sign(content.encode())
            rows.append((receipt.erasure_id, receipt.state, content, signature, key_id))
        with self._open(tenant, is_writer=True) as file:
            assert file is not None
            file.executemany("INSERT OR REPLACE INTO receipts VALUES (?, ?, ?, ?, ?)", rows)

    @contextmanager
    def _open(self, tenant: str, *, is_writer: bool = False) -> Iterator[sqlite3.Connection | None]:
        path = self._layout.receipts_file(tenant)
        if not is_writer and not path.exists():
            yield None
            return
        try:
            if is_writer:
                path.parent.mkdir(parents=True, exist_ok=True)
                connection = sqlite3.connect(path, timeout=_BUSY_S)
            else:
                # Not "ro": whoever opens it after a writer was killed must roll back what that left.
                uri = f"{path.absolute().as_uri()}?mode=rw"
                connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_S)
            with closing(connection), connection:
                if is_writer:
                    connection.execute("PRAGMA synchronous = FULL")
                    connection.execute(_TABLE)
                yield connection
        except (sqlite3.Error, OSError) as error:
            raise DependencyUnavailable("the store of receipts", f"failed ({error})") from error


def verify(layout: Layout, signed: SignedReceipt) -> Receipt:
    """Return a receipt whose signature is this store's.

    Raises:
        InvalidArgument: it was altered, or another store signed it.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    path = layout.keys_dir() / "receipts.pub"
    if not path.exists():
        raise InvalidArgument("receipt", f"this store signed none: {path} is absent")
    public = load_pem_public_key(path.read_bytes())
    assert isinstance(public, Ed25519PublicKey)
    try:
        public.verify(signed.signature, signed.content.encode())
        return signed.receipt
    except (InvalidSignature, ValueError) as error:
        raise InvalidArgument(
            "receipt",
            f"the signature is not by this store's key {_public_id(public.public_bytes_raw())}: "
            "it was altered, or another store signed it",
        ) from error


def _signed(row: tuple[str, bytes, str]) -> SignedReceipt:
    return SignedReceipt(content=row[0], signature=row[1], key_id=row[2])


def _key(folder: Path) -> "Ed25519PrivateKey":
    """Return the store's key, made at its first use."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    path = folder / "receipts.pem"
    if not path.exists():
        new = Ed25519PrivateKey.generate()
        secret = new.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
        make_file_once(path, secret, mode=0o600)
    try:
        key = form.load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError) as error:
        raise DependencyUnavailable("the key of receipts", f"is damaged ({path})") from error
    assert isinstance(key, Ed25519PrivateKey)
    public = folder / "receipts.pub"
    if not public.exists():
        public.write_bytes(
            key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
        )
    return key


def _key_id(key: "Ed25519PrivateKey") -> str:
    return _public_id(key.public_key().public_bytes_raw())


def _public_id(public: bytes) -> str:
    return hashlib.sha256(public).hexdigest()[:16]
