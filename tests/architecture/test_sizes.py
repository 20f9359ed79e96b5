"""Small files, small functions."""

import warnings

import pytest

from tests.architecture.source import ROOT, body_lines, files, functions, is_generated, python_files

MODULE_LINES = 500
PROTO_LINES = 300
FUNCTION_LINES = 60
LOOK_TWICE_LINES = 40
# path:function -> why it may be longer. Training loops read top to bottom on purpose.
LONG: dict[str, str] = {}


@pytest.mark.parametrize(("suffix", "limit"), [(".py", MODULE_LINES), (".proto", PROTO_LINES)])
def test_files_stay_small(suffix, limit):
    long = {
        path: lines
        for path in files()
        if path.endswith(suffix) and not is_generated(path)
        if (lines := len((ROOT / path).read_text().splitlines())) > limit
    }
    assert long == {}


def test_functions_stay_small():
    sizes = {
        f"{path}:{function.name}": body_lines(function)
        for path in python_files("services/", "feature_repo/", "clients/python/src/", "protos/")
        for function in functions(path)
    }
    assert sizes
    long = {name: lines for name, lines in sizes.items() if lines > FUNCTION_LINES}
    assert long.keys() == LONG.keys(), long
    look_twice = {n: lines for n, lines in sizes.items() if lines > LOOK_TWICE_LINES}
    if look_twice:
        warnings.warn(f"over {LOOK_TWICE_LINES} lines: {look_twice}", stacklevel=1)
