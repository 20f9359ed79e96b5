"""What the documents say exists does, and what exists is said."""

import re

from typer.main import get_command

from services.cli import app
from services.runtime.settings import Settings
from tests.architecture.source import ROOT, files, is_generated

LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")
# This machine, its registries, and where its sessions work: none of it is the project's.
MACHINE = re.compile(
    r"/root/|/home/[a-z]|/work/|/opt/(pypi|wheels)|file:///|pythonhosted|pypi\.org/simple|registry\.npmjs"
    r"|deb\.debian\.org|--(extra-)?index-url|PIP_FIND_LINKS"
)
# This file spells them out.
SELF = "tests/architecture/test_documents.py"
TEXT = (".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".json", ".proto", ".conf", ".env", ".html")
TEXT_NAMES = ("Makefile", "run", ".gitignore", ".dockerignore")


def test_the_readmes_tree_is_the_tree():
    readme = (ROOT / "README.md").read_text()
    rows = [line for line in readme.splitlines() if line.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])]
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_readme_names_every_part_of_the_services():
    readme = (ROOT / "README.md").read_text()
    parts = {path.split("/")[1] for path in files() if path.startswith("services/")} - {
        "__init__.py"
    }
    assert [part for part in sorted(parts) if f"services/{part}" not in readme] == []


def test_links_between_documents_lead_somewhere():
    broken = []
    for path in files():
        if path.endswith(".md"):
            folder = (ROOT / path).parent
            for target in LINK.findall((ROOT / path).read_text()):
                if not (folder / target).exists():
                    broken.append(f"{path}: {target}")
    assert broken == []


def shown(default: object) -> str:
    """Return a setting's default as the table shows it."""
    if default is None:
        return "unset"
    if isinstance(default, tuple):
        return ",".join(default)
    return str(default).lower() if isinstance(default, bool) else str(default) or "empty"


def test_every_setting_is_documented_with_its_default_and_none_is_invented():
    table = (ROOT / "k8s/README.md").read_text()
    rows = re.findall(r"^\| `(DRIFTLINE_\w+)` \| ([^|]*) \| [^|]+ \|$", table, re.MULTILINE)
    assert dict(rows) == {
        f"DRIFTLINE_{name.upper()}": shown(field.default)
        for name, field in Settings.model_fields.items()
    }


def said(program: str) -> list[tuple[str, list[str]]]:
    """Return (path, words after the program) of every call that a document or a message names."""
    inline = re.compile(rf"`(?:\.venv/bin/)?{program} ([^`]+)`")
    block = re.compile(rf"^(?:\.venv/bin/)?{program} ([^#\n]+)", re.MULTILINE)
    found = []
    for path in files():
        # What a dated entry names may be gone since.
        if path.endswith(".md") and path not in ("CHANGELOG.md", "DECISIONS.md"):
            text = (ROOT / path).read_text()
            calls = [*inline.findall(" ".join(text.split())), *block.findall(text)]
        elif path.startswith(("services/", "k8s/")) and path.endswith(TEXT):
            calls = [
                call
                for line in (ROOT / path).read_text().splitlines()
                for call in inline.findall(line)
            ]
        else:
            continue
        found += [(path, call.split()) for call in calls]
    return found


def unknown_in(words: list[str], known: dict[str, set[str]]) -> list[str]:
    """Return what of a call is neither a command nor an option of it."""
    name = next((n for n in (" ".join(words[:2]), words[0]) if n in known), None)
    if name is None:
        # `driftline keys` stands for all that begin so.
        return [] if any(one.startswith(f"{words[0]} ") for one in known) else words[:1]
    options = [word.split("=")[0].rstrip(".,;:") for word in words if word.startswith("--")]
    return [option for option in options if option not in known[name]]


def test_commands_and_options_that_are_named_exist():
    known = {
        name: {
            option for given in command.params for option in (*given.opts, *given.secondary_opts)
        }
        for name, command in get_command(app).commands.items()
    }
    calls = said("driftline")
    assert len(calls) > 50
    assert [(path, words) for path, words in calls if unknown_in(words, known)] == []


def test_targets_that_are_named_exist():
    makefile = (ROOT / "Makefile").read_text()
    heads = re.findall(r"^([a-z][a-z -]*):", makefile, flags=re.MULTILINE)
    targets = {target for head in heads for target in head.split()}
    listed = re.search(r"^WRITE_BENCHES := ((?:.*\\\n)*.*)$", makefile, flags=re.MULTILINE).group(1)
    targets |= {word for word in listed.split() if word.startswith("bench-")}
    reads = "".join(
        (ROOT / f"tests/bench/{name}.py").read_text() for name in ("reads", "trajectory")
    )
    targets |= {f"bench-{name}" for name in re.findall(r'\bname="([^"]+)"', reads)}
    calls = said("make")
    assert len(calls) > 20
    assert [(path, words) for path, words in calls if words[0] not in targets] == []
    table = (ROOT / "docs/benchmarks.md").read_text()
    named = [
        name
        for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for name in re.findall(r"`([^`]+)`", row)
    ]
    assert len(named) > 10
    assert [name for name in named if f"bench-{name}" not in targets] == []


def test_no_file_names_a_machine_or_a_registry():
    found = [
        f"{path}:{number}: {match.group()}"
        for path in files()
        if path != SELF and not is_generated(path)
        if path.endswith(TEXT) or path.rsplit("/", 1)[-1] in TEXT_NAMES or "Dockerfile" in path
        for number, line in enumerate((ROOT / path).read_text().splitlines(), 1)
        if (match := MACHINE.search(line))
    ]
    assert found == []
