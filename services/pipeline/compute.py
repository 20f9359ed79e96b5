"""The pipeline's client of the encoder and forecaster: names buckets, never moves vectors."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import grpc
from driftline.v1 import (
    encoder_service_pb2,
    encoder_service_pb2_grpc,
    forecaster_service_pb2,
    forecaster_service_pb2_grpc,
)
from driftline.v1.error_reason_pb2 import ErrorReason

from services.core.errors import Cancelled, CoreError, DependencyUnavailable, NotReady
from services.runtime.compute_token import call_metadata, held_token
from services.runtime.errors import told_by
from services.runtime.settings import Settings

Response = TypeVar("Response")

# A refresh that its deadline cut goes on where it stopped; more cuts than this mean something is wrong.
DEADLINE_TRIES = 5
_LOOK_S = 1.0
MAX_MESSAGE_BYTES = 64 << 20
_RETRY = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 5,
                    "initialBackoff": "0.5s",
                    "maxBackoff": "5s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
)


class Compute(Protocol):
    """Encoder and forecaster as the write path needs them, for one tenant; called by many threads at once.

    Behind it: their deployments (ComputeClient), this process or workers of this machine (services.backfill).
    """

    def refresh_items(
        self, *, is_full: bool = False, model_version: str = ""
    ) -> encoder_service_pb2.RefreshItemsResponse:
        """Encode new item texts and publish the index, by a model (empty: the live one)."""
        ...

    def refresh_interests(
        self, buckets: list[int], *, is_full: bool = False, model_version: str = ""
    ) -> encoder_service_pb2.RefreshInterestsResponse:
        """Make and publish the interest vectors of buckets."""
        ...

    def refresh_forecasts(
        self, buckets: list[int], *, is_full: bool = False, model_version: str = ""
    ) -> forecaster_service_pb2.RefreshForecastsResponse:
        """Make and publish the forecasts of buckets."""
        ...

    def refresh_population(
        self, *, model_version: str = ""
    ) -> forecaster_service_pb2.RefreshPopulationResponse:
        """Publish bursts of everyone, from what the buckets' forecasts left."""
        ...


class ComputeClient:
    """Calls the two Ray Serve applications of one tenant.

    Every method raises NotReady where no model is live, DependencyUnavailable where the application does not
    answer, Cancelled where deadlines cut the work more than `DEADLINE_TRIES` times.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        settings: Settings,
        tenant: str,
        *,
        come_back_s: float = 90.0,
    ) -> None:
        """Call nothing yet.

        Args:
            channel: to Ray Serve's gRPC port.
            settings: deadlines, and the token to show.
            tenant: whose data.
            come_back_s: how long an application that answered before is waited for: it starts anew.
        """
        self._encoder = encoder_service_pb2_grpc.EncoderServiceStub(channel)
        self._forecaster = forecaster_service_pb2_grpc.ForecasterServiceStub(channel)
        self._settings, self._tenant, self._come_back_s = settings, tenant, come_back_s
        # Applications that answered.
        self._reached: set[str] = set()

    def refresh_items(
        self, *, is_full: bool = False, model_version: str = ""
    ) -> encoder_service_pb2.RefreshItemsResponse:
        """Encode new item texts and publish the index, by a model (empty: the live one)."""
        request = encoder_service_pb2.RefreshItemsRequest(
            tenant=self._tenant, is_full=is_full, model_version=model_version
        )
        return self._call(self._encoder.RefreshItems, request, "encoder")

    def refresh_interests(
        self, buckets: list[int], *, is_full: bool = False, model_version: str = ""
    ) -> encoder_service_pb2.RefreshInterestsResponse:
        """Make and publish the interest vectors of buckets."""
        request = encoder_service_pb2.RefreshInterestsRequest(
            tenant=self._tenant, buckets=buckets, is_full=is_full, model_version=model_version
        )
        return self._call(self._encoder.RefreshInterests, request, "encoder")

    def refresh_forecasts(
        self, buckets: list[int], *, is_full: bool = False, model_version: str = ""
    ) -> forecaster_service_pb2.RefreshForecastsResponse:
        """Make and publish the forecasts of buckets."""
        request = forecaster_service_pb2.RefreshForecastsRequest(
            tenant=self._tenant, buckets=buckets, is_full=is_full, model_version=model_version
        )
        return self._call(self._forecaster.RefreshForecasts, request, "forecaster")

    def refresh_population(
        self, *, model_version: str = ""
    ) -> forecaster_service_pb2.RefreshPopulationResponse:
        """Publish bursts of everyone, from what the buckets' forecasts left."""
        request = forecaster_service_pb2.RefreshPopulationRequest(
            tenant=self._tenant, model_version=model_version
        )
        return self._call(self._forecaster.RefreshPopulation, request, "forecaster")

    def _call(self, method: Callable[..., Response], request: Any, application: str) -> Response:
        cuts, give_up = 0, 0.0
        while cuts < DEADLINE_TRIES:
            # Asked for anew: a cluster that was restarted has another.
            metadata = call_metadata(application, held_token(self._settings))
            try:
                answer = method(
                    request, timeout=self._settings.refresh_deadline_s, metadata=metadata
                )
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                    cuts += 1
                    continue
                now = time.monotonic()
                give_up = give_up or now + self._come_back_s
                is_gone = application in self._reached and not told_by(error).reason
                if not is_gone or now > give_up:
                    raise as_core_error(error, application) from error
                # Every call is safe to repeat; it goes on where it stopped.
                time.sleep(min(_LOOK_S, self._come_back_s / 10))
            else:
                self._reached.add(application)
                return answer
        raise Cancelled(f"refresh by the {application}")


@contextmanager
def open_compute(settings: Settings, tenant: str) -> Iterator[ComputeClient]:
    """Open a channel to Ray Serve's gRPC port."""
    target = f"{settings.serve_host}:{settings.serve_grpc_port}"
    options = [
        ("grpc.service_config", _RETRY),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ]
    with grpc.insecure_channel(target, options=options) as channel:
        yield ComputeClient(channel, settings, tenant)


def as_core_error(error: grpc.RpcError, application: str) -> CoreError:
    """Return what is wrong where a call of an application failed: with it, or with what stands behind it."""
    details, info = error.details() or "", told_by(error)
    if info.reason == ErrorReason.Name(ErrorReason.ERROR_REASON_NOT_READY):
        return NotReady(info.metadata["missing"], details.partition("; ")[2])
    if info.reason == ErrorReason.Name(ErrorReason.ERROR_REASON_DEPENDENCY_UNAVAILABLE):
        # It answers; what stands behind it does not.
        dependency = info.metadata["dependency"]
        problem, _, remedy = details.removeprefix(f"{dependency} ").rpartition("; ")
        return DependencyUnavailable(dependency, f"{problem}, said the {application}", remedy)
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return DependencyUnavailable(
            f"the {application}", "cannot be reached", "is `driftline up` running?"
        )
    return DependencyUnavailable(application, f"answered {error.code().name}: {details[:200]}")
