from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from services.core.event_ids import CONFLICT, DISPLACED, settle, told_once
from services.core.schema import EVENT_COLUMNS

T0 = datetime(2026, 1, 5, tzinfo=UTC)
LATER = T0 + timedelta(days=9)
TYPES = {
    "event_id": pl.String,
    "user_id": pl.String,
    "item_id": pl.String,
    "kind": pl.String,
    "value": pl.Float64,
    "event_time": pl.Datetime("us", "UTC"),
    "ingest_time": pl.Datetime("us", "UTC"),
    "source": pl.String,
    "line": pl.Int64,
}


def events(*rows):
    """Rows of (event_id, user, hour): everything else is the same."""
    return pl.DataFrame(
        [
            (name, user, "i1", "view", 1.0, T0 + timedelta(hours=hour), LATER, "gateway-0/events", None)
            for name, user, hour in rows
        ],
        schema=TYPES,
        orient="row",
    )  # fmt: skip


def stored(*rows):
    return events(*rows).select(*EVENT_COLUMNS)


def told(frame):
    return frame.select("event_id", "user_id", "event_time").sort(pl.all()).rows()


def at(hour):
    return T0 + timedelta(hours=hour)


def test_a_repeated_event_is_dropped_and_counted():
    found = settle(events(("a", "u", 0), ("b", "u", 0), ("a", "u", 0)), stored())
    assert told(found.events) == [("a", "u", at(0)), ("b", "u", at(0))]
    assert (found.duplicates, found.rejects.height) == (1, 0)
    assert tuple(found.events.columns) == (*EVENT_COLUMNS, "source", "line")


def test_the_earliest_of_an_id_wins_and_each_other_content_is_told_once():
    found = settle(events(("a", "u", 2), ("a", "u", 1), ("a", "u", 2), ("a", "v", 1)), stored())
    assert told(found.events) == [("a", "u", at(1))]
    assert found.rejects["reason"].to_list() == [CONFLICT] * 2
    assert sorted(found.rejects["user_id"]) == ["u", "v"]
    assert found.duplicates == 1


def test_a_stored_event_stays_against_a_later_one():
    found = settle(events(("a", "u", 2), ("b", "u", 0)), stored(("a", "u", 1), ("b", "u", 0)))
    assert found.events.is_empty()
    assert found.displaced.is_empty()
    assert found.rejects["event_id"].to_list() == ["a"]
    assert found.duplicates == 1


def test_a_stored_event_gives_way_to_an_earlier_one():
    found = settle(events(("a", "v", 0)), stored(("a", "u", 1)))
    assert told(found.events) == [("a", "v", at(0))]
    assert told(found.displaced) == [("a", "u", at(1))]
    reject = found.rejects.row(0, named=True)
    assert (reject["source"], reject["user_id"]) == (DISPLACED, "u")


def test_a_reject_reads_the_same_whether_it_had_been_stored_or_not():
    lost = settle(events(("a", "u", 1)), stored(("a", "v", 0))).rejects["raw"][0]
    displaced = settle(events(("a", "v", 0)), stored(("a", "u", 1))).rejects["raw"][0]
    assert lost == displaced


rows = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), st.integers(0, 2)), max_size=8
)


@given(rows, st.data())
def test_runs_in_any_order_and_number_keep_and_refuse_the_same(day, data):
    def run(order, cuts):
        held, refused = stored(), []
        for start, end in zip([0, *cuts], [*cuts, len(order)], strict=True):
            batch = order[start:end]
            found = settle(events(*batch), held)
            assert (
                found.events.height + found.duplicates + found.rejects.height
                == len(batch) + found.displaced.height
            )
            kept = held.join(found.displaced, on="event_id", how="anti")
            held = pl.concat([kept, found.events.select(*EVENT_COLUMNS)])
            refused.append(found.rejects)
        rejects = pl.concat(refused).select("event_id", "user_id", "reason", "raw").unique()
        return told(held), rejects.sort(pl.all()).rows()

    cut = st.lists(st.integers(0, len(day)), max_size=3).map(sorted)
    once = run(day, [])
    assert run(data.draw(st.permutations(day)), data.draw(cut)) == once
    assert run([*data.draw(st.permutations(day)), *day], [len(day)] if day else []) == once


def reject(line=None, source="gateway-0/events", hour=0):
    return {
        "source": source, "line": line, "reason": "kind is missing", "event_id": None,
        "user_id": "u", "raw": "{}", "ingest_time": at(hour),
    }  # fmt: skip


def test_a_refused_row_of_an_inbox_is_told_once_and_one_of_a_file_by_each_line():
    rows = [reject(hour=1), reject(hour=0, source="gateway-1/events"), reject(3), reject(4)]
    kept = told_once(pl.DataFrame(rows, schema_overrides={"line": pl.Int64, "event_id": pl.String}))
    assert kept.sort("line", "source").select("source", "line").rows() == [
        ("gateway-1/events", None),
        ("gateway-0/events", 3),
        ("gateway-0/events", 4),
    ]
