"""Arrays and settings between processes, as files: `write` into a folder, and `read` it elsewhere.

value.json   what was written; each array is named
{n}.npy      an array, which readers map: all processes of a machine share one copy

No pickle: only the classes named here come out.
"""

import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from services.core.ranker import Ranker
from services.core.tower import ItemTower
from services.store.files import replacing
from services.training.checkpoints import Checkpoints
from services.training.examples import Origin
from services.training.fit_ranker import FittedRanker, Learned
from services.training.ranker import RankerConfig
from services.training.ranker_job import RankerJob

_CLASSES: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        RankerJob, RankerConfig, Checkpoints, Learned, FittedRanker, ItemTower, Ranker, Origin
    )
}  # fmt: skip
_VALUE = "value.json"


def write(folder: Path, value: Any) -> None:
    """Write a value; whoever finds value.json finds all of it.

    Args:
        folder: made where it is absent.
        value: numbers, texts, paths, arrays, sparse rows, and tuples, lists, dicts and the
            dataclasses above of such.
    """
    folder.mkdir(parents=True, exist_ok=True)
    arrays: list[np.ndarray] = []
    coded = _coded(value, arrays)
    for number, array in enumerate(arrays):
        np.save(folder / f"{number}.npy", array, allow_pickle=False)
    with replacing(folder / _VALUE) as draft:
        draft.write_text(json.dumps(coded))


def read(folder: Path) -> Any:
    """Return what was written; arrays are read-only."""
    return _decoded(json.loads((folder / _VALUE).read_text()), folder)


def is_written(folder: Path) -> bool:
    """Tell whether there is something to read."""
    return (folder / _VALUE).exists()


def _coded(value: Any, arrays: list[np.ndarray]) -> Any:
    """Return JSON for a value: what JSON lacks becomes [kind, content], and so do lists."""
    kind, content = type(value).__name__, value
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.ndarray):
        kind, content = "array", len(arrays)
        arrays.append(value)
    elif isinstance(value, Path):
        kind, content = "path", str(value)
    elif isinstance(value, sparse.csr_matrix):
        parts = (value.data, value.indices, value.indptr, tuple(map(int, value.shape)))
        kind, content = "csr", [_coded(part, arrays) for part in parts]
    elif isinstance(value, list | tuple):
        content = [_coded(part, arrays) for part in value]
    elif isinstance(value, dict):
        content = [[_coded(key, arrays), _coded(v, arrays)] for key, v in value.items()]
    else:
        assert is_dataclass(value) and kind in _CLASSES, type(value)
        named = {field.name: getattr(value, field.name) for field in fields(value)}
        content = _coded(named, arrays)
    return [kind, content]


def _decoded(coded: Any, folder: Path) -> Any:
    if not isinstance(coded, list):
        return coded
    kind, content = coded
    value: Any
    match kind:
        case "array":
            value = _mapped(folder / f"{content}.npy")
        case "path":
            value = Path(content)
        case "csr":
            *parts, shape = (_decoded(part, folder) for part in content)
            value = sparse.csr_matrix(tuple(parts), shape=shape)
        case "list" | "tuple":
            parts = [_decoded(part, folder) for part in content]
            value = parts if kind == "list" else tuple(parts)
        case "dict":
            value = {_decoded(key, folder): _decoded(part, folder) for key, part in content}
        case _:
            value = _CLASSES[kind](**_decoded(content, folder))
    return value


def _mapped(path: Path) -> np.ndarray:
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError:  # no bytes, nothing to map
        array = np.load(path, allow_pickle=False)
    # A plain array: a memmap's class costs each slice a little.
    return np.asarray(array)
