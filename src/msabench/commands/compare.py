"""Compare the models of a tree with the same models of another tree, on the same test data.

Prints what each model gains, such as by another text encoder: a metric in either tree, and the
difference, with 95 % confidence intervals over videos and seeds; then the differences between
models within each tree. Of the other tree its predictions are enough. p is Holm's over the models.

examples:
  msabench compare runs/real/mosei_text_all-mpnet-base-v2 --with runs/real/mosei_text
  msabench compare . --with ../before --metric corr --output runs/compared.json
"""

import argparse
import json
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

from msabench.errors import DataError

PAGE = "docs/results.md"
METRICS = ("mae", "corr", "acc_2", "f1")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("tree", type=Path, help="a work tree in which the pipeline has run")
    parser.add_argument(
        "--with", required=True, type=Path, dest="other", metavar="TREE", help="another one"
    )
    parser.add_argument("--metric", choices=METRICS, default="mae", help="default: mae")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write all metrics as json")


def main(options: argparse.Namespace) -> None:
    """Print the comparison; write it, if asked for."""
    from msabench.evaluation import tables
    from msabench.reporting import markdown

    trees = {tree.resolve().name: tree for tree in (options.other, options.tree)}
    if len(trees) < 2:
        raise DataError(f"{options.tree}: --with has a folder of the same name, {options.other}")
    compared = _compare(trees, options.tree)
    if options.output:
        try:
            options.output.parent.mkdir(parents=True, exist_ok=True)
            tables.write_json(options.output, compared)
        except OSError as error:
            raise DataError(f"--output {options.output}: {error.strerror}") from error
    print(markdown.table(_table(compared[options.metric], list(trees))))


def _compare(trees: Mapping[str, Path], tree: Path) -> dict[str, dict[str, Any]]:
    """Compare by each metric: `trees`, of each what statistics.compare says, and `differences`.

    differences: tree minus the other, by model.
    """
    from msabench import folds
    from msabench.evaluation import statistics, tables
    from msabench.utterances import load_prepared

    file = tree / "runs/plan/stages/tables.json"
    for path in (file, *(each / "predictions" for each in trees.values())):
        if not path.exists():
            raise DataError(f"{path} is missing: the pipeline has not run there")
    plan = json.loads(file.read_text(encoding="utf-8"))
    test = folds.held_out(load_prepared(tree / "data/prepared"))["test"]
    folders = {
        model: {
            name: [str((each / f"predictions/{model}-{s}").resolve()) for s in plan["seeds"]]
            for name, each in trees.items()
        }
        for model in plan["models"]
    }
    here: Any = {"plan": plan, "test": test, "predictions": Path()}
    of_trees = {
        name: tables.compare(rows={model: row[name] for model, row in folders.items()}, **here)
        for name in trees
    }
    of_models = {
        model: tables.compare(rows=dict(reversed(rows.items())), **here)  # tree minus the other
        for model, rows in folders.items()
    }
    compared: dict[str, dict[str, Any]] = {}
    for metric in METRICS:
        pairs = [of_models[model][metric]["pairs"] for model in folders]
        rows = {model: row for model, p in zip(folders, pairs, strict=True) for row in p.values()}
        if not rows:
            raise DataError(f"{tree}: no model has predictions of all seeds in both trees")
        defined = [row for row in rows.values() if row["p"] is not None]
        adjusted = statistics.holm([row["p"] for row in defined])
        for row, p in zip(defined, adjusted, strict=True):
            row |= tables.significant({"p_holm": p})
        compared[metric] = {
            "trees": {name: of_trees[name][metric] for name in trees},
            "differences": rows,
        }
    return compared


def _table(compared: Mapping[str, Any], names: list[str]) -> Any:
    """Return models with the metric in each tree and the difference, then pairs of models."""
    from msabench.reporting.document import Column, Table, printed, row

    before, after = names
    columns = [Column(""), *map(Column, names), Column(f"{after} - {before}")]
    columns = [*(column._replace(kind="words") for column in columns), Column("p_holm", "p")]
    models = {name: compared["trees"][name]["models"] for name in names}
    pairs = {name: compared["trees"][name]["pairs"] for name in names}
    rows = []
    for model, difference in compared["differences"].items():
        values = (_interval(models[name][model], "value", "number", printed) for name in names)
        change = _interval(difference, "difference", "signed", printed)
        rows.append(row(model, *values, change, difference["p_holm"]))
    for pair in (" - ".join(two) for two in combinations(compared["differences"], 2)):
        values = (_interval(pairs[name][pair], "difference", "signed", printed) for name in names)
        rows.append(row(pair, *values, None, None))
    return Table(columns, rows)


def _interval(numbers: Mapping[str, Any], name: str, kind: str, printed: Any) -> str:
    """Return a value with its confidence interval, where that is defined."""
    value, low, high = (printed(numbers[key], kind) for key in (name, "low", "high"))
    return value if numbers["low"] is None else f"{value} ({low} to {high})"
