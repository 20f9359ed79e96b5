"""What a training has done so far, on disk: work that was killed is taken up where it stood.

FOLDER/lock                        held by the one training that runs
FOLDER/workers                     held by the process whose workers write states, if it has any
FOLDER/ray.log                     what the last of those processes said
FOLDER/{key}/ranker.safetensors    module, optimizer and counts after some step
FOLDER/{key}/try-{epochs}/ranker.safetensors   the same of a trial (choose_epochs.py)
FOLDER/{key}/{granularity}.safetensors   a fitted forecaster

The key hashes everything that decides the result, so other data or another configuration never
meet a state that is not theirs. Each file is replaced in one atomic step. No pickle: tensors, and
JSON in the file's header.
"""

import hashlib
import json
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from services.core.errors import Overloaded
from services.store.files import replacing

# Counts up where a state's meaning changes.
FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Tensors by name, and JSON values."""

    tensors: dict[str, Tensor]
    values: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoints:
    """The states of one piece of work."""

    folder: Path
    # Shortest time between two states of one name; the last one is always kept.
    every_s: float = 10.0

    def part(self, name: str) -> "Checkpoints":
        """Return the states of a part of the work; they lie in a folder of this one's."""
        return replace(self, folder=self.folder / name)

    def write(self, name: str, state: State) -> None:
        """Replace a state, durably."""
        content = save(
            {key: tensor.detach().cpu().contiguous() for key, tensor in state.tensors.items()},
            {"state": json.dumps(state.values)},
        )
        with replacing(self.folder / f"{name}.safetensors") as draft:
            draft.write_bytes(content)

    def read(self, name: str) -> State | None:
        """Return a state; None where there is none, or none that can be read."""
        path = self.folder / f"{name}.safetensors"
        try:
            with safe_open(path, "pt") as file:
                values = json.loads(file.metadata()["state"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (FileNotFoundError, SafetensorError, ValueError, KeyError, TypeError):
            return None
        return State(tensors=tensors, values=values)


@contextmanager
def work_folder(root: Path) -> Iterator[Path]:
    """Hold a tenant's folder of training states; a process that dies lets go of it.

    Raises:
        Overloaded: another training holds it.
    """
    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise Overloaded("one training at a time in this data folder") from None
    try:
        yield root
    finally:
        lock.release()


def checkpoints_of(
    root: Path, key: str, *, every_s: float = 10.0, is_fresh: bool = False
) -> Checkpoints:
    """Return the states of a piece of work; those of all other work are removed.

    What was learned from users who have been erased since lies in no folder for long: their going
    changes the key.
    """
    for folder in root.iterdir():
        if folder.is_dir() and (is_fresh or folder.name != key):
            shutil.rmtree(folder, ignore_errors=True)
    return Checkpoints(folder=root / key, every_s=every_s)


def forget(root: Path) -> None:
    """Remove all states: the work is done and its model is safe."""
    for folder in root.iterdir():
        if folder.is_dir():
            shutil.rmtree(folder, ignore_errors=True)


def json_of(values: Any) -> Any:
    """Return values as JSON would give them back: lists for tuples, strings for enums."""
    return json.loads(json.dumps(values))


def key_of(parts: dict[str, Any]) -> str:
    """Return the key of a piece of work; `parts` are the JSON values that decide its result."""
    machine = [FORMAT, torch.__version__, platform.machine()]
    content = json.dumps([machine, parts], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:24]
