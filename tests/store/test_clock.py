"""The store's clock goes forward only: within a process, from one to the next, on any disk."""

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from services.store.clock import CLOCK_FILE, StoreClock, clock_of

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
HOUR, MICROSECOND = timedelta(hours=1), timedelta(microseconds=1)


class Wall:
    """A machine's clock that someone sets."""

    def __init__(self, at):
        self.at = at

    def __call__(self):
        return self.at


def test_it_is_the_machines_clock_while_that_goes_forward(tmp_path):
    wall = Wall(NOON)
    clock = StoreClock(tmp_path, wall)
    assert clock.tick() == NOON
    wall.at += HOUR
    assert clock.now() == clock.tick() == NOON + HOUR
    assert clock.ahead() == timedelta(0)


def test_a_clock_that_is_set_back_changes_nothing_but_the_pace(tmp_path, trust):
    wall = Wall(NOON)
    clock = StoreClock(tmp_path, wall)
    given = [clock.tick()]
    wall.at -= HOUR
    given += [clock.tick(), clock.tick()]
    trust("faults injected", 1, int(given != sorted(set(given))))
    assert given == [NOON, NOON + MICROSECOND, NOON + 2 * MICROSECOND]
    assert clock.now() == given[-1]
    assert clock.ahead() == HOUR + 2 * MICROSECOND
    wall.at = NOON + HOUR
    assert clock.tick() == NOON + HOUR


def test_another_process_goes_on_where_the_last_one_was(tmp_path):
    StoreClock(tmp_path, Wall(NOON)).tick()
    later = StoreClock(tmp_path, Wall(NOON - HOUR))
    assert later.now() == NOON
    assert later.tick() == NOON + MICROSECOND


def test_a_folder_that_takes_nothing_or_is_not_there_is_no_fault(tmp_path):
    wall = Wall(NOON)
    clock = StoreClock(tmp_path / "none", wall)
    assert clock.tick() == NOON
    wall.at -= HOUR
    assert clock.tick() == NOON + MICROSECOND
    assert not (tmp_path / "none").exists()


def test_no_two_writers_of_a_process_are_given_the_same_instant(tmp_path):
    clock = StoreClock(tmp_path, Wall(NOON))
    with ThreadPoolExecutor(8) as pool:
        given = list(pool.map(lambda _: clock.tick(), range(400)))
    assert len(set(given)) == 400
    assert max(given) == NOON + 399 * MICROSECOND


def test_a_folder_has_one_clock_in_a_process(tmp_path):
    assert clock_of(tmp_path) is clock_of(tmp_path)
    future = datetime.now(UTC) + HOUR
    clock_of(tmp_path).tick()
    os.utime(tmp_path / CLOCK_FILE, (future.timestamp(),) * 2)
    assert clock_of(tmp_path).tick() > future - timedelta(seconds=1)
