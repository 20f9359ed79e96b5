"""The encoder as Ray Serve calls it."""

from driftline.v1 import encoder_service_pb2 as pb

from services.encoder.main import Encoding
from tests.runtime.serve_context import UNAUTHENTICATED, codes_without_token


async def test_every_call_asks_for_the_token_where_there_is_one():
    codes = await codes_without_token(Encoding, pb.DESCRIPTOR.services_by_name["EncoderService"])
    assert len(codes) >= 3
    assert set(codes.values()) == {UNAUTHENTICATED}
