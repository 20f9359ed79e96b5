"""What `feast apply` reads: every space that was published, the services on the one that is served.

The write path declares a space itself; this declares the same again, from the folders it left.
"""

import json
import os.path
from pathlib import Path
from typing import Any

from feature_repo.definitions import definitions, services
from services.core.schema import rank_state_view

_VARIABLE = "${DRIFTLINE_FEAST_DIR}"


def published(feast_dir: Path) -> list[Any]:
    """Return the Feast objects of every space in a tenant's folder.

    Raises:
        SystemExit: nothing was published there.
    """
    offline = feast_dir.absolute() / "offline"
    prefix = rank_state_view("")
    spaces = sorted(path.name.removeprefix(prefix) for path in offline.glob(f"{prefix}*"))
    if not spaces:
        raise SystemExit(f"no space is published in {feast_dir}; run `driftline refresh`")
    served = json.loads((feast_dir / "served_space.json").read_text())["space_id"]
    views = {each.name: each for space in spaces for each in definitions(space, str(offline))}
    return [*views.values(), *services(served, str(offline))]


def _feast_dir() -> Path:
    path = os.path.expandvars(_VARIABLE)
    if path == _VARIABLE:
        raise SystemExit("set DRIFTLINE_FEAST_DIR to a tenant's folder, like DATA/default/feast")
    return Path(path)


# Feast looks for objects among a module's names.
globals().update({f"object_{place}": each for place, each in enumerate(published(_feast_dir()))})
