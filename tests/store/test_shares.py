from datetime import UTC, datetime, timedelta

import polars as pl

from services.core.schema import DEFAULT_TENANT as TENANT
from services.core.schema import profile_view
from services.store.frames import rows_frame
from services.store.memory_features import MemoryFeatures
from services.store.shares import BucketUsers, append_shares, content_digest

SPACE = "tiny_00000001"
VIEW = profile_view(SPACE)
NOW = datetime(2026, 11, 24, tzinfo=UTC)
SHARES = (
    BucketUsers(bucket=1, users=("a", "c"), prefix="v7"),
    BucketUsers(bucket=2, users=("b",), prefix="v8"),
    BucketUsers(bucket=3, users=("quiet",), prefix="v9"),
)


def profiles(users: str, at: datetime = NOW) -> pl.DataFrame:
    features = [
        {
            "labels": (user, "tea"), "shares": (0.5, 0.25), "recent_shares": (0.5, 0.0),
            "event_count": ord(user), "first_event_time": NOW, "last_event_time": NOW,
            "session_count": 1, "is_suspected_bot": False, "model_version": "m1",
        }
        for user in users
    ]  # fmt: skip
    return rows_frame(VIEW, list(users), features, computed_time=at)


def appended(rows: pl.DataFrame, shares: tuple[BucketUsers, ...] = SHARES) -> MemoryFeatures:
    features = MemoryFeatures()
    features.apply(TENANT, SPACE)
    append_shares(features, TENANT, VIEW, rows, shares)
    return features


def test_each_buckets_rows_go_into_one_part_of_it_and_nothing_into_a_bucket_without_any():
    features = appended(profiles("abc"))
    users = {
        b: features.read_offline(TENANT, VIEW, b)["user_id"].to_list() for b in range(1, 4)
    }  # fmt: skip
    assert users == {1: ["a", "c"], 2: ["b"], 3: []}
    names = [features.offline_parts(TENANT, VIEW, b) for b in range(1, 4)]
    assert [[name.partition("-")[0] for name in of] for of in names] == [["v7"], ["v8"], []]


def test_the_same_rows_get_the_same_name_alone_with_others_and_computed_again():
    together = appended(profiles("abc"))
    alone = appended(profiles("b", NOW + timedelta(hours=1)), SHARES[1:2])
    assert alone.offline_parts(TENANT, VIEW, 2) == together.offline_parts(TENANT, VIEW, 2)


def test_other_rows_get_another_name():
    changed = profiles("b").with_columns(pl.lit(3, pl.Int64).alias("session_count"))
    assert content_digest(changed) != content_digest(profiles("b"))


def test_no_rows_make_no_part():
    assert appended(profiles("abc").clear()).offline_parts(TENANT, VIEW, 1) == []
