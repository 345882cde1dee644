"""The page says what metrics/ holds, to everyone, and needs nothing beside it."""

import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from matplotlib.figure import Figure as Drawing

from msabench.evaluation import clusters, tables
from msabench.evaluation.literature import ON_TEST, published
from msabench.evaluation.metrics import HEADLINE
from msabench.evaluation.results import Results
from msabench.evaluation.tables import PUBLISHED
from msabench.networks import encoders
from msabench.reporting import content, figures, page
from msabench.reporting.document import Cell, Column, Figure, Table, Title, printed
from stages import report as report_stage
from stages import tables as tables_stage
from tests.chromium import PROGRAM, Chromium
from tests.conftest import results_of
from tests.test_tables import SUBSETS, Tree, subset_runs, tree, undrawn

__all__ = ["tree", "undrawn"]  # fixtures

VOID = {"meta", "img", "br", "hr", "input", "link"}
Element = tuple[str, dict[str, str | None], list[str]]


class Read(HTMLParser):
    """A page as elements: tag, attributes, text; rows as the text of their cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self.open: list[Element] = []
        self.rows: list[list[list[str]]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        element: Element = (tag, dict(attrs), [])
        self.elements.append(element)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append(element[2])
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for element in self.open:
            element[2].append(data)

    def all(self, *tags: str) -> list[tuple[str, dict[str, str | None], str]]:
        return [(t, a, "".join(text).strip()) for t, a, text in self.elements if t in tags]

    @property
    def cells(self) -> list[tuple[str, ...]]:
        """Each row, in the characters of markdown."""
        plain = str.maketrans({page.MINUS: "-", page.DASH: "-", "†": None})
        return [tuple("".join(cell).translate(plain).strip() for cell in row) for row in self.rows]


def written_page(tree: Tree) -> Read:
    tables_stage.main()
    report_stage.main()
    return Read(text_of(tree))


def text_of(tree: Tree) -> str:
    return (tree.root / "plots/report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A tree with all that a page can show, its page, and where it lies."""
    folder = tmp_path_factory.mktemp("full")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(figures, "save", lambda *_: None)
        whole = Tree(folder)
        whole.plan["ablation"]["ours"] = subset_runs("ours")
        whole.plan["ablation_seeds"] = [1, 2]
        whole.write()
        history = folder / "predictions/self_mm-1/history.csv"
        history.write_text(
            "epoch,train_loss,valid_loss,valid_mae,label_corr_text,shift_corr_text,shift_ratio_text"
            "\n1,1,0.9,0.9,0.9,0,0\n2,1,0.8,0.8,0.625,0.2,0.5\n"
        )
        shutil.copy(history, folder / "predictions/self_mm-2/history.csv")
        yield whole, written_page(whole), folder / "plots/report.html"


@pytest.fixture
def unsaved(monkeypatch):
    """Draw the figures of the page alone; other tests look at the files beside it."""
    monkeypatch.setattr(figures, "save", lambda *_: None)


def test_every_row_of_every_table_stands_on_the_page(full):
    """As tables.md has it."""
    tree, read, _ = full
    lines = [line for line in tree.markdown.splitlines() if line.startswith("| ")]
    actual = set(read.cells)
    count = 0
    for line in lines:
        cells = tuple(cell.replace("†", "").strip() for cell in line.strip("|").split("|"))
        if set("".join(cells)) <= {"-", ":"} or cells[0] == "":
            continue
        name, second, *rest = cells
        assert {cells, (f"{name} {second}", *rest)} & actual
        count += 1
    assert count > 70


def test_every_figure_of_table_6_occurs(full):
    tree, read, _ = full
    rows = [row for row in read.cells if row and row[0] in tree.read("table6")]
    for model, values in tree.read("table6").items():
        shown = " ".join(" ".join(row) for row in rows if row[0] == model)
        for metric in HEADLINE:
            expected = "-" if values[metric] is None else f"{values[metric]:.3f}"
            assert expected in shown
            if values[f"{metric}_std"] is not None:
                assert f"{values[metric]:.3f} ± {values[f'{metric}_std']:.3f}" in shown
        for metric, figure in PUBLISHED["tables"]["6"]["rows"].get(model, {}).items():
            assert f"{figure:.3f}" in shown
            assert f"{values[metric] - figure:+z.3f}" in shown


def test_the_intervals_of_each_metric_and_the_differences(full):
    tree, read, _ = full
    comparison = tree.read("comparison")
    assert list(comparison) == [*HEADLINE]
    for model in comparison["mae"]["models"]:
        rows = [part["models"][model] for part in comparison.values()]
        bounds = [printed(row[name]) for row in rows for name in ("value", "low", "high")]
        assert (model, *bounds) in read.cells
    for metric, part in comparison.items():
        for pair, row in part["pairs"].items():
            p = printed(row["p_holm"], "p")
            assert any(
                cells[0] == f"{metric} {pair}" and p in cells for cells in read.cells if cells
            )


def test_marks_of_the_tables(full):
    """The dagger of the SVM's own metric, the row chosen, the columns grouped under a metric."""
    tree, read, _ = full
    text = text_of(tree)
    measured, _, others = text.partition('<section aria-labelledby="published">')
    mark = '<span class="mark"> †</span>'
    assert measured.count(mark) == 2 * (7 + 1)  # Table 2, and the SVM's row
    assert others.count(mark) == len([r for r in published("mosei") if r.selection in ON_TEST])
    chosen = r'<tr class="chosen">\s*<th scope="row">([^<]+) \*</th>'
    assert len(re.findall(chosen, measured)) == 3
    assert len(re.findall(chosen, others)) == len(PUBLISHED["tables"]["6"]["rows"])
    groups = [text for _, attributes, text in read.all("th") if attributes["scope"] == "colgroup"]
    assert groups == [*HEADLINE, "utterances", *HEADLINE * 5]  # the intervals, Tables 1 to 6


def test_every_title_says_that_the_data_are_simulated(full):
    _, read, _ = full
    titles = [text for _, _, text in read.all("title", "h1", "h3")]
    own = {"Published results, CMU-MOSEI", "Settings", "Versions", "Data set", "Text encoder"}
    own.add("Hashes of the predictions")
    assert len(titles) > 15
    assert [t for t in titles if "simulated data" not in t] == [t for t in titles if t in own]
    assert all("simulated data" in caption for _, _, caption in read.all("figcaption"))
    note, *_ = [text for _, a, text in read.all("div") if a.get("class") == "note"]
    assert "says nothing about MOSEI" in note


@pytest.mark.parametrize(
    ("title", "corpus", "beside"),
    [("my recordings", "mosei", True), ("MOSEI, anew", None, False), ("CMU-MOSI", "mosi", False)],
)
@pytest.mark.usefixtures("unsaved")
def test_the_report_stands_beside_its_own_corpus_alone_whatever_the_title_says(
    tree, title, corpus, beside
):
    tree.plan |= {"title": title, "corpus": corpus, "simulated": False, "sweep_seeds": []}
    tree.write()
    read = written_page(tree)
    text = text_of(tree)
    assert "says nothing about MOSEI" not in text
    headings = [text for _, _, text in read.all("h1", "h2", "h3")]
    assert "simulated" not in " ".join(headings)
    tables = [cell for row in read.cells for cell in row if cell in ("report", "diff")]
    assert len(tables) == (2 * (1 + 5 * len(HEADLINE)) if beside else 0)
    assert (text.count("the report") > 0) == (text.count("The report") > 0) == beside
    assert ("† The report" in "".join(text for _, _, text in read.all("p"))) == beside
    assert sum(heading.startswith("Table 3") for heading in headings) == beside
    assert sum(heading.startswith("Table 6") for heading in headings) == 1
    assert ("Tables of the report" in headings) == beside
    published = [heading for heading in headings if heading.startswith("Published")]
    assert published == [f"Published results, CMU-{c.upper()}" for c in (corpus,) if c]
    line = next(row for row in read.cells if row[:1] == ("ours",) and len(row) > 10)
    values = tree.read("table6")["ours"]
    assert printed(values["mae"]) in " ".join(line)
    latex = (tree.root / "metrics/tables.tex").read_text()
    assert ("& report & diff" in latex) == ("Tables 1-6" in latex) == beside


def test_nothing_is_fetched(full):
    tree, read, _ = full
    for tag, attributes, _ in read.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        for name in ("src", "href", "xlink:href", "srcset", "action"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:image/png;")), (tag, value)
    text = text_of(tree)
    assert "@import" not in text
    assert re.findall(r"url\((?!#)", text) == []
    assert len(text.encode()) < 1_500_000


@pytest.mark.usefixtures("unsaved")
def test_what_the_data_and_the_models_are_called_is_only_text(tree):
    name = 'fi<i>fth&"'
    tree.plan["models"].append(name)
    tree.plan["title"] = 'simulated data <script>alert("1")</script> & </svg>'
    tree.write()
    read = written_page(tree)
    assert len(read.all("script")) == 1
    assert not read.all("i")
    assert tree.plan["title"] in read.all("h1")[0][2]
    assert name in [text for _, _, text in read.all("th")]
    labels = [attributes["aria-label"] for _, attributes, _ in read.all("svg")]
    assert any(name in (label or "") for label in labels)


@pytest.mark.slow
@pytest.mark.usefixtures("unsaved")
def test_two_runs_give_the_same_bytes(full):
    tree, _, path = full
    before = path.read_bytes()
    report_stage.main()
    assert path.read_bytes() == before
    assert str(tree.root).encode() not in before


@pytest.mark.usefixtures("undrawn")
def test_what_is_missing_is_said(tree):
    tree.write()
    for name in ("cnn-2", "self_mm-1", "batch_32-1"):
        shutil.rmtree(tree.root / "predictions" / name)
    with pytest.raises(SystemExit):
        tables_stage.main()
    report_stage.main()
    read = Read(text_of(tree))
    (printed,) = [
        text for _, attributes, text in read.all("div") if attributes.get("id") == "missing"
    ]
    assert "Missing: 6 files of predictions." in printed
    assert "predictions/cnn-2/test.csv" in printed
    assert ("cnn-2", "train@cnn-2", "missing") in read.cells
    assert ("Table 3", "32", "batch_32", "missing") in read.cells
    assert next(row[1] for row in read.cells if row and row[0] == "cnn") == "missing"


@pytest.mark.usefixtures("undrawn")
def test_without_any_predictions_there_is_a_page(tree):
    tree.write()
    shutil.rmtree(tree.root / "predictions")
    with pytest.raises(SystemExit):
        tables_stage.main()
    report_stage.main()
    text = text_of(tree)
    assert "No model has been measured." in text
    assert "No run has left its settings." in text


@pytest.mark.usefixtures("undrawn")
def test_a_data_set_without_frames_says_what_is_absent(tree):
    tree.write(modalities=())
    read = written_page(tree)
    assert ("a", "absent") in [row[:2] for row in read.cells]
    assert not [attributes for _, attributes, _ in read.all("div") if "id" in attributes]


@pytest.mark.usefixtures("undrawn")
def test_an_ablation_that_was_not_made_says_how_to(tree):
    tree.write()
    written_page(tree)
    assert (
        "<code>dvc exp run -S &#39;ablation.models=[self_mm,svm,cnn,ours]&#39;</code>"
        in text_of(tree)
    )


def test_an_ablation_is_shown(full):
    _, read, _ = full
    assert {f"ours {subset}" for subset in SUBSETS} <= {row[0] for row in read.cells if row}
    assert "ablation.models" not in "".join(text for _, _, text in read.all("p"))


def test_headings_are_in_order(full):
    _, read, _ = full
    levels = [int(tag[1]) for tag, _, _ in read.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(lower <= upper + 1 for upper, lower in pairwise(levels))


def test_every_figure_says_in_numbers_what_it_shows(full):
    tree, read, _ = full
    labels = [attributes["aria-label"] or "" for _, attributes, _ in read.all("svg")]
    assert len(labels) == 7 == len(read.all("figcaption"))
    assert all(re.search(r"\d\.\d", label) for label in labels)
    assert all(attributes["role"] == "img" for _, attributes, _ in read.all("svg"))
    assert f"Ours {tree.read('table6')['ours']['mae']:.3f} (report 0.563)" in " ".join(labels)
    assert "Self-MM's text 0.625 (multimodal 0.900)" in " ".join(labels)
    assert "Self-MM 0.800 (epoch 2 of 2)" in " ".join(labels)


def test_links_lead_somewhere_and_names_are_unique(full):
    _, read, _ = full
    names = [attributes["id"] for _, attributes, _ in read.elements if "id" in attributes]
    assert len(names) == len(set(names))
    targets = [
        (attributes.get("href") or attributes.get("xlink:href") or "").removeprefix("#")
        for tag, attributes, _ in read.elements
        if tag in ("a", "use")
    ]
    used = re.findall(r"url\(#([^)]+)\)", text_of(full[0]))
    labels = [a["aria-labelledby"] for _, a, _ in read.elements if "aria-labelledby" in a]
    assert len(targets) > 50
    assert {*targets, *used, *labels} <= set(names)


def test_tables_are_for_everyone(full):
    tree, read, _ = full
    assert len(read.all("table")) == len(read.all("caption")) > 15
    assert all(attributes.get("scope") for _, attributes, _ in read.all("th"))
    assert all(text for _, _, text in read.all("caption"))
    assert '<html lang="en">' in text_of(tree)


def test_the_long_table_of_published_results_is_folded_and_no_other(full):
    text = text_of(full[0])
    (folded,) = re.findall("<details>(.*?)</details>", text, re.DOTALL)
    count = folded.count("<tr") - 1
    assert count == len(published("mosei")) + len(PUBLISHED["tables"]["6"]["rows"])
    assert f"<summary>All {count} rows</summary>" in folded
    assert "‡ Second-hand" in folded
    assert folded.count("<table") == 1


def test_settings_versions_and_hashes(full):
    tree, read, _ = full
    rows = read.cells
    assert ("", "self_mm", "svm", "cnn", "ours") in rows
    assert ("lr", "text 5e-05", "0.001", "0.001", "0.001") in rows
    assert ("Table 3", "64", "batch_64", "that of ours: trained once") in rows
    assert ("Table 3", "32", "batch_32", "width batch_32 (-)") in rows
    assert ("numpy", "2.0") in rows
    prepared = json.loads((tree.root / "data/prepared/sha256.json").read_text())
    assert set(prepared.items()) <= set(rows)
    stages = {row[0]: row[1] for row in rows if len(row) == 3}
    assert stages["ours-1"] == "train@ours-1"
    assert stages["d_64-1"] == "sweep@d_64-1"
    assert stages["svm-t+a-1"] == "ablation@svm-t+a-1"
    assert stages["ours-a-2"] == "ablation@ours-a-2"
    assert encoders.PUBLISHED["bert-base-uncased"].commit in text_of(tree)
    assert set(encoders.PUBLISHED["bert-base-uncased"].sha256.items()) <= set(rows)


@pytest.mark.usefixtures("undrawn")
def test_a_row_of_a_sweep_is_held_against_ours_whatever_its_model(tree):
    """A block may have the model of another."""
    run_json = tree.run_json

    def of_cnn(name):
        own = {"network": {"depth": 1}} if name.startswith("cnn-") else {}
        return run_json(name) | {"model": "cnn"} | own

    tree.run_json = of_cnn
    tree.write()
    assert ("Table 3", "32", "batch_32", "width batch_32 (-)") in written_page(tree).cells


@pytest.mark.usefixtures("undrawn")
def test_a_file_of_data_has_its_hash_and_how_to_print_it(tree):
    tree.sha256 = "5" * 64
    tree.write()
    read = written_page(tree)
    assert ("made_up.pkl", "5" * 64) in read.cells
    assert any("make hash DATA=" in text for _, _, text in read.all("pre"))


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
def test_the_hashes_can_be_verified_as_the_page_says(full):
    tree, read, _ = full
    blocks = [text for _, _, text in read.all("pre")]
    path = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def shell(command):
        options = {"cwd": tree.root, "capture_output": True, "text": True}
        return subprocess.run(["sh", "-c", command], env=os.environ | path, **options)

    (check,) = [text for text in blocks if "--check" in text]
    assert shell(check).returncode == 0
    labels = tree.root / "data/prepared/test/labels.npy"
    content = labels.read_bytes()
    try:
        labels.write_bytes(content + b" ")
        assert "test/labels.npy: FAILED" in shell(check).stdout
    finally:
        labels.write_bytes(content)
    (command,) = [line for text in blocks for line in text.splitlines() if "predictions/" in line]
    digest, file = shell(command).stdout.split()
    assert (file.split("/")[1], "train@self_mm-1", digest) in read.cells


def compared(p: float, *, constant: float = 0.9, p_constant: float = 1e-9, **models: float):
    """Results of these MAE, and that of the median, which is below that of the mean."""
    best, *others = models or ("none",)
    comparison = {
        "models": {
            m: {"value": mae, "low": mae - 0.1, "high": mae + 0.1} for m, mae in models.items()
        },
        "pairs": {f"{best} - {other}": {"p_holm": p} for other in others},
    }
    pairs = {
        name: {"difference": mae - constant, "p_holm": p_constant} for name, mae in models.items()
    }
    table6 = {"train_mean": {"mae": constant + 0.1}, "train_median": {"mae": constant}}
    return results_of(
        comparison={"mae": comparison}, constants={"train_median": pairs}, tables={"6": table6}
    )


@pytest.mark.parametrize(
    ("results", "words"),
    [
        (compared(0.5), "No model has been measured."),
        (
            compared(0.5, ours=0.5),
            "Ours has the lowest MAE on test, 0.500 (95% confidence interval 0.400 to 0.600) and "
            "beats a constant by more than chance: the median of the training labels has 0.900 "
            "(p <0.0001, Holm).",
        ),
        (
            compared(0.5, p_constant=0.051, ours=0.5),
            "0.600), but no difference to a constant is shown: the median of the training labels "
            "has 0.900 (p 0.0510, Holm).",
        ),
        (
            compared(0.5, constant=0.4, p_constant=0.001, ours=0.5),
            "0.600), but is worse than a constant by more than chance: the median of the training "
            "labels has 0.400 (p 0.0010, Holm).",
        ),
        (
            compared(0.001, ours=0.5, cnn=0.6),
            "; it beats CNN by more than chance (p 0.0010, Holm).",
        ),
        (
            compared(0.3, ours=0.5, cnn=0.6, fifth=0.7),
            "; no difference to CNN and fifth is shown (p at least 0.30).",
        ),
        (
            compared(1e-9, ours=0.5, cnn=0.6, fifth=0.7),
            "; it beats CNN and fifth by more than chance (p <0.0001, Holm).",
        ),
    ],
)
def test_the_verdict_claims_no_more_than_was_tested(results, words):
    assert content.verdict(results).endswith(words)


def test_what_limits_the_verdict_stands_below_it(full):
    tree, read, _ = full
    *_, note = [text for _, a, text in read.all("div") if a.get("class") == "note"]
    assert [note] == clusters.notes({"test": tree.read("table1")["test"]})
    assert "12 test videos" in note


@pytest.mark.usefixtures("undrawn")
def test_of_too_few_videos_there_is_no_verdict(tree):
    tree.clips = 20
    tree.write()
    read = written_page(tree)
    comparison = tree.read("comparison")["mae"]
    best = min(row["value"] for row in comparison["models"].values())
    (verdict,) = [text for _, a, text in read.all("p") if a.get("class") == "verdict"]
    assert f" has the lowest MAE on test, {best:.3f}; with so few videos no verdict" in verdict
    assert "chance" not in verdict
    row = comparison["pairs"]["self_mm - svm"]
    assert ("mae self_mm - svm", f"{row['difference']:+z.3f}", *"------") in read.cells


def test_columns_that_name_a_row_are_one():
    columns = [Column("", "words"), Column("", "words"), Column("mae")]
    table = Table(columns, [[Cell("ours"), Cell("t"), Cell(0.5, 0.01, "†")]], keys=2)
    assert [heading.column.name for heading in page.headings(table)] == ["", "mae"]
    assert [heading.spread for heading in page.headings(table)] == [False, True]
    assert page.rows(table) == [(Cell("ours t"), [Cell(0.5, 0.01, "†")])]


@pytest.mark.parametrize(
    ("cell", "column", "text"),
    [
        (Cell(-0.5), Column("diff", "signed"), "\N{MINUS SIGN}0.500"),
        (Cell(None), Column("mae"), "\N{EN DASH}"),
        (Cell("left-out"), Column("mae"), "left-out"),
        (Cell("a `b` <c>"), Column("", "words"), "a `b` <c>"),
        (Cell("a `b` <c>"), Column("", "markdown"), "a <code>b</code> &lt;c&gt;"),
    ],
)
def test_a_cell_is_shown_by_the_kind_of_its_column(cell, column, text):
    assert page.shown(cell, column) == text


@pytest.mark.parametrize("finding", ["", "MAE with half of the frames: Ours 0.512."])
def test_a_figure_stands_in_its_section_where_it_shows_something(full, finding):
    tree, _, _ = full
    rows = tables.rows_of(tree.plan, ["text", "audio", "vision"])
    results = Results.read(tree.root / "metrics", plan=tree.plan, rows=rows)
    title = Title("Robustness", "simulated data")
    figure = Figure(title, "A line is a model.", finding, Drawing((2, 2)))
    text = page.render(content.document(results, {"robustness": figure}))
    label = f'aria-label="Robustness, simulated data. {finding}"'
    assert (label in text) == bool(finding)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_colours_have_contrast_in_both_schemes():
    """WCAG AA: 4.5 to 1."""
    schemes = re.findall(r"--paper:.*?--edge", page.TEMPLATE.read_text(), re.DOTALL)
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--(\w+): (#\w{6});", scheme))
        for name in ("ink", "soft", "accent"):
            for ground in ("paper", "tint"):
                low, high = sorted(luminance(colours[key]) for key in (name, ground))
                assert (high + 0.05) / (low + 0.05) > 4.5, (name, ground)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if PROGRAM is None:
        pytest.skip("no chromium on PATH")
    browser = Chromium(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


TABLE_6 = "document.querySelector('section[aria-labelledby=table6] table')"
BACKGROUND = "getComputedStyle(document.body).backgroundColor"


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False)])
def test_the_page_fits_and_tells_the_console_nothing(browser, full, width, dark):
    browser.open(full[2], width=width, dark=dark)
    root = "document.documentElement"
    assert browser.run(f"{root}.scrollWidth <= {root}.clientWidth")
    browser.run("scrollTo(99, 0)")
    assert browser.run("scrollX") == 0
    assert browser.faults == []


@pytest.mark.slow
def test_a_table_that_is_unfolded_can_be_scrolled_by_key(browser, full):
    """In a browser, too, that does not lay out what is folded."""
    browser.open(full[2], width=390)
    hidden = "details:not([open]) > :not(summary) { display: none }"
    browser.run(
        f"document.styleSheets[0].insertRule('{hidden}'); dispatchEvent(new Event('resize'))"
    )
    stop = "document.querySelector('details .scroll').tabIndex"
    assert browser.run(stop) == -1
    unfold = (
        "new Promise(done => { const table = document.querySelector('details');"
        " table.addEventListener('toggle', () => done()); table.open = true; })"
    )
    browser.ask("Runtime.evaluate", expression=unfold, awaitPromise=True)
    assert browser.run(stop) == 0


@pytest.mark.slow
def test_every_internal_link_moves_to_its_target(browser, full):
    browser.open(full[2])
    lost = browser.run(
        "[...document.querySelectorAll('a')].filter(a => { a.click();"
        " return !document.querySelector(':target'); }).map(a => a.hash)"
    )
    assert lost == []


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_no_word_of_a_figure_is_cut_off(browser, full, width):
    """The page's font is another than the one that the figures were laid out with."""
    browser.open(full[2], width=width)
    cut = browser.run(
        "[...document.querySelectorAll('figure svg text')].filter(text => {"
        " const [inner, outer] = [text, text.closest('svg')].map(e => e.getBoundingClientRect());"
        " return inner.left < outer.left - 1 || inner.right > outer.right + 1"
        " || inner.top < outer.top - 1 || inner.bottom > outer.bottom + 1; })"
        ".map(text => text.textContent)"
    )
    assert cut == []
    smallest = browser.run(
        "Math.min(...[...document.querySelectorAll('figure svg text')]"
        ".map(text => text.getBoundingClientRect().height))"
    )
    assert smallest > 7


def column(browser, place: int) -> list[str]:
    return browser.run(f"[...{TABLE_6}.tBodies[0].rows].map(r => r.cells[{place}].textContent)")


@pytest.mark.slow
def test_a_click_sorts_by_number_and_what_is_none_comes_last(browser, full):
    browser.open(full[2])
    place = 6  # the correlation, which the two constants do not have
    heading = f"{TABLE_6}.querySelector('th[data-column=\"{place}\"]')"
    as_it_was = column(browser, place)
    numbers = sorted(text for text in as_it_was if text != page.DASH)
    none = [page.DASH] * 2
    assert as_it_was != numbers + none
    for order, expected in (
        ("ascending", numbers + none),
        ("descending", numbers[::-1] + none),
        (None, as_it_was),
    ):
        browser.run(f"{heading}.querySelector('button').click()")
        assert browser.run(f"{heading}.getAttribute('aria-sort')") == order
        assert column(browser, place) == expected


@pytest.mark.slow
def test_differences_sort_by_their_sign_too(browser, full):
    browser.open(full[2])
    browser.run(f"{TABLE_6}.querySelector('th[data-column=\"5\"] button').click()")
    actual = [text.replace(page.MINUS, "-") for text in column(browser, 5) if text != page.DASH]
    assert actual == sorted(actual, key=float)
    assert actual[0].startswith("-") != actual[-1].startswith("-")


@pytest.mark.slow
def test_the_keyboard_sorts(browser, full):
    browser.open(full[2])
    browser.run(f"{TABLE_6}.querySelector('th[data-column=\"0\"] button').focus()")
    browser.press("Enter")
    assert column(browser, 0) == sorted(column(browser, 0))
    assert browser.run("document.activeElement.closest('th').getAttribute('aria-sort')")
    browser.press("Tab")
    assert browser.run("document.activeElement.textContent") == "valid_mae"


@pytest.mark.slow
def test_the_scheme_is_the_systems_and_can_be_changed(browser, full):
    seen = []
    for dark in (False, True):
        browser.open(full[2], dark=dark)
        seen.append(browser.run(BACKGROUND))
        browser.run("document.getElementById('theme').click()")
        seen.append(browser.run(BACKGROUND))
    light, dark, also_dark, also_light = seen
    assert light != dark
    assert (light, dark) == (also_light, also_dark)


@pytest.mark.slow
def test_without_scripts_there_is_all_but_what_needs_them(browser, full):
    browser.ask("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(full[2])
        assert browser.run("document.querySelectorAll('table').length") > 15
        assert browser.run("document.querySelectorAll('th button').length") == 0
        assert browser.run("document.getElementById('theme').offsetWidth") == 0
    finally:
        browser.ask("Emulation.setScriptExecutionDisabled", value=False)
