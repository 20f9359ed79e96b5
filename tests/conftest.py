"""Settings of the whole suite."""

import pytest
from hypothesis import settings

# Two workers share two cores with servers that tests start: an example may wait for its turn.
settings.register_profile("driftline", deadline=None)
settings.load_profile("driftline")


@pytest.fixture(scope="session")
def smollm2_cut(tmp_path_factory):
    """The packaged decoder, cut to a few layers: a GGUF file. Tests of it: xdist_group smollm2."""
    from tests.store.smollm2 import write_cut

    file = tmp_path_factory.mktemp("smollm2") / "cut.gguf"
    write_cut(file)
    return file
