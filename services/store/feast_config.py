"""What Feast is told: one project a tenant, its stores by settings."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


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

    def repo_config(self, tenant: str, folder: Path) -> Any:
        """Return Feast's RepoConfig for one tenant whose files lie in `folder`."""
        from feast import RepoConfig

        path = folder.absolute()
        return RepoConfig(
            project=tenant,
            provider="local",
            registry={
                "registry_type": "sql",
                "path": self.registry_url or f"sqlite:///{path / 'registry.db'}",
                "cache_ttl_seconds": 60,
            },
            online_store=(
                {"type": "sqlite", "path": str(path / "online.db")}
                if self.is_sqlite
                else {"type": "redis", "connection_string": _feast_redis(self.redis_url)}
            ),
            offline_store={"type": "duckdb"},
            entity_key_serialization_version=3,
            repo_path=path,
        )


def _feast_redis(url: str) -> str:
    """Turn redis://[:password@]host:port/db into Feast's host:port,db=N,password=..."""
    from urllib.parse import unquote, urlsplit

    parts = urlsplit(url)
    options = [f"{parts.hostname or '127.0.0.1'}:{parts.port or 6379}"]
    if parts.path.strip("/"):
        options.append(f"db={parts.path.strip('/')}")
    if parts.password:
        options.append(f"password={unquote(parts.password)}")
    if parts.scheme == "rediss":
        options.append("ssl=true")
    return ",".join(options)
