"""The benchmark of a GPU counts what it says, and says where there is none."""

import pytest
import torch

from tests.bench import gpu
from tests.bench.encode import titles


def test_looked_up_weights_are_no_work():
    model = torch.nn.Sequential(torch.nn.Embedding(100, 4), torch.nn.Linear(4, 3))
    assert gpu.flops_a_token(model) == 2 * (4 * 3 + 3)


def test_the_share_of_peak_is_told_of_known_devices_alone():
    assert gpu.peak_of("NVIDIA H100 80GB HBM3") == 989
    assert gpu.peak_of("NVIDIA L40S") != gpu.peak_of("NVIDIA L4")
    assert gpu.share_of_peak(1e6, 20_000_000, 100.0) == pytest.approx(0.2)
    assert gpu.share_of_peak(1e6, 20_000_000, gpu.peak_of("a toaster")) is None


def test_both_sides_encode_the_same_tokens_on_any_device(monkeypatch):
    monkeypatch.setattr(gpu, "PEER_BATCHES", (8,))
    found = gpu.measure(titles(16)[0], "cpu", 1, compiles=False)
    ours, peer = (found["runs"][side][0]["tokens_per_s"] for side in ("ours", "peer"))
    assert found["ratio"] == pytest.approx(ours / peer)
    assert found["share_of_peak"] == {"ours": None, "peer": None}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["gpu", "--out", str(tmp_path / "out")])
    gpu.main()
    assert capsys.readouterr().out.strip() == gpu.NO_GPU
    assert not (tmp_path / "out").exists()
