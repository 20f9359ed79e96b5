import numpy as np
import pytest

from services.core.errors import InvalidArgument
from services.core.heads import LabelHead, Projection, ValueHead
from services.store.heads import load_head, save_head

LABELS = LabelHead(
    labels=("tea", "chess"), weight_BC=np.float32([[1, 2], [3, 4]]), bias_C=np.float32([5, 6])
)


def test_each_kind_is_read_back_as_it_was(tmp_path):
    value = ValueHead(weight_B=np.float32([1, 2]), bias=0.5, centre=3.0, scale=2.0)
    projection = Projection(mean_B=np.float32([1, 2]), projection_BD=np.float32([[1], [2]]))
    for head in (LABELS, value, projection):
        save_head(tmp_path, head)
    found = load_head(tmp_path, LabelHead)
    assert found.labels == ("tea", "chess")
    assert np.array_equal(found.weight_BC, LABELS.weight_BC)
    assert load_head(tmp_path, ValueHead).scale == 2.0
    assert np.array_equal(load_head(tmp_path, Projection).projection_BD, projection.projection_BD)


def test_a_kind_that_is_not_there_is_none(tmp_path):
    save_head(tmp_path, LABELS)
    assert load_head(tmp_path, ValueHead) is None


@pytest.mark.parametrize("ending", ["safetensors", "json"])
def test_files_that_are_not_whole_are_named(tmp_path, ending):
    save_head(tmp_path, LABELS)
    (tmp_path / f"heads/classification.{ending}").write_bytes(b"{}")
    with pytest.raises(InvalidArgument, match=r"classification head .* tune again"):
        load_head(tmp_path, LabelHead)
