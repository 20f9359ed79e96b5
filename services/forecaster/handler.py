"""ForecasterService: translate, forecast, translate.

Errors, checks and logs: runtime/serving.py.
"""

import asyncio

from driftline.v1 import forecaster_service_pb2 as pb

from services.forecaster import translate
from services.forecaster.forecaster import InterestForecaster
from services.runtime.serving import run_cancellable


class ForecasterHandler:
    """The RPCs. Models and stores run in threads, never on the event loop."""

    def __init__(self, forecaster: InterestForecaster) -> None:
        self._forecaster = forecaster

    async def ForecastInterests(
        self, request: pb.ForecastInterestsRequest
    ) -> pb.ForecastInterestsResponse:
        query = translate.query_from_pb(request)
        forecasts = await asyncio.to_thread(
            self._forecaster.forecast, query.trajectories, query.granularity, query.horizon_count
        )
        return translate.forecasts_to_pb(forecasts)

    async def RefreshForecasts(
        self, request: pb.RefreshForecastsRequest
    ) -> pb.RefreshForecastsResponse:
        asked = translate.refresh_from_pb(request)
        summary = await run_cancellable(
            lambda cancelled: self._forecaster.refresh_forecasts(
                asked.tenant, asked.buckets, cancelled=cancelled, **asked.by()
            )
        )
        return translate.summary_to_pb(summary)

    async def RefreshPopulation(
        self, request: pb.RefreshPopulationRequest
    ) -> pb.RefreshPopulationResponse:
        tenant = translate.population_tenant_from_pb(request)
        rises = await asyncio.to_thread(
            self._forecaster.refresh_population, tenant, model_version=request.model_version
        )
        return translate.population_to_pb(rises)
