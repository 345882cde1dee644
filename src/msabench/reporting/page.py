"""The report as one page of HTML that needs nothing beside it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from msabench.evaluation import clusters, statistics
from msabench.evaluation.tables import Row, printed_name
from msabench.reporting import figures
from msabench.reporting.exhibits import Exhibit
from msabench.reporting.markdown import Grid, Section

# The order of the page. A figure stands in the section of its name, or is one.
PARTS = {
    "Tables": (*(f"table{n}" for n in "12345"), "sweeps", "table6", "published"),
    "The models side by side": ("comparison", "learning", "predictions", "confusion"),
    "Modalities": ("ablation", "robustness", "generated_labels"),
    "Data": ("data",),
    "How it was made": ("settings", "versions", "data_set", "text_encoder", "hashes"),
}
# What is measured on demand: its heading, and how.
OFF = {
    "ablation": (
        "Modality ablation",
        "Not measured. `dvc exp run -S 'ablation.models=[self_mm,svm,cnn,ours]'` trains every "
        "model on every subset.",
    ),
    "robustness": (
        "Robustness",
        "Not measured. `dvc exp run -S 'robustness_seeds=[1,2,3]'` corrupts the test data.",
    ),
}
TEMPLATE = Path(__file__).with_name("page.html")
CODE = "    "  # a block of code, in markdown
MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"
HASH = re.compile(r"[0-9a-f]{64}")
NUMBER = re.compile(r"([+-]?)(\d[\d.e+-]*)( ± [\d.]+)?( †)?")


class Cell(NamedTuple):
    """A number, the spread behind it and the mark after it; or words."""

    text: str
    spread: str = ""
    mark: str = ""


class Column(NamedTuple):
    """A column, its place, the group of columns that it begins, and how it is set."""

    name: str
    place: int
    group: str | None = None  # None: none; "": that of the column before
    words: bool = False
    spread: bool = False


@dataclass(frozen=True)
class Table:
    """A grid as HTML shows it: its first column names the rows."""

    caption: str
    columns: list[Column]
    lines: list[tuple[list[Cell], bool]]  # the cells, and whether the row was chosen

    @property
    def grouped(self) -> bool:
        """Whether there is a row of headings above the columns' own."""
        return any(column.group for column in self.columns)

    @property
    def sortable(self) -> bool:
        """Whether any column holds numbers."""
        return not all(column.words for column in self.columns)

    def look(self, column: "Column", cell: "Cell") -> str:
        """Name the classes of a cell."""
        word = column.words or not NUMBER.fullmatch(cell.text.replace(MINUS, "-"))
        kinds = {
            "words": column.words,
            "hash": HASH.fullmatch(cell.text) is not None,
            "begins": bool(column.group),
            "absent": word and not column.words and cell.text != DASH,
        }
        return " ".join(kind for kind, holds in kinds.items() if holds)


class Drawing(NamedTuple):
    """A figure: its SVG, its title, what its marks mean, and what it shows."""

    svg: Markup
    title: str
    marks: str
    finding: str


class Part(NamedTuple):
    """A part of the page, and its sections: name, title, title in the contents, and blocks."""

    name: str
    title: str
    sections: list[tuple[str, str, str, list[str | Table | Drawing]]]


def render(
    plan: Mapping[str, Any],
    sections: Sequence[Section],
    exhibits: Mapping[str, Exhibit],
    comparison: Mapping[str, Mapping[str, Row]],
    test: Row,
    missing: Sequence[str],
) -> str:
    """Return the page.

    sections: the tables' (the first of them says what holds for all), and those of provenance.
    test: the row of Table 1. missing: the files of predictions that are not there.
    """
    preface, *others = sections
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["prose"] = prose
    environment.tests["table"] = lambda block: isinstance(block, Table)
    environment.tests["drawing"] = lambda block: isinstance(block, Drawing)
    environment.tests["code"] = lambda block: isinstance(block, str) and block.startswith(CODE)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    title = f"Models of multimodal sentiment analysis: {plan['title']}"
    preface_text, *caveats = preface.blocks
    return template.render(
        title=title,
        verdict=verdict(comparison),
        caveats=[*caveats, *clusters.notes({"test": test})],
        preface=preface_text,
        missing=missing,
        parts=_parts(plan["title"], others, exhibits),
    )


def verdict(comparison: Mapping[str, Mapping[str, Row]]) -> str:
    """Say in one sentence which model is best on test, and whether that is more than chance."""
    models = comparison["models"]
    if not models:
        return "No model has been measured."
    best = min(models, key=lambda name: models[name]["mae"])
    told = f"{printed_name(best)} has the lowest MAE on test, {models[best]['mae']:.3f}"
    if models[best]["low"] is None:
        return f"{told}; with so few videos no verdict on the differences is possible."
    interval = "{low:.3f} to {high:.3f}".format(**models[best])
    told += f" ({statistics.LEVEL:.0%} confidence interval {interval})"
    p = {
        other: pair["p_holm"]
        for names, pair in comparison["pairs"].items()
        if best in names.split(" - ")
        for other in names.split(" - ")
        if other != best
    }
    beaten = [name for name in p if p[name] < 1 - statistics.LEVEL]
    alike = [name for name in p if name not in beaten]
    if beaten:
        most, at = max(p[name] for name in beaten), "at most " if len(beaten) > 1 else ""
        told += f"; it beats {_joined(beaten)} by more than chance (p {at}{most:.4f}, Holm)"
    if alike:
        least, at = min(p[name] for name in alike), "at least " if len(alike) > 1 else ""
        lead = ", but not" if beaten else "; it differs by no more than chance from"
        told += f"{lead} {_joined(alike)} (p {at}{least:.2f})"
    return f"{told}."


def prose(text: str) -> Markup:
    """Return a paragraph of markdown as HTML: code and what is bold."""
    marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text)))
    return Markup(re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", marked))


def table(grid: Grid, title: str) -> Table:
    """Lay a grid out; title: its caption where it has none of its own.

    Where a grid's first two columns name its rows, they become one.
    """
    header, lines, left, _ = grid
    if list(header[:2]) == ["", ""]:
        header, left = header[1:], [i - 1 for i in left if i]
        lines = [[f"{line[0]} {line[1]}", *line[2:]] for line in lines]
    cells = [[_cell(text, words=i in left) for i, text in enumerate(line)] for line in lines]
    groups = _groups(header)
    columns = [
        Column(
            "measured" if groups[i] else name,
            i,
            group=groups[i],
            words=i in left,
            spread=any(line[i].spread for line in cells),
        )
        for i, name in enumerate(header)
    ]
    chosen = [line[0].endswith(" *") for line in lines]
    return Table(grid.caption or title, columns, list(zip(cells, chosen, strict=True)))


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


def _parts(title: str, sections: Sequence[Section], exhibits: Mapping[str, Exhibit]) -> list[Part]:
    found = {section.name: section for section in sections}
    found["comparison"] = _with_spread(found["comparison"], found["table6"])
    exhibits = {name: exhibit for name, exhibit in exhibits.items() if exhibit.finding}
    for name, (heading, switch) in OFF.items():
        if name not in found and name not in exhibits:
            found[name] = Section(name, f"{heading}, {title}", [switch])
    for name, exhibit in exhibits.items():
        found.setdefault(name, Section(name, exhibit.title, []))
    parts = []
    for i, (heading, names) in enumerate(PARTS.items()):
        there = [found[name] for name in names if name in found]
        told = [
            (s.name, s.title, s.title.replace(f", {title}", ""), _blocks(s, exhibits.get(s.name)))
            for s in there
        ]
        parts.append(Part(f"part{i + 1}", heading, told))
    return parts


def _with_spread(comparison: Section, measured: Section) -> Section:
    """Show the spread over seeds that a table has of the same means beside their intervals."""
    grids = [block for block in measured.blocks if isinstance(block, Grid)]
    mae = {line[0]: line[grids[0].header.index("mae")] for line in grids[0].lines}

    def shown(block: str | Grid) -> str | Grid:
        if isinstance(block, str) or "mae" not in block.header:
            return block
        return block._replace(lines=[[line[0], mae[line[0]], *line[2:]] for line in block.lines])

    return comparison._replace(blocks=list(map(shown, comparison.blocks)))


def _blocks(section: Section, exhibit: Exhibit | None) -> list[str | Table | Drawing]:
    blocks: list[str | Table | Drawing] = [
        table(block, section.title) if isinstance(block, Grid) else block
        for block in section.blocks
    ]
    if exhibit is None:
        return blocks
    label = f"{exhibit.title}. {exhibit.finding}"
    svg = inline(figures.as_text(exhibit.figure), section.name, label)
    return [Drawing(svg, exhibit.title, exhibit.marks, exhibit.finding), *blocks]


def _groups(header: Sequence[str]) -> list[str | None]:
    """Name the group of columns that each begins: a metric, the report's figure, the difference."""
    groups: list[str | None] = [None] * len(header)
    for i in range(len(header) - 2):
        if list(header[i + 1 : i + 3]) == ["report", "diff"]:
            groups[i : i + 3] = [header[i], "", ""]
    return groups


def _cell(text: str, *, words: bool) -> Cell:
    found = NUMBER.fullmatch(text)
    if words or found is None:
        return Cell(DASH if text == "-" else text)
    sign, number, spread, mark = found.groups("")
    return Cell(sign.replace("-", MINUS) + number, spread, mark)


def _joined(models: Sequence[str]) -> str:
    """Return the models' printed names as a sentence lists them."""
    *first, last = map(printed_name, models)
    return f"{', '.join(first)} and {last}" if first else last
