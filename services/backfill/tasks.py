"""One task: a step of the write path over some buckets. A line asks for it, a line answers.

What is shared (events, items, the index, bursts of everyone) is not here: who asks does it, in one place. A task
writes files and rows of its own buckets alone, and goes on where one that was killed stopped.
"""

import json
from functools import lru_cache
from typing import Any

from driftline.v1 import encoder_service_pb2, forecaster_service_pb2

from services.backfill.here import InThisProcess
from services.core.errors import CoreError
from services.runtime.settings import load_settings

INTERESTS, FORECASTS = "refresh_interests", "refresh_forecasts"
ANSWERS = {
    INTERESTS: encoder_service_pb2.RefreshInterestsResponse,
    FORECASTS: forecaster_service_pb2.RefreshForecastsResponse,
}


def run_step(asked: str) -> str:
    """Run a step in this process, whose environment holds the settings.

    Args:
        asked: JSON of `tenant`, `step`, and the step's arguments as `by`.

    Returns:
        JSON of `answer`, the response's bytes in hex; or of `problem`, what the caller is told.
    """
    given: dict[str, Any] = json.loads(asked)
    try:
        answer = getattr(_opened(given["tenant"]), given["step"])(**given["by"])
    except CoreError as error:
        return json.dumps({"problem": error.message})
    return json.dumps({"answer": answer.SerializeToString().hex()})


@lru_cache(maxsize=4)
def _opened(tenant: str) -> InThisProcess:
    """Open stores once a process: models and items stay loaded from task to task."""
    return InThisProcess(load_settings(), tenant)
