"""How well a tenant's store is, as the write path measured it last: two small documents under state/.

The write path is a job that nobody scrapes; gateways read this and export it (runtime/health.py).
"""

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from services.store.layout import Layout, read_json

# Names of the documents, among the pipeline's.
HEALTH, REFRESHED = "health", "refreshed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """One look at what is stored and served."""

    # Wall clock.
    measured_time: datetime
    # The live space.
    space_id: str
    # Of users with usable events the share that has a vector, of described items the share that is in
    # the index; both in [0, 1].
    users_covered: float
    items_covered: float
    # Share of sampled users whose online vector is not the newest offline one, in [0, 1].
    divergence: float
    # By granularity, robust standard deviations (core.drift); absent where too little is known.
    vector_drift: dict[str, float] = field(default_factory=dict)
    score_drift: dict[str, float] = field(default_factory=dict)


def health_to_state(health: Health) -> dict[str, Any]:
    """Return JSON values for EventTables.write_state(tenant, HEALTH, ...)."""
    return {**asdict(health), "measured_time": health.measured_time.isoformat()}


def refreshed_to_state(now: datetime) -> dict[str, Any]:
    """Return JSON values for EventTables.write_state(tenant, REFRESHED, ...)."""
    return {"time": now.isoformat()}


def read_health(layout: Layout, tenant: str) -> Health | None:
    """Return the last look; None before the first.

    Raises:
        DependencyUnavailable: the document is damaged.
    """
    said = read_json(layout.state_dir(tenant) / f"{HEALTH}.json")
    if not said:
        return None
    return Health(**{**said, "measured_time": datetime.fromisoformat(said["measured_time"])})


def refreshed_time(layout: Layout, tenant: str) -> datetime | None:
    """Return when everything that had come in was last served; None before the first refresh.

    Raises:
        DependencyUnavailable: the document is damaged.
    """
    said = read_json(layout.state_dir(tenant) / f"{REFRESHED}.json").get("time")
    return datetime.fromisoformat(said) if said else None
