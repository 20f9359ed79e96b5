from datetime import UTC, datetime

import pytest

from services.cli.app import parse_date
from services.core.errors import InvalidArgument


def test_a_date_is_its_first_instant_in_utc():
    assert parse_date("2026-02-01") == datetime(2026, 2, 1, tzinfo=UTC)
    assert parse_date("2026-02-01T10:30") == datetime(2026, 2, 1, 10, 30, tzinfo=UTC)
    assert parse_date("") is None


def test_a_zone_is_heard():
    assert parse_date("2026-02-01T01:00+02:00") == datetime(2026, 1, 31, 23, tzinfo=UTC)


def test_what_is_no_date_is_told_how_to_write_one():
    with pytest.raises(InvalidArgument, match="write it like"):
        parse_date("yesterday")
