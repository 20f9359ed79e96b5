"""A handler is three calls; only `translate` knows the wire."""

import ast
from pathlib import Path

from tests.architecture.source import body_lines, python_files, tree

METHOD_LINES = 10
# Files that build messages though they translate nothing.
BUILDERS = {
    "services/pipeline/compute.py": "a client of encoder and forecaster: it makes requests",
    "services/runtime/serve_probe.py": "calls both applications until they answer",
}
LOGGERS = {"log", "logger", "logging", "structlog"}


def handler_files() -> list[str]:
    return [p for p in python_files("services/") if Path(p).name.startswith("handler")] + [
        p for p in python_files("services/") if Path(p).name.endswith("_handler.py")
    ]


def rpc_methods(path: str) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Return the methods of a file's classes that are named as RPCs are: VerbNoun."""
    return [
        method
        for node in tree(path).body
        if isinstance(node, ast.ClassDef)
        for method in node.body
        if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef) and method.name[0].isupper()
    ]


def is_translator(path: str) -> bool:
    return "translate" in path.removesuffix(".py").split("/")[-1] or "/translate/" in path


def test_every_serving_process_has_handlers():
    serving = {path.split("/")[1] for path in handler_files() if rpc_methods(path)}
    assert serving == {"gateway", "encoder", "forecaster"}


def test_handlers_stay_three_calls_long():
    long = {
        f"{path}:{method.name}": lines
        for path in handler_files()
        for method in rpc_methods(path)
        if (lines := body_lines(method)) > METHOD_LINES
    }
    assert long == {}


def test_handlers_leave_errors_and_logs_to_interceptors():
    found = []
    for path in handler_files():
        for method in rpc_methods(path):
            for node in ast.walk(method):
                if isinstance(node, ast.Try):
                    found.append(f"{path}:{node.lineno}: try")
                elif isinstance(node, ast.Attribute) and node.attr in {"set_code", "abort"}:
                    found.append(f"{path}:{node.lineno}: context.{node.attr}")
                elif isinstance(node, ast.Name) and node.id in LOGGERS:
                    found.append(f"{path}:{node.lineno}: {node.id}")
    assert found == []


def pb_names(path: str) -> set[str]:
    """Return the names under which a file knows modules of messages."""
    return {
        alias.asname or alias.name
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("driftline.v1")
        for alias in node.names
        if alias.name.endswith("_pb2")
    }


def built_messages(path: str) -> list[str]:
    names = pb_names(path)
    return [
        f"{path}:{node.lineno}: {node.func.value.id}.{node.func.attr}"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id in names
        and node.func.attr[0].isupper()
        # An enum's Name() and Value() are no messages.
        and node.func.attr not in {"Name", "Value"}
    ]


def test_messages_are_built_in_translate_only():
    found = [
        message
        for path in python_files("services/")
        if not is_translator(path) and path not in BUILDERS
        for message in built_messages(path)
    ]
    assert found == []


def test_exceptions_to_the_rule_still_need_it():
    for path in BUILDERS:
        assert built_messages(path), f"{path} builds no messages: take it off the list"


def test_core_and_store_know_nothing_of_the_wire():
    paths = python_files("services/core/", "services/store/")
    assert [path for path in paths if pb_names(path)] == []
