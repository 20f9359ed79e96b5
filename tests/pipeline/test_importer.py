import json
import os
import time
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from services.core.errors import InvalidArgument
from services.pipeline import importer
from services.pipeline.importer import import_files
from services.pipeline.preprocess import preprocess
from services.runtime.settings import Settings
from services.store.layout import Layout
from services.store.tables import DeltaTables

TENANT = "default"
T0 = datetime(2026, 1, 5, tzinfo=UTC)
NOW = datetime(2026, 2, 1, tzinfo=UTC)
HEADER = "user_id,item_id,event_time,kind\n"


@pytest.fixture
def settings(tmp_path):
    return Settings(data_dir=tmp_path / "data", bucket_count=4, now=NOW)


@pytest.fixture
def tables(settings):
    return DeltaTables(Layout(settings.data_dir, settings.bucket_count))


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content) if isinstance(content, bytes) else path.write_text(content)
    return path


def frame(rows=3, **columns):
    data = {
        "user_id": [f"u{n % 2}" for n in range(rows)],
        "item_id": [f"i{n}" for n in range(rows)],
        "event_time": [T0 + timedelta(seconds=n) for n in range(rows)],
        "kind": ["view"] * rows,
    }
    return pl.DataFrame(data | columns)


def parquet(folder, name="a.parquet", rows=3, **columns):
    path = folder / name
    frame(rows, **columns).write_parquet(path)
    return path


def stored(tables, settings):
    preprocess(tables, settings)
    return tables.read_events(TENANT)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_each_format_gives_the_same_events(tmp_path, settings, tables, kind):
    rows = frame(value=[1.5, 2.0, 3.0])
    path = tmp_path / f"a.{kind}"
    match kind:
        case "csv":
            rows.with_columns(pl.col("event_time").dt.to_string("iso")).write_csv(path)
        case "jsonl":
            lines = [json.dumps(row, default=str) for row in rows.to_dicts()]
            path.write_text("\n".join(lines) + "\n")
        case _:
            rows.write_parquet(path)
    summary = import_files([path], settings)
    assert (summary.files, summary.events, summary.rejected) == (1, 3, 0)
    found = stored(tables, settings).sort("event_time")
    assert found.drop("event_id", "ingest_time").equals(
        rows.select("user_id", "item_id", "kind", "value", pl.col("event_time").cast(pl.Datetime("us", "UTC")))
    )  # fmt: skip


def test_the_formats_make_the_same_ids(tmp_path, settings, tables):
    lines = "".join(f"u{n % 2},i{n},2026-01-05 00:00:0{n},view\n" for n in range(3))
    import_files([write(tmp_path, "a.csv", HEADER + lines), parquet(tmp_path)], settings)
    summary = preprocess(tables, settings)
    assert (summary.events, summary.duplicates) == (3, 3)


@pytest.mark.parametrize(
    "header",
    [
        "user_id,item_id,event_time,kind,value",
        "user,item,ts,event,rating",
        "uid,sku,timestamp,event_type,quantity",
        "customer_id,product_id,time,action,amount",
        "Household-ID,Product ID,Date,KIND,Value",
    ],
)
def test_columns_have_aliases(tmp_path, settings, tables, header):
    path = write(tmp_path, "a.csv", f"{header}\nu1,i1,2026-01-05,buy,2\n")
    assert import_files([path], settings).events == 1
    row = stored(tables, settings).row(0, named=True)
    assert (row["user_id"], row["item_id"], row["kind"], row["value"], row["event_time"]) == (
        "u1", "i1", "purchase", 2.0, T0,
    )  # fmt: skip


def test_importing_again_changes_nothing(tmp_path, settings, tables):
    text = "user,item,ts,event,text\nu1,i1,2026-01-05,buy,apple\nu1,i1,2026-01-05,buy,apple\nu2,,2026-01-05,buy,x\n"
    path = write(tmp_path, "a.csv", text)
    import_files([path], settings)
    first = preprocess(tables, settings)
    assert (first.events, first.items) == (2, 1)
    before = (tables.read_events(TENANT), tables.read_items(TENANT), tables.read_rejects(TENANT))
    import_files([path], settings)
    again = preprocess(tables, settings)
    assert (again.events, again.duplicates, again.items, again.rejected) == (0, 2, 0, 0)
    after = (tables.read_events(TENANT), tables.read_items(TENANT), tables.read_rejects(TENANT))
    assert all(old.equals(new) for old, new in zip(before, after, strict=True))
    assert after[2].height == 1


def test_equal_rows_of_a_file_are_events_of_their_own_across_chunks(
    tmp_path, settings, tables, monkeypatch
):
    monkeypatch.setattr(importer, "CHUNK_ROWS", 2)
    path = write(tmp_path, "a.csv", HEADER + "u1,i1,2026-01-05,buy\n" * 5)
    assert import_files([path], settings).events == 5
    assert stored(tables, settings)["event_id"].n_unique() == 5


def test_ids_do_not_depend_on_chunks(tmp_path, settings, tables, monkeypatch):
    path = parquet(tmp_path, rows=7)
    import_files([path], settings)
    monkeypatch.setattr(importer, "CHUNK_ROWS", 3)
    import_files([path], settings)
    assert stored(tables, settings).height == 7


def test_given_ids_are_kept(tmp_path, settings, tables):
    text = "id,user,item,ts,event\nmine,u1,i1,2026-01-05,view\n,u2,i1,2026-01-05,view\n"
    import_files([write(tmp_path, "a.csv", text)], settings)
    found = sorted(stored(tables, settings)["event_id"])
    assert "mine" in found
    assert len(found) == 2


def test_a_bad_row_is_rejected_with_file_line_and_reason(tmp_path, settings, tables):
    lines = [
        "u1,i1,2026-01-05,view",
        "u1,i1,yesterday,view",
        ",i1,2026-01-05,view",
        "u1,i1,2026-01-05,stare",
        "u1,i1,2026-01-05,view,extra",
        "u1,i1",
        "",
        "u2,i2,2026-01-06,buy",
    ]
    path = write(tmp_path, "a.csv", HEADER + "\n".join(lines) + "\n")
    summary = import_files([path], settings)
    assert (summary.files, summary.events, summary.rejected) == (1, 2, 5)
    rejects = tables.read_rejects(TENANT).sort("line")
    assert rejects["source"].unique().to_list() == [str(path)]
    assert rejects.select("line", "reason").rows() == [
        (3, "event_time cannot be read"),
        (4, "user_id is missing"),
        (5, "unknown kind 'stare'"),
        (6, "5 fields where the header has 4"),
        (7, "2 fields where the header has 4"),
    ]
    assert summary.reasons["event_time cannot be read"] == 1
    assert "yesterday" in rejects["raw"][0]
    assert stored(tables, settings).height == 2


def test_quoted_lines_are_counted(tmp_path, settings, tables):
    text = HEADER.strip() + ',text\nu1,i1,2026-01-05,view,"two\nlines"\nu1,i2,never,view,x\n'
    import_files([write(tmp_path, "a.csv", text)], settings)
    assert tables.read_rejects(TENANT)["line"].to_list() == [4]


def test_a_quote_that_does_not_close_costs_its_own_line_only(tmp_path, settings, tables):
    good = "".join(f"u1,i{n},2026-01-05,view\n" for n in range(300))
    path = write(tmp_path, "a.csv", HEADER + 'u1,"i,2026-01-05,view\n' + good)
    summary = import_files([path], settings)
    assert (summary.events, summary.rejected) == (300, 1)
    reject = tables.read_rejects(TENANT).row(0, named=True)
    assert (reject["line"], reject["reason"]) == (2, "quotes do not match")


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_delimiters_are_seen(tmp_path, settings, delimiter):
    text = (HEADER + "u1,i1,2026-01-05,view\n").replace(",", delimiter)
    assert import_files([write(tmp_path, "a.csv", "\ufeff" + text)], settings).events == 1


def test_a_json_line_that_is_cut_short_is_rejected_and_the_rest_is_kept(tmp_path, settings, tables):
    row = '{"user": 7, "item": 8, "ts": 1767571200, "event": "like", "categories": ["a", "b"], "title": "T"}'
    path = write(tmp_path, "a.jsonl", f"{row}\n[1]\n\n{row[:-20]}")
    summary = import_files([path], settings)
    assert (summary.events, summary.rejected) == (1, 2)
    assert tables.read_rejects(TENANT).sort("line").select("line", "reason").rows() == [
        (2, "not a JSON object"),
        (4, "not JSON: the line is cut short"),
    ]
    event = stored(tables, settings).row(0, named=True)
    assert (event["user_id"], event["item_id"], event["event_time"]) == ("7", "8", T0)
    assert tables.read_items(TENANT)["categories"].to_list() == [["a", "b"]]


def test_a_column_that_appears_late_in_json_lines_is_used(tmp_path, settings, tables, monkeypatch):
    monkeypatch.setattr(importer, "CHUNK_ROWS", 1)
    row = {"user": "u1", "item": "i1", "ts": "2026-01-05", "event": "view"}
    lines = [row, row | {"item": "i2", "text": "apple"}]
    path = write(tmp_path, "a.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    assert import_files([path], settings).items == 1


def not_what_they_say(folder):
    whole = parquet(folder, "whole.parquet", rows=1000).read_bytes()
    return {
        "csv named parquet": (write(folder, "a.parquet", HEADER), "is not Parquet but text"),
        "junk named parquet": (write(folder, "b.parquet", bytes(range(256)) * 9), "binary data"),
        "junk named csv": (write(folder, "c.csv", bytes(range(256)) * 9), "is binary, not CSV"),
        "junk named jsonl": (write(folder, "d.jsonl", os.urandom(4096)), "is binary, not JSONL"),
        "parquet named csv": (write(folder, "e.csv", whole), "rename it to .parquet"),
        "half a parquet": (write(folder, "f.parquet", whole[: len(whole) // 2]), "half written"),
        "parquet without end": (write(folder, "g.parquet", whole[:-4]), "half written"),
        "empty": (write(folder, "h.csv", ""), "is empty"),
        "no such file": (folder / "i.csv", "is not there"),
        "unknown type": (write(folder, "j.xlsx", "x"), "known type"),
        "no user": (write(folder, "k.csv", "item,ts,event\n"), "there is no user_id (or user, "),
        "no kind": (write(folder, "l.csv", "user,item,ts\nu,i,2026-01-05\n"), "--kind"),
        "csv named jsonl": (write(folder, "m.jsonl", HEADER + "u,i,t,k\n"), "is not JSONL"),
        "a folder": (folder, "is not there"),
        "two equal columns": (write(folder, "n.csv", "user,user\n1,2\n"), "distinct column names"),
    }


CASES = [
    "csv named parquet", "junk named parquet", "junk named csv", "junk named jsonl",
    "parquet named csv", "half a parquet", "parquet without end", "empty", "no such file",
    "unknown type", "no user", "no kind", "csv named jsonl", "a folder", "two equal columns",
]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_file_that_is_not_what_it_says_is_named_and_the_others_are_kept(tmp_path, settings, case):
    path, problem = not_what_they_say(tmp_path)[case]
    before, after = parquet(tmp_path, "y.parquet"), parquet(tmp_path, "z.parquet", rows=5)
    summary = import_files([before, path, after], settings)
    assert (summary.files, summary.events) == (2, 8)
    assert list(summary.failed_files) == [str(path)]
    assert str(path) in summary.failed_files[str(path)]
    assert problem in summary.failed_files[str(path)]


def test_every_bad_file_is_tried(tmp_path):
    assert sorted(not_what_they_say(tmp_path)) == sorted(CASES)


def test_a_kind_can_be_said_for_rows_that_name_none(tmp_path, settings, tables):
    path = write(tmp_path, "a.csv", "user,item,ts\nu1,i1,2026-01-05\n")
    assert import_files([path], settings, kind="Buy").events == 1
    assert stored(tables, settings)["kind"].to_list() == ["purchase"]
    with pytest.raises(InvalidArgument, match="say one of view"):
        import_files([path], settings, kind="stare")


def test_items_of_events_are_in_force_from_their_first_appearance(tmp_path, settings, tables):
    path = parquet(
        tmp_path,
        item_id=["i1", "i1", "i2"],
        text=["apple", "apple pie", None],
        categories=[["fruit"], ["fruit"], []],
        event_time=[T0 + timedelta(days=2), T0 + timedelta(days=3), T0],
    )
    more = parquet(
        tmp_path,
        "b.parquet",
        rows=1,
        item_id=["i1"],
        text=["apple"],
        categories=[["fruit"]],
        event_time=[T0 + timedelta(days=1)],
    )
    import_files([path, more], settings)
    preprocess(tables, settings)
    found = tables.read_items(TENANT)
    assert found.select("text", "updated_time").rows()[0] == ("apple", T0 + timedelta(days=1))
    assert found["text"].to_list()[-1] == "apple pie"
    assert "i2" not in found["item_id"].to_list()


def test_a_file_of_items_is_known_by_its_columns(tmp_path, settings, tables):
    text = "item_id,title,description,category,updated_at\ni1,Apple,A fruit,food|fruit,\ni2,Pear,,,2026-01-05\ni3,,,,\n"
    summary = import_files([write(tmp_path, "items.csv", text)], settings)
    assert (summary.items, summary.events, summary.rejected) == (1, 0, 2)
    untimed = "id,title,text,category\ni1,Apple,A fruit,food|fruit\n"
    import_files([write(tmp_path, "untimed.csv", untimed)], settings)
    preprocess(tables, settings)
    rows = tables.read_items(TENANT).select("item_id", "categories", "updated_time").rows()
    assert rows == [("i1", ["food", "fruit"], datetime(1970, 1, 1, tzinfo=UTC)), ("i2", [], T0)]


def test_a_text_without_a_title_gets_its_opening_as_title(tmp_path, settings, tables):
    long = "word " * 40
    import_files([write(tmp_path, "a.csv", f"item_id,text\ni1,{long}\ni2,pear\n")], settings)
    preprocess(tables, settings)
    assert tables.read_items(TENANT)["title"].to_list() == [("word " * 16).strip(), "pear"]


def test_progress_ends_at_the_total(tmp_path, settings):
    seen = []
    csv = write(tmp_path, "a.csv", HEADER + "u1,i1,2026-01-05,view\n")
    import_files([csv, parquet(tmp_path)], settings, on_progress=lambda *step: seen.append(step))
    ends = {stage: (done, total) for stage, done, total in seen}
    assert set(ends) == {"import a.csv", "import a.parquet"}
    assert all(done == total for done, total in ends.values())


def test_a_large_file_is_imported_quickly(tmp_path, settings):
    path = parquet(tmp_path, rows=300_000)
    start = time.perf_counter()
    assert import_files([path], settings).events == 300_000
    assert time.perf_counter() - start < 20
