"""Fits one peer, asks it at every origin, and writes what it answers. Runs in .venv-peers.

Usage: answer.py PEER QUESTIONS ANSWERS CONSTANTS SEED

QUESTIONS and ANSWERS are folders (questions.py says what lies in them), CONSTANTS is JSON.
"""

import json
import sys
import time
from pathlib import Path

from questions import read_questions, write_answer


def main(peer: str, asked: str, answers: str, constants: str, seed: str) -> None:
    """Answer all of a block's questions."""
    questions, folder = read_questions(Path(asked)), Path(answers)
    start = time.perf_counter()
    model = load(peer)(questions, json.loads(constants), int(seed))
    fitted = time.perf_counter()
    for number, origin in enumerate(questions.origins):
        write_answer(folder, number, model.answer(origin.past, origin.users_A))
    said = model.said | {
        "fit_seconds": fitted - start,
        "answer_seconds": time.perf_counter() - fitted,
    }
    (folder / "said.json").write_text(json.dumps(said) + "\n")


def load(peer: str) -> type:
    """Return what fits a peer; its library is imported only then."""
    if peer == "sasrec":
        from sasrec import Sasrec

        return Sasrec
    from neighbours import Als, Bm25

    return {"als": Als, "bm25": Bm25}[peer]


if __name__ == "__main__":
    main(*sys.argv[1:])
