"""Markdown that lines up as plain text, and what a document's numbers look like when printed."""

import pytest
from markdown_it import MarkdownIt

from msabench.reporting import markdown
from msabench.reporting.document import Block, Cell, Code, Column, Section, Table, Title, printed

TABLE = Table(
    [Column("", "words"), Column("measured", group="mae"), Column("diff", "signed", group="mae")],
    [
        [Cell("a|b", mark="*"), Cell(0.4178, 0.0149, "†"), Cell(-0.1)],
        [Cell("c"), Cell(None), Cell("missing")],
    ],
    marks={"*": "marks the row chosen.", "†": "Another metric."},
)
TEXT = """\
### Table 6, any data: of models

|        |             mae |    diff |
| ------ | --------------: | ------: |
| a\\|b * | 0.418 ± 0.015 † |  -0.100 |
| c      |               - | missing |

`*` marks the row chosen.

† Another metric.

Make it again:

    dvc repro
    dvc status"""


def test_a_section_lines_up_and_explains_its_marks():
    blocks: list[Block] = [TABLE, "Make it again:", Code("dvc repro\ndvc status")]
    section = Section("table6", Title("Table 6", "any data", "of models"), blocks)
    assert markdown.section(section, level=3) == TEXT


def test_a_bar_in_a_name_ends_no_cell():
    tokens = MarkdownIt().enable("table").parse(markdown.table(TABLE))
    assert "a|b *" in [token.content for token in tokens]


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (0.4178, "number", "0.418"),
        (-0.0001, "number", "0.000"),
        (1500, "number", "1500"),
        (0.0001, "signed", "+0.000"),
        (-14826, "signed", "-14826"),
        (3, "signed", "+3"),
        (0.00121, "p", "0.0012"),
        (2.0, "count", "2"),
        (2.5, "count", "2.5"),
        (None, "p", "-"),
        ("left out", "number", "left out"),
        ("", "words", ""),
    ],
)
def test_a_number_is_printed_by_the_kind_of_its_column(value, kind, text):
    assert printed(value, kind) == text


@pytest.mark.parametrize(
    ("title", "text", "short"),
    [
        (Title("Settings"), "Settings", "Settings"),
        (Title("Data report", "MOSEI"), "Data report, MOSEI", "Data report"),
        (Title("Table 3", "MOSEI", "batch size"), "Table 3, MOSEI: batch size", None),
    ],
)
def test_a_title_names_the_data_but_for_the_contents(title, text, short):
    assert str(title) == text
    assert title.short == (short or "Table 3: batch size")
