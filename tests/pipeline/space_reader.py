"""`python -m tests.pipeline.space_reader TARGET EXPECTED OUT STOP`: reads without pause, checks every reply.

EXPECTED holds {space: {"user period": vector as hex}}. A reply is mixed where a vector names another space
than the reply's basis, where its numbers are not those of the space it names, or where the same question
got two answers in one space. Until the file STOP exists; OUT then says what was seen.
"""

import hashlib
import json
import sys
from collections import Counter
from pathlib import Path

from driftline import Client, DriftlineError

USERS = ("u0", "u7", "u23", "u41")


class Check:
    """What was seen so far."""

    def __init__(self, expected: dict[str, dict[str, str]]) -> None:
        self.expected = expected
        self.replies: Counter[str] = Counter()
        self.sequence: list[str] = []
        self.mixed: list[str] = []
        self.errors: list[str] = []
        # (question, space) -> digests of its answers.
        self.answers: dict[str, set[str]] = {}

    def seen(self, question: str, space: str) -> None:
        self.replies[f"{question.split(maxsplit=1)[0]} {space}"] += 1
        if not self.sequence or self.sequence[-1] != space:
            self.sequence.append(space)

    def vector(self, question: str, space: str, user: str, one) -> None:
        said = one.vector.space_id
        right = self.expected[said].get(f"{user} {one.period}") == one.vector.to_bytes().hex()
        if said != space or not right:
            self.mixed.append(f"{question}: {said} in {space}")

    def answer(self, question: str, space: str, content: object) -> None:
        digest = hashlib.sha256(repr(content).encode()).hexdigest()
        held = self.answers.setdefault(f"{question} {space}", set())
        held.add(digest)
        if len(held) > 1:
            self.mixed.append(f"{question}: two answers in {space}")


def read(client: Client, check: Check, user: str) -> None:
    one = client.get_interest(user)
    check.seen("interest", one.basis.space_id)
    check.vector("interest", one.basis.space_id, user, one)

    many = client.get_interests(USERS)
    check.seen("batch", many.basis.space_id)
    for owner, each in many.interests.items():
        check.vector("batch", many.basis.space_id, owner, each)

    path = client.get_trajectory(user)
    check.seen("trajectory", path.basis.space_id)
    for each in path:
        check.vector("trajectory", path.basis.space_id, user, each)

    ahead = client.get_forecast(user)
    check.seen("forecast", ahead.basis.space_id)
    if {step.mean.space_id for step in ahead} != {ahead.basis.space_id}:
        check.mixed.append("forecast: another space's mean")
    check.answer(f"forecast {user}", ahead.basis.space_id, [step.mean.to_bytes() for step in ahead])

    ranked = client.recommend(user)
    check.seen("recommend", ranked.basis.space_id)
    if ranked.basis.is_fallback:
        check.mixed.append("recommend: nothing known of the user")
    check.answer(
        f"recommend {user}",
        ranked.basis.space_id,
        [(item.item_id, item.score, item.parts) for item in ranked],
    )

    near = client.similar_items("tea")
    check.seen("similar", near.basis.space_id)
    check.answer("similar", near.basis.space_id, [(item.item_id, item.score) for item in near])


def main() -> None:
    target, expected, out, stop = sys.argv[1:]
    check = Check(json.loads(Path(expected).read_text()))
    with Client(target) as client:
        while not Path(stop).exists():
            for user in USERS:
                try:
                    read(client, check, user)
                except DriftlineError as error:
                    check.errors.append(repr(error))
            Path(f"{out}.alive").write_text(check.sequence[-1] if check.sequence else "")
    # The index's space shows in its numbers: no question has one answer in two spaces.
    shared = [
        question
        for question in {name.rsplit(" ", 1)[0] for name in check.answers}
        if len(
            {
                digest
                for name, held in check.answers.items()
                if name.rsplit(" ", 1)[0] == question
                for digest in held
            }
        )
        < sum(name.rsplit(" ", 1)[0] == question for name in check.answers)
    ]
    Path(out).write_text(
        json.dumps(
            {
                "replies": check.replies,
                "sequence": check.sequence,
                "mixed": check.mixed[:20],
                "mixed_count": len(check.mixed),
                "errors": check.errors[:20],
                "same_in_both": shared,
            }
        )
    )


if __name__ == "__main__":
    main()
