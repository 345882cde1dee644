"""The files around the code: citation, changelog, how to contribute."""

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from msabench import __version__

ROOT = Path(__file__).resolve().parents[1]
CITATION = YAML(typ="safe", pure=True).load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def test_the_citation_has_what_the_format_requires():
    """cff-version, message, title and authors; of references type, title and authors."""
    assert CITATION["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= CITATION.keys()
    assert CITATION["type"] == "software"
    assert CITATION["license"] == "MIT"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", CITATION["date-released"])
    for work in CITATION["references"]:
        assert {"type", "title", "authors", "year", "doi"} <= work.keys()
        assert all({"family-names", "given-names"} == author.keys() for author in work["authors"])
        assert re.fullmatch(r"10\.\d{4,}/\S+", work["doi"])
        assert work["start"] < work["end"]


def test_the_newest_version_of_the_changelog_is_the_packages_and_the_citations():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    version, date = re.findall(r"^## \[(\d\S*)\] - (\S+)$", changelog, re.MULTILINE)[0]
    assert version == __version__ == CITATION["version"]
    assert date == CITATION["date-released"]
    kinds = re.findall("^### (.+)$", changelog, re.MULTILINE)
    assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_how_to_contribute_is_short():
    lines = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if line]) <= 22


def test_a_newcomers_question_is_answered_by_one_file():
    """The file has the name."""
    content = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    answers = re.findall(r"^\| .+\? \| `(.+?)`: `(.+?)`", content, re.MULTILINE)
    assert len(answers) == 7
    for file, name in answers:
        definition = rf"^\s*(def {name}\(|{name}:$)"
        text = (ROOT / file).read_text(encoding="utf-8")
        assert re.search(definition, text, re.MULTILINE), name


@pytest.mark.parametrize("name", ["CHANGELOG.md", "CONTRIBUTING.md"])
def test_what_they_name_is_there(name):
    """Files and folders, and targets of make."""
    content = (ROOT / name).read_text(encoding="utf-8")
    targets = re.findall("^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    named = re.findall("`([^`]+)`", content)
    assert {word.split()[1] for word in named if word.startswith("make ")} <= set(targets)
    paths = [word for word in named if re.fullmatch(r"[\w./-]+[/.]\w*", word)]
    assert paths
    result = ("runs/", "predictions/")
    assert all((ROOT / path).exists() for path in paths if not path.startswith(result))
