import json
import sys
from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from scipy import sparse

from services.core.dataset import dataset_from_frame
from services.core.errors import InvalidArgument
from services.core.pooling import PoolingConfig
from services.core.schema import Granularity
from services.evaluation.matrices import counts
from services.evaluation.peers import GRIDS, PREFIX, Answer, PeerBlock, PeerVenv, peer_venv
from services.evaluation.protocol import first_seen, make_split, view_at
from services.evaluation.rivals import FINISH
from services.evaluation.scorers import frequency
from tests.evaluation.conftest import evaluate
from tests.planted import START, planted_events

EVENTS = planted_events(users=12, weeks=14)
DATA = dataset_from_frame(EVENTS, Granularity.WEEK, PoolingConfig())
SPLIT = make_split(DATA, 2, (1,))
FIT = DATA.before(SPLIT.start(SPLIT.origins[0]))


def views(data=DATA):
    return [
        view_at(data, SPLIT, at, (1,), first_seen_N=first_seen(data), user_limit=99, seed=0)
        for at in SPLIT.origins
    ]


class Counting:
    """A peer that answers each user's own counts, from the files that any peer reads."""

    def __init__(self):
        self.asked = []

    def __call__(self, peer, constants, questions, answers, *, seed):
        self.asked.append((peer, constants, questions))
        said = json.loads((questions / "questions.json").read_text())
        with np.load(questions / "events.npz") as arrays:
            user, item = arrays["user"], arrays["item"]
        shape = said["user_count"], said["item_count"]
        for number, origin in enumerate(said["origins"]):
            past = slice(origin["events"])
            own_UN = sparse.csr_matrix(
                (np.ones(len(user[past]), np.float32), (user[past], item[past])), shape=shape
            )
            users = np.load(questions / origin["users"])
            sparse.save_npz(answers / f"users_{number}.npz", own_UN[users])
            np.save(answers / f"items_{number}.npy", np.eye(shape[1], dtype=np.float32))
            np.save(answers / f"known_{number}.npy", np.ones(shape[1], bool))
        (answers / "said.json").write_text('{"library": "counting 1.0", "fit_seconds": 0.1234567}')


def test_a_peer_that_counts_scores_like_our_counts(tmp_path):
    block = PeerBlock(Counting(), tmp_path / "block", FIT, views())
    method = block.method("als", FIT, {"factors": 1.0})
    for view in views():
        users = view.users[2:7]
        theirs = method(view.past, view.now)(users)
        np.testing.assert_array_equal(theirs, frequency()(view.past, view.now)(users))


def test_a_block_tells_nothing_from_its_last_origin_on_and_marks_what_each_origin_knew(tmp_path):
    block = PeerBlock(Counting(), tmp_path / "block", FIT, views())
    questions = tmp_path / "block" / "questions"
    with np.load(questions / "events.npz") as arrays:
        assert arrays["time"].max() < SPLIT.start(SPLIT.origins[-1])
        times = arrays["time"]
    said = json.loads((questions / "questions.json").read_text())
    assert said["events_to_fit"] == said["origins"][0]["events"] == FIT.event_count
    for at, origin in zip(SPLIT.origins, said["origins"], strict=True):
        assert (times[: origin["events"]] < SPLIT.start(at)).all()
        assert origin["events"] == DATA.before(SPLIT.start(at)).event_count
    with pytest.raises(AssertionError, match="its block's events"):
        block.method("als", DATA, {})


def test_a_peer_is_asked_once_for_the_same_constants_and_never_for_what_is_done_here(tmp_path):
    peer = Counting()
    block = PeerBlock(peer, tmp_path / "block", FIT, views())
    for softmax in (0.0, 1.0):
        block.method("sasrec", FIT, {"width": 8.0, "softmax": softmax})
    block.method("sasrec", FIT, {"width": 16.0, "softmax": 1.0})
    assert [constants for _, constants, _ in peer.asked] == [{"width": 8.0}, {"width": 16.0}]
    assert block.said("sasrec", {"width": 8.0}) == "library counting 1.0, fit seconds 0.123"


def test_what_a_peer_cannot_score_comes_last_and_a_user_it_does_not_know_gets_nothing():
    answer = Answer(
        users_A=np.array([3, 5]),
        factors_AF=np.array([[1.0, 0.0], [0.0, 0.0]], np.float32),
        items_NF=np.array([[-1.0, 0], [9.0, 0], [-3.0, 0], [2.0, 0]], np.float32),
        is_known_N=np.array([True, False, True, True]),
    )
    raw, softmax, moved = (
        answer.scores(np.array([3, 5]), is_softmax=how) for how in (None, True, False)
    )
    np.testing.assert_allclose(raw[0], [-1, 0, -3, 2])
    np.testing.assert_allclose(softmax[0], np.array([np.exp(-3), 0, np.exp(-5), 1]), rtol=1e-6)
    np.testing.assert_allclose(moved[0], [2, 0, 0, 5])
    for scores in (raw, softmax, moved):
        assert not scores[1].any()


@pytest.fixture(scope="module")
def compared(tmp_path_factory, evaluated):
    """A report with peers, its folder, and the peer that was asked."""
    out, peer = tmp_path_factory.mktemp("compared"), Counting()
    events = planted_events(users=40, weeks=20)
    return evaluate(events, out, model=evaluated[0].model, peers=peer).report, out, peer


def test_peers_stand_in_the_report_beside_all_methods_with_intervals(compared, evaluated):
    report, out, _ = compared
    names = [PREFIX + name for name in GRIDS]
    for part in ("all", "new", "warm"):
        table = report["recommendation"][part]["h1"]
        # Others answer as they did without peers.
        before = evaluated[0].report["recommendation"][part]["h1"]
        assert {name: table[name]["ndcg_at_10"] for name in before} == {
            name: row["ndcg_at_10"] for name, row in before.items()
        }
        for name in names:
            low, high = table[name]["driftline_gain_ndcg_at_10_ci"]
            assert low <= table[name]["driftline_gain_ndcg_at_10"] <= high
            assert table[name]["samples"] == table["driftline"]["samples"]
            assert report["protocol"]["notes"][name].startswith("library counting 1.0")
            assert set(report["protocol"]["baselines"][name]) == {
                *GRIDS[name.removeprefix(PREFIX)], *FINISH,
            }  # fmt: skip
    page = (out / "report.html").read_text()
    for name in names:
        assert f"<td>{name}</td>" in page


def test_choosing_hides_the_test_block_from_peers(compared):
    _, out, peer = compared
    with np.load(out / "peers" / "validation" / "questions" / "events.npz") as arrays:
        assert arrays["time"].max() < (START + timedelta(weeks=16)).timestamp()
    epochs = {q.parts[-2]: c["epochs"] for name, c, q in peer.asked if name == "sasrec"}
    assert epochs["validation"] < epochs["test"]
    # The origins see one setting, or another for new items too.
    blocks = [questions.parts[-2] for name, _, questions in peer.asked if name == "als"]
    assert 1 <= blocks.count("test") <= 2 < blocks.count("validation")


def test_without_their_venv_the_user_is_told_what_makes_it(tmp_path):
    with pytest.raises(InvalidArgument, match="`make eval-peers` makes it"):
        peer_venv(tmp_path)


def test_a_peer_that_fails_leaves_its_words_in_a_log(tmp_path):
    script = tmp_path / "answer.py"
    script.write_text("raise SystemExit('no such library')")
    process = PeerVenv(python=sys.executable, script=script)
    with pytest.raises(InvalidArgument, match=r"als failed with .*log\.txt says why"):
        process("als", {"alpha": 1.0}, tmp_path, tmp_path, seed=0)
    assert "no such library" in (tmp_path / "log.txt").read_text()


def test_peers_and_leave_one_out_are_refused_together(tmp_path):
    with pytest.raises(InvalidArgument, match="leave-one-out does not ask them"):
        evaluate(EVENTS, tmp_path, peers=Counting(), leave_one_out=True)


@pytest.fixture(scope="module")
def venv():
    try:
        return peer_venv()
    except InvalidArgument as missing:
        pytest.skip(missing.message)


SMALL = {
    "als": {"factors": 4.0, "regularisation": 0.1, "alpha": 4.0, "half_life": float("inf")},
    "bm25": {"half_life": 12.0, "neighbours": 10.0, "k1": 1.2, "b": 0.75},
    "sasrec": {"width": 16.0, "length": 8.0, "learning_rate": 1e-2, "softmax": 1.0, "epochs": 40.0},
}


@pytest.mark.parametrize("peer", SMALL)
def test_the_real_peers_find_the_planted_topic(venv, tmp_path, peer):
    block = PeerBlock(venv, tmp_path / "block", FIT, views())
    method = block.method(peer, FIT, SMALL[peer])
    topic_N = np.array([name.split("-")[0] for name in DATA.item_ids])
    right = []
    for view in views():
        own_UN = counts(view.past)
        best = method(view.past, view.now)(view.users).argmax(axis=1)
        favourite = np.asarray(own_UN[view.users].argmax(axis=1)).ravel()
        right.append(topic_N[best] == topic_N[favourite])
    assert np.mean(right) > 0.9
    assert "fit seconds" in block.said(peer, SMALL[peer])


@pytest.mark.parametrize("peer", SMALL)
def test_the_real_peers_answer_for_an_origin_from_its_past_alone(venv, tmp_path, peer):
    late = pl.col("event_time") >= START + timedelta(weeks=12)
    item = pl.when(late).then(pl.lit(DATA.item_ids[0])).otherwise("item_id").alias("item_id")
    other = dataset_from_frame(EVENTS.with_columns(item), Granularity.WEEK, PoolingConfig())
    assert other.item_ids == DATA.item_ids
    scores = []
    for name, data in (("a", DATA), ("b", other)):
        asked = [SimpleNamespace(past=v.past, now=v.now, users=np.arange(12)) for v in views(data)]
        method = PeerBlock(venv, tmp_path / name, FIT, asked).method(peer, FIT, SMALL[peer])
        scores.append([method(view.past, view.now)(np.arange(12)) for view in asked])
    np.testing.assert_array_equal(scores[0][0], scores[1][0])
    assert not np.array_equal(scores[0][1], scores[1][1])
