"""Tables: predictions and data -> the six tables of the report and what stands beside them.

A table is rows by name, a row is values by column; a column is a metric's name, `<metric>_std`
(sample standard deviation over seeds) or `valid_<metric>`. What is not known or not defined is
None; the None of `mae`, which is always defined, means that predictions are missing. The report's
own figures stand in published.json, under the names of the metrics they are compared with.
"""

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from msabench.evaluation import metrics, statistics
from msabench.evaluation.metrics import HEADLINE, METRICS
from msabench.evaluation.robustness import LEVELS, modalities_of
from msabench.folds import folds_of, held_out
from msabench.labels import Classes, LabelScale, classes_of
from msabench.predictions import Predictions
from msabench.utterances import Utterances

Row = statistics.Row
Rows = dict[str, Row]  # by name

SWEEPS = ("3", "4", "5")
SUBSETS_MODEL = "svm"  # of Table 2
# Rows of Table 6 that read nothing: of all constants the mean has the least squared error on train,
# the median the least MAE.
CONSTANTS: dict[str, Callable[[np.ndarray], np.floating[Any]]] = {
    "train_mean": np.mean,
    "train_median": np.median,
}
BASELINES = (*CONSTANTS, "probe")  # rows of Table 6 that are no models
LABEL_CORR = "label_corr_"  # a column of a history, with the name of a modality
PUBLISHED: dict[str, Any] = json.loads(
    Path(__file__).with_name("published.json").read_text(encoding="utf-8")
)


def printed_name(model: str) -> str:
    """Return a model's name as the report prints it, or its own."""
    return str(PUBLISHED["names"].get(model, model))


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
            [read_history(path) for path in histories if path.exists()],
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


def scale_of(plan: Mapping[str, Any]) -> LabelScale:
    """Return the scale of the labels. plan: of the tables."""
    return LabelScale.of(plan["label_range"], plan["neutral"])


def label_classes(plan: Mapping[str, Any], data: Mapping[str, Utterances]) -> Classes:
    """Return the classes that histogram, confusion and figures count labels in."""
    labels = np.concatenate([split.labels for split in data.values()])
    return classes_of(labels, scale_of(plan), plan["metrics"])


def evaluate(
    plan: Mapping[str, Any], labels: Float[np.ndarray, " n"], predictions: Float[np.ndarray, " n"]
) -> dict[str, float | None]:
    """Return the metrics that the data set has, on its own scale; see metrics.evaluate."""
    return metrics.evaluate(labels, predictions, plan["metrics"], scale_of(plan))


def rows_of(plan: Mapping[str, Any], modalities: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    """Name the folders of predictions, one per seed, behind each row of Tables 2-6.

    A row that is not to be measured has none: a subset with a modality that the data lacks, or a
    sweep without seeds.
    """
    rows: dict[str, dict[str, list[str]]] = {"2": {}, "3": {}, "4": {}, "5": {}, "6": {}}
    table2 = subset_rows(plan, modalities).get(SUBSETS_MODEL, {})
    rows["2"] = {subset: table2.get(subset, []) for subset in plan["subsets"]}
    for entry in plan["sweep"]:
        run = entry["same_as"] or entry["run"]
        rows[str(entry["table"])][entry["row"]] = [f"{run}-{seed}" for seed in plan["sweep_seeds"]]
    for model in plan["models"]:
        rows["6"][model] = [f"{model}-{seed}" for seed in plan["seeds"]]
    return rows


def ablation_rows(
    plan: Mapping[str, Any], modalities: Sequence[str]
) -> dict[str, dict[str, list[str]]]:
    """Name the folders of predictions behind each model's row for each subset of the modalities.

    Empty where no model but that of Table 2 is trained on them.
    """
    rows = subset_rows(plan, modalities)
    return rows if rows.keys() - {SUBSETS_MODEL} else {}


def subset_rows(
    plan: Mapping[str, Any], modalities: Sequence[str]
) -> dict[str, dict[str, list[str]]]:
    """Name those of every model that is trained on subsets, for the subsets that the data have."""
    present = [subset for subset, names in plan["subsets"].items() if set(names) <= {*modalities}]
    return {
        model: {
            subset: [f"{runs[subset]}-{seed}" for seed in plan["ablation_seeds"]]
            for subset in present
        }
        for model, runs in plan["ablation"].items()
    }


def robustness_files(
    plan: Mapping[str, Any], modalities: Sequence[str], predictions: Path
) -> dict[tuple[str, str, str], list[Path]]:
    """Name the files of predictions, one per seed, of each (model, kind of corruption, level).

    None where no seeds are asked for, nor of a modality that the model or the data lack.
    """
    return {
        (model, kind, f"{level:g}"): [
            predictions / f"robustness-{model}-{seed}" / kind / f"{level:g}.csv"
            for seed in plan["robustness_seeds"]
        ]
        for model, reads in plan["robustness"].items()
        for kind, levels in LEVELS.items()
        for level in levels
        if modalities_of(kind, {*reads} & {*modalities})
    }


def missing_files(
    rows: Mapping[str, Mapping[str, list[str]]],
    corrupted: Mapping[tuple[str, str, str], Sequence[Path]],
    predictions: Path,
) -> list[str]:
    """Name the files of predictions that are not there.

    rows: those that need files of valid and test. corrupted: the files of robustness.
    """
    files = [path for name in _folders(rows) for path in _files(predictions / name)]
    files += [path for paths in corrupted.values() for path in paths]
    return [str(path) for path in files if not path.exists()]


def measure_runs(
    plan: Mapping[str, Any],
    rows: Mapping[str, Mapping[str, list[str]]],
    data: Mapping[str, Utterances],
    predictions: Path,
) -> dict[str, Row]:
    """Measure each run behind the rows, by its folder; one whose files are not there is left out.

    data: see held_out. Columns: the metrics on test, and as valid_<metric> those on valid.
    """
    return {
        name: _measure_run(predictions / name, plan, data)
        for name in _folders(rows)
        if all(path.exists() for path in _files(predictions / name))
    }


def measure_tables(
    plan: Mapping[str, Any],
    rows: Mapping[str, Mapping[str, list[str]]],
    runs: Mapping[str, Row],
    parts: Mapping[str, Utterances],
    probed: Row,
) -> dict[str, Rows]:
    """Return Tables 2-6; a row whose runs are not all measured is None throughout.

    Tables 3-5 mark the row of the lowest validation MAE as `chosen`. parts: see
    msabench.folds. probed: the probe's row.
    """
    tables = {
        number: {row: _mean_row(plan, _all_of(names, runs)) for row, names in table.items()}
        for number, table in rows.items()
    }
    data = held_out(parts)
    for name, guesses in _constants(parts).items():
        tables["6"][name] = row_of(plan, data, guesses)
    tables["6"]["probe"] = {column: probed[column] for column in tables["6"]["train_mean"]}
    for number in SWEEPS:
        measured = [row for row in tables[number].values() if row["valid_mae"] is not None]
        best = min(measured, key=lambda row: row["valid_mae"], default=None)
        for row in tables[number].values():
            row["chosen"] = row is best
    return tables


def measure_ablation(
    plan: Mapping[str, Any],
    rows: Mapping[str, Mapping[str, list[str]]],
    runs: Mapping[str, Row],
    test: Utterances,
    predictions: Path,
) -> dict[str, dict[str, Rows]]:
    """Return each model on each subset, `rows`, and the comparison with the largest, `pairs`."""
    measured = {}
    for model, table in rows.items():
        compared = compare(
            *(plan, table, test, predictions),
            by=["mae"],
            against=largest_subset(plan, table),
            paired=True,
        )
        each = {subset: _mean_row(plan, _all_of(names, runs)) for subset, names in table.items()}
        measured[model] = {"rows": each, "pairs": compared["mae"]["pairs"]}
    return measured


def largest_subset(plan: Mapping[str, Any], subsets: Iterable[str]) -> str:
    """Name that of all modalities that there are. subsets: those that the data have."""
    return max(subsets, key=lambda subset: len(plan["subsets"][subset]))


def measure_robustness(
    files: Mapping[tuple[str, str, str], Sequence[Path]], test: Utterances
) -> dict[str, dict[str, Rows]]:
    """Measure the MAE of each model, kind of corruption and level; None where a file is missing."""
    measured: dict[str, dict[str, Rows]] = {}
    for (model, kind, level), paths in files.items():
        errors = []
        for path in paths if all(path.exists() for path in paths) else ():
            run = Predictions.read(path)
            run.check(path, test)
            errors.append(metrics.mae(run.labels, run.predictions))
        measured.setdefault(model, {}).setdefault(kind, {})[level] = mean_and_spread(
            {"mae": errors}
        )
    return measured


def measure_generated_labels(plan: Mapping[str, Any], predictions: Path) -> dict[str, Rows]:
    """Say how the unimodal labels that a model generates fit the true ones, by modality.

    Only for models whose history tells. multimodal, generated: correlation with the true label of
    the multimodal label and of the generated one after the last epoch that every seed reached;
    shift_corr, shift_ratio: see the model; by_epoch: of `generated`. Means over seeds, None where
    not defined.
    """
    rows = {}
    for model in plan["models"]:
        histories = Runs.read([predictions / f"{model}-{s}" for s in plan["seeds"]]).histories
        mean = statistics.mean_history(histories) if histories else {}
        names = [c.removeprefix(LABEL_CORR) for c in mean if c.startswith(LABEL_CORR)]
        if names:
            rows[model] = {
                name: _rounded(
                    {
                        "multimodal": mean[LABEL_CORR + name][0],
                        "generated": mean[LABEL_CORR + name][-1],
                        "shift_corr": mean[f"shift_corr_{name}"][-1],
                        "shift_ratio": mean[f"shift_ratio_{name}"][-1],
                        "by_epoch": [round(value, 4) for value in mean[LABEL_CORR + name]],
                    }
                )
                for name in names
            }
    return rows


def compare(
    plan: Mapping[str, Any],
    rows: Mapping[str, list[str]],
    test: Utterances,
    predictions: Path,
    *,
    by: Sequence[str] = HEADLINE,
    **settings: Any,
) -> dict[str, dict[str, Rows]]:
    """Compare rows of runs on test, by each of some metrics: see `statistics.compare`.

    A row without all its files is left out; what is not defined is None.
    """
    each_seed = _on_test(rows, test, predictions)
    compared = {}
    for metric in by:
        measure = metrics.on_scale(metric, plan["metrics"], scale_of(plan))
        models = {
            name: statistics.replicates(measure, *seeds, test.videos)
            for name, seeds in each_seed.items()
        }
        compared[metric] = compare_replicates(models, test, **settings)
    return compared


def compare_with_constants(
    rows: Mapping[str, list[str]], parts: Mapping[str, Utterances], predictions: Path
) -> dict[str, Rows]:
    """Compare the MAE of each row on test with that of each constant, which has no seeds.

    Returns by constant the pairs of `statistics.compare` under the names of the rows: a difference
    below 0 is one in the row's favour. p_holm is adjusted for the number of rows.
    """
    test = held_out(parts)["test"]
    models = {
        name: statistics.replicates(metrics.mae, *seeds, test.videos)
        for name, seeds in _on_test(rows, test, predictions).items()
    }
    compared = {}
    for constant, guesses in _constants(parts).items():
        one = guesses["test"][None]
        both = models | {
            constant: statistics.replicates(metrics.mae, test.labels, one, test.videos)
        }
        pairs = compare_replicates(both, test, against=constant)["pairs"]
        compared[constant] = {name: pairs[f"{name} - {constant}"] for name in models}
    return compared


def by_seed(runs: Mapping[str, Row]) -> dict[str, Rows]:
    """Return what was measured of each run by its name and seed, rounded."""
    nested: dict[str, Rows] = {}
    for folder, row in runs.items():
        run, _, seed = folder.rpartition("-")
        nested.setdefault(run, {})[seed] = _rounded(row)
    return nested


def summary(rows: Rows) -> Rows:
    """Keep the report's four metrics of each model of Table 6, for a diff that fits one screen."""
    return {
        name: {metric: row[metric] for metric in HEADLINE}
        for name, row in rows.items()
        if name not in BASELINES
    }


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write json that is the same, byte for byte, for the same value."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_history(path: Path) -> dict[str, list[float]]:
    """Read history.csv: each column, a value for each epoch; NaN where it is not defined."""
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    names = lines[0] if lines else ()
    # What was not defined is empty in the file; in the mean over seeds it has to be a number.
    return {name: [float(line[name] or np.nan) for line in lines] for name in names}


def _folders(rows: Mapping[str, Mapping[str, list[str]]]) -> list[str]:
    """Name the folders of predictions behind the rows of all tables, each once."""
    names = (name for table in rows.values() for row in table.values() for name in row)
    return list(dict.fromkeys(names))


def _files(folder: Path) -> list[Path]:
    return [folder / f"{split}.csv" for split in ("valid", "test")]


def _all_of(names: Sequence[str], runs: Mapping[str, Row]) -> list[Row]:
    """Return these runs, none where one was not measured."""
    return [runs[name] for name in names] if all(name in runs for name in names) else []


def _measure_run(folder: Path, plan: Mapping[str, Any], data: Mapping[str, Utterances]) -> Row:
    runs = {}
    for split in ("valid", "test"):
        runs[split] = Predictions.read(folder / f"{split}.csv")
        runs[split].check(folder / f"{split}.csv", data[split])
    return _measure(plan, {split: (run.labels, run.predictions) for split, run in runs.items()})


def _measure(plan: Mapping[str, Any], splits: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Row:
    """Return the metrics of (labels, predictions) of test, and as valid_<metric> those of valid."""
    valid, test = (evaluate(plan, *splits[split]) for split in ("valid", "test"))
    return test | {f"valid_{metric}": value for metric, value in valid.items()}


def _constants(
    parts: Mapping[str, Utterances],
) -> dict[str, dict[str, Float[np.ndarray, " _"]]]:
    """Return what each constant predicts on valid and test, over folds that of each one's train."""
    guesses: dict[str, dict[str, list[np.ndarray]]]
    guesses = {name: {"valid": [], "test": []} for name in CONSTANTS}
    for fold in folds_of(parts).values():
        labels = np.concatenate([parts[part].labels for part in fold["train"]]).astype(np.float64)
        for name, statistic in CONSTANTS.items():
            for split, own in guesses[name].items():
                own += [np.full(len(parts[part]), statistic(labels)) for part in fold[split]]
    return {
        name: {split: np.concatenate(own) for split, own in of_splits.items()}
        for name, of_splits in guesses.items()
    }


def _on_test(
    rows: Mapping[str, list[str]], test: Utterances, predictions: Path
) -> dict[str, tuple[Float[np.ndarray, " n"], Float[np.ndarray, "k n"]]]:
    """Read the labels and the predictions of k seeds on test behind each row; see `compare`."""
    read = {}
    for name, folders in rows.items():
        paths = [predictions / folder / "test.csv" for folder in folders]
        if folders and all(path.exists() for path in paths):
            runs = [Predictions.read(path) for path in paths]
            for path, run in zip(paths, runs, strict=True):
                run.check(path, test)
            read[name] = runs[0].labels, np.stack([run.predictions for run in runs])
    return read


def compare_replicates(
    models: Mapping[str, statistics.Replicates], test: Utterances, **settings: Any
) -> dict[str, Rows]:
    """Compare one metric on test, rounded: see `statistics.compare`."""
    parts = statistics.compare(models, len(set(test.videos)), **settings)
    return {
        part: {name: _rounded(row) | significant(row) for name, row in table.items()}
        for part, table in parts.items()
    }


def row_of(
    plan: Mapping[str, Any],
    data: Mapping[str, Utterances],
    predictions: Mapping[str, Float[np.ndarray, " _"]],
    **others: float | int | None,
) -> Row:
    """Measure predictions on valid and test, of no run, as a row. others: more columns of it."""
    splits = {split: (data[split].labels, guesses) for split, guesses in predictions.items()}
    return _mean_row(plan, [_measure(plan, splits)]) | _rounded(others)


def _mean_row(plan: Mapping[str, Any], runs: Sequence[Row]) -> Row:
    """Return the row of a table: the mean of runs that differ by their seeds; None without any."""
    columns = [*METRICS[plan["metrics"]], *(f"valid_{metric}" for metric in HEADLINE)]
    return mean_and_spread({column: [run[column] for run in runs] for column in columns})


def mean_and_spread(columns: Mapping[str, Sequence[float | None]]) -> Row:
    """Return the mean of each column, and the spread beside those of test.

    None where a value is: a mean over the other seeds would be one of another choice of seeds.
    """
    row: Row = {}
    for column, values in columns.items():
        known = [value for value in values if value is not None]
        whole = bool(known) and len(known) == len(values)
        mean, std = statistics.mean_and_std(known) if whole else (None, None)
        row[column] = mean
        if not column.startswith("valid_"):
            row[f"{column}_std"] = std
    return _rounded(row)


def _rounded(row: Mapping[str, Any]) -> Row:
    return {k: _number(v) if isinstance(v, float) else v for k, v in row.items()}


def significant(row: Mapping[str, Any]) -> Row:
    """Round p and p_holm, where there are any, to four digits: four decimals could leave 0."""
    defined = (name for name in ("p", "p_holm") if row.get(name) is not None)
    return {name: float(f"{row[name]:.4g}") for name in defined}


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 4) + 0.0
