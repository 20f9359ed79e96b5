from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from services.training import handover
from services.training.checkpoints import Checkpoints
from services.training.fit_ranker import Learned, train_ranker
from tests.training.jobs import job_and_origins
from tests.training.origins import POOLING, SMALL
from tests.training.test_fit_ranker import assert_same


def assert_equal(left, right):
    assert type(left) is type(right)
    for field in fields(left):
        one, other = getattr(left, field.name), getattr(right, field.name)
        if isinstance(one, np.ndarray):
            np.testing.assert_array_equal(one, other, err_msg=field.name)
            assert one.dtype == other.dtype
        elif field.name == "histories_H":
            assert len(one) == len(other)
            for a, b in zip(one, other, strict=True):
                assert a.shape == b.shape
                assert (a != b).nnz == 0
        else:
            assert one == other, field.name


def test_a_job_and_its_origins_come_out_as_they_went_in(tmp_path):
    job, origins = job_and_origins(checkpoints=Checkpoints(folder=Path("x/y"), every_s=2.5))
    handover.write(tmp_path / "job", job)
    handover.write(tmp_path / "origin", origins[0])
    assert_equal(handover.read(tmp_path / "job"), job)
    assert_equal(handover.read(tmp_path / "origin"), origins[0])


def test_what_was_learned_comes_out_bit_for_bit(tmp_path):
    job, origins = job_and_origins()
    fitted = train_ranker(origins, job.text_NV, job.item_ids, POOLING.half_lives_days, SMALL)
    handover.write(tmp_path, (fitted, 1.5, Learned(tower=fitted.tower, ranker=fitted.ranker)))
    read, seconds, learned = handover.read(tmp_path)
    assert_same(read, fitted)
    assert (read.curves, read.epochs, seconds) == (fitted.curves, fitted.epochs, 1.5)
    assert learned.tower.known_ids == fitted.tower.known_ids
    np.testing.assert_array_equal(learned.tower.known_KD, fitted.tower.known_KD)


def test_arrays_without_content_keep_their_shape(tmp_path):
    rows = sparse.csr_matrix((3, 5), dtype=np.float32)
    handover.write(tmp_path, [np.zeros((0, 7), np.int64), rows])
    empty, read = handover.read(tmp_path)
    assert (empty.shape, empty.dtype) == ((0, 7), np.int64)
    assert (read.shape, read.nnz) == ((3, 5), 0)


def test_arrays_are_mapped_and_cannot_be_written_to(tmp_path):
    handover.write(tmp_path, np.arange(4))
    array = handover.read(tmp_path)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 9


def test_half_of_a_value_is_not_found(tmp_path):
    with pytest.raises(AssertionError):
        handover.write(tmp_path, [np.arange(4), object()])
    assert not handover.is_written(tmp_path)


def test_a_class_that_is_not_named_is_refused(tmp_path):
    (tmp_path / "value.json").write_text('["Popen", ["dict", []]]')
    with pytest.raises(KeyError):
        handover.read(tmp_path)
