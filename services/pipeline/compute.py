"""The pipeline's client of the encoder and forecaster: names buckets, never moves vectors."""

import json
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

from services.core.errors import Cancelled, CoreError, DependencyUnavailable, NotReady
from services.runtime.compute_token import call_metadata, held_token
from services.runtime.settings import Settings

Response = TypeVar("Response")

# A refresh that its deadline cut goes on where it stopped; more cuts than this mean something is wrong.
DEADLINE_TRIES = 5
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

    def __init__(self, channel: grpc.Channel, settings: Settings, tenant: str) -> None:
        self._encoder = encoder_service_pb2_grpc.EncoderServiceStub(channel)
        self._forecaster = forecaster_service_pb2_grpc.ForecasterServiceStub(channel)
        self._deadline_s = settings.refresh_deadline_s
        self._tenant, self._token = tenant, held_token(settings)

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
        for _ in range(DEADLINE_TRIES):
            try:
                return method(
                    request,
                    timeout=self._deadline_s,
                    metadata=call_metadata(application, self._token),
                )
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                    raise _as_core_error(error, application) from error
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


def _as_core_error(error: grpc.RpcError, application: str) -> CoreError:
    details = error.details() or ""
    if error.code() is grpc.StatusCode.UNAVAILABLE and "model" in details:
        return NotReady("live model", "run `driftline train`")
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return DependencyUnavailable(application, "cannot be reached; is `driftline up` running?")
    return DependencyUnavailable(application, f"answered {error.code().name}: {details[:200]}")
