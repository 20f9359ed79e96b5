"""A served world for each test."""

import pytest

from tests.gateway.world import World, serve


@pytest.fixture
async def world():
    async with serve(World()) as served:
        yield served
