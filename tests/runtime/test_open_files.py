"""Connections never take the last files of a process."""

import resource

import pytest

from services.runtime.open_files import connections_within, limit, raise_limit


@pytest.mark.parametrize(
    ("files", "wanted", "fit"),
    [
        (100_000, 16_384, 16_384),
        (4096, 16_384, 3584),
        (1024, 0, 512),
        (700, 300, 300),
        (600, 400, 300),
    ],
)
def test_connections_leave_room_for_the_stores_files(files, wanted, fit):
    assert connections_within(files, wanted) == fit


def test_the_limit_is_raised_as_far_as_it_may_and_never_lowered():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        lower = min(soft, 600) if soft != resource.RLIM_INFINITY else 600
        resource.setrlimit(resource.RLIMIT_NOFILE, (lower, hard))
        raised = raise_limit()
        assert raised == limit() >= lower
        assert hard in {resource.RLIM_INFINITY, raised}
        assert raise_limit() == raised
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
