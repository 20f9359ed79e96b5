"""The forecaster as Ray Serve calls it."""

from driftline.v1 import forecaster_service_pb2 as pb

from services.forecaster.main import Forecasting
from tests.runtime.serve_context import UNAUTHENTICATED, codes_without_token


async def test_every_call_asks_for_the_token_where_there_is_one():
    codes = await codes_without_token(
        Forecasting, pb.DESCRIPTOR.services_by_name["ForecasterService"]
    )
    assert len(codes) >= 3
    assert set(codes.values()) == {UNAUTHENTICATED}
