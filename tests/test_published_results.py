"""Where published results stand beside those of a run: the section and the figure."""

from collections.abc import Iterable
from itertools import combinations

import numpy as np
import pytest

from msabench.evaluation import literature
from msabench.evaluation.literature import ON_TEST, Result
from msabench.evaluation.results import Results
from msabench.evaluation.tables import Rows
from msabench.plan import SUBSETS
from msabench.reporting import document, published_figure
from msabench.reporting.content import figures as drawings
from msabench.reporting.content import published
from tests.conftest import results_of

RESULTS = literature.read()
MEASURED = {
    name: dict.fromkeys(published.METRICS, mae) | {"mae_std": 0.01}
    for name, mae in {"self_mm": 0.56, "svm": 0.61, "ours": 0.5, "train_mean": 0.84}.items()
}
MISSING = dict.fromkeys([*published.METRICS, "mae_std"])
REAL_MOSEI = {"corpus": "mosei", "simulated": False, "title": "MOSEI"}
REAL_MOSI = {"corpus": "mosi", "simulated": False, "title": "MOSI"}
SIMULATED = {"corpus": "simulated", "simulated": True, "title": "simulated data"}
SIMS = {"corpus": "sims", "simulated": False, "title": "CH-SIMS"}
OWN = {"corpus": None, "simulated": False, "title": "mine"}
REPORT = {f"{name} (the report)" for name in ("Self-MM", "SVM", "CNN", "Ours")}
OURS = {"Self-MM (this run)", "SVM (this run)", "Ours (this run)"}


COLUMNS = {"text": "tokens", "audio": "audio_frames", "vision": "vision_frames"}  # of Table 1
ALL = [*COLUMNS]
READS = {"self_mm": ["text"], "svm": ["audio"], "ours": ALL}


def results(
    plan: dict, table6: Rows = MEASURED, have: Iterable[str] = ALL, reads: dict | None = None
) -> Results:
    """Return results on data that have some modalities. reads: those of the models, if not all."""
    reads = dict.fromkeys(READS, ALL) | (reads or {})
    plan = {"seeds": [1, 2], "text_encoder": "publisher/an-encoder", "subsets": SUBSETS} | plan
    table1 = {column: 9.0 if name in have else None for name, column in COLUMNS.items()}
    return results_of(plan=plan | {"modalities": reads}, tables={"1": {"all": table1}, "6": table6})


def table(plan: dict, **more) -> document.Table:
    *_, block = published.section(results(plan, **more)).blocks
    assert isinstance(block, document.Table)
    return block


def drawn(plan: dict, table6: Rows = MEASURED, **more) -> document.Figure:
    return drawings._of_literature(results(plan, table6, **more))["published"]


def legend(figure: document.Figure) -> list[str]:
    return [text.get_text() for text in figure.drawing.legends[0].get_texts()]


def names_of_lines(figure: document.Figure) -> set[str]:
    texts = figure.drawing.axes[0].texts
    return {text.get_text() for text in texts if text.get_fontweight() == "bold"}


@pytest.mark.parametrize(
    ("plan", "corpus", "others"),
    [
        (REAL_MOSEI, "mosei", REPORT | OURS),
        (REAL_MOSI, "mosi", OURS),
        (SIMULATED, "mosei", REPORT),
    ],
)
def test_the_section_is_of_the_corpus_of_the_run(plan, corpus, others):
    """With the report's rows on its corpus, and those of the run unless its data are simulated."""
    rows = table(plan).rows
    of_corpus = {result.model for result in RESULTS if result.corpus == corpus}
    assert {cells[0].value for cells in rows} == of_corpus | others
    assert {cells[0].value for cells in rows if cells[0].mark == published.OURS} == others
    maes = np.array([cells[2].value for cells in rows], float)
    assert (np.diff(maes) >= 0).all()
    assert published.section(results(plan)).title.data == literature.NAMES[corpus]


@pytest.mark.parametrize("plan", [SIMS, OWN])
def test_other_corpora_have_neither_section_nor_figure(plan):
    assert published.section(results(plan)).blocks == []
    assert drawings._of_literature(results(plan)) == {}


def test_the_text_says_that_simulated_data_are_not_among_the_results():
    words = "What was measured on simulated data is not among them."
    assert words in published.section(results(SIMULATED)).blocks
    assert words not in published.section(results(REAL_MOSEI)).blocks
    assert words in drawn(SIMULATED).marks


def test_marks_say_what_is_not_comparable_and_what_is_second_hand():
    actual = table(REAL_MOSEI)
    known: dict[object, Result] = {r.model: r for r in RESULTS if r.corpus == "mosei"}
    assert {known[c[0].value].selection in ON_TEST for c in actual.rows if c[2].mark} == {True}
    for cells in actual.rows:
        result = known.get(cells[0].value)
        if result is None:
            continue
        source = cells[-1]
        assert (cells[2].mark == published.UNFAIR) == (result.selection in ON_TEST)
        assert (source.mark == published.SECOND_HAND) == (result.certainty == "second-hand")
        assert actual.marks[str(source.value)] == result.source


def test_a_model_without_runs_has_no_row_and_no_line():
    table6 = MEASURED | {"svm": MISSING}
    *_, block = published.section(results(REAL_MOSEI, table6)).blocks
    assert isinstance(block, document.Table)
    assert "SVM (this run)" not in {cells[0].value for cells in block.rows}
    figure = drawn(REAL_MOSEI, table6)
    assert "this run's SVM" not in figure.finding
    colours = {text.get_text(): text.get_color() for text in figure.drawing.axes[0].texts}
    assert colours["Ours 0.500"] == published_figure.COLOURS[2]
    assert "SVM" not in "".join(name for name in colours if "(report)" not in name)


@pytest.mark.parametrize("plan", [REAL_MOSEI, REAL_MOSI, SIMULATED])
def test_the_figure_draws_every_result_once_and_a_line_for_each_model_of_a_real_run(plan):
    figure = drawn(plan)
    corpus = literature.corpus_of(plan)
    (axes,) = figure.drawing.axes
    points = [line for line in axes.lines if line.get_linestyle() == "None"]
    assert corpus is not None
    drawn_maes = sorted(np.concatenate([line.get_ydata() for line in points]))
    others = [*literature.published(corpus), *literature.of_report(corpus)]
    assert drawn_maes == sorted(result.mae for result in others)
    lines, words = names_of_lines(figure), legend(figure)
    ours = {"Self-MM 0.560", "SVM 0.610", "Ours 0.500"}
    assert lines == (set() if plan is SIMULATED else ours)
    assert ("this run" in figure.marks) == ("this run" in figure.finding) == bool(lines)
    assert ("this run, an-encoder" in words) == bool(lines)
    assert ("the report" in words) == (corpus == "mosei")


@pytest.mark.parametrize(
    ("have", "reads", "read", "encoder"),
    [
        (ALL, {}, "", "an-encoder"),
        (["text"], {}, ", text alone", "an-encoder"),
        (ALL, {name: ["text"] for name in READS}, ", text alone", "an-encoder"),
        (["text", "audio"], {}, ", text and audio", "an-encoder"),
        (["audio", "vision"], {}, ", audio and vision", None),
    ],
)
def test_rows_and_lines_say_what_the_models_read_and_with_which_encoder(have, reads, read, encoder):
    """Of all three modalities, as most published results, nothing."""
    more: dict = {"have": have, "reads": reads}
    rows = [cells for cells in table(REAL_MOSEI, **more).rows if cells[-1].value == "this run"]
    names = {"Self-MM", "SVM", "Ours"}
    assert {cells[0].value for cells in rows} == {f"{name} (this run{read})" for name in names}
    column = [column.name for column in published.COLUMNS].index("text encoder")
    assert {cells[column].value for cells in rows} == {encoder}
    figure = drawn(REAL_MOSEI, **more)
    run = f"this run{read}" + (f", {encoder}" if encoder else "")
    assert run in legend(figure)
    assert f"Lines of {run}: Self-MM, SVM, Ours." in figure.marks
    assert names_of_lines(figure) == {"Self-MM 0.560", "SVM 0.610", "Ours 0.500"}
    assert f"this run's SVM 0.610{read and f' ({read[2:]})'}," in figure.finding


def test_what_a_model_reads_stands_beside_its_name_where_the_others_read_something_else():
    rows = {cells[0].value: cells for cells in table(REAL_MOSEI, reads=READS).rows}
    column = [column.name for column in published.COLUMNS].index("text encoder")
    names = ("Self-MM (this run, text alone)", "SVM (this run, audio alone)", "Ours (this run)")
    assert [rows[name][column].value for name in names] == ["an-encoder", None, "an-encoder"]
    figure = drawn(REAL_MOSEI, reads=READS)
    assert "this run, an-encoder" in legend(figure)
    lines = {"Self-MM (text alone) 0.560", "SVM (audio alone) 0.610", "Ours 0.500"}
    assert names_of_lines(figure) == lines
    words = "Lines of this run, an-encoder: Self-MM (text alone), SVM (audio alone), Ours."
    assert words in figure.marks


def test_the_legend_says_what_those_models_read_that_have_results():
    figure = drawn(REAL_MOSEI, MEASURED | {"svm": MISSING, "ours": MISSING}, reads=READS)
    assert "this run, text alone, an-encoder" in legend(figure)
    assert "Lines of this run, text alone, an-encoder: Self-MM." in figure.marks


def test_without_results_of_this_run_there_are_no_lines():
    figure = drawn(REAL_MOSEI, dict.fromkeys(MEASURED, MISSING))
    assert "this run" not in " ".join([figure.marks, figure.finding, *legend(figure)])


@pytest.mark.parametrize("reads", [None, READS])
@pytest.mark.parametrize("plan", [REAL_MOSEI, REAL_MOSI, SIMULATED])
def test_names_are_all_written_and_cover_neither_each_other_nor_a_point(plan, reads):
    figure = drawn(plan, reads=reads).drawing
    figure.draw_without_rendering()
    (axes,) = figure.axes
    corpus = literature.corpus_of(plan)
    assert corpus is not None
    models = {result.model for result in literature.published(corpus)}
    names = [text for text in axes.texts if text.get_text()]
    written = {text.get_text() for text in names}
    known = {published_figure._short(model) for model in drawings.KNOWN if model in models}
    assert {*known, "MMML"} <= written
    assert len(literature.of_report(corpus)) == sum("(report)" in name for name in written)
    boxes = [text.get_window_extent() for text in names]
    for a, b in combinations(boxes, 2):
        assert not a.overlaps(b)
    for line in axes.lines:
        if line.get_linestyle() == "None":
            for x, y in axes.transData.transform(line.get_xydata()):
                assert not any(box.contains(x, y) for box in boxes)


def test_what_the_figure_names_is_in_the_file():
    assert set(drawings.KNOWN) <= {result.model for result in RESULTS if result.corpus == "mosei"}
