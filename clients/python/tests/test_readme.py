"""Runs the README's examples, in order, as one session, against a server on a free port."""

import re
from datetime import datetime, timezone
from pathlib import Path

import pytest

import driftline
from driftline import DriftlineError, InvalidArgumentError
from driftline._plans import Call
from driftline.testing import FakeClient

README = Path(__file__).parents[1] / "README.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def target(serve, refuse):
    """A gateway: the fake's knowledge behind a real server."""
    fake = FakeClient(now=datetime(2018, 1, 1, tzinfo=timezone.utc))
    for week in range(1, 53):
        fake.put_interest("1", [1.0, week / 52], period=f"2017-W{week:02}", event_count=week)
    fake.put_interest("1", [1.0, 1.0], period="2017-12", granularity="month")
    fake.put_forecast("1", {f"2018-W{week:02}": [1.0, 0.5] for week in range(1, 5)})
    fake.put_item("milk", [1.0, 0.0], title="Milk")
    fake.put_item("rye", [0.0, 1.0], title="Rye bread")
    fake.put_profile(
        "1", [("dairy", 0.75, 0.5), ("bakery", 0.25, 0.5)], topics=[("t1", "dairy: milk", 1.0)]
    )

    def script(name, request, context):
        service, method = name.removeprefix("driftline.v1.").split("Service/")
        try:
            call = Call(service, method, request)
            is_stream = method in ("ExportRecommendations", "ExportUser")
            return fake._stream(call, None) if is_stream else fake._send(call, None)
        except DriftlineError as error:
            problem = {
                "code": error.code,
                "message": error.message,
                "reason": f"ERROR_REASON_{error.reason}",
                "metadata": error.metadata,
            }
            if isinstance(error, InvalidArgumentError):
                problem["violations"] = [vars(one) for one in error.violations]
            return refuse(context, problem)

    return serve(script).target


def test_every_error_has_a_row():
    named = {name for name in driftline.__all__ if name.endswith("Error")} - {"DriftlineError"}
    rows = [line for line in README.read_text().splitlines() if line.startswith("| `")]
    assert named <= set(re.findall(r"`(\w+Error)`", " ".join(rows)))


def test_the_examples_run_as_they_stand(target, capsys):
    session = {"__name__": "readme"}
    assert len(EXAMPLES) > 8
    for example in EXAMPLES:
        exec(compile(example.replace("127.0.0.1:50051", target), str(README), "exec"), session)
    session["client"].close()
    said = capsys.readouterr().out
    assert "26 of 52 weeks, the first 2017-W01" in said
    assert "['1'] ('nobody',)" in said
    assert "popular items instead: True" in said
    assert "popular not in the catalogue: ('dairy',)" in said
    assert "nobody 2 True" in said
    assert "75%  dairy" in said
    assert "nobody is unknown: no interest vector for this user" in said
    assert "2017-W26 2017-07-03" in said
    assert "2017-W52 fake 4" in said
