"""The renderer of markdown that is readable as plain text too: the columns of tables line up."""

from collections.abc import Sequence

from msabench.reporting import document as doc


def render(document: doc.Document) -> str:
    """Return the document."""
    text = [f"# {document.title}", document.verdict, *document.caveats, document.preface]
    for part, sections in document.parts.items():
        text += [f"## {part}", *(section(each, level=3) for each in sections)]
    return "\n\n".join(text) + "\n"


def section(section: doc.Section, *, level: int) -> str:
    """Return a section, its title a heading of that level."""
    return "\n\n".join([f"{'#' * level} {section.title}", *map(_block, section.blocks)])


def table(table: doc.Table) -> str:
    """Return a table; the first column of a group has the group's name."""
    columns = table.columns
    before = [doc.Column(""), *columns]
    header = [
        column.name if column.group in ("", before[i].group) else column.group
        for i, column in enumerate(columns)
    ]
    lines = [
        [_cell(cell, column) for cell, column in zip(row, columns, strict=True)]
        for row in table.rows
    ]
    widths = [max(3, *map(len, cells)) for cells in zip(header, *lines, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if column.words else cell.rjust(width)
            for cell, width, column in zip(cells, widths, columns, strict=True)
        ]
        return f"| {' | '.join(padded)} |"

    rule = [
        "-" * width if column.words else "-" * (width - 1) + ":"
        for width, column in zip(widths, columns, strict=True)
    ]
    return "\n".join(map(line, (header, rule, *lines)))


def _block(block: doc.Block) -> str:
    match block:
        case doc.Table():
            # A star at the start of a line would be the bullet of a list.
            marks = [
                f"{mark.replace('*', '`*`')} {meaning}" for mark, meaning in block.marks.items()
            ]
            return "\n\n".join([table(block), *marks])
        case doc.Figure():
            return f"{block.title}. {block.marks} {block.finding}"
        case doc.Code():
            return "\n".join(f"    {line}" for line in block.text.splitlines())
    return block


def _cell(cell: doc.Cell, column: doc.Column) -> str:
    text = doc.printed(cell.value, column.kind)
    if column.words and column.kind != "markdown":
        text = text.replace("|", "\\|")
    return f"{text}{doc.spread(cell)} {cell.mark}".rstrip()
