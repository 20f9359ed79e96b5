"""Ids of requests."""

import re
from itertools import islice

from services.runtime.request_ids import request_ids


def test_ids_are_distinct_and_whole_however_many_are_taken():
    # More than are drawn at a time, twice over.
    taken = [*islice(request_ids(), 600), *islice(request_ids(), 600)]
    assert len(set(taken)) == 1200
    assert all(re.fullmatch(r"[0-9a-f]{32}", one) for one in taken)
