"""Replays clients/conformance/cases.json on both clients against a server, and on both fakes."""

import dataclasses
import inspect
import json
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from enum import Enum
from numbers import Real
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format, symbol_database

import driftline
from driftline import AsOf, AsyncClient, Client, ClientOptions, Event, Item, Retries, Vector
from driftline.testing import AsyncFakeClient, FakeClient

DOCUMENT = json.loads((Path(__file__).parents[2] / "conformance/cases.json").read_text())
CASES = [c for c in DOCUMENT["cases"] if "python" in c.get("only", ["python"])]
ON_WIRE = [pytest.param(case, id=case["name"]) for case in CASES]
ON_FAKE = [pytest.param(case, id=case["name"]) for case in CASES if "fake" in case]
# Expected answers are of one attempt; retries have tests of their own.
ONCE = ClientOptions(retries=Retries(attempts=1))


@pytest.mark.parametrize("case", ON_WIRE)
async def test_clients_send_and_read_what_the_case_says(case, serve, refuse):
    for kind in (Client, AsyncClient):
        exchanges = list(case["exchanges"])

        def script(name, request, context, exchanges=exchanges):
            expected = exchanges.pop(0)
            assert name == expected["rpc"]
            assert request == _message(request.DESCRIPTOR.full_name, expected["request"])
            if "error" in expected:
                refuse(context, expected["error"])
            reply_type = request.DESCRIPTOR.full_name.replace("Request", "Response")
            if "replies" in expected:  # a stream
                return iter([_message(reply_type, part) for part in expected["replies"]])
            return _message(reply_type, expected["reply"])

        server = serve(script)
        client = kind(server.target, ONCE)
        await _check(client, case)
        assert [name for name, _ in server.seen] == [one["rpc"] for one in case["exchanges"]]
        await _awaited(client.close())


@pytest.mark.parametrize("case", ON_FAKE)
async def test_fakes_answer_like_the_server(case):
    defaults = DOCUMENT["fake_defaults"]
    for kind in (FakeClient, AsyncFakeClient):
        client = kind(**{**defaults, "now": _instant(defaults["now"])})
        for step in case["fake"]:
            await _awaited(getattr(client, step["method"])(**_arguments(step["args"])))
        await _check(client, case)


def test_every_method_of_the_client_has_a_case():
    methods = {
        name
        for name, _ in inspect.getmembers(Client, inspect.isfunction)
        if not name.startswith("_") and name != "close"
    }
    assert methods == {case["call"]["method"] for case in CASES}


def test_both_clients_and_both_fakes_have_the_same_methods():
    for name, method in inspect.getmembers(Client, inspect.isfunction):
        if name.startswith("_"):
            continue
        other = getattr(AsyncClient, name)
        ours, theirs = inspect.signature(method), inspect.signature(other)
        if inspect.isgeneratorfunction(method):
            assert ours.parameters == theirs.parameters, name
            assert inspect.isasyncgenfunction(other), name
        else:
            assert ours == theirs, name
            assert inspect.iscoroutinefunction(other), name
        assert getattr(AsyncFakeClient, name) is other or name == "close"
        assert getattr(FakeClient, name) is method or name == "close"


async def _check(client: Any, case: dict[str, Any]) -> None:
    method = getattr(client, case["call"]["method"])
    if "error" not in case:
        result = await _awaited(method(**_arguments(case["call"]["args"])))
        assert plain(result) == case["result"]
        return
    expected = dict(case["error"])
    with pytest.raises(driftline.DriftlineError) as caught:
        await _awaited(method(**_arguments(case["call"]["args"])))
    error = caught.value
    assert type(error).__name__ == expected.pop("type"), error
    for name, value in expected.items():
        assert getattr(error, name) == value, name


async def _awaited(value: Any) -> Any:
    if inspect.isasyncgen(value):
        return [one async for one in value]
    if inspect.isgenerator(value):
        return list(value)
    return await value if inspect.isawaitable(value) else value


def _arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    made = dict(arguments)
    if "events" in made:
        made["events"] = [Event(**_times(one)) for one in made["events"]]
    if "items" in made:
        made["items"] = [Item(**_times(one)) for one in made["items"]]
    if isinstance(made.get("as_of"), dict):
        made["as_of"] = AsOf(**_times(made["as_of"]))
    return _times(made)


def _times(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _instant(value)
        if isinstance(value, str) and (name.endswith("_time") or name == "as_of")
        else value
        for name, value in values.items()
    }


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _message(full_name: str, content: dict[str, Any]) -> Any:
    return json_format.ParseDict(content, symbol_database.Default().GetSymbol(full_name)())


def plain(value: Any) -> Any:  # noqa: PLR0911  # one return per kind of value
    """Return a result as the cases write it."""
    if isinstance(value, Vector):
        return {"space_id": value.space_id, "values": [float(x) for x in value.values]}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        assert value.utcoffset() == timedelta(0)
        spec = "milliseconds" if value.microsecond else "seconds"
        return value.astimezone(timezone.utc).isoformat(timespec=spec).replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return value.total_seconds()
    if dataclasses.is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, str | int | float | bool) or value is None:
        return value
    if isinstance(value, Real):  # numpy's float32
        return float(value)
    return [plain(one) for one in value]
