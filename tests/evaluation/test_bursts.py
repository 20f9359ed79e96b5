import json

import numpy as np
import pytest

from services.core.burst_state import Bursts, BurstType
from services.core.errors import InvalidArgument
from services.core.schema import Granularity
from services.evaluation.burst_command import run_burst_benchmark
from services.evaluation.burst_rivals import zscore
from services.evaluation.burst_scores import match, scores
from services.evaluation.planted_bursts import PlantedBurst
from services.training.bursts import fit_burst_detection
from tests.planted import WordEncoder, planted_events


def benchmark(out, events, seed=0, **changes):
    given = {
        "granularity": Granularity.WEEK, "model": None, "least_events": 5, "user_limit": 500,
        "seed": seed, "on_progress": lambda stage, done, total: None,
    }  # fmt: skip
    return run_burst_benchmark(
        events, WordEncoder(), fit_burst_detection, out=out, **given | changes
    )


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    out = tmp_path_factory.mktemp("bursts")
    events = planted_events(users=100, weeks=36, per_week=8)
    return benchmark(out, events), out, events


def test_the_report_has_every_figure_of_every_method_and_a_page(reported):
    report, out, _ = reported
    assert json.loads((out / "report.json").read_text())["bursts"].keys() == report["bursts"].keys()
    for name in ("driftline", "zscore"):
        row = report["bursts"][name]
        for figure in ("f1", "false_alarms_per_user_year", "type_macro_f1"):
            low, high = row[f"{figure}_ci"]
            assert low <= row[figure] <= high
    assert {"nll_inside", "nll_outside"} <= report["bursts"]["driftline"].keys()
    assert "<svg" in (out / "report.html").read_text()


def test_bursts_of_planted_data_are_found(reported):
    assert reported[0]["bursts"]["driftline"]["recall"] > 0.5


def test_the_same_seed_gives_the_same_figures(reported, tmp_path):
    report, _, events = reported
    again = benchmark(tmp_path, events)
    assert again | {"seconds": 0} == report | {"seconds": 0}


def test_too_few_active_users_are_refused_with_what_to_do(tmp_path):
    with pytest.raises(InvalidArgument, match="lower --least-events"):
        benchmark(tmp_path, planted_events(users=20, weeks=36))


def burst(user=0, onset=20, end=22, size=0.5, kind=BurstType.PERSONAL):
    return PlantedBurst(user=user, onset=onset, end=end, kind=kind, size=size, events=10)


def alarms(*cells, users=2, periods=30):
    onset, kind = np.zeros((users, periods), bool), np.zeros((users, periods), np.int64)
    for cell in cells:
        onset[cell], kind[cell] = True, BurstType.PERSONAL
    none = np.full((users, periods), -1)
    return Bursts(kind=kind, onset=onset, topic=none, share=np.zeros((users, periods)))


def test_one_alarm_finds_a_burst_and_every_other_one_is_false():
    found = match(alarms((0, 21), (0, 22), (1, 25)), [burst()], np.array([0, 1]), 10)
    row = scores(found, 0.5, np.random.default_rng(0))
    assert (row["recall"], row["precision"]) == (1.0, pytest.approx(1 / 3))
    assert row["false_alarms_per_user_year"] == 2.0
    assert row["median_delay_periods"] == 1.0


def test_a_burst_too_small_for_the_goal_is_neither_missed_nor_false():
    found = match(alarms((0, 20)), [burst(size=0.1), burst(user=1, size=0.2)], np.array([0, 1]), 10)
    assert found.count_UC[:, :3].sum() == 0
    assert found.is_found == (True, False)


def test_a_wrong_type_counts_for_neither_type():
    found = match(alarms((0, 20)), [burst(kind=BurstType.SEASONAL)], np.array([0, 1]), 10)
    row = scores(found, 1.0, np.random.default_rng(0))
    assert (row["f1"], row["type_macro_f1"]) == (1.0, 0.0)


def test_the_zscore_tells_a_new_category_once_while_it_lasts():
    share = np.zeros((1, 30, 10), np.float32)
    share[:, :, 0] = 1.0
    share[0, 15:18, 0], share[0, 15:18, 7] = 0.4, 0.6
    found = zscore(share, np.full((1, 30), 20), 6.0)
    assert np.flatnonzero(found.onset[0]).tolist() == [15]
