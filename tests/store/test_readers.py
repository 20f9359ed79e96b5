"""The raw readers give what Feast gives, on rows that Feast's own writer wrote."""

import subprocess
import sys
from datetime import UTC, datetime

import numpy as np
import pytest
from feast import FeatureStore
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import _mmh3, _redis_key
from feast.protos.feast.types import Value_pb2 as value_pb2
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from services.core.errors import DependencyUnavailable, InvalidArgument, NotReady
from services.core.packed import pack
from services.core.periods import period_at
from services.core.records import InterestVector
from services.core.schema import DEFAULT_TENANT as TENANT
from services.core.schema import Granularity, history_view, interest_view, item_view
from services.core.views import FeatureType, views_of
from services.store import wire
from services.store.feast_config import FeastConfig
from services.store.feast_reader import FeastInterestReader
from services.store.features import FeastFeatures
from services.store.frames import rows_frame
from services.store.layout import Layout
from services.store.redis_reader import RedisInterestReader
from services.store.rows import features_of_history
from services.store.sqlite_reader import SqliteInterestReader

SPACE = "tiny_00000001"
NOW = datetime(2026, 11, 24, 12, 0, 0, 123456, tzinfo=UTC)
USERS = ["zoë 🦊", "a:b", " ", *(f"u{n}" for n in range(97))]
T = FeatureType


def some_features(view, rng) -> dict:
    make = {
        T.STRING: lambda: "été" * int(rng.integers(0, 60)),
        T.INT: lambda: int(rng.integers(-(2**62), 2**62)),
        T.FLOAT: lambda: float(rng.normal()),
        T.BOOL: lambda: bool(rng.integers(2)),
        T.TIME: lambda: datetime.fromtimestamp(int(rng.integers(0, 2**31)), UTC),
        T.STRINGS: lambda: tuple("ä" * int(k) for k in rng.integers(0, 200, rng.integers(0, 5))),
        T.INTS: lambda: tuple(rng.integers(-(2**40), 2**40, rng.integers(0, 5)).tolist()),
        T.FLOATS: lambda: tuple(rng.normal(size=rng.integers(0, 5)).tolist()),
        T.VECTOR: lambda: rng.normal(size=rng.integers(0, 300)).astype(np.float32),
    }
    return {name: make[kind]() for name, kind in view.features.items()}


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def written(request, tmp_path_factory):
    """Random rows of every online view; yields layout, config."""
    layout = Layout(tmp_path_factory.mktemp("data"), 4)
    config = FeastConfig()
    if request.param == "redis":
        config = FeastConfig(online_store="redis", redis_url=request.getfixturevalue("valkey"))
    features = FeastFeatures(layout, config)
    features.apply(TENANT, SPACE)
    rng = np.random.default_rng(7)
    for view in views_of(SPACE).values():
        if view.is_online:
            rows = [some_features(view, rng) for _ in USERS]
            frame = rows_frame(view.name, USERS, rows, computed_time=NOW)
            features.write_online(TENANT, view.name, frame)
    return layout, config


def readers(layout, config):
    raw = SqliteInterestReader(layout)
    if not config.is_sqlite:
        raw = RedisInterestReader(config.redis_url)
    return [raw, FeastInterestReader(layout, config)]


def told(row):
    facts = row.facts
    return (
        row.values, row.event_count, facts.period, facts.model_version, facts.computed_time,
        facts.space_id,
    )  # fmt: skip


async def closed(reader):
    if isinstance(reader, RedisInterestReader):
        await reader.close()
    else:
        reader.close()


def plain(value):
    if isinstance(value, np.ndarray | tuple | list):
        return [plain(v) for v in (value.tolist() if isinstance(value, np.ndarray) else value)]
    return value.astimezone(UTC) if isinstance(value, datetime) else value


@pytest.mark.parametrize("count", [1, 10, 100])
async def test_every_reader_gives_what_feast_gives(written, count):
    layout, config = written
    store = FeatureStore(config=config.repo_config(TENANT, layout.feast_dir(TENANT)))
    ids = [*USERS[: count - 1], "nobody"] if count > 1 else USERS[:1]
    readers_of = readers(layout, config)
    for view in views_of(SPACE).values():
        if not view.is_online:
            continue
        truth = store.get_online_features(
            features=[f"{view.name}:{name}" for name in view.features],
            entity_rows=[{view.join_keys[0]: id_} for id_ in ids],
        ).to_dict()
        for reader in readers_of:
            rows = await reader.fetch(TENANT, view.name, ids)
            assert [row is None for row in rows] == [id_ == "nobody" for id_ in ids]
            for place, row in enumerate(rows):
                if row is None:
                    continue
                assert set(row.features) == set(view.features)
                for name in view.features:
                    # Feast gives an empty list as none; a reader keeps the difference.
                    expected = plain(truth[name][place])
                    got = plain(row.features[name])
                    assert (got or None) == (expected or None), (view.name, name)
                assert abs((row.computed_time - NOW).total_seconds()) < 1
    if not config.is_sqlite:
        await readers_of[0].close()


async def test_redis_keeps_the_computed_time_whole(written):
    _, config = written
    if config.is_sqlite:
        pytest.skip("SQLite keeps whole seconds")
    reader = RedisInterestReader(config.redis_url)
    (row,) = await reader.fetch(TENANT, interest_view(Granularity.WEEK, SPACE), USERS[:1])
    assert row.computed_time == NOW
    await reader.close()


async def test_packed_interests_are_the_plain_ones(written):
    """Of rows that Feast wrote; some_features makes vectors of any width."""
    (reader, _), ids = readers(*written), [*USERS, "nobody"]
    for granularity in Granularity:
        plain_ones = await reader.interests(TENANT, SPACE, ids, granularity)
        packed = await reader.packed_interests(TENANT, SPACE, ids, granularity)
        assert [row and told(row) for row in packed] == [v and told(pack(v)) for v in plain_ones]
        assert packed[-1] is None
        assert len({len(row.values) for row in packed[:-1]}) > 9
    await closed(reader)


async def test_packed_histories_are_the_plain_ones(written):
    layout, config = written
    features, space_id = FeastFeatures(layout, config), "tiny_00000002"
    features.apply(TENANT, space_id)
    view, rng = history_view(Granularity.WEEK, space_id), np.random.default_rng(8)
    last = period_at(Granularity.WEEK, NOW)
    users = [f"u{weeks}" for weeks in (1, 2, 26)]
    weeks_of = {
        user: [
            InterestVector(
                vec_D=rng.normal(size=8).astype(np.float32),
                period=last + (week - weeks),
                # One that fills a byte, one that does not.
                event_count=int(rng.choice([1, 127, 128, 70_000])),
                model_version="m1",
                known_time=NOW,
                computed_time=NOW,
            )
            for week in range(weeks)
        ]
        for user, weeks in zip(users, (1, 2, 26), strict=True)
    }
    rows = [features_of_history(weeks_of[user]) for user in users]
    features.write_online(TENANT, view, rows_frame(view, users, rows, computed_time=NOW))
    reader, _ = readers(*written)
    for user in users:
        plain_ones = await reader.history(TENANT, space_id, user, Granularity.WEEK)
        packed = await reader.packed_history(TENANT, space_id, user, Granularity.WEEK)
        assert [told(row) for row in packed] == [told(pack(v)) for v in plain_ones]
        assert [row.values for row in packed] == [v.vec_D.tobytes() for v in weeks_of[user]]
    assert await reader.packed_history(TENANT, space_id, "nobody", Granularity.WEEK) == []
    await closed(reader)


async def test_no_ids_read_as_no_rows(written):
    for reader in readers(*written):
        assert await reader.fetch(TENANT, item_view(SPACE), []) == []


async def test_a_view_nobody_applied_is_not_ready(tmp_path):
    layout = Layout(tmp_path, 4)
    readers_of = [SqliteInterestReader(layout), FeastInterestReader(layout, FeastConfig())]
    view = interest_view(Granularity.WEEK, "other_00000002")
    for reader in readers_of:
        with pytest.raises(NotReady, match="driftline refresh"):
            await reader.fetch(TENANT, view, ["1"])
    FeastFeatures(layout, FeastConfig()).apply(TENANT, SPACE)
    for reader in readers_of:
        with pytest.raises(NotReady, match="driftline refresh"):
            await reader.fetch(TENANT, view, ["1"])
        with pytest.raises(InvalidArgument, match="is no view"):
            await reader.fetch(TENANT, 'x"; DROP TABLE y', ["1"])


async def test_a_damaged_file_is_unavailable(tmp_path):
    layout = Layout(tmp_path, 4)
    layout.feast_dir(TENANT).mkdir(parents=True)
    (layout.feast_dir(TENANT) / "online.db").write_bytes(b"no database" * 1000)
    with pytest.raises(DependencyUnavailable, match="SQLite"):
        await SqliteInterestReader(layout).fetch(TENANT, item_view(SPACE), ["1"])


async def test_a_redis_that_is_down_is_unavailable(free_port):
    reader = RedisInterestReader(f"redis://127.0.0.1:{free_port}/0", timeout_s=1)
    with pytest.raises(DependencyUnavailable, match="Redis"):
        await reader.fetch(TENANT, item_view(SPACE), ["1"])


def test_raw_readers_import_neither_feast_nor_torch_nor_ray_nor_polars():
    code = (
        "import sys, services.store.sqlite_reader, services.store.redis_reader, services.store.rows;"
        "print([m for m in ('feast', 'torch', 'ray', 'polars', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_history_index_and_registry_import_neither_feast_nor_torch_nor_ray():
    code = (
        "import sys, services.store.history_reader, services.store.index, services.store.models;"
        "print([m for m in ('feast', 'torch', 'ray', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@given(st.text(min_size=1))
def test_entity_keys_are_feasts(entity_id):
    key = EntityKey(join_keys=["user_id"], entity_values=[value_pb2.Value(string_val=entity_id)])
    ours = wire.entity_key("user_id", entity_id)
    assert ours == serialize_entity_key(key, entity_key_serialization_version=3)
    assert wire.redis_key("proj", ours) == _redis_key("proj", key, 3)
    assert wire.redis_field("view", entity_id) == _mmh3(f"view:{entity_id}")


INT64 = st.integers(-(2**63), 2**63 - 1)


@given(
    st.one_of(
        INT64.map(lambda v: (value_pb2.Value(int64_val=v), v)),
        st.booleans().map(lambda v: (value_pb2.Value(bool_val=v), v)),
        st.floats(allow_nan=False).map(lambda v: (value_pb2.Value(double_val=v), v)),
        st.text().map(lambda v: (value_pb2.Value(string_val=v), v)),
        st.lists(INT64).map(
            lambda v: (value_pb2.Value(int64_list_val=value_pb2.Int64List(val=v)), v)
        ),
        st.lists(st.text()).map(
            lambda v: (value_pb2.Value(string_list_val=value_pb2.StringList(val=v)), v)
        ),
        st.lists(st.floats(width=32, allow_nan=False)).map(
            lambda v: (value_pb2.Value(float_list_val=value_pb2.FloatList(val=v)), v)
        ),
        st.lists(st.floats(allow_nan=False)).map(
            lambda v: (value_pb2.Value(double_list_val=value_pb2.DoubleList(val=v)), v)
        ),
    )
)
def test_values_decode_as_protobuf_would(pair):
    message, expected = pair
    assert plain(wire.decode_value(message.SerializeToString())) == expected


@given(st.integers(-62135596800, 253402300799), st.integers(0, 999_999))
def test_timestamps_decode_as_protobuf_would(seconds, micros):
    message = Timestamp(seconds=seconds, nanos=micros * 1000)
    assert wire.decode_timestamp(message.SerializeToString()) == message.ToDatetime(UTC)


@given(st.lists(st.floats(width=32), max_size=40))
def test_the_bytes_of_a_list_are_its_numbers(numbers):
    value = value_pb2.Value(float_list_val=value_pb2.FloatList(val=numbers))
    data = value.SerializeToString()
    # Twice: the second time its head is known.
    for _ in range(2):
        assert wire.float_bytes(data) == np.asarray(numbers, "<f4").tobytes()


def test_bytes_of_another_value_are_refused():
    numbers = value_pb2.Value(float_list_val=value_pb2.FloatList(val=[1.0, 2.0]))
    assert len(wire.float_bytes(numbers.SerializeToString())) == 8
    # As long as the list, so that only its head tells.
    text = value_pb2.Value(bytes_val=b"x" * (len(numbers.SerializeToString()) - 2))
    with pytest.raises(ValueError, match="no list of floats"):
        wire.float_bytes(text.SerializeToString())


def test_a_value_of_a_type_we_do_not_store_is_refused():
    with pytest.raises(ValueError, match="not one that our views use"):
        wire.decode_value(value_pb2.Value(json_val="{}").SerializeToString())
