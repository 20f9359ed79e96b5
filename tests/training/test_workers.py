"""Workers as threads of this process: what several compute is what one computes."""

import copy
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from services.core.errors import InvalidArgument
from services.training.batches import part_of
from services.training.fit_ranker import backward, seed_of, validation_loss
from services.training.ranker import RankerModule
from services.training.ranker_job import run_ranker_job
from services.training.start import start_tower, with_known_items
from services.training.workers import ALONE, ComputeConfig, check_compute, cpu_count, sum_gradients
from tests.training.gloo_worker import pair
from tests.training.jobs import PLAIN, job_and_origins
from tests.training.origins import POOLING, SMALL, origins_of, planted
from tests.training.test_fit_ranker import assert_same, weights


def assert_close(two, one):
    """Hold two workers' result against one's: rounding apart, and what training makes of it."""
    assert two.epochs == one.epochs
    for name, value in weights(one).items():
        np.testing.assert_allclose(weights(two)[name], value, rtol=1e-3, atol=1e-4, err_msg=name)
    for name, curve in one.curves.items():
        np.testing.assert_allclose(two.curves[name], curve, rtol=1e-3, err_msg=name)


class Meeting:
    """Where threads add up their values, in the order of their ranks."""

    def __init__(self, size):
        self.size, self.values = size, [None] * size
        self.barrier = threading.Barrier(size, timeout=30)

    def workers(self):
        return [Threaded(self, rank) for rank in range(self.size)]

    def run(self, function):
        """Return what each worker gets from the function."""
        results, errors = [None] * self.size, []

        def work(worker):
            try:
                results[worker.rank] = function(worker)
            except BaseException as error:
                errors.append(error)
                self.barrier.abort()

        threads = [threading.Thread(target=work, args=(worker,)) for worker in self.workers()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return results


class Threaded:
    device = torch.device("cpu")

    def __init__(self, meeting, rank):
        self.meeting, self.rank, self.size = meeting, rank, meeting.size

    def add_up(self, values):
        self.meeting.values[self.rank] = values.clone()
        self.meeting.barrier.wait()
        values.copy_(sum(self.meeting.values))
        self.meeting.barrier.wait()


def module_of(config, data, text, origin):
    torch.manual_seed(1)
    tower = with_known_items(start_tower(text, config.width), origin, data.item_ids)
    module = RankerModule(config, POOLING.half_lives_days, tower, data.item_ids)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    return module


def step(module, users, workers, text, origin):
    """Return a step's loss and gradients, as one worker sees them after the sum."""
    module = copy.deepcopy(module)
    loss = backward(module, origin, users, torch.from_numpy(text), workers)
    total = sum_gradients(workers, list(module.parameters()), loss)
    return total, {name: p.grad for name, p in module.named_parameters()}


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize(
    "change", [{}, {"new_weight": 0.0}, {"user_power": 1.0}, {"has_interest": False}]
)
def test_parts_of_a_step_add_up_to_the_step(size, change):
    # Users differ much in how many truths they have, and in how many of them are new.
    data, text = planted(users=12, weeks=5, per_week=4, items_per_topic=30)
    origin, config = origins_of(data, 1)[0], replace(PLAIN, **change)
    users = np.flatnonzero(np.diff(origin.truth_ptr))[:-1]
    parts = [part_of(origin, users, rank, size, config.user_power) for rank in range(size)]
    assert sum(part.share for part in parts) == pytest.approx(1.0)
    assert sum(part.new_share for part in parts) == pytest.approx(1.0)
    assert max(abs(part.new_share - part.share) for part in parts) > 1e-3
    module = module_of(config, data, text, origin)
    loss, gradients = step(module, users, ALONE, text, origin)
    for total, summed in Meeting(size).run(
        lambda worker: step(module, users, worker, text, origin)
    ):
        assert total == pytest.approx(loss, rel=1e-5)
        for name, gradient in gradients.items():
            assert (gradient is None) == (summed[name] is None), name
            if gradient is not None:
                torch.testing.assert_close(summed[name], gradient, rtol=1e-4, atol=1e-6)


def test_a_worker_without_users_adds_nothing():
    data, text = planted(users=12, weeks=5)
    origin = origins_of(data, 1)[0]
    users = np.flatnonzero(np.diff(origin.truth_ptr))[:1]
    module = module_of(PLAIN, data, text, origin)
    loss, gradients = step(module, users, ALONE, text, origin)
    for total, summed in Meeting(2).run(lambda worker: step(module, users, worker, text, origin)):
        assert total == pytest.approx(loss)
        for name, gradient in gradients.items():
            torch.testing.assert_close(summed[name], gradient)


def test_each_worker_and_step_draws_anew_and_always_the_same():
    drawn = set()
    for rank in range(4):
        for number in range(50):
            torch.manual_seed(seed_of(SMALL, number, rank))
            drawn.add(tuple(torch.rand(3).tolist()))
    assert len(drawn) == 200
    assert seed_of(SMALL, 7, 3) == seed_of(SMALL, 7, 3)
    # One process draws as it always did.
    assert seed_of(replace(SMALL, seed=2), 7, 0) == 2 * (1 << 24) + 7


def test_validation_is_shared_out_and_says_the_same():
    data, text = planted(users=30)
    origins, config = origins_of(data, 3), replace(PLAIN, batch_users=7)
    module = module_of(config, data, text, origins[-1])
    alone = validation_loss(module, origins, torch.from_numpy(text), config)

    def of(worker):
        own = copy.deepcopy(module)
        return validation_loss(own, origins, torch.from_numpy(text), config, worker)

    first, second = Meeting(2).run(of)
    assert first == second == pytest.approx(alone)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What two processes of a gloo group made, each of the whole job."""
    return pair(tmp_path_factory.mktemp("pair"), "plain")


def test_two_processes_train_to_the_weights_of_one(two):
    one = run_ranker_job(*job_and_origins())
    assert len(one.curves["ranker quality by epochs"]) == 2
    assert_close(two[0], one)


def test_all_workers_have_the_same_bits(two):
    assert_same(*two)
    assert two[0].curves == two[1].curves


@pytest.mark.parametrize("workers", [0, -1, 10_000])
def test_a_number_of_workers_that_cannot_be_says_what_to_do(workers):
    with pytest.raises(InvalidArgument, match=r"workers: .*ask for"):
        check_compute(ComputeConfig(workers=workers))


def test_as_many_workers_as_cpus_are_allowed():
    check_compute(ComputeConfig(workers=cpu_count()))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_says_what_to_do():
    with pytest.raises(InvalidArgument, match="gpu: torch finds no GPU; leave"):
        check_compute(ComputeConfig(gpu=True))
