"""Tests of one group run on one worker, as those that start Ray or load a decoder ask for."""

import os

import pytest


@pytest.mark.xdist_group("groups-are-kept")
@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="one process: no groups")
def test_a_group_is_known_to_the_scheduler(request):
    # With pytest 9.2.0 and xdist 3.8.0 it was not, and each worker started its own cluster.
    assert request.node.nodeid.endswith("@groups-are-kept")
