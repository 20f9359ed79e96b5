from datetime import UTC, datetime

import polars as pl

from services.pipeline.preprocess import preprocess
from services.pipeline.status import status
from services.runtime.settings import Settings
from services.store.inbox import InboxWriter
from services.store.layout import Layout
from services.store.tables import DeltaTables

T0 = datetime(2026, 1, 5, tzinfo=UTC)


def events(*ids, item="i1"):
    return pl.DataFrame(
        {
            "event_id": list(ids),
            "user_id": ["u1"] * len(ids),
            "item_id": [item] * len(ids),
            "kind": ["view"] * len(ids),
            "value": [1.0] * len(ids),
            "event_time": [T0] * len(ids),
        }
    )


def test_a_new_store_is_empty(tmp_path):
    shown = status(Settings(data_dir=tmp_path))
    assert (shown.events, shown.items, shown.rejected, shown.waiting_events) == (0, 0, 0, 0)
    assert shown.position == {}


def test_status_tells_what_waits_and_what_is_stored(tmp_path):
    settings = Settings(data_dir=tmp_path)
    layout = Layout(tmp_path, settings.bucket_count)
    writer = InboxWriter(layout, "gateway-0")
    writer.append("events", pl.concat([events("a", "b"), events("bad", item="")]))
    waiting = status(settings)
    assert (waiting.events, waiting.waiting_events) == (0, 3)
    preprocess(DeltaTables(layout), settings)
    taken = status(settings)
    assert (taken.events, taken.waiting_events, taken.rejected) == (2, 0, 1)
    assert taken.reasons == {"item_id is missing": 1}
    assert taken.position["gateway-0/events"] > 0
    writer.append("events", events("c"))
    assert status(settings).waiting_events == 1
