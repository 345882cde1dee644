"""The tables as text: markdown that lines up, every figure beside that of the report."""

from collections.abc import Mapping, Sequence
from typing import Any

from msabench import statistics
from msabench.metrics import HEADLINE, METRICS
from msabench.tables import FULL, PUBLISHED, SWEEPS, Row, Table

BOUNDS = ("difference", "low", "high")
DATA = ("videos", "tokens", "audio_frames", "vision_frames", "label_mean", "label_std")
VALID = ("valid_mae", "valid_corr")


def markdown(
    plan: Mapping[str, Any],
    rows: Mapping[str, Mapping[str, list[str]]],
    tables: Mapping[str, Table],
    comparison: Mapping[str, Mapping[str, Row]],
    ablation: Mapping[str, Mapping[str, Table]],
    generated: Mapping[str, Table],
) -> str:
    """Write every table beside the report's figures, readable as plain text too."""
    title, kind = plan["title"], plan["metrics"]
    text = [
        f"# Tables: {title}",
        "Measured values are means over seeds ± their sample standard deviation. `report` is "
        f"the figure of the report, measured on {PUBLISHED['data']}; `diff` is measured minus "
        f"report. {PUBLISHED['source']}.",
    ]
    if PUBLISHED["data"] not in title:
        text.append(
            f"**The data are {title}: what is measured here says nothing about "
            f"{PUBLISHED['data']}**, and `diff` is no error of reproduction."
        )
    for number, table in tables.items():
        facts = PUBLISHED["tables"][number]
        text.append(f"## Table {number}, {title}: {facts['title']}")
        if number == "1":
            text.append(_data_grid(table, facts["rows"]))
        else:
            text.append(_result_grid(number, table, rows[number], facts["rows"]))
            if number in ("2", "6"):
                text.append(_further_grid(table, kind))
        notes = list(facts["notes"])
        if number in SWEEPS:
            notes.insert(0, "`*` marks the row chosen: the lowest MAE on the validation split.")
            if not plan["sweep_seeds"]:
                notes.insert(0, "Left out: `sweep_seeds` is empty.")
        text += notes
        if number == "1":
            text += report_text(table, title)
    text.append(f"## Differences between the models of Table 6, {title}")
    text += _comparison_text(comparison)
    text += _ablation_text(ablation, title) + _generated_text(generated, title)
    text.append(f"## Published on {PUBLISHED['data']}")
    quoted = [
        [entry["name"], *(_number(entry[metric]) for metric in HEADLINE), entry["source"]]
        for entry in PUBLISHED["quoted"]
    ]
    text.append(grid(["", *HEADLINE, "source"], quoted, left=(0, 5)))
    return "\n\n".join(text) + "\n"


def _data_grid(table: Table, published: Mapping[str, Row]) -> str:
    lines = []
    for name, row in table.items():
        report = published[name]["utterances"]
        numbers = [_number(row[column]) for column in DATA]
        lines.append(
            [name, *map(str, (row["utterances"], report, row["utterances"] - report)), *numbers]
        )
    return grid(["", "utterances", "report", "diff", *DATA], lines)


def report_text(table: Table, title: str) -> list[str]:
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
    return [
        f"### Data report, {title}",
        grid(["", *table], lines),
        "label: utterances by label, rounded to the nearest of these. repeated: utterances whose "
        "text is not theirs alone; shared: between splits. tokens_cut: texts longer than "
        "`max_tokens`; tokens_differ: texts whose token ids in the data are not the text encoder's "
        "(they are made anew). not_finite: values set to 0; missing: utterances of zeros alone; "
        "lengths: utterances whose length contradicted the padding; front: utterances padded at "
        "the front. Other counts are the source's own: see src/msabench/sources.",
    ]


def _result_grid(
    number: str, table: Table, rows: Mapping[str, list[str]], published: Mapping[str, Row]
) -> str:
    """Lay the four metrics on test beside the report's, after those on the validation split."""
    header = ["", *VALID, *(c for metric in HEADLINE for c in (metric, "report", "diff"))]
    lines = []
    for name, row in table.items():
        report = published.get(name, {})
        line = [f"{name} *" if row.get("chosen") else name]
        line += [_shown(column, row[column]) for column in VALID]
        for metric in HEADLINE:
            # The report's SVM rows are another metric: the column follows the figure.
            other = f"{metric}_pos"
            key = other if other in report and other in row else metric
            line += _beside(row, key, report.get(other, report.get(metric)), key == other)
        if row["mae"] is None:
            absent = "absent" if number == "2" else "left out"
            line[1] = "missing" if rows[name] else absent
        lines.append(line)
    return grid(header, lines)


def _beside(row: Row, metric: str, report: float | None, marked: bool) -> list[str]:
    value, std = row[metric], row[f"{metric}_std"]
    constant = _constant(metric, value)
    shown = _shown(metric, value)
    if std is not None and not constant:
        shown += f" ± {std:.3f}"
    unknown = value is None or report is None or constant
    difference = "-" if unknown else f"{value - report:+z.3f}"
    return [shown + (" †" if marked else ""), _number(report), difference]


def _further_grid(table: Table, kind: str) -> str:
    columns = [metric for metric in METRICS[kind] if metric not in ("mae", "corr")]
    lines = [
        [name, *(_beside(row, c, None, False)[0] for c in columns)] for name, row in table.items()
    ]
    return grid(["", *columns], lines)


def _comparison_text(comparison: Mapping[str, Mapping[str, Row]]) -> list[str]:
    level = f"{statistics.LEVEL:.0%}"
    models = [
        [name, _number(row["mae"]), _number(row["low"]), _number(row["high"])]
        for name, row in comparison["models"].items()
    ]
    pairs = [
        [name, *(f"{row[c]:+z.3f}" for c in BOUNDS), *(f"{row[c]:.4f}" for c in ("p", "p_holm"))]
        for name, row in comparison["pairs"].items()
    ]
    return [
        f"Absolute error on test averaged over seeds; low and high bound the {level} confidence "
        f"interval of a paired bootstrap that draws videos, {statistics.DRAWS} draws. p is "
        "two-sided; p_holm is adjusted for the number of pairs.",
        grid(["", "mae", "low", "high"], models),
        grid(["", "difference", "low", "high", "p", "p_holm"], pairs),
    ]


def _ablation_text(ablation: Mapping[str, Mapping[str, Table]], title: str) -> list[str]:
    if not ablation:
        return []
    lines = []
    for model, measured in ablation.items():
        for subset, row in measured["rows"].items():
            pair = measured["pairs"].get(f"{subset} - {FULL}", {})
            shown = [_number(row[column]) for column in VALID]
            shown += [_beside(row, metric, None, False)[0] for metric in HEADLINE]
            tested = [_signed(pair.get(c)) for c in BOUNDS]
            tested += ["-" if c not in pair else f"{pair[c]:.4f}" for c in ("p", "p_holm")]
            lines.append([model, subset, *shown, *tested])
    header = ["", "", *VALID, *HEADLINE, *BOUNDS, "p", "p_holm"]
    return [
        f"## Modality ablation, {title}: every model on every subset",
        f"difference: MAE minus that of {FULL} of the same model, with interval and p as above; "
        "p_holm is adjusted for the subsets of one model.",
        grid(header, lines, left=(0, 1)),
    ]


def _generated_text(generated: Mapping[str, Table], title: str) -> list[str]:
    if not generated:
        return []
    columns = ("multimodal", "generated", "shift_corr", "shift_ratio")
    lines = [
        [model, name, *(_number(row[column]) for column in columns)]
        for model, table in generated.items()
        for name, row in table.items()
    ]
    return [
        f"## Generated unimodal labels against the true ones, {title}",
        "multimodal, generated: the correlation of the multimodal label and of the generated one "
        "(last epoch) with the true unimodal label of the training utterances. shift_corr: the "
        "correlation of what was added to the multimodal label with what would have been right; "
        "shift_ratio: the standard deviation of the former over that of the latter.",
        grid(["", "", *columns], lines, left=(0, 1)),
    ]


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+z.3f}"


def _constant(metric: str, value: float | None) -> bool:
    """Whether it is a correlation of exactly 0, the defined value of a constant prediction."""
    return metric in ("corr", "valid_corr") and value == 0


def _shown(metric: str, value: float | None) -> str:
    return "-" if _constant(metric, value) else _number(value)


def _count(value: float | int | None) -> str:
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _number(value: float | int | None) -> str:
    return "-" if value is None else f"{value:z.3f}" if isinstance(value, float) else str(value)


def grid(header: Sequence[str], lines: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    """Draw a markdown table whose columns also line up as plain text."""
    widths = [max(3, *(len(line[i]) for line in (header, *lines))) for i in range(len(header))]

    def drawn(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * width if i in left else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    return "\n".join([drawn(header), drawn(rule), *map(drawn, lines)])
