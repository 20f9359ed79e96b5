"""report.html of `driftline evaluate bursts`, and the example that it opens with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from services.core.burst_state import BurstModel, Bursts, BurstType
from services.core.trajectories import TrajectoryBatch
from services.evaluation import plots
from services.evaluation.burst_scores import LEAST, Matched
from services.evaluation.html import template
from services.evaluation.planted_bursts import Planted, PlantedBurst

TEMPLATE = "bursts.html"
# Periods of the example before the onset and after the end.
AROUND = 10


def write_page(path: Path, report: dict[str, Any]) -> None:
    """Write the page; it needs nothing else."""
    drawn = {
        "f1": plots.bars(_scored(report["bursts"]), "f1", "event F1"),
        "recall": plots.recall_lines(report["parts"]),
        "example": plots.burst_example(report["example"]) if report["example"] else "",
    }
    page = template(TEMPLATE).render(
        report=report,
        methods=_scored(report["bursts"]),
        plots={name: Markup(svg) for name, svg in drawn.items()},  # nosec B704  # noqa: S704 - made here
    )
    path.write_text(page)


def example(
    model: BurstModel, batch: TrajectoryBatch, found: Bursts, planted: Planted, matched: Matched
) -> dict[str, Any] | None:
    """Return the found burst of several periods and middling size, drawn along its topic.

    A position is the cosine with the topic; `told` are the periods that were told of. No user is
    named. None where no such burst was found.
    """
    able = [
        burst
        for burst, hit in zip(planted.bursts, matched.is_found, strict=True)
        if hit and burst.kind != BurstType.AUTOMATED and burst.end - burst.onset >= 3
        and burst.size >= LEAST and _topic(found, burst) >= 0
    ]  # fmt: skip
    if not able:
        return None
    burst = sorted(able, key=lambda one: abs(one.size - 0.5))[0]
    topic_D = model.topics_GD[_topic(found, burst)]
    columns = range(max(burst.onset - AROUND, 0), min(burst.end + AROUND, batch.mask_UT.shape[1]))
    seen = [t for t in columns if batch.mask_UT[burst.user, t]]
    return {
        "kind": BurstType(burst.kind).name.lower(),
        "size": burst.size,
        "first": 0,
        "last": burst.end - 1 - burst.onset,
        "points": [
            [t - burst.onset, float(batch.vec_UTD[burst.user, t] @ topic_D),
             int(batch.count_UT[burst.user, t])]
            for t in seen
        ],
        "told": [
            [t - burst.onset, float(found.share[burst.user, t])]
            for t in seen
            if found.kind[burst.user, t] != BurstType.NONE
        ],
    }  # fmt: skip


def _topic(found: Bursts, burst: PlantedBurst) -> int:
    topics = found.topic[burst.user, burst.onset : burst.end + 1]
    return int(np.max(topics, initial=-1))


def _scored(table: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    names: Sequence[str] = [name for name, row in table.items() if "f1" in row]
    return {name: table[name] for name in names}
