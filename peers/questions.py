"""What a peer is asked and what it answers, as files. Numbers only: no pickle, no ids, no texts.

The other side of it is services/evaluation/peers.py; neither imports the other.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

Constants = dict[str, float]
Matrix = np.ndarray | sparse.csr_matrix


@dataclass(frozen=True)
class Events:
    """Arrays of one length, in time order unless said otherwise; users and items are rows."""

    user: np.ndarray
    item: np.ndarray
    # Seconds since 1970.
    time: np.ndarray
    # Ordinals of the evaluation's periods.
    period: np.ndarray

    def take(self, chosen: Any) -> "Events":
        """Return some of them, by rows or a slice."""
        return Events(self.user[chosen], self.item[chosen], self.time[chosen], self.period[chosen])


@dataclass(frozen=True)
class Origin:
    """An instant, what happened before it, and who is asked."""

    past: Events
    users_A: np.ndarray


@dataclass(frozen=True)
class Questions:
    """Everything that a peer is told."""

    user_count: int
    item_count: int
    # What it may learn from.
    to_fit: Events
    origins: list[Origin]


@dataclass(frozen=True)
class Answer:
    """Scores of all items for all users asked, as a product: users @ items.T."""

    # [A, F], a row per user asked; zeros where the peer knows nothing of one.
    users: Matrix
    # [N, F]
    items: Matrix
    # [N] False where the peer cannot score an item.
    is_known: np.ndarray


def read_questions(folder: Path) -> Questions:
    """Read them; a past is the first rows of one file, so that it cannot hold later events."""
    said = json.loads((folder / "questions.json").read_text())
    with np.load(folder / "events.npz", allow_pickle=False) as arrays:
        events = Events(*(arrays[name] for name in ("user", "item", "time", "period")))
    return Questions(
        user_count=said["user_count"],
        item_count=said["item_count"],
        to_fit=events.take(slice(said["events_to_fit"])),
        origins=[
            Origin(
                past=events.take(slice(origin["events"])),
                users_A=np.load(folder / origin["users"], allow_pickle=False),
            )
            for origin in said["origins"]
        ],
    )


def write_answer(folder: Path, number: int, answer: Answer) -> None:
    """Write the answer for one origin."""
    for name, matrix in (("users", answer.users), ("items", answer.items)):
        if sparse.issparse(matrix):
            sparse.save_npz(folder / f"{name}_{number}.npz", matrix.tocsr().astype(np.float32))
        else:
            np.save(folder / f"{name}_{number}.npy", np.asarray(matrix, np.float32))
    np.save(folder / f"known_{number}.npy", answer.is_known)
