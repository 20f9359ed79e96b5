from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from driftline import BurstKind

from services.core import schema as names
from services.core.burst_state import BurstType
from services.core.bursts import detect
from services.core.forecasters import forecaster_of, untrained_spec
from services.demo.burst_example import (
    AROUND,
    by_nearness_to_median,
    example,
    first_whole,
    nearest,
    newest_bursts,
    trajectory_batch,
)
from tests.core.burst_model import WIDTH
from tests.demo.uses_replies import BURST, DETECTION, WEEKS, burst, client, week

PLAIN = forecaster_of(untrained_spec(WIDTH))


@pytest.fixture
def shown():
    trajectory = client().get_trajectory("7", limit=None)
    return example(trajectory, (burst(),), burst(), DETECTION, PLAIN, 12)


def test_evidence_passes_the_threshold_in_the_week_that_detection_tells(shown):
    watched = shown.watched
    over = np.flatnonzero(watched.evidence_P > watched.threshold)
    found = detect(DETECTION, trajectory_batch(client().get_trajectory("7", limit=None)))
    assert over[0] == BURST[0] == np.flatnonzero(found.onset[0])[0]
    assert set(np.flatnonzero(found.kind[0] == BurstType.PERSONAL)) == set(BURST)
    assert shown.peak_evidence > 1.0


def test_weeks_of_the_burst_move_by_more_than_their_noise_and_others_do_not(shown):
    off = np.abs(shown.watched.moved_P) > 1.96 * shown.watched.noise_P
    assert off[list(BURST)].all()
    assert off.sum() - len(BURST) <= 0.15 * WEEKS
    assert (shown.watched.moved_P[list(BURST)] > 0.3).all()


def test_a_forecast_is_wider_in_the_burst_alone(shown):
    widths = shown.widths()
    assert list(widths) == ["before", "in", "after"]
    served, plain = widths["in"]
    assert served > 1.02 * plain
    assert widths["before"][0] == pytest.approx(widths["before"][1], rel=1e-6)
    assert widths["after"][0] < served


def test_gaps_have_no_displacement_and_no_forecast():
    trajectory = client(gaps=(5, 6)).get_trajectory("7", limit=None)
    made = example(trajectory, (burst(),), burst(), DETECTION, PLAIN, 1).watched
    for curve in (made.moved_P, made.noise_P, made.evidence_P, made.width_P):
        assert np.flatnonzero(np.isnan(curve)).tolist() == [5, 6]
    assert len(made.week_starts) == WEEKS


def test_where_nobody_had_one_the_week_nearest_to_an_alarm_is_shown():
    quiet = replace(DETECTION, threshold=1000.0)
    trajectory = client().get_trajectory("7", limit=None)
    share, column, topic = nearest(trajectory, quiet)
    made = example(trajectory, (), None, quiet, PLAIN, 0)
    assert column in BURST
    assert made.first_week == made.last_week == week(column)
    assert made.topic_name == quiet.names_G[topic] == "Toys"
    assert made.peak_evidence == pytest.approx(share)
    assert 0.0 < share < 1.0


def test_a_burst_without_weeks_around_it_or_without_a_topic_is_not_shown():
    trajectory = client().get_trajectory("7", limit=None)
    early = burst(first_week=week(AROUND - 1))
    late = burst(last_week=week(WEEKS - AROUND))
    machine = burst(topic_name="", kind=BurstKind.AUTOMATED)
    lasting = burst(is_lasting=True)
    assert first_whole((early, late, machine, lasting), trajectory) is None
    assert first_whole((machine, burst()), trajectory) == burst()


def test_the_user_of_median_size_comes_first_and_only_what_was_stored_last_counts():
    stored = pl.DataFrame(
        {
            names.USER_ID: ["a", "a", "b", "c", "d"],
            names.PERIOD: ["2017-W10", "2017-W20", "2017-W11", "2017-W11", "2017-W11"],
            names.BURST_TOPICS: [["x"], ["x", ""], ["y"], ["z"], [""]],
            names.BURST_SHARES: [[0.5], [0.9, 0.0], [0.2], [0.4], [0.0]],
        }
    )
    known = newest_bursts(stored)
    assert known.rows() == [("a", 0.9), ("b", 0.2), ("c", 0.4)]
    assert by_nearness_to_median(known) == ["c", "b", "a"]
    assert by_nearness_to_median(known.clear()) == []
