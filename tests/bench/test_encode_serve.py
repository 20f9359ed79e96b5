"""The benchmark of small requests asks both sides for the same, and no title twice."""

import grpc
import numpy as np
import pytest

from tests.bench.encode import titles
from tests.bench.encode_serve import (
    FEWEST,
    MOST,
    WARM_CALLS,
    Side,
    ask,
    calls_of,
    judged,
    model_of,
    parts_of,
    plain_server,
)
from tests.bench.pairs import Figures


@pytest.fixture(scope="module")
def server():
    with plain_server(2) as running:
        yield running


def asked(calls):
    return [item.title for call in calls for item in call.items]


def test_every_title_is_in_one_call_and_calls_are_small():
    calls = calls_of([f"title {n}" for n in range(200)])
    assert {len(call.items) for call in calls} == set(range(FEWEST, MOST + 1))
    assert len(set(asked(calls))) == len(asked(calls)) > 200 - MOST


def test_parts_are_of_one_size_and_share_no_title():
    warm, parts = parts_of([f"title {n}" for n in range(1000)], 3)
    assert len(warm) == WARM_CALLS
    assert [number for number, _ in parts] == [0, 1, 2]
    assert len({len(calls) for _, calls in parts}) == 1
    everything = asked(warm) + [title for _, calls in parts for title in asked(calls)]
    assert len(set(everything)) == len(everything)


def test_the_peer_answers_every_call_with_the_vectors_of_our_backbone(server):
    from services.store.backbone import load_backbone

    calls = calls_of(titles(140)[0])
    side = Side(server=server)
    figures = side.run((0, calls))
    assert len(calls) > 16
    assert 0 < figures.p50_ms <= figures.p99_ms
    assert figures.cpu_ms_per_call > 0
    backbone = load_backbone()
    made = model_of(backbone.spec).tower.text_parts(backbone.encode(asked(calls)))
    assert np.abs(side.made[0] - made).max() < 1e-4


async def test_a_call_that_is_refused_ends_the_bench(server):
    broken = calls_of(["tea"] * 8)
    broken[0].items[0].title = "x" * (5 << 20)
    with pytest.raises(grpc.RpcError):
        await ask(server.port, broken, ())


def figures(rate):
    return Figures(calls_per_s=rate, cpu_ms_per_call=1.0, p50_ms=1.0, p99_ms=1.0)


@pytest.mark.parametrize(("cosine", "is_reached"), [(0.9995, True), (0.99, False)])
def test_a_fast_side_that_answers_otherwise_has_not_reached_the_goal(cosine, is_reached):
    truth = np.array([[1.0, 0.0]], np.float32)
    other = np.array([[cosine, (1 - cosine**2) ** 0.5]], np.float32)
    ours, peer = Side(server=None), Side(server=None)
    ours.made, peer.made = {-1: truth, 0: other}, {-1: other, 0: truth}
    runs = [figures(8.0)], [figures(2.0)]
    found = judged(ours, peer, runs, "bf16", (1, (1, 2)), "titles")
    assert found["ratio"] == 4
    assert found["reached"] is is_reached
