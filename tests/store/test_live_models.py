from dataclasses import replace
from pathlib import Path

import pytest

from services.core.errors import NotReady
from services.store.live_models import LiveModels
from services.store.model_folder import save_model
from tests.encoder.world import model


class Registry:
    """A registry of one folder each; counts what is read."""

    def __init__(self, root: Path):
        self.root, self.version, self.reads = root, "", 0

    def make(self, version):
        save_model(self.root / version, replace(model(), model_version=version))
        self.version = version

    def live(self, tenant):
        if not self.version:
            raise NotReady("live model", "run `driftline train`")
        return replace(model(), model_version=self.version).info("live")

    def folder(self, tenant, version):
        self.reads += 1
        return str(self.root / version)


def test_a_model_is_read_once_and_a_promotion_is_seen_at_the_next_call(tmp_path: Path):
    registry = Registry(tmp_path)
    models = LiveModels(registry)
    registry.make("m1")
    assert models.model("default") is models.model("default")
    registry.make("m2")
    assert models.model("default").model_version == "m2"
    assert registry.reads == 2


def test_no_live_model_says_so(tmp_path: Path):
    with pytest.raises(NotReady, match="train"):
        LiveModels(Registry(tmp_path)).model("default")


def test_a_model_is_given_by_name_and_stays_in_memory_beside_the_live_one(tmp_path: Path):
    registry = Registry(tmp_path)
    models = LiveModels(registry)
    registry.make("m2")
    registry.make("m1")
    for _ in range(2):
        assert models.named("default", "").model_version == "m1"
        assert models.named("default", "m2").model_version == "m2"
    assert registry.reads == 2
