"""The renderer of LaTeX: the tables of a document, to be read into a paper by `\\input`."""

from collections.abc import Iterator, Sequence
from itertools import count, groupby
from math import ceil

from msabench.reporting import document as doc

ROWS = 45  # that a page holds
HEAD = r"""% Made by the stage `tables`, for \input; needs \usepackage{booktabs,graphicx}.
% A label is tab: and the name of a section, as tab:table6, with -2 for its second table.
"""
TABLE = r"""\begin{table*}[tbp]
  \centering
  \caption{%(caption)s}
  \label{tab:%(label)s}
  \resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%%
  \begin{tabular}{@{}%(columns)s@{}}
    \toprule
%(head)s
    \midrule
%(body)s
    \bottomrule
  \end{tabular}}
%(notes)s\end{table*}"""
NOTES = r"""  \par\smallskip
  \parbox{\linewidth}{\footnotesize %s}
"""
ESCAPED = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "±": r"$\pm$",
    "†": r"$\dagger$",
    "‡": r"$\ddagger$",
    "→": r"$\rightarrow$",
}


def render(document: doc.Document) -> str:
    """Return what holds for all tables, then each table, its marks and notes below it."""
    paragraphs = [prose(text) for text in (*document.caveats, document.preface)]
    tables = [
        table
        for sections in document.parts.values()
        for section in sections
        for table in _tables(section)
    ]
    return HEAD + "\n\n".join([*paragraphs, *tables]) + "\n"


def _tables(section: doc.Section) -> Iterator[str]:
    """Yield the tables of a section, a long one in pieces that fit a page each.

    Its marks stand below the last piece, the paragraphs of the section below the first table.
    """
    tables = [block for block in section.blocks if isinstance(block, doc.Table)]
    paragraphs = [block for block in section.blocks if isinstance(block, str)]
    head, data, detail = section.title
    title = f"{detail or head}, {data}" if data else detail or head
    labels = (f"{section.name}-{i}" if i > 1 else section.name for i in count(1))
    for i, table in enumerate(tables):
        caption = f"{table.caption}: {title}" if table.caption else title
        notes = [f"{mark} {meaning}" for mark, meaning in table.marks.items()]
        notes += paragraphs if i == 0 else []
        kept = [j for j, column in enumerate(table.columns) if not column.detail]
        columns = [table.columns[j] for j in kept]
        pieces = _pieces([[row[j] for j in kept] for row in table.rows])
        for rows in pieces:
            continued = "" if rows is pieces[0] else " (continued)"
            yield TABLE % {
                "caption": escaped(caption[0].upper() + caption[1:] + continued),
                "label": next(labels),
                "columns": "".join("l" if column.words else "r" for column in columns),
                "head": "\n".join(_head(columns)),
                "body": "\n".join(_line(row, columns) for row in rows),
                "notes": NOTES % r"\par ".join(map(prose, notes))
                if notes and rows is pieces[-1]
                else "",
            }


def _pieces(rows: Sequence[Sequence[doc.Cell]]) -> list[Sequence[Sequence[doc.Cell]]]:
    """Divide rows into as few pieces as fit a page each, of much the same length."""
    length = ceil(len(rows) / max(1, ceil(len(rows) / ROWS))) or 1
    return [rows[i : i + length] for i in range(0, len(rows), length)] or [rows]


def prose(text: str) -> str:
    """Return a paragraph of markdown as LaTeX."""
    return doc.marked_up(text, escaped, r"\\texttt{\1}", r"\\textbf{\1}")


def escaped(text: str) -> str:
    """Return plain text as LaTeX."""
    return "".join(ESCAPED.get(character, character) for character in text)


def _head(columns: Sequence[doc.Column]) -> Iterator[str]:
    """Yield the headings of groups, if there are any, the rules below them, and the columns'."""
    cells, rules, start = [], [], 1
    for name, group in groupby(columns, lambda column: column.group):
        span = len(list(group))
        cells += [rf"\multicolumn{{{span}}}{{c}}{{{escaped(name)}}}"] if name else [""] * span
        rules += [rf"\cmidrule(lr){{{start}-{start + span - 1}}}"] if name else []
        start += span
    if rules:
        yield rf"    {' & '.join(cells)} \\"
        yield f"    {' '.join(rules)}"
    yield rf"    {' & '.join(escaped(column.name) for column in columns)} \\"


def _line(row: Sequence[doc.Cell], columns: Sequence[doc.Column]) -> str:
    cells = [_cell(cell, column) for cell, column in zip(row, columns, strict=True)]
    if row[0].mark:  # the row chosen
        cells = [rf"\textbf{{{cell}}}" for cell in cells]
    return rf"    {' & '.join(cells)} \\"


def _cell(cell: doc.Cell, column: doc.Column) -> str:
    text = doc.printed(cell.value, column.kind)
    if cell.value is None:
        text = "--"
    elif column.kind == "markdown":
        text = prose(text)
    elif isinstance(cell.value, str):
        text = escaped(text)
    else:
        text = escaped(text).replace("-", "$-$")
    # A mark takes no width, so that numbers stay aligned.
    mark = rf"\rlap{{{escaped(cell.mark)}}}" if cell.mark else ""
    return f"{text}{escaped(doc.spread(cell))}{mark}"
