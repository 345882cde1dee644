"""README.md and docs/: their numbers are those of the metrics, and what they name exists."""

import json
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
METRICS = {"MAE": "mae", "Corr": "corr", "Acc-7": "acc_7", "Acc-5": "acc_5"}
PAIRS = {"Acc-2": "acc_2", "F1": "f1"}  # with labels of 0, and without
RESULTS = ["model", *METRICS, *PAIRS]


def prose(page: Path) -> str:
    """Return a page without its blocks, which test_docs_commands.py runs."""
    text = page.read_text(encoding="utf-8")
    return re.sub(r"^(`{3,}).*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)


def tables(text: str) -> list[list[str]]:
    """Return the rows of each table, the line below its header left out."""
    actual = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return [[row for i, row in enumerate(table.splitlines()) if i != 1] for table in actual]


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")]


def versions(path: Path) -> list[str]:
    """Return a file as it lies here and as committed.

    A run on another processor changes the former in the last digits, which must fail no test.
    """
    command = ["git", "show", f"HEAD:./{path.relative_to(ROOT).as_posix()}"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    return [path.read_text(encoding="utf-8")] + [shown.stdout.decode()] * (not shown.returncode)


def wrong_rows(rows: list[str], numbers: dict) -> list[str]:
    """Return the rows of which a cell is not that of table6.json, rounded."""

    def shown(model: str) -> list[str]:
        if model not in numbers:
            return []
        row = numbers[model]
        std = {m: row[f"{m}_std"] for m in METRICS.values()}
        means = [f"{row[m]:.3f}" + (f" ± {s:.3f}" if s is not None else "") for m, s in std.items()]
        return means + [f"{row[f'{m}_has0']:.3f} / {row[m]:.3f}" for m in PAIRS.values()]

    return [row for row in rows if cells(row)[1:] != shown(cells(row)[0])]


def results_tables() -> list[tuple[Path, list[str]]]:
    """Return each such table as the table6.json that is linked above it, and its rows."""
    actual = []
    for page in PAGES:
        text = prose(page)
        for header, *rows in tables(text):
            if cells(header) == RESULTS:
                source = re.findall(r"\]\((\S+table6\.json)\)", text.partition(rows[0])[0])[-1]
                actual.append(((page.parent / source).resolve(), rows))
    return actual


@pytest.mark.parametrize(("source", "rows"), results_tables())
def test_every_cell_is_that_of_table_6(source, rows):
    assert len(rows) >= 4
    assert [] in [wrong_rows(rows, json.loads(text)) for text in versions(source)]


def test_a_changed_digit_is_noticed():
    source, rows = results_tables()[0]
    numbers = json.loads(versions(source)[-1])
    row = rows[0]
    digits = [i for i, character in enumerate(row) if character.isdigit() and i > row.index("|", 1)]
    for i in digits:
        assert wrong_rows([row[:i] + str((int(row[i]) + 1) % 10) + row[i + 1 :]], numbers)
    assert len(digits) == 48


def test_every_row_of_a_results_table_stands_in_the_metrics():
    """Of a table whose header is one of tables.md: its rows are copied from there."""
    paths = [*ROOT.glob("metrics/**/tables.md"), *ROOT.glob("docs/results/*/tables.md")]
    lines = {line for path in paths for text in versions(path) for line in text.splitlines()}
    copied = [table for page in PAGES for table in tables(prose(page)) if cells(table[0])[0] == ""]
    assert len(copied) == 4
    assert [row for table in copied for row in table if row not in lines] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    for target in set(re.findall(r"\]\((?!\w+:)([^)]+)\)", prose(page))):
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target


def anchors(page: Path) -> list[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_the_readme_is_short_and_leads_to_every_page():
    readme = PAGES[0].read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 220
    assert [page.name for page in PAGES[1:] if f"](docs/{page.name})" not in readme] == []


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.name)
def test_a_page_begins_with_one_sentence_that_says_what_it_is_for(page):
    title, blank, first, *rest = page.read_text(encoding="utf-8").splitlines()
    assert title.startswith("# ")
    assert first.endswith(".")
    assert blank == rest[0] == ""


def test_the_tests_and_files_that_the_pages_name_exist():
    text = "".join(map(prose, PAGES))
    named = set(re.findall(r"`(test_\w+)`", text))
    defined = {
        name
        for file in (ROOT / "tests").rglob("*.py")
        for name in re.findall(r"^def (test_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert named - defined == set()
    assert len(named) > 20
    files = set(re.findall(r"`((?:tests|bench|stages)/[\w/.]+)`", text))
    assert [name for name in files if not (ROOT / name).exists()] == []
