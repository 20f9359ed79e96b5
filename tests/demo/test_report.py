import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from services.demo.report import GatewayCalls, gateway_calls, hits, write_report


class Page(HTMLParser):
    """The texts of a page, its tables as rows of cells, and its tags."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.tags, self.words = [], [], []
        self._cell, self._silent = None, False
        self.feed(text)
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._silent = tag == "style"
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self._cell = []

    def handle_endtag(self, tag):
        self._silent = False
        if tag in ("td", "th"):
            self.tables[-1][-1].append(re.sub(r"\s+", " ", " ".join(self._cell)).strip())
            self._cell = None

    def handle_data(self, data):
        if self._silent:
            return
        self.words.append(data)
        if self._cell is not None:
            self._cell.append(data)

    def table(self, heading):
        return next(rows for rows in self.tables if rows[0][0].startswith(heading))


@pytest.fixture
def written(data, tmp_path):
    write_report(data, tmp_path / "new/demo")
    return tmp_path / "new/demo"


@pytest.fixture
def page(written):
    return Page((written / "report.html").read_text("utf-8"))


def test_json_keeps_the_agreed_keys(written, evaluation):
    figures = json.loads((written / "report.json").read_text("utf-8"))
    assert figures["events"]["imported"] == 1464471
    assert figures["events"]["rejected"] == 4836
    assert figures["events"]["duplicates"] == 17
    assert figures["vectors"] == {
        "published": 120003,
        "by_granularity": {"week": 100001, "month": 20002},
    }
    assert figures["forecasts"]["published"] == 9003
    assert figures["seconds"]["total"] == 125.0
    assert figures["evaluation"] == evaluation
    assert figures["user"]["hits"] == 1
    assert [one["is_hit"] for one in figures["user"]["recommendations"]] == [False, False, True]
    assert figures["path"]["serve"][0]["replica_pids"] == [4303, 4304]
    assert figures["now"] == "2017-12-25T00:00:00+00:00"


def test_json_has_no_number_that_json_lacks(data, tmp_path):
    never = replace(data.user.recommendations[0], repeat=float("-inf"))
    user = replace(data.user, recommendations=(never,))
    write_report(replace(data, user=user), tmp_path)
    figures = json.loads((tmp_path / "report.json").read_text("utf-8"), parse_constant=pytest.fail)
    assert figures["user"]["recommendations"][0]["repeat"] is None
    assert "new to the user" in Page((tmp_path / "report.html").read_text("utf-8")).text


def test_page_has_every_figure_given(page):
    for figure in (
        "1,464,471", "4,836 rejected", "17 duplicates", "120,003", "100,001 by week", "9,003",
        "2 min 05 s", "22 s", "83 s", "95 s", "0.4111",
        "best naive method: 0.2222", "0.1500", "minilm_1f3c9a2b", "empty item id",
        "simulated data of 801 households", "a sample of real transactions", "They disagree.",
        "vectors changed", "train model",
    ):  # fmt: skip
        assert figure in page.text, figure


def test_page_shows_the_path(page):
    assert page.table("Serve application") == [
        ["Serve application", "requests", "replica pids"],
        ["encoder", "8", "4303, 4304"],
        ["forecaster", "7", "4305"],
    ]
    assert page.table("gateway RPC")[1:] == [["InterestService/GetInterest", "31", "0"]]
    assert "process 4101" in page.text
    assert "process 4202" in page.text


def test_gateway_calls_are_read_from_its_metrics():
    text = """# TYPE driftline_rpc_calls_total counter
driftline_rpc_calls_total{code="OK",method="driftline.v1.InterestService/GetInterest"} 30.0
driftline_rpc_calls_total{code="NOT_FOUND",method="driftline.v1.InterestService/GetInterest"} 2.0
driftline_rpc_calls_total{code="OK",method="driftline.v1.EventService/RecordEvents"} 1.0
driftline_rpc_calls_created{code="OK",method="driftline.v1.EventService/RecordEvents"} 1.7e9
"""
    assert gateway_calls(text) == (
        GatewayCalls(method="driftline.v1.EventService/RecordEvents", calls=1),
        GatewayCalls(method="driftline.v1.InterestService/GetInterest", calls=32, errors=2),
    )


def test_parity_of_serving_and_evaluation_is_told(data, tmp_path):
    parity = {"users": 500, "same_top_10": 499, "largest_score_gap": 2.5e-6}
    write_report(replace(data, parity=parity), tmp_path)
    page = Page((tmp_path / "report.html").read_text("utf-8"))
    assert "of 500 users asked through SDK and gateway, 499 got the very ten items" in page.text
    assert "2.5e-06" in page.text
    figures = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert figures["serving_equals_evaluation"] == parity


def test_hits_are_marked_on_both_sides(page, user):
    assert hits(user) == [False, False, True]
    recommended = page.table("recommended")[1:]
    assert [row[1] for row in recommended] == ["Title of tea", "Title of jam", "Title of rye"]
    assert [row[3] for row in recommended] == ["bought before", "new to the user", "bought before"]
    assert [row[4] for row in recommended] == ["not bought", "not bought", "✓ bought"]
    assert page.table("really bought")[1:] == [
        ["Title of rye", "2", "✓ rank 3"],
        ["Title of ham", "1", "not recommended"],
    ]
    assert "1 of 3 recommended items were bought in the week from 2017-12-25" in page.text


def test_nothing_bought_next_is_said_and_marks_nothing(data, tmp_path):
    write_report(replace(data, user=replace(data.user, bought_next=())), tmp_path)
    page = Page((tmp_path / "report.html").read_text("utf-8"))
    assert "The data end at the replayed now" in page.text
    assert "bought next" in page.text
    assert "not bought" not in page.text


def test_losses_are_told_like_wins(page):
    tables = [rows for rows in page.tables if rows[0][0] == "method"]
    ranking = {row[0]: row[1] for row in tables[0][1:]}
    assert ranking == {
        "driftline": "",
        "popularity naive": "▲ better",
        "ease": "▼ worse",
        "user knn": "≈ not proven",
    }
    skill = {row[0]: row[1] for row in tables[1][1:]}
    assert skill == {
        "driftline": "",
        "gru": "= the same",
        "ema naive": "▲ better",
        "persistence naive": "▲ better",
        "local level": "≈ not proven",
    }
    assert "▲ 3 better" in page.text
    assert "▼ 1 worse" in page.text
    assert "≈ 2 not proven" in page.text
    loss = "all items, next week: ease 0.4333, ours 0.4111 (difference -0.0300 to -0.0100)"
    assert loss in page.text.replace(chr(0x2212), "-")  # a minus sign


def test_page_needs_nothing_from_elsewhere(written, page):
    text = (written / "report.html").read_text("utf-8")
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", text)
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "img", "iframe")]
    references = [value for _, attributes in page.tags for name, value in attributes.items()
                  if name in ("src", "href", "xlink:href")]  # fmt: skip
    assert all(value.startswith("#") for value in references)


def test_page_suits_phones_and_the_dark(written, page):
    text = (written / "report.html").read_text("utf-8")
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in (
        page.tags
    )
    light, dark = text.split("prefers-color-scheme: dark", 1)
    used = set(re.findall(r"var\((--[a-z0-9]+)\)", text))
    assert len(used) > 15
    for name in used:
        assert f"{name}: " in light, name
        assert f"{name}: " in dark.split("}", 1)[0], name
    assert not re.search(r"#0[1-8]0[1-8]0", text), "a stand-in colour was left"


def test_labels_are_texts_and_never_markup_or_mathematics(page, written):
    text = (written / "report.html").read_text("utf-8")
    assert "<rolls>" not in text
    assert "Bread & <rolls>" in page.text
    assert "Wine $5 to $9" in page.text


def test_missing_figures_stop_the_report(data, tmp_path):
    with pytest.raises(ValueError, match="events: duplicates"):
        write_report(replace(data, events={"imported": 1, "rejected": 0}), tmp_path)
    with pytest.raises(ValueError, match="seconds: total"):
        write_report(replace(data, seconds={"import": 1.0}), tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_empty_evaluation_still_makes_a_page(data, tmp_path):
    write_report(replace(data, evaluation={}, again=None, rejects={}), tmp_path)
    page = Page((tmp_path / "report.html").read_text("utf-8"))
    assert "▲ 0 better" in page.text
    assert "NDCG" not in page.text


def test_equal_data_make_equal_bytes(data, tmp_path):
    for name in ("a", "b"):
        write_report(data, tmp_path / name)
    for file in ("report.json", "report.html"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
