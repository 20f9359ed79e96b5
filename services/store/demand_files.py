"""Releases of demand: in memory, and as one safetensors file each, replaced in one atomic step."""

import json
import secrets
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from services.core.demand import Partition, Published, ReleaseTerms
from services.core.demand_forecast import DemandForecast, SeriesForecast
from services.core.demand_release import Release
from services.core.errors import DependencyUnavailable
from services.core.schema import Granularity
from services.store.files import make_file_once, replacing
from services.store.layout import Layout
from services.store.turns import PUBLISH_LOCK

_FIGURES = ("audience", "volume", "share")
_SECRET_BYTES = 32

Make = Callable[[bytes, Release | None], Release | None]


class MemoryDemand:
    """Keeps releases while it lives: the tests' default."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str, str], Release] = {}
        self._secrets: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def read(self, tenant: str, space_id: str, name: str) -> Release | None:
        """Return the release that stands."""
        return self._held.get((tenant, space_id, name))

    def update(self, tenant: str, space_id: str, name: str, make: Make) -> Release | None:
        """Replace a release by what `make` returns."""
        with self._lock:
            secret = self._secrets.setdefault(tenant, secrets.token_bytes(_SECRET_BYTES))
            made = make(secret, self._held.get((tenant, space_id, name)))
            if made is not None:
                self._held[tenant, space_id, name] = made
            return self._held.get((tenant, space_id, name))


class FolderDemand:
    """Files in the data folder; see the port DemandStore."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        # What was read last of each file, and when that file was made.
        self._held: dict[Path, tuple[tuple[int, int], Release]] = {}

    def read(self, tenant: str, space_id: str, name: str) -> Release | None:
        """Return the release that stands; a file is read once."""
        path = self._layout.demand_file(tenant, space_id, name)
        try:
            said = path.stat()
            token = (said.st_mtime_ns, said.st_ino)
            held = self._held.get(path)
            if held is None or held[0] != token:
                held = (token, _load(path))
                self._held[path] = held
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise DependencyUnavailable("the store of demand", f"failed ({error!r})") from error
        return held[1]

    def update(self, tenant: str, space_id: str, name: str, make: Make) -> Release | None:
        """Replace a release by what `make` returns, one process at a time."""
        path = self._layout.demand_file(tenant, space_id, name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.parent / PUBLISH_LOCK):
                made = make(self._secret(tenant), self.read(tenant, space_id, name))
                if made is not None:
                    with replacing(path) as draft:
                        _save(draft, made)
        except OSError as error:
            raise DependencyUnavailable("the store of demand", f"failed ({error!r})") from error
        return self.read(tenant, space_id, name)

    def _secret(self, tenant: str) -> bytes:
        path = self._layout.demand_dir(tenant) / "secret"
        if not path.exists():
            make_file_once(path, secrets.token_bytes(_SECRET_BYTES), mode=0o600)
        return path.read_bytes()


def _save(path: Path, release: Release) -> None:
    published = release.published
    arrays: dict[str, NDArray[Any]] = {
        "published.audience": published.audience_CTP,
        "published.volume": published.volume_CTP,
        "published.size": published.size_CP,
    }
    for row, forecast in enumerate(release.forecasts.values()):
        for name in _FIGURES:
            series: SeriesForecast = getattr(forecast, name)
            arrays[f"forecast.{row}.{name}.mean"] = series.mean_NH
            arrays[f"forecast.{row}.{name}.bound"] = series.bound_NHQ
    terms = release.terms
    said = {
        "space_id": release.space_id,
        "published_time": release.published_time.isoformat(),
        "topic_ids": release.topic_ids,
        "published_cohorts": published.cohorts,
        "published_topic_ids": published.topic_ids,
        "first": published.first,
        "edition": published.edition,
        "terms": {
            "granularity": str(terms.granularity),
            "partition": str(terms.partition),
            "epsilon": terms.epsilon,
            "event_cap": terms.event_cap,
            "least_users": terms.least_users,
        },
        "forecasts": [
            {
                "cohort": cohort,
                "methods": {name: getattr(forecast, name).methods for name in _FIGURES},
            }
            for cohort, forecast in release.forecasts.items()
        ],
    }
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    save_file(arrays, path, {"release": json.dumps(said)})


def _load(path: Path) -> Release:
    with safe_open(path, framework="numpy") as file:
        said: dict[str, Any] = json.loads(file.metadata()["release"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    terms = said["terms"]
    published = Published(
        terms=ReleaseTerms(
            granularity=Granularity(terms["granularity"]),
            partition=Partition(terms["partition"]),
            epsilon=float(terms["epsilon"]),
            event_cap=int(terms["event_cap"]),
            least_users=int(terms["least_users"]),
        ),
        edition=int(said["edition"]),
        cohorts=tuple(said["published_cohorts"]),
        topic_ids=tuple(said["published_topic_ids"]),
        first=int(said["first"]),
        audience_CTP=arrays["published.audience"],
        volume_CTP=arrays["published.volume"],
        size_CP=arrays["published.size"],
    )
    forecasts = {}
    for row, one in enumerate(said["forecasts"]):
        figures = {
            name: SeriesForecast(
                mean_NH=arrays[f"forecast.{row}.{name}.mean"],
                bound_NHQ=arrays[f"forecast.{row}.{name}.bound"],
                methods=tuple(one["methods"][name]),
            )
            for name in _FIGURES
        }
        forecasts[one["cohort"]] = DemandForecast(**figures)
    return Release(
        space_id=said["space_id"],
        published=published,
        published_time=datetime.fromisoformat(said["published_time"]).astimezone(UTC),
        topic_ids=tuple(said["topic_ids"]),
        forecasts=forecasts,
    )
