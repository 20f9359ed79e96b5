import io
import json

import pytest
from rich.console import Console

from services.core.dataset import dataset_from_frame
from services.core.pooling import PoolingConfig
from services.core.schema import Granularity
from services.evaluation.medoids import medoids_report
from services.evaluation.portraits import run_portraits
from services.evaluation.protocol import make_split
from services.evaluation.uses_table import (
    burst_rows,
    demand_rows,
    main_rows,
    print_table,
    table_rows,
)
from tests.planted import WordEncoder, planted_events

BURSTS = {
    "bursts": {
        "driftline": {"f1": 0.8, "median_delay_periods": None, "nll_inside": -1.5},
        "zscore": {"f1": 0.6, "median_delay_periods": 1.0},
        "driftline_unaware": {"nll_inside": -1.25},
    }
}
DEMAND = {
    "demand": {
        "h1": {
            "share": {
                "driftline": {
                    "mae": 0.25,
                    "coverage_80_published": 0.78,
                    "coverage_95_published": 0.9,
                },
                "last_period": {"mae": 0.5},
                "seasonal_naive": {"mae": 0.75},
            }
        }
    }
}


@pytest.fixture
def events():
    return planted_events(users=20, weeks=12, items_per_topic=60)


def test_portraits_stand_beside_the_last_week_and_the_population(events, tmp_path):
    encoder = WordEncoder()
    report = run_portraits(events, encoder=encoder, out=tmp_path / "portraits", weeks=12)
    rows, absent = table_rows(tmp_path, tmp_path / "main.json")
    of = {row.figure: row for row in rows}
    made = report["portraits"]["topics"]["methods"]
    assert of["error, topics"].ours == made["portrait"]["error"]
    assert of["error, topics"].naive == {
        "last_week": made["last_week"]["error"], "population": made["population"]["error"],
    }  # fmt: skip
    assert [path.rpartition("/")[2] for path in absent] == [
        "report.json",
        "report.json",
        "main.json",
    ]


def test_several_interests_stand_beside_one_vector(events):
    data = dataset_from_frame(events, Granularity.WEEK, PoolingConfig())
    items_ND = WordEncoder().encode(data.texts)
    found = medoids_report(data, make_split(data, 2, (1,)), items_ND, PoolingConfig())
    rows = list(
        main_rows({"several_interests": found, "reasons": {"lists": {"top": {"holds": 0.9}}}})
    )
    assert (rows[0].use, rows[0].ours, rows[0].naive) == ("reasons", 0.9, {"chance": 0.5})
    of = {row.figure: row for row in rows[1:]}
    assert of["recall_at_50, several"].ours == found["several"]["medoids"]["recall_at_50"]
    assert of["coverage_at_50"].naive == {"one_vector": found["coverage_at_50"]["one_vector"]}
    assert list(main_rows({})) == []


def test_bursts_stand_beside_the_rivals_that_ran():
    of = {row.figure: row for row in burst_rows(BURSTS)}
    assert of["f1"].naive == {"zscore": 0.6}
    assert of["median_delay_periods"].ours is None
    assert of["nll_inside"].naive == {"knowing_of_none": -1.25}


def test_demand_has_error_and_coverage_of_what_was_published():
    rows = list(demand_rows(DEMAND))
    assert rows[0].naive == {"last_period": 0.5, "seasonal_naive": 0.75}
    assert [(row.ours, row.naive["nominal"]) for row in rows[1:]] == [(0.78, 0.8), (0.9, 0.95)]


def test_the_table_is_printed_and_what_is_absent_is_named(tmp_path):
    (tmp_path / "bursts").mkdir()
    (tmp_path / "bursts/report.json").write_text(json.dumps(BURSTS))
    out = io.StringIO()
    print_table("Steam", tmp_path, tmp_path / "main.json", Console(file=out, width=120))
    lines = [line.split() for line in out.getvalue().splitlines()]
    assert ["burst", "f1", "0.8000", "zscore", "0.6000"] in lines
    assert ["burst", "median_delay_periods", "none", "zscore", "1.0000"] in lines
    assert "main.json is not there: no figure of it" in out.getvalue()
