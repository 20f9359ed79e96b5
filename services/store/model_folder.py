"""The model folder: model.json and safetensors, each file under its sha256. No pickle, no torch.

model.json               version, space, backbone, pooling, scalars, metrics, files' sha256
item_tower.safetensors   mean_B, projection_BD, known_KD
known_items.json         ids of the known items, K
ranker.safetensors       arrays of core.ranking.Ranker
forecaster.safetensors   arrays of each granularity's forecaster, named {granularity}/{name}
card.json, README.md, curves.json   see model_card.py
"""

import hashlib
import json
import os
import shutil
from dataclasses import asdict, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from services.core.errors import InvalidArgument, NotReady
from services.core.model import ForecasterSpec, Model
from services.core.pooling import PoolingConfig
from services.core.ranking import Ranker
from services.core.records import F32, ModelInfo
from services.core.schema import Granularity
from services.core.tower import BackboneSpec, ItemTower, space_id_of
from services.store.model_card import MANIFEST, card_files, load_card, load_curves, settled

FORMAT = 1
TOWER_FILE = "item_tower.safetensors"
KNOWN_FILE = "known_items.json"
RANKER_FILE = "ranker.safetensors"
FORECASTER_FILE = "forecaster.safetensors"


def version_of(model: Model) -> str:
    """Return the version that a model's content gives it, such as m20171030-1f3c9a2b5d6e.

    Same content, same version. `model_version`, `trained_time`, metrics, card and curves are not content.
    """
    manifest, files = _pack(model)
    content = {key: manifest[key] for key in sorted(manifest) if key not in _NOT_CONTENT}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for name in sorted(files):
        digest.update(files[name])
    return f"m{model.trained_until:%Y%m%d}-{digest.hexdigest()[:12]}"


def save_model(folder: Path, model: Model) -> ModelInfo:
    """Write a model folder, whole or not at all; an older model folder there is replaced.

    Raises:
        InvalidArgument: the folder holds something that is not a model.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / MANIFEST).exists():
        raise InvalidArgument("folder", f"{folder} holds other files; name an empty or new folder")
    manifest, files = _pack(model)
    files |= card_files(model)
    manifest["files"] = {name: hashlib.sha256(blob).hexdigest() for name, blob in files.items()}
    folder.parent.mkdir(parents=True, exist_ok=True)
    staged = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir()
    for name, blob in files.items():
        (staged / name).write_bytes(blob)
    (staged / MANIFEST).write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")
    if folder.exists():
        shutil.rmtree(folder)
    staged.rename(folder)
    return model.info()


def load_model(folder: Path) -> Model:
    """Read a model folder and check every file.

    Raises:
        NotReady: there is no model folder there.
        InvalidArgument: a file is missing, altered or of another format, or the files do not make
            the space that is named.
    """
    manifest = _manifest(folder)
    arrays = _arrays(folder, manifest, FORECASTER_FILE)
    model = Model(
        model_version=manifest["model_version"],
        space_id=manifest["space_id"],
        backbone=BackboneSpec(**manifest["backbone"]),
        tower=_tower(folder, manifest),
        pooling=_pooling(manifest["pooling"]),
        ranker=_ranker(folder, manifest),
        forecasters={
            Granularity(name): ForecasterSpec(config=config, arrays=_under(arrays, name))
            for name, config in manifest["forecasters"].items()
        },
        trained_time=datetime.fromisoformat(manifest["trained_time"]),
        trained_until=datetime.fromisoformat(manifest["trained_until"]),
        data_sha256=manifest["data_sha256"],
        metrics=manifest["metrics"],
        curves=load_curves(folder),
        card=load_card(folder),
    )
    made = space_id_of(model.backbone, model.tower)
    if made != model.space_id:
        raise InvalidArgument(
            "model", f"says space {model.space_id}, its files make {made}; train again"
        )
    return model


def load_info(folder: Path, stage: str = "") -> ModelInfo:
    """Read the registry's row of a model folder; its other files are not read."""
    manifest = _manifest(folder)
    return ModelInfo(
        model_version=manifest["model_version"],
        space_id=manifest["space_id"],
        stage=stage,
        trained_time=datetime.fromisoformat(manifest["trained_time"]),
        trained_until=datetime.fromisoformat(manifest["trained_until"]),
        data_sha256=manifest["data_sha256"],
        metrics=manifest["metrics"],
    )


def load_ranker(folder: Path) -> Ranker:
    """Read the ranker alone, checked. Raises as load_model."""
    return _ranker(folder, _manifest(folder))


def load_tower(folder: Path) -> ItemTower:
    """Read the item tower alone, checked. Raises as load_model."""
    return _tower(folder, _manifest(folder))


def check_model_folder(folder: Path) -> None:
    """Check every file's sha256 without keeping any. Raises as load_model."""
    settled(lambda: _check(folder))


# What version_of leaves out.
_NOT_CONTENT = ("model_version", "trained_time", "metrics", "files")


def _check(folder: Path) -> None:
    manifest = _manifest(folder)
    for name in manifest["files"]:
        _blob(folder, manifest, name)


def _pack(model: Model) -> tuple[dict[str, Any], dict[str, bytes]]:
    ranker_arrays, ranker_scalars = _split(model.ranker)
    forecaster_arrays = {
        f"{granularity}/{name}": array
        for granularity, spec in model.forecasters.items()
        for name, array in spec.arrays.items()
    }
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "model_version": model.model_version,
        "space_id": model.space_id,
        "backbone": asdict(model.backbone),
        "width": model.tower.width,
        "pooling": asdict(model.pooling),
        "ranker": ranker_scalars,
        "forecasters": {str(name): spec.config for name, spec in model.forecasters.items()},
        "trained_time": model.trained_time.isoformat(),
        "trained_until": model.trained_until.isoformat(),
        "data_sha256": model.data_sha256,
        "metrics": model.metrics,
    }
    tower = {"mean_B": model.tower.mean_B, "projection_BD": model.tower.projection_BD}
    if model.tower.known_KD is not None:
        tower["known_KD"] = model.tower.known_KD
    return manifest, {
        TOWER_FILE: _packed(tower),
        KNOWN_FILE: json.dumps(model.tower.known_ids).encode(),
        RANKER_FILE: _packed(ranker_arrays),
        FORECASTER_FILE: _packed(forecaster_arrays),
    }


def _packed(arrays: dict[str, F32]) -> bytes:
    # In name order, so that equal models are equal files.
    return bytes(
        save({name: np.ascontiguousarray(arrays[name], np.float32) for name in sorted(arrays)})
    )


def _split(ranker: Ranker) -> tuple[dict[str, F32], dict[str, Any]]:
    arrays: dict[str, F32] = {}
    scalars: dict[str, Any] = {}
    for field in fields(ranker):
        value = getattr(ranker, field.name)
        (arrays if isinstance(value, np.ndarray) else scalars)[field.name] = value
    return arrays, scalars


def _ranker(folder: Path, manifest: dict[str, Any]) -> Ranker:
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in manifest["ranker"].items()
    }
    values.update(_arrays(folder, manifest, RANKER_FILE))
    return Ranker(**values)


def _tower(folder: Path, manifest: dict[str, Any]) -> ItemTower:
    known_ids = tuple(json.loads(_blob(folder, manifest, KNOWN_FILE)))
    return ItemTower(**_arrays(folder, manifest, TOWER_FILE), known_ids=known_ids)


def _pooling(given: dict[str, Any]) -> PoolingConfig:
    return replace(PoolingConfig(**given), half_lives_days=tuple(given["half_lives_days"]))


def _under(arrays: dict[str, F32], granularity: str) -> dict[str, F32]:
    prefix = f"{granularity}/"
    return {name[len(prefix) :]: a for name, a in arrays.items() if name.startswith(prefix)}


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except FileNotFoundError:
        raise NotReady("model", f"{folder} holds no {MANIFEST}; run `driftline train`") from None
    except ValueError:
        raise InvalidArgument(
            "model", f"{folder / MANIFEST} is not JSON; copy the folder again"
        ) from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise InvalidArgument("model", f"{folder} is of another format than {FORMAT}; train again")
    return manifest


def _blob(folder: Path, manifest: dict[str, Any], name: str) -> bytes:
    try:
        blob = (folder / name).read_bytes()
    except FileNotFoundError:
        raise InvalidArgument(
            "model", f"{folder / name} is missing; copy the folder again"
        ) from None
    if hashlib.sha256(blob).hexdigest() != manifest["files"].get(name):
        raise InvalidArgument(
            "model", f"{folder / name} is not the file that was saved; copy the folder again"
        )
    return blob


def _arrays(folder: Path, manifest: dict[str, Any], name: str) -> dict[str, F32]:
    return dict(load(_blob(folder, manifest, name)))
