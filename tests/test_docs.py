"""README.md and docs/: their numbers are those of the metrics, and what they name exists."""

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = {"CMU-MOSEI": "mosei_text", "CMU-MOSI": "mosi_utterances"}
FOLDERS |= {"MiniLM": "", "MPNet": "_all-mpnet-base-v2"}
METRICS = {"MAE": "mae", "Corr": "corr", "Acc-2": "acc_2"}


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


def linked(text: str, file: str) -> list[dict[str, dict]]:
    """Return what is linked as `corpus, encoder`, as it lies here and as committed."""
    found = re.findall(rf"\[(CMU-\w+, \w+)\]\((\S+/){file}\)", text)
    both = {name: versions(ROOT / folder / file) for name, folder in found}
    return [{name: json.loads(texts[i]) for name, texts in both.items()} for i in (0, -1)]


def readme_table() -> tuple[list[str], list[str]]:
    """Return header and rows of the first table of README.md."""
    header, *rows = tables(prose(PAGES[0]))[0]
    return cells(header), rows


def wrong_rows(header: list[str], rows: list[str], numbers: dict[str, dict]) -> list[str]:
    """Return the rows of which a cell is not that of table6.json, rounded."""
    corpus, wrong = "", []
    for row in rows:
        name, model, *values = cells(row)
        corpus = name or corpus
        for column, value in zip(header[2:], values, strict=True):
            metric, encoder = column.split(", ")
            measured = numbers.get(f"{corpus}, {encoder}", {}).get(model, {})
            mean, std = (measured.get(METRICS[metric] + end) for end in ("", "_std"))
            if value != f"{mean or 0:.3f}" + (f" ± {std:.3f}" if std is not None else ""):
                wrong.append(row)
    return wrong


def test_every_cell_is_that_of_table_6():
    header, rows = readme_table()
    assert len(rows) == 10
    assert len(header) == 8
    sources = linked(prose(PAGES[0]), "table6.json")
    assert len(sources[0]) == 4
    assert [] in [wrong_rows(header, rows, numbers) for numbers in sources]


def test_a_changed_digit_is_noticed():
    header, (row, *_) = readme_table()
    numbers = linked(prose(PAGES[0]), "table6.json")[-1]
    digits = [i for i, character in enumerate(row) if character.isdigit()]
    for i in digits:
        changed = row[:i] + str((int(row[i]) + 1) % 10) + row[i + 1 :]
        assert wrong_rows(header, [changed], numbers)
    assert len(digits) == 48


def test_what_an_encoder_and_a_model_buy_is_that_of_the_comparisons():
    """Cells are `value (low to high)`; between encoders as if these were independent."""
    text = prose(ROOT / "docs/results.md")
    compared = [table for table in tables(text) if cells(table[0])[0].startswith("CMU-")]
    assert len(compared) == 2
    for header, *rows in compared:
        title, *encoders, _ = cells(header)
        corpus = title.removesuffix(", MAE")
        for row in rows:
            name, *shown, change = cells(row)
            both = [measured_mae(FOLDERS[corpus] + FOLDERS[of], name) for of in encoders]
            kind = "+.3f" if " - " in name else ".3f"
            assert shown == [interval(numbers, kind) for numbers in both]
            (before, *old), (after, *new) = both
            half = np.hypot(*(np.ptp(bounds) / 2 for bounds in (old, new)))
            gain = after - before
            expected = interval([gain, gain - half, gain + half], "+.3f")
            assert change == ("" if " - " in name else expected)


def measured_mae(folder: str, name: str) -> list[float]:
    """Return value, low and high of a model, or of a difference in either order."""
    numbers = json.loads((ROOT / f"metrics/{folder}/comparison.json").read_text())["mae"]
    if name in numbers["models"]:
        return [numbers["models"][name][key] for key in ("value", "low", "high")]
    if name in numbers["pairs"]:
        return [numbers["pairs"][name][key] for key in ("difference", "low", "high")]
    pair = numbers["pairs"][" - ".join(reversed(name.split(" - ")))]
    return [-pair[key] for key in ("difference", "high", "low")]


def interval(numbers: list[float], kind: str) -> str:
    value, low, high = numbers
    return f"{value:{kind}} ({low:{kind}} to {high:{kind}})"


def test_the_effect_of_each_correction_is_that_of_the_comparison():
    """Cells are `value (low to high)` of the model less what it is with the flag as published.

    Or say why there is none, where the flag is not measured or changes no run.
    """
    (rows,) = [
        table[1:]
        for table in tables(prose(ROOT / "docs/models.md"))
        if cells(table[0])[-1] == "effect on MAE"
    ]
    folder = "models/corrections"
    runs = json.loads((ROOT / f"metrics/{folder}/seeds.json").read_text())
    measured = set()
    for row in rows:
        model, published, _, effect = cells(row)
        (flag,) = re.findall(r"^`(\w+)", published)
        changed = f"{model}_{flag}"
        measured |= {model, changed} & {*runs}
        if changed in runs and runs[changed] != runs[model]:
            assert effect == interval(measured_mae(folder, f"{model} - {changed}"), "+.3f")
        else:
            assert re.fullmatch(r"none\b[^()]+", effect)
    assert measured == {*runs}
    assert len(runs) == 20


def test_every_row_of_a_results_table_stands_in_the_metrics():
    """Of a table whose header is one of tables.md: its rows are copied from there."""
    paths = [*ROOT.glob("metrics/**/tables.md"), *ROOT.glob("docs/results/*/tables.md")]
    lines = {line for path in paths for text in versions(path) for line in text.splitlines()}
    copied = [table for page in PAGES for table in tables(prose(page)) if cells(table[0])[0] == ""]
    assert len(copied) == 20
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
