import json
import re
from dataclasses import replace

import pytest
from driftline.testing import FakeClient

from services.core.forecasters import forecaster_of, untrained_spec
from services.demo import uses as module
from services.demo.burst_example import example
from services.demo.demand_story import demand_story
from services.demo.page import percent
from services.demo.report import write_report
from services.demo.uses import Uses, statements
from tests.core.burst_model import WIDTH
from tests.demo.test_report import Page
from tests.demo.uses_replies import DETECTION, TOPICS, burst, client, demand_client, profile

PLAIN = forecaster_of(untrained_spec(WIDTH))


@pytest.fixture
def uses():
    trajectory = client().get_trajectory("7", limit=None)
    return Uses(
        profile=profile(),
        asked=60,
        moving=21,
        burst=example(trajectory, (burst(),), burst(), DETECTION, PLAIN, 12),
        demand=demand_story(demand_client()),
    )


def page_of(data, uses, out):
    write_report(replace(data, uses=uses), out)
    return Page((out / "report.html").read_text("utf-8"))


def test_a_portrait_cites_what_each_statement_rests_on(data, uses, tmp_path):
    page = page_of(data, uses, tmp_path)
    rows = page.table("topic")[1:]
    assert [row[:3] for row in rows] == [
        ["bread & <rolls>", "40%", "35% to 48%"],
        ["wine $5", "20%", "15% to 28%"],
        ["fuel", "6.0%", "1.0% to 14%"],
    ]
    bread, wine, fuel = rows
    assert bread[3] == "12 events, 2017-W10 to 2017-W30 : Oat milk".replace(" :", ":")
    assert bread[4] == "steady"
    assert bread[5].startswith("core 12 events")
    assert "Rye" in bread[5]
    assert wine[4].startswith("▲ rising 12 events, 2017-W18 to 2017-W30: Merlot")
    assert wine[5].startswith("fling")
    assert wine[6] == "5.0% to 31% from 2017-W27 9 events, 2017-W27 to 2017-W30: Cava"
    assert fuel[3:] == ["", "too few events", "none", "none"]
    assert "Mostly bread." in page.text
    assert "Of 60 users asked, 21 have a topic" in page.text


def test_a_burst_is_told_with_type_topic_and_the_forecasts_widths(data, uses, tmp_path):
    page = page_of(data, uses, tmp_path)
    said = re.sub(r"\s+", " ", page.text)
    assert "User 7 had a personal burst of Toys in 2017-W25 to 2017-W27: up to 55%" in said
    assert "12 users have a stored burst" in page.text
    assert page.table("burst")[1] == ["2017-W25 to 2017-W27 shown", "Toys", "personal", "55%"]
    widths = page.table("forecast width")[1:]
    assert [row[0] for row in widths] == ["before", "in", "after"]
    assert widths[0][3] == "+0.0%"
    assert float(widths[1][3].rstrip("%")) > 2.0
    assert "near miss" not in page.text


def test_a_near_miss_is_called_one(data, uses, tmp_path):
    quiet = replace(DETECTION, threshold=1000.0)
    trajectory = client().get_trajectory("7", limit=None)
    missed = replace(uses, burst=example(trajectory, (), None, quiet, PLAIN, 0))
    page = page_of(data, missed, tmp_path)
    assert "No burst of a topic with quiet weeks around it was stored" in page.text
    assert "near miss" in page.text
    assert page.table("burst")[1][0] == "none stored"
    cut = replace(uses, burst=example(trajectory, (), None, DETECTION, PLAIN, 1))
    page = page_of(data, cut, tmp_path)
    assert "near miss" not in page.text
    assert "a burst, but not one with quiet weeks on both sides" in page.text


def test_demand_shows_a_topic_and_what_is_scarce(data, uses, tmp_path):
    page = page_of(data, uses, tmp_path)
    rows = next(rows for rows in page.tables if rows[0][:2] == ["topic", "trend"])[1:]
    assert [row[0] for row in rows] == ["<fuel>", "wine $5"]
    assert rows[0][1:7] == ["not told from noise", "10%", "9.0% to 11%", "0", "0.00%", "no item"]
    assert rows[1][6] == "3.3"
    assert "None of them rises by more than its noise" in page.text
    assert "bread is expected to have 60%" in page.text


def test_what_is_not_there_is_said(data, tmp_path):
    page = page_of(
        data, Uses(profile=profile(topics=()), asked=1, moving=0, burst=None, demand=None), tmp_path
    )
    for said in ("there is no portrait by topic", "tells no bursts", "No topic's demand"):
        assert said in page.text


def test_the_report_without_the_uses_has_none_of_their_sections(data, tmp_path):
    page = page_of(data, None, tmp_path)
    assert "A burst of interest" not in page.text
    assert json.loads((tmp_path / "report.json").read_text("utf-8"))["uses"] is None


def test_json_holds_the_figures_of_all_three(data, uses, tmp_path):
    page_of(data, uses, tmp_path)
    figures = json.loads((tmp_path / "report.json").read_text("utf-8"))["uses"]
    assert figures["portrait"][1]["change_week"] == "2017-W27"
    assert figures["portrait"][1]["trend"] == "rising"
    assert figures["burst"]["kind"] == "personal"
    assert not figures["burst"]["is_near_miss"]
    assert figures["burst"]["forecast_widths"]["in"]["served"] > 0
    assert [one["topic_id"] for one in figures["demand"]["scarce"]] == ["t3", "t2"]
    assert figures["demand"]["topics"] == 3


def test_names_are_texts_and_plots_follow_the_palette(data, uses, tmp_path):
    page_of(data, uses, tmp_path)
    text = (tmp_path / "report.html").read_text("utf-8")
    assert "<rolls>" not in text
    assert "<fuel>" not in text
    assert "#0505" not in text
    assert text.count("<svg") > 5


def test_shares_read_well():
    assert [percent(x) for x in (0.5, 0.1, 0.0949, 0.01, 0.002)] == ["50%", "10%", "9.5%", "1.0%", "0.20%"]  # fmt: skip


def test_the_portrait_that_says_most_is_shown_and_missing_demand_is_none(monkeypatch):
    told = {"6": profile("6", topics=TOPICS[:1]), "7": profile("7"), "8": profile("6", topics=())}
    made = FakeClient()
    made.get_profile = told.__getitem__
    monkeypatch.setattr(module, "burst_example", lambda *given: None)
    uses = module.gather_uses(made, None, None, range(8), ["8", "6", "7"])
    assert uses.profile is told["7"]
    assert (uses.asked, uses.moving, uses.demand) == (3, 1, None)
    assert [statements(told[user]) for user in ("6", "7", "8")] == [0, 3, 0]
