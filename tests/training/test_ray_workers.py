"""Ray Train for real, on two CPUs of this machine."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from services.core.errors import DependencyUnavailable, InvalidArgument
from services.core.schema import DEFAULT_TENANT
from services.store.model_folder import load_model
from services.training.checkpoints import Checkpoints
from services.training.ranker_job import run_ranker_job
from services.training.ray_workers import run_on_workers
from services.training.workers import ComputeConfig
from tests.training.gloo_worker import pair
from tests.training.jobs import LONG, PLAIN, TWO, job_and_origins, long_on_ray
from tests.training.store import filled
from tests.training.test_fit_ranker import assert_same
from tests.training.test_workers import assert_close

# Not beside another cluster: each takes all of two cores.
pytestmark = [pytest.mark.xdist_group("serve"), pytest.mark.timeout(240)]
ROOT = Path(__file__).parents[2]
ALL_ALONE = ComputeConfig(workers=1)
MARK = "DRIFTLINE_TEST_JOB"


@pytest.fixture
def marked(tmp_path, monkeypatch):
    """A folder by which the processes that are started meanwhile are known."""
    monkeypatch.setenv(MARK, str(tmp_path))
    yield tmp_path
    give_up = time.monotonic() + 30
    while left := processes_of(tmp_path):
        assert time.monotonic() < give_up, f"still there: {left}"
        time.sleep(0.2)


def processes_of(folder):
    """Return the name of each process that inherited a folder's mark, by id."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
            if f"{MARK}={folder}".encode() in environment:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                found[int(entry.name)] = command.decode(errors="replace").strip()
        except OSError:
            continue
    return found


def test_two_workers_of_ray_one_killed_on_the_way_train_to_the_weights_of_one(marked):
    kept = Checkpoints(folder=marked / "states" / "key", every_s=0.0)
    config = replace(PLAIN, epochs=12)
    job, origins = job_and_origins(config, checkpoints=kept)
    told, killed = [], []

    def follow(stage, done, total):
        told.append((time.monotonic(), done, total))
        if not killed:
            kill(marked, max)
            killed.append(done)

    ran = run_on_workers(job, iter(origins), TWO, follow)
    assert_went_on(told, 12 * 12)
    assert_close(ran.fitted, run_ranker_job(*job_and_origins(config)))
    assert ran.fitted.last_loss < 0.9 * ran.fitted.first_loss
    assert ran.cpu_seconds > 0.1
    # States for whoever comes next, and none of the examples.
    left = sorted(path.name for path in (marked / "states").iterdir())
    assert left == ["key", "ray.log", "workers"]
    # One process takes up what workers left: here there is nothing left to do.
    taken_up = []
    again = run_ranker_job(job, origins, lambda *step: taken_up.append(step))
    assert taken_up == []
    assert_same(again, ran.fitted)


def kill(folder, chosen):
    """Kill a worker that Ray Train has started, unless it has ended before we heard of its step."""
    workers = [pid for pid, name in processes_of(folder).items() if "TrainWorker" in name]
    with suppress(ProcessLookupError):
        if workers:
            os.kill(chosen(workers), signal.SIGKILL)


def assert_went_on(told, total):
    """Hold that there was a pause before the end, and that no step was missed or lost then."""
    pauses = [later - at for (at, *_), (later, *_) in itertools.pairwise(told)]
    longest = int(np.argmax(pauses))
    assert pauses[longest] > 1.0
    (_, before, _), (_, after, _) = told[longest : longest + 2]
    assert before < total
    # A step may be kept and not told.
    assert after in (before + 1, before + 2)
    assert told[-1][1:] == (total, total)


@pytest.mark.slow
def test_a_killed_worker_changes_no_bit_of_the_result(marked):
    told = []

    def follow(stage, done, total):
        told.append((time.monotonic(), done, total))
        if done in (2, 150):
            # The first worker, who keeps the states, or another.
            kill(marked, min if done == 2 else max)

    ran = long_on_ray(marked, follow)
    assert_went_on(told, 300)
    assert_same(ran.fitted, pair(marked, "long")[0])


@pytest.mark.slow
def test_a_job_without_examples_is_refused_as_in_one_process(marked):
    job, origins = job_and_origins(LONG)
    with pytest.raises(InvalidArgument, match="import more"):
        run_on_workers(job, origins[-1:], TWO, lambda *step: None)


@pytest.mark.slow
def test_a_training_whose_driver_is_killed_goes_on_with_any_number_of_workers(marked):
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.training.jobs", str(marked)],
        stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    for line in child.stdout:
        if line.split()[:2] == ["train", "ranker"]:
            break
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    give_up = time.monotonic() + 30
    while left := processes_of(marked):
        if set(left) == {os.getpid()}:
            break
        assert time.monotonic() < give_up, left
        time.sleep(0.2)
    shutil.copytree(marked / "states", marked / "copy" / "states")
    steps = []
    resumed = long_on_ray(marked, lambda stage, done, total: steps.append(done))
    assert 1 < steps[0] < 300
    assert steps[-1] == 300
    whole = pair(marked, "long")[0]
    assert_same(resumed.fitted, whole)
    assert resumed.fitted.curves == whole.curves
    # One worker goes on from there as well; other dropout, so not to the same bits.
    kept = Checkpoints(folder=marked / "copy" / "states", every_s=0.0)
    alone = run_ranker_job(*job_and_origins(LONG, checkpoints=kept))
    assert alone.epochs == whole.epochs
    assert alone.curves["ranker"][0] == whole.curves["ranker"][0]
    assert alone.last_loss == pytest.approx(whole.last_loss, rel=0.05)


@pytest.mark.slow
def test_workers_that_die_again_and_again_end_it_with_a_reason(marked):
    with pytest.raises(DependencyUnavailable, match=r"Ray Train gave up .*see ") as caught:
        long_on_ray(marked, lambda stage, done, total: kill(marked, max))
    log = Path(caught.value.message.partition("see ")[2].partition(";")[0])
    assert "died" in log.read_text()


class Stopped(Exception):
    pass


@pytest.mark.slow
def test_a_command_stopped_on_two_workers_goes_on_in_one_process(marked):
    store = filled(marked / "store")

    def stop(stage, done, total):
        if stage == "train ranker":
            raise Stopped

    with pytest.raises(Stopped):
        store.train(on_progress=stop, compute=TWO)
    # Workers have ended: nothing writes a state any more.
    assert set(processes_of(marked)) <= {os.getpid()}
    steps = []
    info = store.train(
        on_progress=lambda stage, done, total: steps.append((stage, done)), compute=ALL_ALONE
    )
    assert all(done > 1 for stage, done in steps if stage == "train ranker")
    card = load_model(Path(store.models.folder(DEFAULT_TENANT, info.model_version))).card
    assert card.cost.workers == 1
    assert store.states() == []


@pytest.mark.slow
def test_the_card_says_how_many_workers_there_were(marked):
    store = filled(marked / "store")
    info = store.train(compute=TWO)
    card = load_model(Path(store.models.folder(DEFAULT_TENANT, info.model_version))).card
    assert (card.cost.workers, card.config["compute"]["workers"]) == (2, 2)
    assert info.stage == "live"
