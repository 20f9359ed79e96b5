"""What Feast is told: one project a tenant, its stores by settings."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from services.store.files import replacing


@dataclass(frozen=True, slots=True, kw_only=True)
class FeastConfig:
    """Which stores stand behind Feast."""

    online_store: Literal["sqlite", "redis"] = "sqlite"
    redis_url: str = "redis://127.0.0.1:6379/0"
    # SQLAlchemy URL of a shared registry; None: SQLite in the tenant's folder.
    registry_url: str | None = None

    @property
    def is_sqlite(self) -> bool:
        """Whether the online store is a file of one host."""
        return self.online_store == "sqlite"

    @property
    def has_files(self) -> bool:
        """Whether a store or the registry is a file of one host, which takes one writer at a time."""
        return self.is_sqlite or self.registry_url is None

    def repo_config(self, tenant: str, folder: Path) -> Any:
        """Return Feast's RepoConfig for one tenant whose files lie in `folder`."""
        from feast import RepoConfig

        return RepoConfig(**self._content(tenant, folder.absolute()), repo_path=folder.absolute())

    def write_yaml(self, tenant: str, folder: Path) -> None:
        """Write the feature_store.yaml by which other teams open the tenant's features.

        Passwords stay out of it: Feast takes them from REDIS_PASSWORD and DRIFTLINE_REGISTRY_URL.
        """
        content = self._content(tenant, folder.absolute())
        if self.registry_url and urlsplit(self.registry_url).password:
            content["registry"]["path"] = "${DRIFTLINE_REGISTRY_URL}"
        password = urlsplit(self.redis_url).password
        if not self.is_sqlite and password:
            content["online_store"]["connection_string"] = _feast_redis(
                self.redis_url,
                password="${REDIS_PASSWORD}",  # nosec B106  # noqa: S106 - a variable
            )
        with replacing(folder / "feature_store.yaml") as draft:
            # JSON is YAML.
            draft.write_text(json.dumps(content, indent=2) + "\n")

    def _content(self, tenant: str, folder: Path) -> dict[str, Any]:
        online: dict[str, Any] = {"type": "redis"}
        if self.is_sqlite:
            online = {"type": "sqlite", "path": str(folder / "online.db")}
        else:
            online["connection_string"] = _feast_redis(self.redis_url)
        return {
            "project": tenant,
            "provider": "local",
            "registry": {
                "registry_type": "sql",
                "path": self.registry_url or f"sqlite:///{folder / 'registry.db'}",
                "cache_ttl_seconds": 60,
                # Else reads fail while someone materializes.
                "serve_features_while_materializing": True,
            },
            "online_store": online,
            "offline_store": {"type": "duckdb"},
            "entity_key_serialization_version": 3,
        }


def _feast_redis(url: str, password: str | None = None) -> str:
    """Turn redis://[user:password@]host:port/db into Feast's host:port,db=N,password=..."""
    parts = urlsplit(url)
    options = [f"{parts.hostname or '127.0.0.1'}:{parts.port or 6379}"]
    if parts.path.strip("/"):
        options.append(f"db={parts.path.strip('/')}")
    if parts.username:
        options.append(f"username={unquote(parts.username)}")
    if parts.password:
        options.append(f"password={password or unquote(parts.password)}")
    if parts.scheme == "rediss":
        options.append("ssl=true")
    return ",".join(options)
