"""Heads of a tuned backbone: how right they are, as `driftline tune` measured it.

Measured there, on the texts that it held out: only it knows which texts its head never saw.
"""

from datetime import datetime
from pathlib import Path
from typing import Any

from services.core.errors import InvalidArgument
from services.store.backbone_files import tuning_of

# Ours -> of the tuning's figures.
FIGURES = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "macro_f1",
}


def classification_report(backbone: str) -> dict[str, dict[str, Any]]:
    """Return the report's `classification`, or nothing where the backbone has no such head.

    accuracy, and precision, recall and f1 as means over classes; each with its 95% interval beside
    it as `..._ci`; `items`, how many texts they are of; `classes`; and how many texts were left out
    of learning and measuring, their labels being too rare.

    Args:
        backbone: the name it goes by; of a tuned one, its folder.

    Raises:
        InvalidArgument: what the folder says of its tuning is not whole.
    """
    tuning = tuning_of(Path(backbone))
    if tuning is None or tuning.objective != "classification":
        return {}
    report: dict[str, Any] = {"measured_on": "texts that `driftline tune` held out"}
    try:
        for name, figure in FIGURES.items():
            after = tuning.figures[figure]["after"]
            report[name], report[f"{name}_ci"] = float(after["value"]), list(after["ci"])
            report["items"] = int(tuning.figures[figure]["rows"])
        for name in ("classes", "texts_of_rare_labels_left_out"):
            report[name] = int(tuning.notes[name])
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidArgument(
            "backbone", f"the classification figures of {backbone} are not whole; tune again"
        ) from error
    return {"classification": report}


def refuse_tuned_later(backbone: str, first_origin: datetime) -> None:
    """Refuse a backbone that was tuned on what the evaluation asks about.

    Raises:
        InvalidArgument: the backbone saw events after the first origin, or does not say until when.
    """
    tuning = tuning_of(Path(backbone))
    if tuning is None:
        return
    until = tuning.trained_until
    if until is None or until > first_origin:
        seen = (
            "does not say until when it was"
            if until is None
            else f"was tuned until {until:%Y-%m-%d %H:%M}"
        )
        raise InvalidArgument(
            "backbone",
            f"{backbone} {seen}, the first origin is {first_origin:%Y-%m-%d}; "
            f"tune it with --until {first_origin:%Y-%m-%d}",
        )
