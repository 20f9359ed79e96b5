import json
import subprocess
import sys
from dataclasses import fields, replace
from datetime import UTC, datetime

import numpy as np
import pytest

from services.core.errors import InvalidArgument, NotReady
from services.core.model import ForecasterSpec, Model
from services.core.pooling import PoolingConfig
from services.core.ranker import neutral_ranker
from services.core.schema import Granularity
from services.core.tower import BackboneSpec, ItemTower, space_id_of
from services.store.model_folder import (
    check_model_folder,
    load_info,
    load_model,
    load_ranker,
    load_tower,
    save_model,
    version_of,
)


def model(seed=0, **changes):
    rng = np.random.default_rng(seed)
    backbone = BackboneSpec(name="owner/all-MiniLM-L6-v2", weights_sha256="ab" * 32, width=6)
    tower = ItemTower(
        mean_B=rng.normal(size=6).astype(np.float32),
        projection_BD=rng.normal(size=(6, 4)).astype(np.float32),
    )
    ranker = replace(
        neutral_ranker((21.0, 84.0), (7.0, 28.0), 4),
        query_HDD=rng.normal(size=(2, 4, 4)).astype(np.float32),
        repeat_bias=0.25,
    )
    made = Model(
        model_version="m1",
        space_id=space_id_of(backbone, tower),
        backbone=backbone,
        tower=tower,
        pooling=PoolingConfig(half_lives_days=(21.0, 84.0)),
        ranker=ranker,
        forecasters={
            Granularity.WEEK: ForecasterSpec(
                config={"ema_half_life": 12.0}, arrays={"w": tower.projection_BD}
            )
        },
        trained_time=datetime(2026, 1, 2, tzinfo=UTC),
        trained_until=datetime(2026, 1, 1, tzinfo=UTC),
        data_sha256="cd" * 32,
        metrics={"recall_at_10": 0.5},
    )
    return replace(made, **changes)


def assert_same(a, b):
    for field in fields(a):
        left, right = getattr(a, field.name), getattr(b, field.name)
        if isinstance(left, np.ndarray):
            np.testing.assert_array_equal(left, right)
        elif hasattr(left, "__dataclass_fields__"):
            assert_same(left, right)
        elif field.name != "forecasters":
            assert left == right, field.name


def test_a_saved_model_reads_back_equal(tmp_path):
    saved = model()
    info = save_model(tmp_path / "m", saved)
    read = load_model(tmp_path / "m")
    assert_same(saved, read)
    assert read.forecasters[Granularity.WEEK].config == {"ema_half_life": 12.0}
    np.testing.assert_array_equal(
        read.forecasters[Granularity.WEEK].arrays["w"], saved.tower.projection_BD
    )
    assert load_info(tmp_path / "m") == info == saved.info()
    assert_same(load_ranker(tmp_path / "m"), saved.ranker)
    assert_same(load_tower(tmp_path / "m"), saved.tower)


@pytest.mark.parametrize(
    "name", ["item_tower.safetensors", "ranker.safetensors", "forecaster.safetensors"]
)
def test_a_file_altered_by_one_byte_is_refused(tmp_path, name):
    save_model(tmp_path / "m", model())
    check_model_folder(tmp_path / "m")
    path = tmp_path / "m" / name
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    for read in (check_model_folder, load_model):
        with pytest.raises(InvalidArgument, match=name):
            read(tmp_path / "m")


def test_a_folder_without_a_model_says_to_train(tmp_path):
    with pytest.raises(NotReady, match="driftline train"):
        load_model(tmp_path)


def test_a_space_that_the_files_do_not_make_is_refused(tmp_path):
    save_model(tmp_path / "m", model(space_id="minilm_00000000"))
    with pytest.raises(InvalidArgument, match="minilm_00000000"):
        load_model(tmp_path / "m")


def test_saving_replaces_a_model_but_never_a_folder_of_other_files(tmp_path):
    save_model(tmp_path / "m", model(0))
    save_model(tmp_path / "m", model(1))
    assert_same(load_tower(tmp_path / "m"), model(1).tower)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(InvalidArgument, match="other files"):
        save_model(tmp_path / "mine", model())
    assert (tmp_path / "mine" / "letter.txt").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m", "mine"]


def test_equal_models_are_equal_files_and_versions(tmp_path):
    save_model(tmp_path / "a", model())
    save_model(tmp_path / "b", model())
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    later = model(trained_time=datetime(2026, 5, 1, tzinfo=UTC), metrics={})
    assert version_of(model()) == version_of(later)
    assert version_of(model()) != version_of(model(1))


def test_another_format_is_refused(tmp_path):
    save_model(tmp_path / "m", model())
    path = tmp_path / "m" / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(InvalidArgument, match="format"):
        load_model(tmp_path / "m")


def test_reading_a_ranker_imports_no_torch(tmp_path):
    save_model(tmp_path / "m", model())
    script = (
        "import sys; from pathlib import Path\n"
        "from services.store.model_folder import load_ranker, load_tower\n"
        f"folder = Path({str(tmp_path / 'm')!r}); load_ranker(folder); load_tower(folder)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
