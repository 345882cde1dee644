"""The renderer of one page of HTML that needs nothing beside it."""

import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from msabench.reporting import document as doc
from msabench.reporting import figures

TEMPLATE = Path(__file__).with_name("page.html.jinja")
MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"


class Heading(NamedTuple):
    """A column, whether it begins a group of so many, and whether any of its cells has a spread."""

    column: doc.Column
    begins: bool
    span: int
    spread: bool

    def look(self, cell: doc.Cell) -> str:
        """Name the classes of a cell."""
        words = self.column.words
        kinds = {
            "words": words,
            "hash": self.column.kind == "hash",
            "begins": self.begins,
            "absent": isinstance(cell.value, str) and not words,
        }
        return " ".join(kind for kind, holds in kinds.items() if holds)


def render(document: doc.Document, missing: Sequence[str] = ()) -> str:
    """Return the page. missing: the files of predictions that are not there."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "headings": headings,
        "inline": lambda figure, name: inline(
            figures.as_text(figure.drawing), name, f"{figure.title}. {figure.finding}"
        ),
        "prose": prose,
        "rows": rows,
        "shown": shown,
        "spread": doc.spread,
    }
    kinds = {"table": doc.Table, "figure": doc.Figure, "code": doc.Code}
    environment.tests |= {
        name: lambda block, kind=kind: isinstance(block, kind) for name, kind in kinds.items()
    }
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(document=document, missing=missing)


def prose(text: str) -> Markup:
    """Return a paragraph of markdown as HTML."""
    html = doc.marked_up(
        text, lambda plain: str(escape(plain)), r"<code>\1</code>", r"<strong>\1</strong>"
    )
    return Markup(html)


def headings(table: doc.Table) -> list[Heading]:
    """Lay out the columns; those that name a row are one."""
    groups = [list(group) for _, group in groupby(table.columns, lambda column: column.group)]
    placed = [
        (column, bool(column.group) and i == 0, len(group))
        for group in groups
        for i, column in enumerate(group)
    ]
    spreads = [
        any(cell.spread is not None for cell in cells) for cells in zip(*table.rows, strict=True)
    ] or [False] * len(placed)
    every = [Heading(*place, spread) for place, spread in zip(placed, spreads, strict=True)]
    return every[table.keys - 1 :]


def rows(table: doc.Table) -> list[tuple[doc.Cell, Sequence[doc.Cell]]]:
    """Return of each row its name, of all cells that name it, and the others."""
    names = [" ".join(str(cell.value) for cell in row[: table.keys]) for row in table.rows]
    return [
        (row[0]._replace(value=name), row[table.keys :])
        for name, row in zip(names, table.rows, strict=True)
    ]


def shown(cell: doc.Cell, column: doc.Column) -> str | Markup:
    """Return the value of a cell."""
    text = doc.printed(cell.value, column.kind)
    if column.kind == "markdown":
        return prose(text)
    if cell.value is None:
        return DASH
    return text if isinstance(cell.value, str) else text.replace("-", MINUS)


def inline(svg: str, name: str, label: str) -> Markup:
    """Return an SVG as an element of a page: named, without what another figure has too."""
    root = ElementTree.fromstring(svg)
    used = set(re.findall(r"#([\w.-]+)[\")]", svg))
    for parent in root.iter():
        for child in list(parent):
            if child.tag.endswith(("metadata", "style")):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.partition("}")[2]
        attributes = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
        if attributes.get("id") not in used:
            attributes.pop("id", None)
        element.attrib.clear()
        for key, value in attributes.items():
            if key == "id":
                value = f"{name}-{value}"
            elif key == "style":
                value = re.sub(r"font-family: [^;]+; ?", "", value)
            value = re.sub(r"^(url\()?#", rf"\g<0>{name}-", value)
            element.set(key, " ".join(value.split()))
        if element.tag not in ("text", "tspan"):
            element.text = None
        element.tail = None
    width = float(root.attrib.pop("width").removesuffix("pt"))
    del root.attrib["height"], root.attrib["version"]
    root.attrib |= {"role": "img", "aria-label": label, "style": f"--width: {width:.0f}pt"}
    return Markup(ElementTree.tostring(root, encoding="unicode"))
