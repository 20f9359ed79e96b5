"""What was, or could have been, known at an instant; in memory and over Parquet parts."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from services.core.errors import NotReady
from services.core.periods import Period, period_from_name
from services.core.records import Forecast
from services.core.schema import DEFAULT_TENANT as TENANT
from services.core.schema import Granularity, bucket_of, by_period_view, forecast_view
from services.core.views import view_named
from services.store import offline_parts
from services.store.frames import by_period_frame, rows_frame
from services.store.history_reader import ParquetHistory
from services.store.layout import Layout
from services.store.memory_features import MemoryFeatures
from services.store.rows import features_of_forecast

SPACE, WEEK, BUCKETS = "tiny_00000001", Granularity.WEEK, 4
HOUR = timedelta(hours=1)
NOW = datetime(2026, 11, 24, tzinfo=UTC)
W1, W2, W3 = (period_from_name(WEEK, f"2017-W{n}") for n in (18, 19, 20))


class World:
    """Appends rows to either adapter and reads trajectories back as (week, first component)."""

    def __init__(self, reader, append):
        self.reader, self.append, self.parts = reader, append, 0

    def put(self, period: Period, value: float, *, known, computed, user="ü"):
        rows = by_period_frame(
            WEEK, [user], np.array([period.ordinal]), np.array([[value, 0]], np.float32),
            np.array([1]), model_version="m", known_times=[known], computed_time=computed,
        )  # fmt: skip
        self.parts += 1
        self.append(bucket_of(user, BUCKETS), f"p{self.parts}", rows)

    def backfill(self, period: Period, value: float, computed=NOW):
        self.put(period, value, known=period.end + HOUR, computed=computed)

    async def read(self, user="ü", *, event_time=NOW, ingest_time=NOW, limit=100, before=None):
        vectors = await self.reader.trajectory(
            TENANT, SPACE, user, WEEK,
            event_time=event_time, ingest_time=ingest_time, limit=limit, before=before,
        )  # fmt: skip
        return [(vector.period.name, float(vector.vec_D[0])) for vector in vectors]


@pytest.fixture(params=["memory", "parquet"])
def world(request, tmp_path):
    by_period = by_period_view(WEEK, SPACE)
    if request.param == "memory":
        features = MemoryFeatures(BUCKETS)
        features.apply(TENANT, SPACE)
        return World(
            features,
            lambda b, part, rows, view=by_period: features.append_offline(
                TENANT, view, b, part, rows
            ),
        )
    layout = Layout(tmp_path, BUCKETS)
    offline_parts.declare(layout, TENANT, SPACE)
    return World(
        ParquetHistory(layout),
        lambda b, part, rows, view=by_period: offline_parts.append(
            layout, TENANT, view_named(view), b, part, rows
        ),
    )


async def test_periods_come_oldest_first_with_gaps_left_out(world):
    for period, value in ((W3, 3.0), (W1, 1.0)):
        world.backfill(period, value)
    assert await world.read() == [("2017-W18", 1.0), ("2017-W20", 3.0)]


async def test_a_user_nobody_knows_has_none(world):
    world.backfill(W1, 1.0)
    assert await world.read("nobody") == []


async def test_limit_keeps_the_newest_and_before_pages_back(world):
    for value, period in enumerate((W1, W2, W3)):
        world.backfill(period, float(value))
    assert await world.read(limit=2) == [("2017-W19", 1.0), ("2017-W20", 2.0)]
    assert await world.read(limit=2, before=W2.ordinal) == [("2017-W18", 0.0)]
    assert await world.read(limit=0) == []


async def test_only_periods_that_had_begun_count(world):
    for value, period in enumerate((W1, W2)):
        world.backfill(period, float(value))
    assert await world.read(event_time=W2.start) == [("2017-W18", 0.0)]
    assert len(await world.read(event_time=W2.start + timedelta(microseconds=1))) == 2


async def test_a_backfilled_period_is_known_from_its_known_time_on(world):
    world.backfill(W1, 1.0)
    known = W1.end + HOUR
    assert await world.read(ingest_time=known - timedelta(microseconds=1)) == []
    assert await world.read(ingest_time=known) == [("2017-W18", 1.0)]


async def test_each_transaction_time_is_kept(world):
    tuesday, wednesday = W1.start + timedelta(days=1), W1.start + timedelta(days=2)
    world.put(W1, 1.0, known=tuesday, computed=tuesday)
    world.put(W1, 2.0, known=wednesday, computed=wednesday)
    assert await world.read(ingest_time=tuesday) == [("2017-W18", 1.0)]
    assert await world.read(ingest_time=wednesday) == [("2017-W18", 2.0)]


async def test_a_closed_period_made_again_counts_now_but_not_before_it_was_made(world):
    live = W1.end + 2 * HOUR
    world.put(W1, 1.0, known=live, computed=live)
    # A late event: known as of the close plus lag, computed now.
    world.backfill(W1, 2.0, computed=NOW)
    assert await world.read(ingest_time=live) == [("2017-W18", 1.0)]
    assert await world.read(ingest_time=NOW) == [("2017-W18", 2.0)]


async def test_vectors_carry_their_times(world):
    world.backfill(W1, 1.0)
    (vector,) = await world.reader.trajectory(
        TENANT, SPACE, "ü", WEEK, event_time=NOW, ingest_time=NOW, limit=1
    )
    assert vector.known_time == W1.end + HOUR
    assert vector.computed_time == NOW
    assert vector.vec_D.dtype == np.float32


async def test_once_a_space_is_declared_only_what_was_computed_by_then_counts(world):
    # Declared when the fixture made it; asked for an instant after that.
    asked = datetime.now(UTC)
    world.put(W1, 1.0, known=asked, computed=asked)
    # A gap that a late event fills afterwards, as if it had been known at its close.
    world.backfill(W2, 2.0, computed=asked + HOUR)
    assert await world.read(event_time=asked, ingest_time=asked) == [("2017-W18", 1.0)]
    both = await world.read(event_time=asked, ingest_time=asked + HOUR)
    assert both == [("2017-W18", 1.0), ("2017-W19", 2.0)]


async def test_the_newest_forecast_that_had_been_made_is_found(world):
    view = forecast_view(WEEK, SPACE)
    for number, (period, value, computed) in enumerate(
        ((W1, 1.0, W1.end), (W2, 2.0, W2.end), (W1, 3.0, W2.end + HOUR))
    ):
        features = features_of_forecast(
            Forecast(
                means_HD=np.array([[value, 0]], np.float32),
                scales_HD=np.ones((1, 2), np.float32),
                horizons=(1,),
                made_at=period,
                forecaster="ema",
                model_version="m",
                computed_time=computed,
            )
        )
        rows = rows_frame(view, ["ü"], [features], computed_time=computed)
        world.append(bucket_of("ü", BUCKETS), f"f{number}", rows, view)

    async def made(event_time, ingest_time):
        found = await world.reader.forecast_at(
            TENANT, SPACE, "ü", WEEK, event_time=event_time, ingest_time=ingest_time
        )
        return found and (found.made_at.name, float(found.means_HD[0, 0]), found.space_id)

    assert await made(W1.start, NOW) is None
    assert await made(W1.end, W1.end) == ("2017-W18", 1.0, SPACE)
    assert await made(W1.end, NOW) == ("2017-W18", 3.0, SPACE)
    assert await made(W2.end, W2.end) == ("2017-W19", 2.0, SPACE)
    assert await made(NOW, W1.end - HOUR) is None


async def test_a_space_nobody_applied_is_not_ready(world):
    with pytest.raises(NotReady):
        await world.reader.trajectory(
            TENANT, "other_00000002", "ü", WEEK, event_time=NOW, ingest_time=NOW, limit=1
        )
