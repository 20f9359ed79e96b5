"""Offline producers may send a day in any order, again and by any gateway: the tables are the same."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.pipeline.preprocess import preprocess
from services.runtime.settings import Settings
from services.store.event_frames import stamp
from services.store.inbox import InboxWriter
from services.store.layout import Layout
from services.store.memory_events import EventMemory, MemoryTables
from services.store.tables import DeltaTables

TENANT = "default"
T0 = datetime(2026, 1, 5, tzinfo=UTC)
NOW = datetime(2026, 2, 1, tzinfo=UTC)
WRITERS = ("gateway-0", "gateway-1", "import")

# A small pool, so that ids meet again: duplicates, conflicts over users and times, rows that no
# one can use.
row = st.tuples(
    st.sampled_from(["a", "b", "c", "d"]),
    st.sampled_from(["u1", "u2", "u3"]),
    st.sampled_from(["i1", "i2"]),
    st.sampled_from(["view", "purchase", "stare"]),
    st.sampled_from([1.0, 2.0]),
    st.integers(0, 1),
)


@dataclass(frozen=True)
class Delivery:
    """One call: its rows, its gateway, and whether a preprocess follows."""

    rows: list
    writer: str
    is_followed: bool


@st.composite
def deliveries(draw, day):
    """Draw a way to send a day: any order, split over gateways, some calls sent again."""
    order = draw(st.permutations(day))
    cuts = sorted(draw(st.sets(st.integers(1, len(order) - 1), max_size=3)))
    parts = [order[a:b] for a, b in zip([0, *cuts], [*cuts, len(order)], strict=True)]
    parts += [parts[number] for number in draw(st.sets(st.integers(0, len(parts) - 1), max_size=2))]
    return [Delivery(part, draw(st.sampled_from(WRITERS)), draw(st.booleans())) for part in parts]


def frame(rows):
    return pl.DataFrame(
        [(*said, T0 + timedelta(hours=hour)) for *said, hour in rows],
        schema=["event_id", "user_id", "item_id", "kind", "value", "event_time"],
        orient="row",
    )


class DeltaWorld:
    def __init__(self, folder):
        self.layout = Layout(folder, 4)
        self.tables = DeltaTables(self.layout)

    def append(self, writer, rows):
        InboxWriter(self.layout, writer).append("events", rows)


class MemoryWorld:
    def __init__(self, folder):
        self.memory = EventMemory()
        self.tables = MemoryTables(self.memory)

    def append(self, writer, rows):
        log = self.memory.logs.setdefault((TENANT, f"{writer}/events"), [])
        log.append(stamp("events", rows, datetime.now(UTC)))


def tables_after(kind, sent):
    with TemporaryDirectory() as folder:
        world = kind(Path(folder))
        chosen = Settings(data_dir=Path(folder), bucket_count=4, now=NOW)
        for delivery in sent:
            world.append(delivery.writer, frame(delivery.rows))
            if delivery.is_followed:
                preprocess(world.tables, chosen)
        preprocess(world.tables, chosen)
        events = world.tables.read_events(TENANT).drop("ingest_time")
        rejects = world.tables.read_rejects(TENANT).drop("ingest_time", "source")
        return (
            events.sort(pl.all()).hash_rows().to_list(),
            rejects.sort(pl.all()).hash_rows().to_list(),
            events["event_id"].is_unique().all(),
        )


def same_tables(kind, examples):
    tried = []

    @settings(max_examples=examples, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(row, min_size=2, max_size=8), st.data())
    def check(day, data):
        first, other = data.draw(deliveries(day)), data.draw(deliveries(day))
        tried.append(len(first) + len(other))
        found = tables_after(kind, first)
        assert found[2]
        assert tables_after(kind, other) == found

    check()
    return sum(tried)


@pytest.mark.parametrize(("kind", "examples"), [(MemoryWorld, 40), (DeltaWorld, 4)])
def test_a_day_sent_in_any_order_leaves_the_same_tables(kind, examples, trust):
    trust("batches replayed in any order", same_tables(kind, examples))
