"""A gateway as a process of its own, on a data folder that a test fills."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from services.core.model import Model
from services.core.pooling import PoolingConfig
from services.core.ranker import Ranker
from services.core.schema import DEFAULT_TENANT
from services.core.tower import BackboneSpec, ItemTower, space_id_of
from services.runtime.settings import Settings
from services.store.index import FolderCatalogues
from services.store.layout import Layout
from services.store.model_folder import save_model
from services.store.models import FolderRegistry
from services.store.ports import Catalogue
from tests.gateway.world import NOW

START_LIMIT_S = 60.0


@dataclass(frozen=True)
class Process:
    """A gateway that answers."""

    process: "subprocess.Popen[bytes]"
    port: int
    metrics_port: int
    log: Path


def publish(
    layout: Layout,
    made: Catalogue,
    ranker: Ranker,
    tenant: str = DEFAULT_TENANT,
    model_version: str = "m1",
) -> str:
    """Put a live model and its index into a data folder; return the space."""
    width = made.items_ND.shape[1]
    backbone = BackboneSpec(name="toy", weights_sha256="0" * 64, width=width)
    tower = ItemTower(
        mean_B=np.zeros(width, np.float32), projection_BD=np.eye(width, dtype=np.float32)
    )
    model = Model(
        model_version=model_version,
        space_id=space_id_of(backbone, tower),
        backbone=backbone,
        tower=tower,
        pooling=PoolingConfig(),
        ranker=ranker,
        trained_time=NOW,
        trained_until=NOW,
        data_sha256="1" * 64,
        metrics={},
    )
    folder = layout.root / f"made-{tenant}"
    info = save_model(folder, model)
    registry = FolderRegistry(layout)
    registry.add(tenant, str(folder), info)
    registry.promote(tenant, info.model_version)
    FolderCatalogues(layout).publish(tenant, replace(made, space_id=model.space_id))
    return model.space_id


@contextmanager
def gateway(folder: Path, **settings: Any) -> Iterator[Process]:
    """Run a gateway until the end of the block; one that still runs then is killed."""
    scratch = folder.parent / "run"
    scratch.mkdir(exist_ok=True)
    # Of a gateway that ran here before.
    (scratch / "port").unlink(missing_ok=True)
    chosen = Settings(**({"data_dir": folder, "port": 0, "port_file": scratch / "port"} | settings))
    log = scratch / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.gateway.main"],
            env={**_inherited(), **chosen.environment()},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        give_up = time.monotonic() + START_LIMIT_S
        while not (scratch / "port").exists():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < give_up
            time.sleep(0.02)
        port, metrics_port = map(int, (scratch / "port").read_text().split())
        yield Process(process, port, metrics_port, log)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _inherited() -> dict[str, str]:
    # Where a test imported Feast, prometheus_client would share its values through files.
    return {k: v for k, v in os.environ.items() if not k.upper().startswith("PROMETHEUS_")}
