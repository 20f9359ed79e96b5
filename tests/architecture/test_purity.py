"""What import contracts cannot see: clock, global randomness, files, environment, unsafe loads."""

import ast
from collections.abc import Callable, Iterator

from tests.architecture.source import python_files, tree

CLOCK = {"now", "utcnow", "today"}
# Making a generator is pure; drawing from the global one is not.
GENERATORS = {"default_rng", "Generator", "PCG64", "SeedSequence"}
GLOBAL_TORCH_RNG = {"manual_seed", "seed", "set_rng_state"}
# The environment is read in one place.
ENVIRONMENT_READER = "services/runtime/settings.py"
# These start processes, and hand them the environment with the settings added: {**os.environ, ...}.
PROCESS_STARTERS = {
    "services/runtime/cluster.py",
    "services/local.py",
    "services/backfill/workers.py",
    "services/training/ray_workers.py",
}


def dotted(node: ast.expr) -> str:
    """Return a.b.c of an attribute chain, or "" for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (base := dotted(node.value)):
        return f"{base}.{node.attr}"
    return ""


def offences(paths: list[str], is_offence: Callable[[ast.AST], bool]) -> list[str]:
    return [
        f"{path}:{node.lineno}"
        for path in paths
        for node in ast.walk(tree(path))
        if is_offence(node)
    ]


def reads_the_clock(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    owner, _, name = dotted(node.func).rpartition(".")
    return name in CLOCK and owner.split(".")[-1] in {"datetime", "date"}


def draws_globally(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    owner, _, name = dotted(node.func).rpartition(".")
    if owner in {"np.random", "numpy.random"}:
        return name not in GENERATORS or not (node.args or node.keywords)
    return owner == "torch" and name in GLOBAL_TORCH_RNG


def opens_a_file(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    name = dotted(node.func)
    reads = {"np.load", "np.save", "np.loadtxt", "np.fromfile", "np.memmap", "torch.load"}
    return name in {"open", "print", "input"} | reads


def test_the_core_never_reads_the_clock():
    assert offences(python_files("services/core/"), reads_the_clock) == []


def test_the_core_draws_from_no_global_generator():
    assert offences(python_files("services/core/"), draws_globally) == []


def test_the_core_touches_no_file_or_terminal():
    assert offences(python_files("services/core/"), opens_a_file) == []


def test_training_and_evaluation_are_seeded():
    paths = python_files("services/training/", "services/evaluation/")
    unseeded = offences(
        paths,
        lambda node: draws_globally(node) and "torch" not in dotted(node.func),  # type: ignore[attr-defined]
    )
    assert unseeded == []


def environment_uses(path: str) -> Iterator[tuple[int, bool]]:
    """Yield (line, whether it only passes the environment on to a child)."""
    spread = {
        id(value)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Dict)
        for key, value in zip(node.keys, node.values, strict=True)
        if key is None
    }
    for node in ast.walk(tree(path)):
        if dotted(node) in {"os.environ", "os.getenv", "os.putenv"}:  # type: ignore[arg-type]
            yield node.lineno, id(node) in spread  # type: ignore[attr-defined]
        elif (
            isinstance(node, ast.ImportFrom)
            and node.module == "os"
            and {"environ", "getenv"} & {alias.name for alias in node.names}
        ):
            yield node.lineno, False


def test_the_environment_is_read_in_settings_only():
    found = [
        f"{path}:{line}"
        for path in python_files("services/", "feature_repo/", "clients/python/src/")
        if path != ENVIRONMENT_READER
        for line, only_passes_on in environment_uses(path)
        if not (only_passes_on and path in PROCESS_STARTERS)
    ]
    assert found == []


def loads_unsafely(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    name = dotted(node.func)
    if name in {"torch.load", "torch.save"} or name.endswith(".read_pickle"):
        return True
    allows = [k.value for k in node.keywords if k.arg in {"allow_pickle", "trust_remote_code"}]
    return any(not (isinstance(v, ast.Constant) and v.value is False) for v in allows)


def test_nothing_loads_what_could_run_code():
    paths = python_files("services/", "feature_repo/", "clients/", "tests/")
    assert offences(paths, loads_unsafely) == []


def test_the_scans_see_what_they_look_for():
    def hits(source: str, is_offence: Callable[[ast.AST], bool]) -> int:
        return sum(is_offence(node) for node in ast.walk(ast.parse(source)))

    assert hits("x = datetime.now(UTC)", reads_the_clock)
    assert hits("x = dt.date.today()", reads_the_clock)
    assert not hits("x = settings.clock()", reads_the_clock)
    assert hits("np.random.rand(3)", draws_globally)
    assert hits("np.random.default_rng()", draws_globally)
    assert not hits("np.random.default_rng(7)", draws_globally)
    assert hits("torch.load(p)", loads_unsafely)
    assert hits("np.load(p, allow_pickle=True)", loads_unsafely)
    assert not hits("np.load(p, allow_pickle=False)", loads_unsafely)
