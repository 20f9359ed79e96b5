"""The benchmark of demand on planted events: levels that last, noisy weeks."""

import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from services.core.demand import Partition, ReleaseTerms
from services.core.demand_forecast import LAST, SEASONAL
from services.core.errors import InvalidArgument
from services.evaluation.demand import OURS, WITHOUT_NOISE, DemandProtocol, losses, run_demand
from tests.planted import START, TOPICS, WordEncoder

PROTOCOL = DemandProtocol(terms=ReleaseTerms(partition=Partition.ALL), horizons=(1, 2), origins=6)


def events(users=100, weeks=24, seed=0):
    """Every user has some of the topics each week, by rates that stay as they are."""
    rng = np.random.default_rng(seed)
    rows = []
    for week in range(weeks):
        for user in range(users):
            for _ in range(int(rng.poisson(2))):
                topic = int(rng.choice(4, p=[0.4, 0.3, 0.2, 0.1]))
                name, number = TOPICS[topic], int(rng.integers(12))
                at = START + timedelta(weeks=week, hours=float(rng.uniform(0, 167)))
                rows.append((f"u{user}", f"{name}-{number}", at, f"{name} number{number}"))
    # A week that is not full, and left out.
    rows.append(("u0", "tea-0", START + timedelta(weeks=weeks, hours=1), "tea number0"))
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "event_time", "text"], orient="row")
    return frame.with_columns(pl.col("event_time").cast(pl.Datetime("us", "UTC")))


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    out = tmp_path_factory.mktemp("demand")
    report = run_demand(events(), encoder=WordEncoder(), protocol=PROTOCOL, out=out)
    return report, out


def test_levels_that_last_are_foretold_better_than_by_the_last_period(judged):
    for figures in judged[0]["demand"].values():
        for figure in ("share", "volume", "audience"):
            rows = figures[figure]
            for rival in (LAST, SEASONAL):
                assert rows[rival]["driftline_difference"] < 0
                assert rows[OURS]["mae"] < rows[rival]["mae"]
            low, high = rows[OURS]["mae_ci"]
            assert low < rows[OURS]["mae"] < high


def test_intervals_hold_and_are_judged_on_truth_and_on_what_was_published(judged):
    for figures in judged[0]["demand"].values():
        for rows in figures.values():
            for of in ("", "_published"):
                low, high = rows[OURS][f"coverage_80{of}_ci"]
                assert low <= rows[OURS][f"coverage_80{of}"] <= high
                assert rows[OURS][f"coverage_80{of}"] <= rows[OURS][f"coverage_95{of}"]
            assert rows[OURS]["coverage_95_published"] > 0.8


def test_samples_are_the_origins_whose_target_came(judged):
    report, topics = judged[0], judged[0]["dataset"]["topics"]
    assert report["demand"]["h1"]["volume"][OURS]["samples"] == 6 * topics
    assert report["demand"]["h2"]["volume"][OURS]["samples"] == 5 * topics
    assert report["dataset"]["periods"] == 24


def test_noise_costs_accuracy_and_the_report_says_how_much(tmp_path):
    noisy = replace(PROTOCOL, horizons=(1,), terms=replace(PROTOCOL.terms, epsilon=0.3))
    report = run_demand(events(), encoder=WordEncoder(), protocol=noisy, out=tmp_path)
    rows = report["demand"]["h1"]["volume"]
    assert rows[WITHOUT_NOISE]["mae"] < 0.8 * rows[OURS]["mae"]


def test_the_cap_keeps_a_part_of_the_events_that_is_told(tmp_path):
    capped = replace(PROTOCOL, horizons=(1,), terms=replace(PROTOCOL.terms, event_cap=1))
    report = run_demand(events(), encoder=WordEncoder(), protocol=capped, out=tmp_path)
    assert 0.6 < report["protocol"]["volume_kept"] < 0.95


def test_the_report_and_its_page_are_written_and_repeat(judged, tmp_path):
    report, out = judged
    assert json.loads((out / "report.json").read_text()) == report
    page = (out / "report.html").read_text()
    assert "<svg" in page and report["example"]["name"] in page
    run_demand(events(), encoder=WordEncoder(), protocol=PROTOCOL, out=tmp_path)
    for name in ("report.json", "report.html"):
        assert (tmp_path / name).read_bytes() == (out / name).read_bytes()


def test_losses_name_what_is_not_won_and_intervals_that_are_off():
    ours = {f"coverage_{n}{of}": n / 100 for n in (80, 95) for of in ("", "_published")}
    ours["coverage_80"] = 0.7
    rows = {
        OURS: ours,
        LAST: {"driftline_difference_ci": [0.1, 0.2]},
        SEASONAL: {"driftline_difference_ci": [-0.1, 0.2]},
    }
    said = losses({"h1": {"share": rows}})
    assert len(said) == 3
    assert "loses to last_period" in said[0]
    assert "not proven better than seasonal_naive" in said[1]
    assert "80% interval held 70.0% of the truth" in said[2]


def test_too_few_periods_or_events_are_refused(tmp_path):
    for few, more in ((events(weeks=10), {}), (events(weeks=2), {"until": START})):
        with pytest.raises(InvalidArgument, match="events"):
            run_demand(few, encoder=WordEncoder(), protocol=PROTOCOL, out=tmp_path, **more)
