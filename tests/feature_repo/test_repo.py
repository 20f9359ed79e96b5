"""The declarations as Feast's own command line loads them."""

import importlib
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from feast import FeatureStore
from feast.cli.cli import cli
from feast.types import Array, Float32, Int64, String, UnixTimestamp

from feature_repo.definitions import definitions, services
from services.core.schema import DEFAULT_TENANT, Granularity
from services.core.views import views_of
from services.store.feast_config import FeastConfig
from services.store.features import FeastFeatures
from services.store.layout import Layout

REPO = Path(__file__).parents[2] / "feature_repo"
SPACE, OTHER = "tiny_00000001", "tiny_00000002"


def served_spaces(feast_dir: Path) -> set[str]:
    store = FeatureStore(fs_yaml_file=feast_dir / "feature_store.yaml")
    return {service.tags["space_id"] for service in store.list_feature_services()}


@pytest.fixture
def features(tmp_path):
    return FeastFeatures(Layout(tmp_path, 2), FeastConfig())


def test_views_never_expire_and_are_typed():
    views = {each.name: each for each in definitions(SPACE, "/x") if hasattr(each, "ttl")}
    assert set(views) == set(views_of(SPACE))
    assert {view.ttl.total_seconds() for view in views.values()} == {0.0}
    week = views[f"interest_week__{SPACE}"]
    assert {field.name: field.dtype for field in week.features} == {
        "vec": Array(Float32),
        "model_version": String,
        "event_count": Int64,
        "period_start": UnixTimestamp,
        "period_end": UnixTimestamp,
    }
    assert not views[f"interest_week_by_period__{SPACE}"].online


def test_every_view_reads_parts_the_writer_makes():
    for view in definitions(SPACE, "/x"):
        if hasattr(view, "ttl"):
            folder = views_of(SPACE)[view.name].offline_folder
            assert view.batch_source.path == f"/x/{folder}/*.parquet"
            assert view.batch_source.timestamp_field == "known_time"
            assert view.batch_source.created_timestamp_column == "computed_time"


def test_services_have_stable_names():
    assert {each.name for each in services(SPACE, "/x")} == {
        "interest_week_v1",
        "interest_history_week_v1",
        "forecast_week_v1",
        "user_profile_v1",
    }


def test_services_move_to_a_new_space_only_when_told(features, tmp_path):
    folder = tmp_path / DEFAULT_TENANT / "feast"
    features.apply(DEFAULT_TENANT, SPACE)
    features.apply(DEFAULT_TENANT, OTHER)
    assert served_spaces(folder) == {SPACE}
    features.point_services(DEFAULT_TENANT, OTHER)
    assert served_spaces(folder) == {OTHER}
    store = FeatureStore(fs_yaml_file=folder / "feature_store.yaml")
    declared = {view.name for view in store.list_feature_views()}
    assert declared == set(views_of(SPACE)) | set(views_of(OTHER))


def test_plain_feast_apply_declares_what_is_published(features, tmp_path, monkeypatch):
    folder = tmp_path / DEFAULT_TENANT / "feast"
    features.apply(DEFAULT_TENANT, SPACE)
    (folder / "registry.db").unlink()
    # Feast's command changes the folder, and imports repo.py by that name.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(REPO), *sys.path])
    monkeypatch.setenv("DRIFTLINE_FEAST_DIR", str(folder))
    try:
        done = CliRunner().invoke(cli, ["-c", str(REPO), "apply"])
    finally:
        sys.modules.pop("repo", None)
    assert done.exit_code == 0, done.output
    store = FeatureStore(fs_yaml_file=folder / "feature_store.yaml")
    assert {view.name for view in store.list_feature_views()} == set(views_of(SPACE))
    assert served_spaces(folder) == {SPACE}


def test_an_unset_folder_is_refused_not_taken_literally(monkeypatch):
    monkeypatch.delenv("DRIFTLINE_FEAST_DIR", raising=False)
    with pytest.raises(SystemExit, match="set DRIFTLINE_FEAST_DIR"):
        importlib.import_module("feature_repo.repo")


def test_the_yaml_for_other_teams_holds_no_password(tmp_path):
    config = FeastConfig(
        online_store="redis",
        redis_url="redis://:hunter2@cache:6379/3",
        registry_url="postgresql+psycopg://feast:hunter2@db/feast",
    )
    config.write_yaml("default", tmp_path)
    text = (tmp_path / "feature_store.yaml").read_text()
    assert "hunter2" not in text
    assert "cache:6379,db=3,password=${REDIS_PASSWORD}" in text


@pytest.mark.parametrize("granularity", list(Granularity))
def test_every_granularity_has_its_views(granularity):
    kinds = ("interest_{}", "interest_{}_history", "interest_{}_by_period", "forecast_{}",
             "forecast_state_{}")  # fmt: skip
    names = {f"{kind.format(granularity)}__{SPACE}" for kind in kinds}
    assert names <= set(views_of(SPACE))
