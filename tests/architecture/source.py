"""The project's own files, as git sees them, and the syntax trees of its Python."""

import ast
import functools
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GENERATED = ("clients/python/src/driftline/v1/", "services/runtime/rules.binpb")


@functools.cache
def files() -> tuple[str, ...]:
    """Return every path that is or would be committed, relative to the root."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        paths = listed.stdout.splitlines()
    else:  # an unpacked archive
        folders = ("services", "feature_repo", "clients", "protos", "tests", "k8s")
        paths = [str(p.relative_to(ROOT)) for f in folders for p in (ROOT / f).rglob("*")]
    return tuple(sorted(p for p in set(paths) if (ROOT / p).is_file()))


def is_generated(path: str) -> bool:
    return path.startswith(GENERATED)


def python_files(*prefixes: str) -> list[str]:
    """Return hand-written Python files under the given folders."""
    found = [p for p in files() if p.endswith(".py") and p.startswith(prefixes)]
    return [p for p in found if not is_generated(p)]


@functools.cache
def tree(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text(), filename=path)


def functions(path: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def imports(path: str) -> Iterator[tuple[str, int]]:
    """Yield (dotted name, line) of every import, wherever in the file it stands."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function's body, its docstring apart."""
    body = function.body
    if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
