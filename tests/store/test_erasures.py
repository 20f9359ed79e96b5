"""Tombstones: salted, for ever, and of what happened before the request alone."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from services.core.cleaning import REJECT_SCHEMA
from services.core.schema import DEFAULT_TENANT as TENANT
from services.store.erasures import finish_erasures, record_erasures, tombstones
from services.store.memory_events import EventMemory, MemoryTables

ASKED = datetime(2026, 11, 24, 12, tzinfo=UTC)
BEFORE, AFTER = ASKED - timedelta(days=1), ASKED + timedelta(days=1)


@pytest.fixture
def tables():
    made = MemoryTables(EventMemory(), 4)
    erase(made, "gone")
    return made


def erase(tables, user, erasure_id="e-1"):
    asked = {"erasure_id": [erasure_id], "user_id": [user], "ingest_time": [ASKED]}
    record_erasures(tables, TENANT, pl.DataFrame(asked))
    finish_erasures(tables, TENANT, [erasure_id])


def events(*rows):
    return pl.DataFrame(
        rows, schema=["user_id", "event_time", "ingest_time"], orient="row"
    ).with_columns(pl.col("event_time", "ingest_time").cast(pl.Datetime("us", "UTC")))


def rejects(user=None, raw="{}"):
    row = ["a.csv", 3, "kind is missing", "event-9", user, raw, AFTER]
    return pl.DataFrame([row], schema=REJECT_SCHEMA, orient="row")


def test_what_happened_before_the_request_is_covered_whenever_it_comes(tables):
    rows = events(
        ("gone", BEFORE, BEFORE), ("gone", BEFORE, AFTER), ("gone", AFTER, AFTER),
        ("other", BEFORE, BEFORE), (None, BEFORE, BEFORE),
    )  # fmt: skip
    covered = tombstones(tables, TENANT).covers(rows).to_list()
    assert covered == [True, True, False, False, False]
    assert tables.append_events(TENANT, full(rows.slice(0, 3)), "late") == 1
    assert tables.read_events(TENANT)["event_time"].to_list() == [AFTER]


def full(rows):
    return rows.with_row_index("event_id").with_columns(
        pl.lit("i").alias("item_id"), pl.lit("view").alias("kind"), pl.lit(1.0).alias("value")
    )


def test_a_tombstone_names_nobody_and_two_stores_have_other_salts(tables):
    other = MemoryTables(EventMemory(), 4)
    erase(other, "gone")
    mine, theirs = (each.read_state(TENANT, "tombstones") for each in (tables, other))
    assert "gone" not in str(mine["gone"])
    assert mine["gone"].keys() != theirs["gone"].keys()


def test_a_second_erasure_keeps_the_first_ones_tombstone(tables):
    erase(tables, "too", "e-2")
    known = tombstones(tables, TENANT)
    assert known.requests(["gone", "too", "other"]) == {"gone": "e-1", "too": "e-2"}


@pytest.mark.parametrize(
    ("said", "is_erased"),
    [
        (rejects("gone", '{"user_id":"gone"}'), True),
        (rejects(None, '{"user_id": "gone", "item'), True),
        (rejects(None, "gone,milk,2026"), True),
        (rejects(None, '{"user_id": "goner"'), False),
        (rejects("other", '{"note":"gone"}'), False),
    ],
)
def test_a_refused_row_of_an_erased_user_keeps_its_place_alone(tables, said, is_erased):
    [row] = tombstones(tables, TENANT).redacted(said).iter_rows(named=True)
    if is_erased:
        assert row == {
            "source": "a.csv", "line": 3, "reason": "erased", "event_id": None, "user_id": None,
            "raw": "", "ingest_time": AFTER,
        }  # fmt: skip
    else:
        assert row == next(said.iter_rows(named=True))
