"""Each threat names its test, and each of those tests exists."""

import re

from tests.architecture.source import ROOT, functions, python_files

NAME = re.compile(r"`(test_\w+)`")
ROW = re.compile(r"\| [STRIDE](, [STRIDE])* \|")
PAGE = ROOT / "docs/threat-model.md"


def rows() -> list[str]:
    """Return the rows of the tables of threats."""
    return [line for line in PAGE.read_text().splitlines() if ROW.match(line)]


def test_every_test_that_the_threat_model_names_exists():
    made = {
        function.name
        for path in python_files("tests/", "clients/python/tests/")
        for function in functions(path)
    }
    named = set(NAME.findall(PAGE.read_text()))
    assert len(named) > 40
    assert named - made == set()


def test_every_threat_has_a_test_and_every_letter_a_threat():
    assert len(rows()) > 20
    for row in rows():
        cells = row.strip("|").split(" | ")
        assert len(cells) == 4, row
        assert NAME.search(cells[3]), row
    letters = {letter.strip() for row in rows() for letter in row.split("|")[1].split(",")}
    assert letters == set("STRIDE")
