"""Another team, with Feast alone: online, point in time, and over `feast serve`."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from services.core.periods import Period, period_from_name
from services.core.schema import (
    DEFAULT_TENANT,
    Granularity,
    bucket_of,
    by_period_view,
    interest_view,
)
from services.store.feast_config import FeastConfig
from services.store.features import FeastFeatures
from services.store.frames import by_period_frame, newest_period_frame
from services.store.layout import Layout

EXAMPLE = Path(__file__).parents[2] / "feature_repo" / "examples" / "other_team.py"
SPACE, WEEK = "tiny_00000001", Granularity.WEEK
# 2017-W20 closes on Monday 2017-05-22.
CLOSE = datetime(2017, 5, 22, tzinfo=UTC)
LAG = timedelta(hours=1)
COMPUTED = datetime(2026, 11, 24, 12, tzinfo=UTC)
BUCKETS = 4


def week(ordinal: int, user: str, *, known: datetime, computed: datetime = COMPUTED):
    """One vector whose first component tells its week and whose event count tells it too."""
    return by_period_frame(
        WEEK,
        [user],
        np.array([ordinal]),
        np.array([[ordinal, 1, 0, 0]], np.float32),
        np.array([ordinal]),
        model_version="m1",
        known_times=[known],
        computed_time=computed,
    )


def ordinal_of(name: str) -> int:
    return period_from_name(WEEK, name).ordinal


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Two users: "zoë 1" with three backfilled weeks, "late" first seen after every instant asked."""
    layout = Layout(tmp_path_factory.mktemp("data"), BUCKETS)
    features = FeastFeatures(layout, FeastConfig())
    features.apply(DEFAULT_TENANT, SPACE)
    view = by_period_view(WEEK, SPACE)
    rows = [
        week(o, "zoë 1", known=Period(WEEK, o).end + LAG)
        for o in range(ordinal_of("2017-W18"), ordinal_of("2017-W20") + 1)
    ]
    rows.append(week(ordinal_of("2017-W50"), "late", known=datetime(2017, 12, 20, tzinfo=UTC)))
    for number, frame in enumerate(rows):
        bucket = bucket_of(frame["user_id"][0], BUCKETS)
        features.append_offline(DEFAULT_TENANT, view, bucket, f"p{number}", frame)
    for frame in (rows[2], rows[3]):
        online = newest_period_frame(frame).drop("known_time")
        features.write_online(DEFAULT_TENANT, interest_view(WEEK, SPACE), online)
    return layout.feast_dir(DEFAULT_TENANT)


def run_example(repo: Path, *arguments: str, env=None) -> dict:
    done = subprocess.run(
        [sys.executable, EXAMPLE, "--repo", repo, *arguments],
        env={**os.environ, "TZ": "UTC", **(env or {})},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout[done.stdout.index("{\n") :])


def test_another_team_reads_online_in_time_and_over_http(published):
    closed = CLOSE + LAG
    instants = [CLOSE - timedelta(hours=1), closed - timedelta(seconds=1), closed, COMPUTED]
    report = run_example(
        published,
        "--users", "zoë 1,late,nobody",
        "--at", ",".join(at.isoformat() for at in instants),
    )  # fmt: skip

    w19, w20, w50 = map(ordinal_of, ("2017-W19", "2017-W20", "2017-W50"))
    assert [row["vec"] for row in report["online"]] == [[w20, 1, 0, 0], [w50, 1, 0, 0], None]
    joined = report["training_set"]
    counts = {
        user: [row["event_count"] for row in joined if row["user_id"] == user]
        for user in ("zoë 1", "late", "nobody")
    }
    # Before and after the period closed; backfilled history counts; no row is lost.
    assert counts["zoë 1"] == [w19, w19, w20, w20]
    assert counts["late"] == [None, None, None, w50]
    assert counts["nobody"] == [None] * 4
    served = report["http"]
    names = served["metadata"]["feature_names"]
    values = served["results"][names.index("vec")]["values"]
    assert values == [[w20, 1, 0, 0], [w50, 1, 0, 0], None]


def test_the_example_knows_nothing_of_ours():
    words = ("services", "driftline", "feature_repo")
    imports = [
        line
        for line in EXAMPLE.read_text().splitlines()
        if line.lstrip().startswith(("import ", "from "))
    ]
    assert imports
    assert not [line for line in imports if any(word in line for word in words)]
