"""A document of numbers: parts, their sections, and in these paragraphs, tables, figures and code.

Numbers stay numbers here. The renderers print them: `markdown`, `page` (HTML) and `latex`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:  # drawing needs it, tables do not
    from matplotlib.figure import Figure as Drawing

Value = float | int | str | None
# words: plain text; markdown: text with code and bold in it; hash: SHA-256; number: three decimals,
# or whole; signed: with its sign; p: four decimals; count: as short as can be.
Kind = Literal["words", "markdown", "hash", "number", "signed", "p", "count"]


LEAST_P = 0.0001  # a smaller one is printed as less than this


class Title(NamedTuple):
    """What something shows, of which data, and the rest: `Table 2, <data>: <detail>`."""

    head: str
    data: str = ""
    detail: str = ""

    def __str__(self) -> str:
        data = f", {self.data}" if self.data else ""
        return f"{self.head}{data}: {self.detail}" if self.detail else f"{self.head}{data}"

    @property
    def short(self) -> str:
        """The title without the data, which a table of contents need not repeat."""
        return str(self._replace(data=""))


class Column(NamedTuple):
    """A column of a table.

    group: the heading that it shares with those beside it, if any. detail: what a page of paper
    has no room for; LaTeX leaves it out.
    """

    name: str
    kind: Kind = "number"
    group: str = ""
    detail: bool = False

    @property
    def words(self) -> bool:
        """Whether it holds words, which are set to the left."""
        return self.kind in ("words", "markdown", "hash")


class Cell(NamedTuple):
    """A value, the spread of the runs behind it and a mark after it.

    None is not known; words in a column of numbers say why. A mark in the first column is that of
    the whole row.
    """

    value: Value
    spread: float | None = None
    mark: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of cells, one for each column.

    caption: where it is not its section's title. keys: the first columns, which name the row.
    marks: what each mark in it means. folded: whether the page of HTML shows it only when asked.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    keys: int = 1
    marks: Mapping[str, str] = field(default_factory=dict)
    folded: bool = False


class Figure(NamedTuple):
    """A drawing, what its marks mean, and what it shows of these very data, in numbers.

    finding: empty where it shows nothing, and has no place in a document.
    """

    title: Title
    marks: str
    finding: str
    drawing: "Drawing"


class Code(NamedTuple):
    """Commands for a shell."""

    text: str


Block = str | Table | Figure | Code  # text: a paragraph of markdown, with code and bold in it


class Section(NamedTuple):
    """A title and what stands below it."""

    name: str
    title: Title
    blocks: Sequence[Block]


class Document(NamedTuple):
    """Sections by the title of their part; above them what holds for all.

    That is a sentence, what limits it, and how to read the tables.
    """

    title: Title
    verdict: str
    caveats: Sequence[str]
    preface: str
    parts: Mapping[str, Sequence[Section]]


def row(*values: Value | Cell) -> list[Cell]:
    """Return the cells of a row."""
    return [value if isinstance(value, Cell) else Cell(value) for value in values]


def printed(value: Value, kind: Kind = "number") -> str:
    """Return a value as a column of that kind shows it, in ASCII; `-` where it is None."""
    if value is None or isinstance(value, str):
        return "-" if value is None else value
    sign = "+" if kind == "signed" else ""
    if isinstance(value, int):
        return f"{value:{sign}d}"
    if kind == "p":
        return f"{value:.4f}" if value >= LEAST_P else f"<{LEAST_P:.4f}"
    return f"{value:g}" if kind == "count" else f"{value:{sign}z.3f}"


def spread(cell: Cell) -> str:
    """Return what follows a printed value: its spread, where it has one."""
    return "" if cell.spread is None else f" ± {cell.spread:.3f}"


def marked_up(text: str, escape: Callable[[str], str], code: str, bold: str) -> str:
    r"""Return a paragraph in another language; code, bold: templates in which \1 is the text."""
    text = re.sub(r"`([^`]+)`", code, escape(text))
    return re.sub(r"\*\*(.+?)\*\*", bold, text)
