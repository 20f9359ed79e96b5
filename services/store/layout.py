"""Where everything lies under the data folder: the one place that turns names into paths.

ROOT/store.json                         bucket count; fixed when the store is made
ROOT/keys.json                          hashes of API keys, for the owner's eyes only
ROOT/{tenant}/inbox/{writer}/           events, items, erasures: one Delta log each
ROOT/{tenant}/events, items, rejects    Delta tables
ROOT/{tenant}/vectors/{space_id}        Delta table of item text vectors
ROOT/{tenant}/index/{space_id}/         generations of the catalogue, CURRENT
ROOT/{tenant}/models/                   model folders, STAGES.json
ROOT/{tenant}/training/                 states of a training that is not done
ROOT/{tenant}/feast/                    online.db, registry.db, offline/{view}/, declared/{space_id}.json, filled.json
ROOT/{tenant}/overlays.db              what users said of their portraits
ROOT/{tenant}/receipts.db              what erasures did
ROOT/{tenant}/leases/                   long reads that erasures wait for
ROOT/{tenant}/state/                    positions of the pipeline, locks, tombstones, hashes of stored ids
ROOT/keys/                              what receipts are signed with
ROOT/backups/                           which backups there are
ROOT/{tenant}/demand/                  releases by space; `secret`, for the write path alone
"""

import json
import re
from pathlib import Path
from typing import Any

from services.core.errors import DependencyUnavailable, InvalidArgument
from services.core.schema import DEFAULT_TENANT
from services.store.files import make_file_once, replace_file

STORE_VERSION = 1

_TENANT = re.compile(r"[a-z0-9_]{1,64}")
_WRITER = re.compile(r"[a-z0-9-]{1,64}")
# Spaces and views: made of lower-case words and underscores, never of path separators.
_NAME = re.compile(r"[a-z0-9_]{1,128}")
_RELEASE = re.compile(r"[a-z0-9][a-z0-9.-]{0,127}")


class Layout:
    """Paths of one data folder. Making one makes the store, or verifies it."""

    def __init__(self, root: Path, bucket_count: int) -> None:
        """Make or open a store.

        Raises:
            InvalidArgument: the store was made with another bucket count or by another version,
                or store.json is damaged.
        """
        self.root = Path(root)
        self.bucket_count = bucket_count
        _make_or_verify(self.root / "store.json", bucket_count)

    def tenant_dir(self, tenant: str) -> Path:
        """Return the folder that holds all of a tenant's data.

        Raises:
            InvalidArgument: the name is not 1 to 64 of a-z, 0-9, underscore (all others do too).
        """
        return self.root / _checked("tenant", tenant, _TENANT)

    def tenants(self) -> list[str]:
        """Return every tenant that has a folder; the default one always."""
        found = {path.name for path in self.root.iterdir() if path.is_dir()}
        return sorted({DEFAULT_TENANT} | {name for name in found if self._is_tenant(name)})

    def has_tenant(self, tenant: str) -> bool:
        """Tell whether a tenant was made; the default one always is. A name that is none is not."""
        return tenant == DEFAULT_TENANT or self._is_tenant(tenant)

    def make_tenant(self, tenant: str) -> None:
        """Make an empty tenant where it is absent. Raises as `tenant_dir`."""
        self.state_dir(tenant).mkdir(parents=True, exist_ok=True)

    def inbox_dir(self, tenant: str, writer: str) -> Path:
        """Return one writer's inbox: a folder of the Delta logs events, items, erasures."""
        return self.tenant_dir(tenant) / "inbox" / _checked("writer", writer, _WRITER)

    def inbox_writers(self, tenant: str) -> list[str]:
        """Return the writers that have an inbox, ascending."""
        folder = self.tenant_dir(tenant) / "inbox"
        if not folder.is_dir():
            return []
        return sorted(path.name for path in folder.iterdir() if _WRITER.fullmatch(path.name))

    def events_dir(self, tenant: str) -> Path:
        """Return the Delta table of clean events, partitioned by bucket."""
        return self.tenant_dir(tenant) / "events"

    def rejects_dir(self, tenant: str) -> Path:
        """Return the Delta table of rows that were refused."""
        return self.tenant_dir(tenant) / "rejects"

    def vectors_dir(self, tenant: str, space: str) -> Path:
        """Return the Delta table of a space's item text vectors by content hash."""
        return self.tenant_dir(tenant) / "vectors" / _checked("space_id", space, _NAME)

    def index_dir(self, tenant: str, space: str) -> Path:
        """Return the folder of a space's catalogue generations."""
        return self.tenant_dir(tenant) / "index" / _checked("space_id", space, _NAME)

    def models_dir(self, tenant: str) -> Path:
        """Return the model registry's folder."""
        return self.tenant_dir(tenant) / "models"

    def training_dir(self, tenant: str) -> Path:
        """Return the folder of a training's states."""
        return self.tenant_dir(tenant) / "training"

    def feast_dir(self, tenant: str) -> Path:
        """Return the folder of Feast's stores and registry."""
        return self.tenant_dir(tenant) / "feast"

    def offline_dir(self, tenant: str, view: str) -> Path:
        """Return the folder of a view's Parquet parts."""
        return self.feast_dir(tenant) / "offline" / _checked("view", view, _NAME)

    def declared_file(self, tenant: str, space: str) -> Path:
        """Return the document that says when a space's views were first declared."""
        return self.feast_dir(tenant) / "declared" / f"{_checked('space_id', space, _NAME)}.json"

    def filled_file(self, tenant: str) -> Path:
        """Return the document that says when Redis was first given the tenant's rows."""
        return self.feast_dir(tenant) / "filled.json"

    def overlays_file(self, tenant: str) -> Path:
        """Return the SQLite file of what users said of their portraits."""
        return self.tenant_dir(tenant) / "overlays.db"

    def receipts_file(self, tenant: str) -> Path:
        """Return the SQLite file of erasures' receipts."""
        return self.tenant_dir(tenant) / "receipts.db"

    def leases_dir(self, tenant: str) -> Path:
        """Return the folder of leases of long reads."""
        return self.tenant_dir(tenant) / "leases"

    def backups_dir(self) -> Path:
        """Return the folder that lists the backups of this store."""
        return self.root / "backups"

    def keys_dir(self) -> Path:
        """Return the folder of the store's own keys."""
        return self.root / "keys"

    def demand_dir(self, tenant: str) -> Path:
        """Return the folder of the secret that noise is drawn by, and of releases."""
        return self.tenant_dir(tenant) / "demand"

    def demand_file(self, tenant: str, space: str, name: str) -> Path:
        """Return the file of a release of demand."""
        _checked("release", name, _RELEASE)
        folder = self.demand_dir(tenant) / _checked("space_id", space, _NAME)
        return folder / f"{name}.safetensors"

    def state_dir(self, tenant: str) -> Path:
        """Return the folder of the pipeline's positions."""
        return self.tenant_dir(tenant) / "state"

    def _is_tenant(self, name: str) -> bool:
        return bool(_TENANT.fullmatch(name)) and any(
            (self.root / name / part).is_dir() for part in ("inbox", "events", "state", "feast")
        )


def write_json(path: Path, content: Any, *, is_private: bool = False) -> None:
    """Replace a JSON file in one atomic, durable step; its folder is made if absent.

    A private file can be read by its owner alone.
    """
    replace_file(path, _json(content), mode=0o600 if is_private else 0o666)


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON document; empty where there is none.

    Raises:
        DependencyUnavailable: the file is damaged.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise DependencyUnavailable("data folder", f"has a damaged {path.name}") from error
    return content


def _make_or_verify(path: Path, bucket_count: int) -> None:
    if not path.exists():
        # Where another process made the store first, theirs is verified.
        make_file_once(path, _json({"bucket_count": bucket_count, "version": STORE_VERSION}))
    try:
        stored = json.loads(path.read_text())
        made_with, version = int(stored["bucket_count"]), int(stored["version"])
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidArgument(
            "data_dir", f"{path} is damaged ({error!r}); restore it or point at another folder"
        ) from error
    if version != STORE_VERSION:
        raise InvalidArgument(
            "data_dir", f"{path} has layout version {version}; this program reads {STORE_VERSION}"
        )
    if made_with != bucket_count:
        raise InvalidArgument(
            "bucket_count",
            f"this store was made with {made_with} buckets, the setting says {bucket_count}; "
            f"set DRIFTLINE_BUCKET_COUNT={made_with}, or import into a new data folder",
        )


def _json(content: Any) -> bytes:
    return json.dumps(content, indent=1, sort_keys=True).encode()


def _checked(field: str, name: str, pattern: re.Pattern[str]) -> str:
    if not pattern.fullmatch(name):
        raise InvalidArgument(field, f"{name!r} must match {pattern.pattern}")
    return name
