"""The forecaster as a Ray Serve application, named in k8s/base/serve.yaml."""

import sys
from typing import Any

from driftline.v1 import forecaster_service_pb2 as pb
from ray import serve
from ray.serve.grpc_util import RayServegRPCContext

from services.forecaster.forecaster import InterestForecaster
from services.forecaster.handler import ForecasterHandler
from services.forecaster.opening import open_stores
from services.runtime.logs import configure_logs
from services.runtime.serving import answer, replica_options
from services.runtime.settings import load_settings
from services.runtime.validation import shared_rules


class Forecasting:
    """One replica."""

    def __init__(self) -> None:
        settings = load_settings()
        # Serve takes sys.stdout for its own log file; Ray forwards the real one.
        configure_logs(settings.log_level, sys.__stdout__)
        self._handler = ForecasterHandler(InterestForecaster(open_stores(settings), settings))
        self._rules, self._token = shared_rules(), settings.compute_token
        self._rules.warm(
            pb.ForecastInterestsRequest.DESCRIPTOR.full_name,
            pb.RefreshForecastsRequest.DESCRIPTOR.full_name,
            pb.RefreshPopulationRequest.DESCRIPTOR.full_name,
        )

    async def ForecastInterests(  # noqa: N802
        self, request: pb.ForecastInterestsRequest, grpc_context: RayServegRPCContext
    ) -> pb.ForecastInterestsResponse:
        return await answer(
            self._handler.ForecastInterests,
            request,
            grpc_context,
            pb.ForecastInterestsResponse,
            self._rules,
            self._token,
        )

    async def RefreshForecasts(  # noqa: N802
        self, request: pb.RefreshForecastsRequest, grpc_context: RayServegRPCContext
    ) -> pb.RefreshForecastsResponse:
        return await answer(
            self._handler.RefreshForecasts,
            request,
            grpc_context,
            pb.RefreshForecastsResponse,
            self._rules,
            self._token,
        )

    async def RefreshPopulation(  # noqa: N802
        self, request: pb.RefreshPopulationRequest, grpc_context: RayServegRPCContext
    ) -> pb.RefreshPopulationResponse:
        return await answer(
            self._handler.RefreshPopulation,
            request,
            grpc_context,
            pb.RefreshPopulationResponse,
            self._rules,
            self._token,
        )


def build(_: dict[str, str]) -> Any:
    """Return the application. Replicas, CPUs and GPUs come from the settings."""
    settings = load_settings()
    options = replica_options(
        replicas=settings.forecaster_replicas,
        max_replicas=settings.forecaster_max_replicas,
        num_cpus=settings.forecaster_num_cpus,
        num_gpus=settings.forecaster_num_gpus,
    )
    return serve.deployment(name="Forecaster", **options)(Forecasting).bind()
