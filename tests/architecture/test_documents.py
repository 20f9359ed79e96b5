"""What the documents say exists does, and what exists is said."""

import re

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


def test_commands_of_the_readme_exist():
    readme = (ROOT / "README.md").read_text()
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert set(re.findall(r"\bmake ([a-z]+)", readme)) <= set(targets)
    cli = "".join(path.read_text() for path in sorted((ROOT / "services/cli").glob("*.py")))
    for name in re.findall(r"^driftline ([a-z]+)", readme, flags=re.MULTILINE):
        assert re.search(rf'def {name}_?\(|command\("{name}[" ]', cli), name


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
