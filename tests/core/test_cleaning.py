from datetime import UTC, date, datetime, timedelta, timezone

import polars as pl
import pytest

from services.core.cleaning import (
    KIND_ALIASES,
    REJECT_SCHEMA,
    clean_events,
)
from services.core.schema import EVENT_COLUMNS, Kind

NOW = datetime(2026, 2, 1, tzinfo=UTC)
T0 = datetime(2026, 1, 5, tzinfo=UTC)


def raw(**columns):
    row = {
        "event_id": "e1",
        "user_id": "u1",
        "item_id": "i1",
        "kind": "view",
        "value": 1.0,
        "event_time": T0,
        "ingest_time": NOW,
        "source": "a.csv",
        "line": 2,
    }
    size = max((len(values) for values in columns.values() if isinstance(values, list)), default=1)
    data = {name: [value] * size for name, value in row.items()} | {
        name: value if isinstance(value, (list, pl.Series)) else [value] * size
        for name, value in columns.items()
    }
    return pl.DataFrame(data)


def reasons(**columns):
    return clean_events(raw(**columns), NOW).rejects["reason"].to_list()


@pytest.mark.parametrize("name", ["user_id", "item_id", "event_id"])
@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (None, "is missing"),
        ("", "is missing"),
        ("  ", "is missing"),
        ("é" * 129, "is longer than 256 bytes"),
        ("caf\ufffd", "is not valid UTF-8"),
    ],
)
def test_bad_ids_are_rejected(name, value, problem):
    assert reasons(**{name: [value]}) == [f"{name} {problem}"]


def test_ids_of_256_bytes_pass():
    assert reasons(user_id=["é" * 128], item_id=["i" * 256]) == []


def test_number_ids_become_text():
    cleaned = clean_events(
        raw(user_id=[900, 901], item_id=[1.0, 2.5], event_id=["a", "b"]), NOW
    ).events
    assert cleaned["user_id"].to_list() == ["900", "901"]
    assert cleaned["item_id"].to_list() == ["1", "2.5"]


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("buy", "purchase"),
        ("Bought", "purchase"),
        ("ORDER", "purchase"),
        ("watch", "view"),
        (" impression ", "view"),
        ("review", "rating"),
        ("favorite", "like"),
        ("Add To Cart", "save"),
        ("add-to-cart", "save"),
        *((str(kind), str(kind)) for kind in Kind),
    ],
)
def test_kinds_have_aliases(said, kind):
    assert clean_events(raw(kind=[said]), NOW).events["kind"].to_list() == [kind]


def test_every_alias_means_a_kind():
    assert set(KIND_ALIASES.values()) == {str(kind) for kind in Kind}


def test_an_unknown_kind_is_named():
    assert reasons(kind=["stare"]) == ["unknown kind 'stare'"]
    assert reasons(kind=[None]) == ["kind is missing"]


def test_a_default_kind_fills_blanks_only():
    cleaned = clean_events(raw(kind=["", None, "view", "stare"]), NOW, default_kind=Kind.PURCHASE)
    assert cleaned.events["kind"].to_list() == ["purchase", "purchase", "view"]
    assert cleaned.rejects["reason"].to_list() == ["unknown kind 'stare'"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), "nan", "-inf"])
def test_values_that_are_not_finite_are_rejected(value):
    assert reasons(value=[value]) == ["value is not finite"]


def test_values_are_read_and_unset_means_one():
    assert reasons(value=["many"]) == ["value is not a number"]
    read = clean_events(raw(value=["2.5", "", None, " 3 "]), NOW).events["value"]
    assert read.to_list() == [2.5, 1.0, 1.0, 3.0]
    assert clean_events(raw(value=[None]), NOW).events["value"].to_list() == [1.0]


@pytest.mark.parametrize(
    "said",
    [
        "2026-01-05",
        "2026-01-05 00:00",
        "2026-01-05T00:00:00Z",
        "2026-01-05T00:00:00",
        "2026-01-05T01:00:00+01:00",
        "2026-01-04T20:30:00-0330",
        "2026-01-05 00:00:00.000 UTC",
        "2026/01/05 00:00:00",
        "20260105",
        "1767571200",
        "1767571200.0",
        "1767571200000",
        1767571200,
        1767571200.0,
        1767571200000,
        1767571200000000,
        1767571200000000000,
        20260105,
        date(2026, 1, 5),
        datetime(2026, 1, 5),
        datetime(2026, 1, 5, 2, tzinfo=timezone(timedelta(hours=2))),
    ],
)
def test_times_are_read_in_any_form(said):
    column = pl.Series([said])
    assert clean_events(raw(event_time=column), NOW).events["event_time"].to_list() == [T0]


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        (None, "event_time is missing"),
        ("", "event_time is missing"),
        ("soon", "event_time cannot be read"),
        ("2026-13-01", "event_time cannot be read"),
        ("nan", "event_time cannot be read"),
        (1e300, "event_time cannot be read"),
        ("1969-12-31T23:59:59Z", "event_time is before 1970"),
        (-1, "event_time is before 1970"),
        (NOW + timedelta(minutes=5, seconds=1), "event_time is more than 5 minutes in the future"),
    ],
)
def test_times_that_cannot_be_are_rejected(said, problem):
    assert reasons(event_time=[said]) == [problem]


def test_a_clock_that_is_five_minutes_fast_passes():
    assert reasons(event_time=[NOW + timedelta(minutes=5)]) == []


def test_a_reject_says_where_it_came_from():
    cleaned = clean_events(
        raw(event_id=["a", "b"], line=[7, 8], user_id=["u1", None], value=["x" * 400, "1"]), NOW
    )
    assert cleaned.rejects.schema == REJECT_SCHEMA
    first, second = cleaned.rejects.rows(named=True)
    assert (first["source"], first["line"], first["event_id"]) == ("a.csv", 7, "a")
    assert (second["line"], second["reason"]) == (8, "user_id is missing")
    assert first["raw"].startswith('{"event_id":"a"')
    assert len(first["raw"]) == 200


def test_good_rows_are_kept_among_bad_ones():
    cleaned = clean_events(raw(event_id=["a", "b", "c"], kind=["view", "stare", "buy"]), NOW)
    assert cleaned.events["event_id"].to_list() == ["a", "c"]
    assert tuple(cleaned.events.columns) == (*EVENT_COLUMNS, "source", "line")


def test_no_rows_give_no_rows():
    cleaned = clean_events(raw().clear(), NOW)
    assert cleaned.events.is_empty()
    assert cleaned.rejects.is_empty()


def test_long_rows_that_differ_at_their_end_have_different_excerpts():
    cleaned = clean_events(raw(event_id=["a" * 250] * 2, value=["x", "y"]), NOW)
    first, second = cleaned.rejects["raw"]
    assert first != second
    assert first[:150] == second[:150]


def test_minus_zero_is_zero():
    assert str(clean_events(raw(value=-0.0), NOW).events["value"][0]) == "0.0"
