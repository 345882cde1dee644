"""Tables: predictions and data -> the six tables of the report, as numbers and as text.

A table is rows by name, a row is values by column; a column is a metric's name, `<metric>_std`
(sample standard deviation over seeds) or `valid_<metric>`. What is not known is None. The
report's own figures stand in published.json, under the names of the metrics they are compared
with.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from msabench import metrics, statistics
from msabench.metrics import HEADLINE, METRICS
from msabench.predictions import Predictions
from msabench.utterances import SPLITS, Utterances

Row = dict[str, Any]
Table = dict[str, Row]

SWEEPS = ("3", "4", "5")
BOUNDS = ("difference", "low", "high")
PUBLISHED: dict[str, Any] = json.loads(
    Path(__file__).with_name("published.json").read_text(encoding="utf-8")
)


@dataclass(frozen=True)
class Runs:
    """What the seeds of one model left: predictions on test, and histories where it has epochs."""

    test: list[Predictions]
    histories: list[dict[str, list[float]]]

    @classmethod
    def read(cls, folders: Sequence[Path]) -> "Runs":
        """Read what there is; a seed that failed is left out."""
        tests = [folder / "test.csv" for folder in folders]
        histories = [folder / "history.csv" for folder in folders]
        return cls(
            [Predictions.read(path) for path in tests if path.exists()],
            [_read_columns(path) for path in histories if path.exists()],
        )

    def mean(self) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Return the labels and the predictions averaged over seeds."""
        return self.test[0].labels, np.mean([run.predictions for run in self.test], axis=0)

    def pooled(self) -> tuple[Float[np.ndarray, " total"], Float[np.ndarray, " total"]]:
        """Return the labels and the predictions of all seeds, one after the other."""
        return (
            np.concatenate([run.labels for run in self.test]),
            np.concatenate([run.predictions for run in self.test]),
        )


def load_data(prepared: Path) -> dict[str, Utterances]:
    """Read every split of the prepared data."""
    return {split: Utterances.load(prepared / split) for split in SPLITS}


def rows_of(plan: Mapping[str, Any], modalities: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    """Name the folders of predictions, one per seed, behind each row of Tables 2-6.

    A row that is not to be measured has none: a subset with a modality that the data lacks, or a
    sweep without seeds.
    """
    rows: dict[str, dict[str, list[str]]] = {"2": {}, "3": {}, "4": {}, "5": {}, "6": {}}
    for subset, names in plan["subsets"].items():
        rows["2"][subset] = [f"modalities/{subset}"] if set(names) <= set(modalities) else []
    for entry in plan["sweep"]:
        run = entry["same_as"] or entry["run"]
        rows[str(entry["table"])][entry["row"]] = [f"{run}-{seed}" for seed in plan["sweep_seeds"]]
    for model in plan["models"]:
        rows["6"][model] = [f"{model}-{seed}" for seed in plan["seeds"]]
    return rows


def missing_files(rows: Mapping[str, Mapping[str, list[str]]], predictions: Path) -> list[str]:
    """Name the files of predictions that the rows need and that are not there."""
    folders = dict.fromkeys(
        name for table in rows.values() for row in table.values() for name in row
    )
    files = [predictions / name / f"{split}.csv" for name in folders for split in ("valid", "test")]
    return [str(path) for path in files if not path.exists()]


def measure_tables(
    plan: Mapping[str, Any],
    rows: Mapping[str, Mapping[str, list[str]]],
    data: Mapping[str, Utterances],
    predictions: Path,
) -> dict[str, Table]:
    """Measure Tables 2-6; a row whose files are not all there is None throughout.

    Tables 3-5 mark the row of the lowest validation MAE as `chosen`.
    """
    kind = plan["metrics"]
    tables = {
        number: {row: _measure_row(names, kind, data, predictions) for row, names in table.items()}
        for number, table in rows.items()
    }
    tables["6"]["train_mean"] = _train_mean(kind, data)
    for number in SWEEPS:
        measured = [row for row in tables[number].values() if row["valid_mae"] is not None]
        best = min(measured, key=lambda row: row["valid_mae"], default=None)
        for row in tables[number].values():
            row["chosen"] = row is best
    return tables


def data_table(data: Mapping[str, Utterances], features: Path) -> Table:
    """Describe each split and the whole (Table 1): counts, and means per utterance.

    tokens include the marks that the tokenizer adds; label_std divides by n.
    """
    columns: dict[str, dict[str, np.ndarray]] = {}
    for split, utterances in data.items():
        lengths = {f"{name}_frames": s.lengths for name, s in utterances.sequences.items()}
        tokens = features / split / "tokens.offsets.npy"
        if tokens.exists():
            lengths["tokens"] = np.diff(np.load(tokens, allow_pickle=False))
        columns[split] = {"labels": utterances.labels, "videos": np.array(utterances.videos)}
        columns[split] |= lengths
    first = columns[SPLITS[0]]
    columns["all"] = {name: np.concatenate([columns[s][name] for s in SPLITS]) for name in first}
    return {split: _describe(values) for split, values in columns.items()}


def compare_models(
    rows: Mapping[str, list[str]], predictions: Path, *, draws: int = statistics.DRAWS
) -> dict[str, dict[str, Row]]:
    """Compare the models of Table 6 on test, each by its absolute error averaged over seeds.

    A model without all its files is left out.
    """
    errors, videos = {}, []
    for model, names in rows.items():
        paths = [predictions / name / "test.csv" for name in names]
        if names and all(path.exists() for path in paths):
            runs = [Predictions.read(path) for path in paths]
            errors[model] = np.mean([np.abs(run.predictions - run.labels) for run in runs], axis=0)
            videos = runs[0].videos
    compared = statistics.compare(errors, videos, draws=draws)
    return {
        part: {name: _rounded(row) for name, row in table.items()}
        for part, table in compared.items()
    }


def summary(table: Table) -> Table:
    """Keep the report's four metrics of each model of Table 6, for a diff that fits one screen."""
    return {
        name: {metric: row[metric] for metric in HEADLINE}
        for name, row in table.items()
        if name != "train_mean"
    }


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write json that is the same, byte for byte, for the same value."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def write_columns(path: Path, columns: Mapping[str, Sequence[Any] | np.ndarray]) -> None:
    """Write columns of one length as csv, floats to 4 decimals."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for line in zip(*columns.values(), strict=True):
            writer.writerow([f"{round(v, 4):zg}" if isinstance(v, float) else v for v in line])


def markdown(
    plan: Mapping[str, Any],
    rows: Mapping[str, Mapping[str, list[str]]],
    tables: Mapping[str, Table],
    comparison: Mapping[str, Mapping[str, Row]],
) -> str:
    """Write every table beside the report's figures, readable as plain text too."""
    title, kind = plan["title"], plan["metrics"]
    text = [
        f"# Tables: {title}",
        "Measured values are means over seeds ± their sample standard deviation. `report` is "
        f"the figure of the report, measured on {PUBLISHED['data']}; `diff` is measured minus "
        f"report. {PUBLISHED['source']}.",
    ]
    if "mosei" not in plan["dataset"]:
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
    text.append(f"## Differences between the models of Table 6, {title}")
    text += _comparison_text(comparison)
    text.append(f"## Published on {PUBLISHED['data']}")
    quoted = [
        [entry["name"], *(_number(entry[metric]) for metric in HEADLINE), entry["source"]]
        for entry in PUBLISHED["quoted"]
    ]
    text.append(_grid(["", *HEADLINE, "source"], quoted, left=(0, 5)))
    return "\n\n".join(text) + "\n"


def _read_columns(path: Path) -> dict[str, list[float]]:
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    return {name: [float(line[name]) for line in lines] for name in (lines[0] if lines else ())}


def _measure_row(
    names: Sequence[str], kind: str, data: Mapping[str, Utterances], predictions: Path
) -> Row:
    columns = [*METRICS[kind], *(f"valid_{metric}" for metric in HEADLINE)]
    folders = [predictions / name for name in names]
    files = [folder / f"{split}.csv" for folder in folders for split in ("valid", "test")]
    if not names or not all(path.exists() for path in files):
        return _spread({column: [] for column in columns})
    runs = [_measure_run(folder, kind, data) for folder in folders]
    return _spread({column: [run[column] for run in runs] for column in columns})


def _measure_run(folder: Path, kind: str, data: Mapping[str, Utterances]) -> dict[str, float]:
    found = {}
    for split in ("valid", "test"):
        run = Predictions.read(folder / f"{split}.csv")
        run.check(folder / f"{split}.csv", data[split])
        found[split] = metrics.evaluate(run.labels, run.predictions, kind)
    return found["test"] | {f"valid_{metric}": found["valid"][metric] for metric in HEADLINE}


def _train_mean(kind: str, data: Mapping[str, Utterances]) -> Row:
    mean = data["train"].labels.mean(dtype=np.float64)
    found = {
        split: metrics.evaluate(data[split].labels, np.full(len(data[split]), mean), kind)
        for split in ("valid", "test")
    }
    run = found["test"] | {f"valid_{metric}": found["valid"][metric] for metric in HEADLINE}
    return _spread({column: [value] for column, value in run.items()})


def _spread(columns: Mapping[str, Sequence[float]]) -> Row:
    """Return the mean of each column, and the spread beside those of test."""
    row: Row = {}
    for column, values in columns.items():
        mean, std = statistics.mean_and_std(values) if values else (None, None)
        row[column] = mean
        if not column.startswith("valid_"):
            row[f"{column}_std"] = std
    return _rounded(row)


def _describe(values: Mapping[str, np.ndarray]) -> Row:
    row: Row = {"utterances": len(values["labels"]), "videos": len(set(values["videos"]))}
    for name in ("tokens", "audio_frames", "vision_frames"):
        row[name] = float(values[name].mean()) if name in values else None
    labels = values["labels"].astype(np.float64)
    return _rounded(row | {"label_mean": float(labels.mean()), "label_std": float(labels.std())})


def _rounded(row: Mapping[str, Any]) -> Row:
    return {k: round(v, 4) + 0.0 if isinstance(v, float) else v for k, v in row.items()}


def _data_grid(table: Table, published: Mapping[str, Row]) -> str:
    columns = list(next(iter(table.values())))
    lines = []
    for name, row in table.items():
        report = published[name]["utterances"]
        numbers = [_number(row[column]) for column in columns[1:]]
        lines.append(
            [name, *map(str, (row["utterances"], report, row["utterances"] - report)), *numbers]
        )
    return _grid(["", "utterances", "report", "diff", *columns[1:]], lines)


def _result_grid(
    number: str, table: Table, rows: Mapping[str, list[str]], published: Mapping[str, Row]
) -> str:
    """Lay the four metrics beside the report's; Tables 3-5 begin with the validation split."""
    valid = ["valid_mae", "valid_corr"] if number in SWEEPS else []
    header = ["", *valid, *(c for metric in HEADLINE for c in (metric, "report", "diff"))]
    lines = []
    for name, row in table.items():
        report = published.get(name, {})
        line = [f"{name} *" if row.get("chosen") else name]
        line += [_number(row[column]) for column in valid]
        for metric in HEADLINE:
            # The report's SVM rows are another metric: the column follows the figure.
            other = f"{metric}_pos"
            key = other if other in report and other in row else metric
            line += _beside(row, key, report.get(other, report.get(metric)), key == other)
        if row["mae"] is None:
            absent = "absent" if number == "2" else "left out"
            line[1] = "missing" if rows[name] else absent
        lines.append(line)
    return _grid(header, lines)


def _beside(row: Row, metric: str, report: float | None, marked: bool) -> list[str]:
    value, std = row[metric], row[f"{metric}_std"]
    # A correlation of exactly 0 is the defined value of a constant prediction.
    constant = metric == "corr" and value == 0
    shown = "-" if constant else _number(value)
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
    return _grid(["", *columns], lines)


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
        _grid(["", "mae", "low", "high"], models),
        _grid(["", "difference", "low", "high", "p", "p_holm"], pairs),
    ]


def _number(value: float | int | None) -> str:
    return "-" if value is None else f"{value:z.3f}" if isinstance(value, float) else str(value)


def _grid(header: Sequence[str], lines: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> str:
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
