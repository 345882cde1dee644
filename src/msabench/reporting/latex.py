"""The renderer of LaTeX: the tables of a document, to be read into a paper by `\\input`."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from msabench.reporting import document as doc

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
    """Yield the tables of a section; its paragraphs stand below the first."""
    tables = [block for block in section.blocks if isinstance(block, doc.Table)]
    paragraphs = [block for block in section.blocks if isinstance(block, str)]
    head, data, detail = section.title
    title = f"{detail or head}, {data}" if data else detail or head
    for i, table in enumerate(tables):
        caption = f"{table.caption}: {title}" if table.caption else title
        notes = [f"{mark} {meaning}" for mark, meaning in table.marks.items()]
        notes += paragraphs if i == 0 else []
        yield TABLE % {
            "caption": escaped(caption[0].upper() + caption[1:]),
            "label": f"{section.name}-{i + 1}" if i else section.name,
            "columns": "".join("l" if column.words else "r" for column in table.columns),
            "head": "\n".join(_head(table.columns)),
            "body": "\n".join(_line(row, table.columns) for row in table.rows),
            "notes": NOTES % r"\par ".join(map(prose, notes)) if notes else "",
        }


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
        text = text.replace("-", "$-$")
    # A mark takes no width, so that numbers stay aligned.
    mark = rf"\rlap{{{escaped(cell.mark)}}}" if cell.mark else ""
    return f"{text}{escaped(doc.spread(cell))}{mark}"
