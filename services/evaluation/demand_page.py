"""report.html of `driftline evaluate demand`."""

from pathlib import Path
from typing import Any

from markupsafe import Markup

from services.evaluation import plots
from services.evaluation.html import template

TEMPLATE = "demand.html"


def write_page(path: Path, report: dict[str, Any]) -> None:
    """Write the page; it needs nothing else."""
    fan = Markup(plots.demand_fan(report["example"]))  # nosec B704  # noqa: S704 - made here
    path.write_text(template(TEMPLATE).render(report=report, fan=fan))
