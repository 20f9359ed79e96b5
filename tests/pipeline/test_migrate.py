"""From one space to another: beside each other, verified, switched and back, with no mixed read."""

import json
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from feast import FeatureStore

from services.core.errors import InvalidArgument, NotReady
from services.core.schema import (
    DEFAULT_TENANT,
    Granularity,
    bucket_of,
    by_period_view,
    forecast_view,
)
from services.local import gateway_process
from services.pipeline.health import keep_health
from services.pipeline.refresh import refresh, refresh_space
from services.pipeline.stores import open_check
from services.store.health import read_health
from services.store.layout import Layout
from tests.pipeline.two_spaces import TwoSpaces, two_spaces
from tests.planted import WordEncoder
from tests.small_store import BUCKETS, NOW, USERS

WEEK = Granularity.WEEK
SERVICES = ("forecast_week_v1", "interest_history_week_v1", "interest_week_v1", "user_profile_v1")


class Words(WordEncoder):
    """A toy text model that make_model can ask for its width."""

    width = WordEncoder.spec.width


@pytest.fixture
def spaces(tmp_path):
    made = two_spaces(tmp_path, Words(), poll_s=0.1)
    refresh(made.stores, made.compute, made.settings)
    return made


def rows(spaces: TwoSpaces, space_id: str, view=by_period_view) -> pl.DataFrame:
    read = spaces.stores.features.read_offline
    return pl.concat(read(DEFAULT_TENANT, view(WEEK, space_id), b) for b in range(BUCKETS))


def services(spaces: TwoSpaces) -> dict[str, str]:
    """Return the space of each feature service, as another team finds it."""
    feast_dir = spaces.settings.data_dir / DEFAULT_TENANT / "feast"
    store = FeatureStore(fs_yaml_file=feast_dir / "feature_store.yaml")
    return {each.name: each.tags["space_id"] for each in store.list_feature_services()}


def event(user: str, item: str, days_ago: float) -> dict:
    return {
        "event_id": f"new-{user}-{item}-{days_ago}",
        "user_id": user,
        "item_id": item,
        "kind": "purchase",
        "value": 1.0,
        "event_time": NOW - timedelta(days=days_ago),
        "ingest_time": datetime.now(UTC),
    }


def test_both_spaces_are_kept_fresh_and_services_keep_their_names(spaces):
    old, new = spaces.old.space_id, spaces.new.space_id
    before = rows(spaces, old)
    for to, problem in (("m9", "no model 'm9'"), ("m1", "promote it instead")):
        with pytest.raises(InvalidArgument, match=problem):
            spaces.migration.start(to)
    assert spaces.stores.models.shadow(DEFAULT_TENANT) is None
    model = spaces.migration.start("m2")
    check_gaps_are_seen(spaces)
    spaces.migration.backfill("m2")
    assert rows(spaces, old).equals(before)
    assert set(rows(spaces, new)["user_id"]) == {f"u{n}" for n in range(USERS)}
    assert len(rows(spaces, new)) == len(before)
    assert len(rows(spaces, new, forecast_view)) == len(rows(spaces, old, forecast_view)) > 0
    # Nothing moved for readers: the old space is live, and other teams' services point to it.
    assert spaces.stores.models.live(DEFAULT_TENANT).space_id == old
    assert services(spaces) == dict.fromkeys(SERVICES, old)
    # An event that comes in meanwhile reaches both.
    spaces.stores.tables.append_events(
        DEFAULT_TENANT, pl.DataFrame([event("late", "tea", 9)]), "late"
    )
    refresh(spaces.stores, spaces.compute, spaces.settings)
    for space_id in (old, new):
        assert "late" in set(rows(spaces, space_id)["user_id"])
    # What came into the old space alone meanwhile, verifying catches up with first.
    spaces.stores.tables.append_events(
        DEFAULT_TENANT, pl.DataFrame([event("later", "tea", 9)]), "later"
    )
    refresh_space(spaces.compute, spaces.settings)
    assert "later" not in set(rows(spaces, new)["user_id"])
    found = spaces.migration.verify(model)
    assert set(found.coverage.values()) == {1.0}
    assert "later" in set(rows(spaces, new)["user_id"])
    assert found.recall.users > USERS / 2
    assert found.held_out == "2026-W13"
    check_health(spaces)
    check_gaps_are_refused(spaces, model, found)
    check_names_stay(spaces, model, found)


def check_gaps_are_seen(spaces):
    """Of two buckets one is filled, and no forecasts are: the shares say so."""
    spaces.compute.refresh_items(model_version="m2")
    spaces.compute.refresh_interests([0], model_version="m2")
    shares = spaces.migration._coverage(spaces.old.space_id, spaces.new.space_id)
    in_first = sum(bucket_of(f"u{n}", BUCKETS) == 0 for n in range(USERS)) / USERS
    assert shares["week vectors"] == pytest.approx(in_first, abs=0.05)
    assert (shares["items"], shares["week forecasts"]) == (1.0, 0.0)


def check_gaps_are_refused(spaces, model, found):
    """What is not covered is switched to only where that is accepted."""
    worse = replace(found, coverage={"items": 0.5}, recall=None)
    with pytest.raises(InvalidArgument, match=r"only 50.00% of items"):
        spaces.migration.switch(model, worse)
    assert spaces.stores.models.live(DEFAULT_TENANT).model_version == "m1"
    spaces.migration.switch(model, worse, accepts_worse=True)
    assert spaces.stores.models.live(DEFAULT_TENANT).model_version == "m2"
    spaces.migration.rollback()


def check_health(spaces):
    """The real online store, read as gateways read it, says what was published."""
    check = open_check(spaces.stores, spaces.settings)
    health = keep_health(spaces.stores, check, DEFAULT_TENANT)
    assert (health.users_covered, health.items_covered, health.divergence) == (1.0, 1.0, 0.0)
    assert health.space_id == spaces.old.space_id
    layout = Layout(spaces.settings.data_dir, BUCKETS)
    assert read_health(layout, DEFAULT_TENANT) == health


def check_names_stay(spaces, model, found):
    """Services keep their names through switch, rollback and finish."""
    spaces.migration.switch(model, found, accepts_worse=True)
    assert services(spaces) == dict.fromkeys(SERVICES, spaces.new.space_id)
    spaces.migration.switch(model, found, accepts_worse=True)  # again changes nothing
    assert spaces.migration.rollback().model_version == "m1"
    assert services(spaces) == dict.fromkeys(SERVICES, spaces.old.space_id)
    spaces.migration.rollback()
    assert spaces.stores.models.live(DEFAULT_TENANT).model_version == "m2"
    # The space that was left is still fresh, until the end is said.
    spaces.compute.asked.clear()
    refresh(spaces.stores, spaces.compute, spaces.settings)
    assert spaces.compute.asked == ["", "m1"]
    assert services(spaces) == dict.fromkeys(SERVICES, spaces.new.space_id)
    spaces.migration.finish()
    spaces.compute.asked.clear()
    refresh(spaces.stores, spaces.compute, spaces.settings)
    assert spaces.compute.asked == [""]
    with pytest.raises(NotReady):
        spaces.migration.rollback()


@contextmanager
def reading(spaces: TwoSpaces, target: str, folder):
    """Run the reader process; what it saw is in the list once the block ends."""
    expected = {
        model.space_id: {
            f"{row['user_id']} {row['period']}": np.asarray(row["vec"], "<f4").tobytes().hex()
            for row in rows(spaces, model.space_id).iter_rows(named=True)
        }
        for model in (spaces.old, spaces.new)
    }
    files = [folder / name for name in ("expected.json", "seen.json", "stop")]
    files[0].write_text(json.dumps(expected))
    command = [sys.executable, "-m", "tests.pipeline.space_reader", target, *map(str, files)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    seen: list[dict] = []

    def reads(space_id: str) -> None:
        """Wait until the reader is answered from a space."""
        alive = folder / "seen.json.alive"
        for _ in range(600):
            assert process.poll() is None, process.stdout.read()
            if alive.exists() and alive.read_text() == space_id:
                return
            time.sleep(0.05)
        raise AssertionError(f"nothing was read from {space_id}")

    try:
        yield reads, seen
        files[2].write_text("")
        assert process.wait(60) == 0, process.stdout.read()
        seen.append(json.loads(files[1].read_text()))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def migrate_under_load(spaces: TwoSpaces, folder, rounds: int) -> dict:
    """Switch and roll back while a process reads; returns what it saw."""
    old, new = spaces.old.space_id, spaces.new.space_id
    model = spaces.migration.start("m2")
    spaces.migration.backfill("m2")
    found = spaces.migration.verify(model)
    with (
        gateway_process(spaces.settings, folder) as gateway,
        reading(spaces, gateway.target, folder) as (reads, seen),
    ):
        reads(old)
        # A gateway's own process exports what the write path wrote down.
        with urllib.request.urlopen(gateway.metrics_url, timeout=10) as answer:
            exported = answer.read().decode()
        assert 'driftline_refreshed_timestamp_seconds{tenant="default"}' in exported
        for _ in range(rounds):
            spaces.migration.switch(model, found, accepts_worse=True)
            reads(new)
            # Both are written while they are read.
            refresh_space(spaces.compute, spaces.settings)
            spaces.migration.rollback()
            reads(old)
    return seen[0]


def assert_never_mixed(saw: dict, spaces: TwoSpaces, rounds: int, trust) -> None:
    losses = saw["mixed_count"] + len(saw["errors"])
    trust("reads while a space is migrated", tried=sum(saw["replies"].values()), losses=losses)
    assert (saw["mixed"], saw["mixed_count"], saw["errors"]) == ([], 0, [])
    # Each switch was seen as one step: no reply came from the space that had been left.
    both = [spaces.old.space_id, spaces.new.space_id]
    assert saw["sequence"] == both * rounds + both[:1]
    calls = {name.split()[0] for name in saw["replies"]}
    assert calls == {"interest", "batch", "trajectory", "forecast", "recommend", "similar"}
    for space_id in both:
        assert all(saw["replies"][f"{call} {space_id}"] > 0 for call in calls)
    # The spaces differ in every answer, else a mixed one could not be told.
    assert saw["same_in_both"] == []


def test_no_read_mixes_two_spaces_while_the_switch_and_the_rollback_happen(spaces, tmp_path, trust):
    saw = migrate_under_load(spaces, tmp_path, rounds=3)
    assert_never_mixed(saw, spaces, rounds=3, trust=trust)


@pytest.mark.slow
def test_with_real_weights_no_read_mixes_two_spaces(tmp_path, trust):
    from services.store.backbone import load_backbone

    spaces = two_spaces(tmp_path, load_backbone(), poll_s=0.1)
    refresh(spaces.stores, spaces.compute, spaces.settings)
    assert spaces.old.space_id.startswith("minilm_")
    assert spaces.new.space_id.startswith("minilm_")
    saw = migrate_under_load(spaces, tmp_path, rounds=10)
    assert_never_mixed(saw, spaces, rounds=10, trust=trust)
