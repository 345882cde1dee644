"""The tables of a paper: what LaTeX needs to read them, and what it makes of them."""

import re
import shutil
import subprocess

import pytest

from msabench.reporting import latex
from msabench.reporting.document import Cell, Column, Document, Section, Table, Title
from tests.test_tables import tree, with_ablation

__all__ = ["tree"]  # a fixture

PAPER = r"""\documentclass{article}
\usepackage{booktabs,graphicx}
\begin{document}
\input{tables}
Table~\ref{tab:table6}
\end{document}
"""
ANY = r"a_b & 50% of $5 #1 {c} ~d^2 \e <f> | ± †"


def document(table: Table, *paragraphs: str, title: str = "Table 6") -> Document:
    section = Section("table6", Title(title, "any data"), [table, *paragraphs])
    return Document(Title("All"), "A sentence.", [], "What holds.", {"Part": [section]})


def check(text: str) -> list[str]:
    """Hold the structure of what was written against LaTeX's rules; return the labels."""
    opened: list[str] = []
    for side, name in re.findall(r"\\(begin|end)\{([^}]+)\}", text):
        if side == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert opened == []
    for columns, body in re.findall(
        r"\\begin\{tabular\}\{@\{\}([lr]+)@\{\}\}(.*?)\\end\{tabular\}", text, re.DOTALL
    ):
        lines = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert len(lines) > 1
        for line in lines:
            spans = [int(span) - 1 for span in re.findall(r"\\multicolumn\{(\d+)\}", line)]
            assert len(re.findall(r"(?<!\\)&", line)) + 1 + sum(spans) == len(columns)
        for start, end in re.findall(r"\\cmidrule\(lr\)\{(\d+)-(\d+)\}", body):
            assert 1 <= int(start) <= int(end) <= len(columns)
    plain = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert plain.count("{") - plain.count(r"\{") == plain.count("}") - plain.count(r"\}")
    assert not re.search(r"(?<![\\&])[_#]", plain)
    labels = re.findall(r"\\label\{(.*?)\}", text)
    assert (
        len(labels) == len(set(labels)) == text.count(r"\caption{") == text.count(r"\begin{table*}")
    )
    return labels


def everything(tree) -> str:
    from stages import tables as stage

    tree.plan["title"] = "data of R&D, 100% & a_b"
    with_ablation(tree)
    stage.main()
    return (tree.root / "metrics/tables.tex").read_text(encoding="utf-8")


def test_every_table_is_whole_and_has_a_caption_and_a_label(tree):
    text = everything(tree)
    labels = check(text)
    assert {f"tab:table{number}" for number in range(1, 7)} < set(labels)
    assert {"tab:comparison", "tab:comparison-2", "tab:ablation", "tab:data"} < set(labels)
    captions = re.findall(r"\\caption\{(.*)\}", text)
    title = r"data of R\&D, 100\% \& a\_b"
    others = ["Published results, CMU-MOSEI", "Published results, CMU-MOSEI (continued)"]
    assert [caption for caption in captions if title not in caption] == others
    ours = tree.read("table6")["ours"]
    assert rf"{ours['mae']:.3f} $\pm$ {ours['mae_std']:.3f} & 0.563 &" in text
    assert r"\rlap{$\dagger$}" in text
    assert r"\footnotesize $\dagger$ The report's accuracy" in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_a_paper_that_reads_the_tables_compiles(tree):
    everything(tree)
    folder = tree.root / "metrics"
    (folder / "paper.tex").write_text(PAPER, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    for _ in range(2):
        printed = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, errors="replace"
        )
        assert printed.returncode == 0, printed.stdout
    assert "Overfull" not in printed.stdout
    assert "undefined" not in printed.stdout


def test_what_the_data_are_called_is_only_text():
    table = Table([Column(ANY, "words", group=ANY), Column("x")], [[Cell(ANY), Cell(1.0)]])
    text = latex.render(document(table, ANY, title=ANY))
    check(text)
    assert latex.escaped(ANY) == (
        r"a\_b \& 50\% of \$5 \#1 \{c\} \textasciitilde{}d\textasciicircum{}2 "
        r"\textbackslash{}e \textless{}f\textgreater{} \textbar{} $\pm$ $\dagger$"
    )


@pytest.mark.parametrize(
    ("cell", "column", "text"),
    [
        (Cell(-0.5, 0.01, "†"), Column("", "signed"), r"$-$0.500 $\pm$ 0.010\rlap{$\dagger$}"),
        (Cell(None), Column(""), "--"),
        (Cell(0.00004), Column("", "p"), r"\textless{}0.0001"),
        (Cell(0.0123), Column("", "p"), "0.0123"),
        (Cell("left-out"), Column(""), "left-out"),
        (Cell("`a_b` **c**"), Column("", "markdown"), r"\texttt{a\_b} \textbf{c}"),
        (Cell("a_b"), Column("", "words"), r"a\_b"),
    ],
)
def test_a_cell_is_shown_by_the_kind_of_its_column(cell, column, text):
    table = Table([Column("", "words"), column], [[Cell("name"), cell]])
    assert f"    name & {text} \\\\\n" in latex.render(document(table))


def test_the_row_chosen_is_bold_and_says_so():
    table = Table(
        [Column("", "words"), Column("mae")],
        [[Cell("a", mark="*"), Cell(0.5)], [Cell("b"), Cell(0.6)]],
        marks={"*": "marks the row chosen."},
    )
    text = latex.render(document(table, "A note."))
    assert r"\textbf{a\rlap{*}} & \textbf{0.500} \\" in text
    assert r"\footnotesize * marks the row chosen.\par A note.}" in text


def test_a_long_table_is_divided_into_pieces_that_fit_a_page():
    """As few as can be, of one length; its marks and the notes stand below the last."""
    rows = [[Cell(f"row{i}", mark="*" * (i == 0)), Cell(0.5)] for i in range(2 * latex.ROWS + 1)]
    table = Table([Column("", "words"), Column("mae")], rows, marks={"*": "marks one."})
    text = latex.render(document(table, "A note."))
    assert check(text) == ["tab:table6", "tab:table6-2", "tab:table6-3"]
    first, second, third = text.split(r"\begin{table*}")[1:]
    assert [part.count("row") for part in (first, second, third)] == [31, 31, 29]
    assert text.count("(continued)}") == 2
    assert [part.count("marks one.") for part in (first, second, third)] == [0, 0, 1]
    assert third.count("A note.") == 1


def test_details_are_left_out():
    columns = [Column("", "words"), Column("seeds", "words", detail=True), Column("mae")]
    text = latex.render(document(Table(columns, [[Cell("a"), Cell("5"), Cell(0.5)]])))
    assert r"\begin{tabular}{@{}lr@{}}" in text
    assert "    a & 0.500 \\\\\n" in text
    assert "seeds" not in text
