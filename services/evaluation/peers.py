"""Peers: recommenders of other libraries, asked by files, measured as every other method.

They need a numpy that this project cannot live with, so they run in a venv of their own
(.venv-peers, made by `make eval-peers`) from the folder peers/, which imports nothing from here:

    PeerBlock    one block of origins. Writes who is asked, and what happened before each origin;
                 reads users @ items.T back, from which every slice is ranked here.
    Peers        both blocks, and what is tried of each peer; finished as the project's own rivals

Shape suffixes: U = users, N = items, A = users asked, B = users of a chunk, F = factors.
"""

import json
import math
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from services.core.dataset import Dataset
from services.core.errors import InvalidArgument
from services.core.pooling import I64
from services.core.records import F32
from services.evaluation.protocol import OriginView, Split, first_seen, view_at
from services.evaluation.rivals import Grid, finished
from services.evaluation.scorers import Method, Scorer
from services.evaluation.tuning import Chooser, Constants, Family

ROOT = Path(__file__).parents[2]
# Constants that are applied here, to what a peer answered.
SOFTMAX = "softmax"
GRIDS: dict[str, Grid] = {
    "sasrec": {
        "width": (64.0, 128.0),
        "length": (100.0, 50.0),
        "learning_rate": (1e-3, 3e-3),
        # Popularity is added to softmax(scores), or to scores moved to start at 0.
        SOFTMAX: (1.0, 0.0),
    },
    "als": {
        "alpha": (4.0, 0.3, 1.0, 16.0),
        "regularisation": (1.0, 0.1, 10.0, 30.0),
        "half_life": (math.inf, 12.0),
        "factors": (64.0, 32.0, 128.0),
    },
    "bm25": {
        "half_life": (12.0, 4.0, 26.0, 52.0, math.inf),
        "neighbours": (100.0, 20.0, 400.0, 1000.0),
        "k1": (1.2, 100.0),
        "b": (0.75, 0.0),
    },
}
PREFIX = "peer_"
# Of SASRec, at most: an epoch is dear, and which setting learns faster shows early.
EPOCHS, CHOOSING_EPOCHS = 30.0, 4.0


class PeerProcess(Protocol):
    """Answers a folder of questions."""

    def __call__(
        self, peer: str, constants: Constants, questions: Path, answers: Path, *, seed: int
    ) -> None:
        """Fit a peer, ask it at every origin, and write its answers.

        Raises:
            InvalidArgument: it cannot run here, or failed.
        """
        ...


def peer_venv(root: Path = ROOT) -> "PeerVenv":
    """Return what runs peers in the venv of a clone.

    Raises:
        InvalidArgument: it is missing.
    """
    python = root / ".venv-peers" / "bin" / "python"
    if not python.exists():
        raise InvalidArgument(
            "peers",
            f"they need a venv of their own, and {python} is not there; `make eval-peers` makes it",
        )
    return PeerVenv(python=python, script=root / "peers" / "answer.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerVenv:
    """Runs peers/answer.py in a Python that has their libraries."""

    python: Path
    script: Path

    def __call__(
        self, peer: str, constants: Constants, questions: Path, answers: Path, *, seed: int
    ) -> None:
        """See PeerProcess."""
        given = json.dumps(constants)
        command = [str(self.python), str(self.script), peer, str(questions), str(answers), given]
        log = answers / "log.txt"
        with log.open("w") as written:
            done = subprocess.run(
                [*command, str(seed)], stdout=written, stderr=written, check=False
            )
        if done.returncode != 0:
            raise InvalidArgument("peers", f"{peer} failed with {constants}; {log} says why")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a peer said at an origin."""

    users_A: I64
    # [A, F] and [N, F]: their product is the scores.
    factors_AF: F32 | sparse.csr_matrix
    items_NF: F32 | sparse.csr_matrix
    # Items that the peer can score.
    is_known_N: NDArray[np.bool_]

    def scores(self, users_B: I64, *, is_softmax: bool | None) -> F32:
        """Return scores of all items [B, N]; with None as the peer gave them.

        Else what it does not know gets 0, and the rest more: its softmax, or its distance from
        the user's worst. A user whom the peer does not know gets zeros.
        """
        row_B = np.searchsorted(self.users_A, users_B)
        factors_BF = self.factors_AF[row_B]
        product = factors_BF @ self.items_NF.T
        raw_BN: F32 = _dense(product)
        if is_softmax is None:
            raw_BN[:, ~self.is_known_N] = 0.0
            return raw_BN
        known_BM = raw_BN[:, self.is_known_N]
        if is_softmax:
            known_BM = np.exp(known_BM - known_BM.max(axis=1, keepdims=True))
        else:
            known_BM -= known_BM.min(axis=1, keepdims=True)
        score_BN = np.zeros_like(raw_BN)
        score_BN[:, self.is_known_N] = known_BM
        score_BN[np.asarray(abs(factors_BF).sum(axis=1)).ravel() == 0] = 0.0
        return score_BN


class PeerBlock:
    """A block's questions on disk, and what the peers answered to them."""

    def __init__(
        self,
        process: PeerProcess,
        folder: Path,
        fit: Dataset,
        views: Iterable[OriginView],
        *,
        seed: int = 0,
    ) -> None:
        """Write the questions.

        Args:
            process: runs a peer.
            folder: emptied, and made if absent.
            fit: what a peer may learn from.
            views: the block's origins, ascending; their pasts start with `fit`.
            seed: of the peers.
        """
        self._process, self._folder, self._seed = process, folder, seed
        self._fitted_events = fit.event_count
        # By origin, its instant and the users asked.
        self._asked: list[tuple[float, I64]] = []
        self._answered: dict[tuple[str, tuple[float, ...]], Path] = {}
        shutil.rmtree(folder, ignore_errors=True)
        self._questions = folder / "questions"
        self._questions.mkdir(parents=True)
        self._write(fit, views)

    def method(self, peer: str, fit: Dataset, constants: Constants) -> Method:
        """Return a peer as a method, which can be asked at this block's origins only."""
        assert fit.event_count == self._fitted_events, "a peer learns from its block's events"
        folder = self.answers(peer, constants)
        softmax = constants.get(SOFTMAX)
        is_softmax = None if softmax is None else bool(softmax)

        def prepare(past: Dataset, now: float) -> Scorer:
            number = next(at for at, (instant, _) in enumerate(self._asked) if instant == now)
            answer = self._read(folder, number)
            return lambda users_B: answer.scores(users_B, is_softmax=is_softmax)

        return prepare

    def answers(self, peer: str, constants: Constants) -> Path:
        """Return the folder of a peer's answers; it is asked once for the same constants."""
        given = {name: value for name, value in constants.items() if name != SOFTMAX}
        key = peer, tuple(given.values())
        if key not in self._answered:
            folder = self._folder / f"{peer}_{len(self._answered)}"
            folder.mkdir()
            (folder / "constants.json").write_text(json.dumps(given) + "\n")
            self._process(peer, given, self._questions, folder, seed=self._seed)
            self._answered[key] = folder
        return self._answered[key]

    def said(self, peer: str, constants: Constants) -> str:
        """Return what a peer says of its own fitting."""
        said = json.loads((self.answers(peer, constants) / "said.json").read_text())
        return ", ".join(
            f"{name.replace('_', ' ')} {_short(value)}" for name, value in said.items()
        )

    def _write(self, fit: Dataset, views: Iterable[OriginView]) -> None:
        last, origins = fit, []
        for number, view in enumerate(views):
            np.save(self._questions / f"users_{number}.npy", view.users)
            # Events are in time order: a past is the first of them.
            origins.append({"events": view.past.event_count, "users": f"users_{number}.npy"})
            self._asked.append((view.now, view.users))
            last = view.past
        np.savez(
            self._questions / "events.npz", user=last.user_ix_E, item=last.item_ix_E,
            time=last.time_E, period=last.period_E,
        )  # fmt: skip
        said = {
            "user_count": last.user_count,
            "item_count": last.item_count,
            "events_to_fit": fit.event_count,
            "origins": origins,
        }
        (self._questions / "questions.json").write_text(json.dumps(said, indent=1) + "\n")

    def _read(self, folder: Path, number: int) -> Answer:
        return Answer(
            users_A=self._asked[number][1],
            factors_AF=_matrix(folder, f"users_{number}"),
            items_NF=_matrix(folder, f"items_{number}"),
            is_known_N=np.load(folder / f"known_{number}.npy", allow_pickle=False),
        )


class Peers:
    """The peers of an evaluation: tried on its validation block, compared on its origins."""

    def __init__(
        self, process: PeerProcess, folder: Path, data: Dataset, split: Split,
        horizons: tuple[int, ...], user_limit: int, *, seed: int = 0,
    ) -> None:  # fmt: skip
        """Write the questions of the split's origins; the same users are asked as by `rank_all`."""
        self._process, self._folder, self._seed = process, folder, seed
        seen_N = first_seen(data)
        views = (
            view_at(
                data, split, origin, horizons, first_seen_N=seen_N, user_limit=user_limit, seed=seed
            )
            for origin in split.origins
        )
        fit = data.before(split.start(split.origins[0]))
        self._block = PeerBlock(process, folder / "test", fit, views, seed=seed)

    def families(self, window: float) -> list[Family]:
        """Return what is compared."""
        return families(self._block, window, is_choosing=False)

    def tried(self, chooser: Chooser, window: float) -> list[Family]:
        """Return what is tried on the chooser's block."""
        folder = self._folder / "validation"
        block = PeerBlock(self._process, folder, chooser.fit, chooser.views, seed=self._seed)
        return families(block, window, is_choosing=True)


def families(block: PeerBlock, window: float, *, is_choosing: bool) -> list[Family]:
    """Return the peers, finished like the project's rivals: with popularity, and what was had.

    Args:
        block: whose origins they can be asked at.
        window: of popularity, days.
        is_choosing: whether constants are being chosen: SASRec then learns for fewer epochs.
    """

    def family(peer: str, grid: Grid) -> Family:
        fixed = {}
        if peer == "sasrec":
            fixed["epochs"] = CHOOSING_EPOCHS if is_choosing else EPOCHS

        def build(fit: Dataset, constants: Constants) -> Method:
            return block.method(peer, fit, constants | fixed)

        def note(constants: Constants) -> str:
            return block.said(peer, {name: constants[name] for name in grid} | fixed)

        return finished(PREFIX + peer, build, grid, window, is_choosing=is_choosing, note=note)

    return [family(peer, grid) for peer, grid in GRIDS.items()]


def _matrix(folder: Path, name: str) -> F32 | sparse.csr_matrix:
    dense = folder / f"{name}.npy"
    if dense.exists():
        return np.asarray(np.load(dense, allow_pickle=False))
    return sparse.csr_matrix(sparse.load_npz(folder / f"{name}.npz"))


def _dense(matrix: Any) -> F32:
    return np.asarray(matrix.toarray() if sparse.issparse(matrix) else matrix)


def _short(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(_short, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)
