"""The yaml files hold what the write path uses."""

import os
from pathlib import Path

import pytest
import yaml

from services.store.feast_config import FeastConfig

REPO = Path(__file__).parents[2] / "feature_repo"


def expanded(name: str, monkeypatch: pytest.MonkeyPatch, **variables: str) -> dict:
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    # As Feast does.
    return yaml.safe_load(os.path.expandvars((REPO / name).read_text()))


def written(config: FeastConfig, folder: Path) -> dict:
    config.write_yaml("default", folder)
    return yaml.safe_load((folder / "feature_store.yaml").read_text())


def test_sqlite_yaml_names_the_files_the_writer_uses(monkeypatch, tmp_path):
    found = expanded("feature_store.yaml", monkeypatch, DRIFTLINE_FEAST_DIR=str(tmp_path))
    assert found == written(FeastConfig(), tmp_path)


def test_redis_yaml_names_the_stores_the_writer_uses(monkeypatch, tmp_path):
    found = expanded(
        "feature_store.redis.yaml",
        monkeypatch,
        DRIFTLINE_REGISTRY_URL="postgresql+psycopg://db/feast",
        DRIFTLINE_REDIS="cache:6379",
        REDIS_PASSWORD="secret",
    )
    assert found["online_store"]["connection_string"] == "cache:6379,password=secret"
    config = FeastConfig(
        online_store="redis",
        redis_url="redis://cache:6379",
        registry_url="postgresql+psycopg://db/feast",
    )
    same = written(config, tmp_path)
    same["online_store"]["connection_string"] = "cache:6379,password=secret"
    assert found == same


def test_features_are_served_while_someone_materializes():
    for path in REPO.glob("*.yaml"):
        registry = yaml.safe_load(path.read_text())["registry"]
        assert registry["serve_features_while_materializing"] is True
