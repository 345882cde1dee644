"""The tables as text: sections of words and grids, every figure beside that of the report.

`markdown` draws them so that they line up; the page shows the same sections as HTML.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from msabench.evaluation import clusters, statistics
from msabench.evaluation.metrics import HEADLINE, METRICS, why_undefined
from msabench.evaluation.robustness import LEVELS
from msabench.evaluation.tables import FULL, PUBLISHED, SWEEPS, Row, Table, scale_of
from msabench.labels import about_classes
from msabench.utterances import SPLITS

BOUNDS = ("difference", "low", "high")
DATA = ("videos", "tokens", "audio_frames", "vision_frames", "label_mean", "label_std")
VALID = ("valid_mae", "valid_corr")


class Grid(NamedTuple):
    """A table as it is shown: the columns in `left` are words, all others numbers.

    caption: what it holds, where it does not stand right below its section's title.
    """

    header: Sequence[str]
    lines: Sequence[Sequence[str]]
    left: Sequence[int] = (0,)
    caption: str = ""


class Section(NamedTuple):
    """A title, and what stands below it: paragraphs of markdown, and grids."""

    name: str
    title: str
    blocks: list[str | Grid]
    level: int = 2


def markdown(sections: Sequence[Section]) -> str:
    """Write the sections as markdown that is readable as plain text too."""
    text = []
    for section in sections:
        text.append(f"{'#' * section.level} {section.title}")
        text += [block if isinstance(block, str) else drawn(block) for block in section.blocks]
    return "\n\n".join(text) + "\n"


def sections(
    plan: Mapping[str, Any],
    rows: Mapping[str, Mapping[str, list[str]]],
    tables: Mapping[str, Table],
    comparison: Mapping[str, Mapping[str, Row]],
    ablation: Mapping[str, Mapping[str, Table]],
    generated: Mapping[str, Table],
    robustness: Mapping[str, Mapping[str, Table]],
) -> list[Section]:
    """Lay out every table beside the report's figures.

    Sections are named `tables` (what holds for all), `table1` to `table6`, `data`, and like the
    files in metrics/ that they show.
    """
    title, kind = plan["title"], plan["metrics"]
    found = [Section("tables", f"Tables: {title}", [*_preface(title)], level=1)]
    for number, table in tables.items():
        facts = PUBLISHED["tables"][number]
        blocks: list[str | Grid] = []
        if number == "1":
            blocks.append(_data_grid(table, facts["rows"]))
        else:
            blocks.append(_result_grid(number, table, rows[number], facts["rows"]))
            if number in ("2", "6"):
                blocks.append(_further_grid(table, kind))
            blocks += why_dashes(list(table.values()), plan)
        if number == "6":
            blocks += _one_sided(table["train_mean"])
        if number in SWEEPS:
            if not plan["sweep_seeds"]:
                blocks.append("Left out: `sweep_seeds` is empty.")
            blocks.append("`*` marks the row chosen: the lowest MAE on the validation split.")
        blocks += facts["notes"]
        found.append(
            Section(f"table{number}", f"Table {number}, {title}: {facts['title']}", blocks)
        )
        if number == "1":
            found.append(report_section(table, plan))
    found.append(_comparison_section(comparison, tables["1"]["test"], title))
    found += _ablation_sections(ablation, plan)
    found += _robustness_sections(robustness, tables["6"]["train_mean"], title)
    found += _generated_sections(generated, title)
    quoted = [
        [entry["name"], *(printed(entry[metric]) for metric in HEADLINE), entry["source"]]
        for entry in PUBLISHED["quoted"]
    ]
    grid = Grid(["", *HEADLINE, "source"], quoted, left=(0, 5))
    found.append(Section("published", f"Published on {PUBLISHED['data']}", [grid]))
    return found


def _preface(title: str) -> list[str]:
    text = [
        "Measured values are means over seeds ± their sample standard deviation. `report` is "
        f"the figure of the report, measured on {PUBLISHED['data']}; `diff` is measured minus "
        f"report. {PUBLISHED['source']}.",
    ]
    if PUBLISHED["data"] not in title:
        text.append(
            f"**The data are {title}: what is measured here says nothing about "
            f"{PUBLISHED['data']}**, and `diff` is no error of reproduction."
        )
    return text


def why_dashes(rows: Sequence[Row], plan: Mapping[str, Any]) -> list[str]:
    """Say why there is a `-` among the metrics of rows that were measured, if there is one."""
    names = {
        column.removeprefix("valid_")
        for row in rows
        for column, value in row.items()
        if value is None and row["mae"] is not None
    }
    why = why_undefined(names, plan["metrics"], scale_of(plan))
    return [why] if why else []


def _one_sided(constant: Row) -> list[str]:
    """Say where two classes are one: a constant is right or wrong for every label of test."""
    if constant["acc_2"] not in (0.0, 1.0):
        return []
    return [
        "**The labels of test that are not neutral are all on one side**, so that the best acc_2 "
        "and f1 are those of a constant. `label_range` and `neutral` of the data set in "
        "params.yaml say which label is neutral, or that none is."
    ]


def _data_grid(table: Table, published: Mapping[str, Row]) -> Grid:
    lines = []
    for name, row in table.items():
        report = published[name]["utterances"]
        numbers = [printed(row[column]) for column in DATA]
        lines.append(
            [name, *map(str, (row["utterances"], report, row["utterances"] - report)), *numbers]
        )
    return Grid(["", "utterances", "report", "diff", *DATA], lines)


def report_section(table: Table, plan: Mapping[str, Any]) -> Section:
    """Lay out what Table 1 leaves: a line for each quantity, a column for each split."""
    lines = []
    for key, value in next(iter(table.values())).items():
        if key in ("utterances", *DATA):
            continue
        if isinstance(value, dict):  # the histogram of labels
            lines += [
                [f"label {step}", *(str(row[key][step]) for row in table.values())]
                for step in value
            ]
        else:
            lines.append([key, *(_count(row[key]) for row in table.values())])
    blocks: list[str | Grid] = [
        Grid(["", *table], lines),
        f"label: utterances by class of the label. {about_classes(plan['metrics'])} repeated: "
        "utterances whose text is not theirs alone; shared: between splits. tokens_cut: texts "
        "longer than `max_tokens`; tokens_unknown: tokens within it that the text encoder does not "
        "know, in texts_unknown texts; tokens_differ: texts whose token ids in the data are not "
        "the text encoder's (they are made anew). not_finite: values set to 0; missing: utterances "
        "of zeros alone; lengths: utterances whose length contradicted the padding; front: "
        "utterances padded at the front. Other counts are the source's own: see "
        "src/msabench/data/sources.",
        *clusters.notes({split: table[split] for split in SPLITS}),
    ]
    return Section("data", f"Data report, {plan['title']}", blocks, level=3)


def _result_grid(
    number: str, table: Table, rows: Mapping[str, list[str]], published: Mapping[str, Row]
) -> Grid:
    """Lay the four metrics on test beside the report's, after those on the validation split."""
    header = ["", *VALID, *(c for metric in HEADLINE for c in (metric, "report", "diff"))]
    lines = []
    for name, row in table.items():
        report = published.get(name, {})
        line = [f"{name} *" if row.get("chosen") else name]
        line += [printed(row[column]) for column in VALID]
        for metric in HEADLINE:
            # The report's SVM rows are another metric: the column follows the figure.
            other = f"{metric}_pos"
            key = other if other in report and other in row else metric
            line += _beside(row, key, report.get(other, report.get(metric)), key == other)
        if row["mae"] is None:
            absent = "absent" if number == "2" else "left out"
            line[1] = "missing" if rows[name] else absent
        lines.append(line)
    return Grid(header, lines)


def _beside(row: Row, metric: str, report: float | None, marked: bool) -> list[str]:
    value, std = row[metric], row[f"{metric}_std"]
    shown = printed(value)
    if std is not None:
        shown += f" ± {std:.3f}"
    difference = None if value is None or report is None else value - report
    return [shown + (" †" if marked else ""), printed(report), _signed(difference)]


def _further_grid(table: Table, kind: str) -> Grid:
    columns = [metric for metric in METRICS[kind] if metric not in ("mae", "corr")]
    lines = [
        [name, *(_beside(row, c, None, False)[0] for c in columns)] for name, row in table.items()
    ]
    return Grid(["", *columns], lines, caption="Every metric on test")


def _comparison_section(
    comparison: Mapping[str, Mapping[str, Row]], test: Row, title: str
) -> Section:
    """Lay out intervals and differences. test: the row of Table 1."""
    level = f"{statistics.LEVEL:.0%}"
    models = [
        [name, printed(row["mae"]), printed(row["low"]), printed(row["high"])]
        for name, row in comparison["models"].items()
    ]
    pairs = [
        [name, *(_signed(row[c]) for c in BOUNDS), *(_p(row[c]) for c in ("p", "p_holm"))]
        for name, row in comparison["pairs"].items()
    ]
    blocks: list[str | Grid] = [
        f"Absolute error on test averaged over seeds; low and high bound the {level} confidence "
        f"interval of a paired bootstrap that draws videos, {statistics.DRAWS} draws. p is "
        "two-sided; p_holm is adjusted for the number of pairs.",
        *clusters.notes({"test": test}),
        Grid(["", "mae", "low", "high"], models),
        Grid(["", "difference", "low", "high", "p", "p_holm"], pairs, caption="Paired differences"),
    ]
    name = f"Differences between the models of Table 6, {title}"
    return Section("comparison", name, blocks)


def _ablation_sections(
    ablation: Mapping[str, Mapping[str, Table]], plan: Mapping[str, Any]
) -> list[Section]:
    if not ablation:
        return []
    lines = []
    for model, measured in ablation.items():
        for subset, row in measured["rows"].items():
            pair = measured["pairs"].get(f"{subset} - {FULL}", {})
            shown = [printed(row[column]) for column in VALID]
            shown += [_beside(row, metric, None, False)[0] for metric in HEADLINE]
            tested = [_signed(pair.get(c)) for c in BOUNDS]
            tested += [_p(pair.get(c)) for c in ("p", "p_holm")]
            lines.append([model, subset, *shown, *tested])
    header = ["", "", *VALID, *HEADLINE, *BOUNDS, "p", "p_holm"]
    blocks: list[str | Grid] = [
        f"difference: MAE minus that of {FULL} of the same model, with interval and p as above; "
        "p_holm is adjusted for the subsets of one model.",
        Grid(header, lines, left=(0, 1)),
        *why_dashes([row for table in ablation.values() for row in table["rows"].values()], plan),
    ]
    name = f"Modality ablation, {plan['title']}: every model on every subset"
    return [Section("ablation", name, blocks)]


def _robustness_sections(
    robustness: Mapping[str, Mapping[str, Table]], baseline: Row, title: str
) -> list[Section]:
    if not robustness:
        return []
    # One grid for each scale of levels, the models of a kind together.
    lines: dict[tuple[str, ...], list[list[str]]] = {}
    for kind in LEVELS:
        for model, measured in robustness.items():
            if row := measured.get(kind):
                shown = [_beside(level, "mae", None, False)[0] for level in row.values()]
                lines.setdefault(tuple(row), []).append([kind.replace("_", ", "), model, *shown])
    blocks: list[str | Grid] = [
        "missing: a share of each utterance's tokens is [UNK], or of its frames zeros. noise: a "
        "share of its tokens is taken from other texts, or its frames have Gaussian noise, in "
        "standard deviations of each feature over the frames of train. No model was trained for "
        "it; with one seed, all have the same corrupted data. The mean of the training labels has "
        f"{printed(baseline['mae'])}.",
    ]
    blocks += [Grid(["", "", *levels], rows, left=(0, 1)) for levels, rows in lines.items()]
    return [Section("robustness", f"Robustness, {title}: MAE on corrupted test data", blocks)]


def _generated_sections(generated: Mapping[str, Table], title: str) -> list[Section]:
    if not generated:
        return []
    columns = ("multimodal", "generated", "shift_corr", "shift_ratio")
    lines = [
        [model, name, *(printed(row[column]) for column in columns)]
        for model, table in generated.items()
        for name, row in table.items()
    ]
    blocks: list[str | Grid] = [
        "multimodal, generated: the correlation of the multimodal label and of the generated one "
        "(last epoch) with the true unimodal label of the training utterances. shift_corr: the "
        "correlation of what was added to the multimodal label with what would have been right; "
        "shift_ratio: the standard deviation of the former over that of the latter.",
        Grid(["", "", *columns], lines, left=(0, 1)),
    ]
    name = f"Generated unimodal labels against the true ones, {title}"
    return [Section("generated_labels", name, blocks)]


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+z.3f}"


def _p(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _count(value: float | int | None) -> str:
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def printed(value: float | int | None) -> str:
    """Return a number as tables show it: three decimals, or whole."""
    return "-" if value is None else f"{value:z.3f}" if isinstance(value, float) else str(value)


def drawn(grid: Grid) -> str:
    """Draw a markdown table whose columns also line up as plain text."""
    header, lines, left, _ = grid
    widths = [max(3, *(len(line[i]) for line in (header, *lines))) for i in range(len(header))]

    def line_of(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * width if i in left else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    return "\n".join([line_of(header), line_of(rule), *map(line_of, lines)])
