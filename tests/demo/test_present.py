import io
import re
from datetime import UTC, datetime

import pytest
from driftline.testing import FakeClient
from rich.console import Console

from services.demo.present import print_user, sparkline


@pytest.fixture
def client():
    made = FakeClient(now=datetime(2018, 1, 1, tzinfo=UTC))
    for week, values in ((50, [1.0, 0.0]), (51, [0.6, 0.8]), (52, [0.0, 1.0])):
        made.put_interest("42", values, period=f"2017-W{week}", event_count=week)
    made.put_forecast("42", {"2018-W01": [0.0, 0.5], "2018-W02": [0.5, 0.0]}, forecaster="gru")
    made.put_item("tea", [0.0, 1.0], title="[bold]Tea", categories=["drinks"])
    made.put_item("jam", [1.0, 0.0], title="Jam", categories=["food"])
    made.put_profile("42", [("drinks [hot]", 0.75, 0.25)], event_count=1234, is_suspected_bot=True)
    return made


def printed(client, **more):
    out = io.StringIO()
    print_user(
        Console(file=out, width=110),
        interest=client.get_interest("42"),
        trajectory=client.get_trajectory("42"),
        forecast=client.get_forecast("42"),
        recommendations=client.recommend("42"),
        profile=client.get_profile("42"),
        **more,
    )
    return out.getvalue()


def test_a_user_is_told_in_full(client):
    text = printed(client, bought_next=["jam"])
    assert "2017-W52: 52 events, 2 numbers in space fake_00000000" in text
    assert "2017-W50 … 2017-W52, 3 with events" in text
    assert "events   ▁▅█  50 to 52" in text
    assert "likeness ▁▇█  cosine to 2017-W52: 0.00 to 1.00" in text
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}
    assert rows["2018-W01"] == ["2018-W01", "1", "1.000", "0.500", "0.100"]
    assert rows["2018-W02"] == ["2018-W02", "2", "0.000", "0.500", "0.100"]
    assert re.search(r"^  1 +\[bold\]Tea +drinks ", text, re.MULTILINE), "a title is never markup"
    assert re.search(r"^  2 ✓ +Jam +food ", text, re.MULTILINE)
    assert "1 of 2 were really taken next" in text
    assert "portrait, from 1,234 events" in text
    assert "drinks [hot]" in text
    assert "75%" in text
    assert "bulk buyer" in text


def test_a_stranger_is_told_as_one(client):
    out = io.StringIO()
    print_user(
        Console(file=out, width=110),
        interest=client.get_interest("42"),
        trajectory=client.get_trajectory("42"),
        forecast=client.get_forecast("42"),
        recommendations=client.recommend("nobody"),
        profile=client.get_profile("42"),
    )
    assert "nothing is known of this user" in out.getvalue()


def test_a_sparkline_spans_least_to_greatest():
    assert sparkline([0.0, 1.0, 7.0]) == "▁▂█"
    assert sparkline([2.0, 2.0]) == "▄▄"
    assert sparkline([]) == ""
