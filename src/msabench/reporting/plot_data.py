"""The small csv files behind the figures, one per model, which `dvc plots` draws too."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from msabench.evaluation.metrics import HEADLINE
from msabench.evaluation.statistics import mean_history
from msabench.evaluation.tables import Row, Runs
from msabench.labels import Classes


def write(
    folder: Path, runs: Mapping[str, Runs], table6: Mapping[str, Row], classes: Classes
) -> None:
    """Write learning/, predictions/ and confusion/ with a file per model, and table6.csv.

    Curves and predictions are means over seeds; confusion is that of all seeds together.
    """
    for model, seeds in runs.items():
        if seeds.histories:
            _columns(folder / f"learning/{model}.csv", mean_history(seeds.histories))
        if seeds.test:
            mean = dict(zip(("label", "prediction"), seeds.mean(), strict=True))
            _columns(folder / f"predictions/{model}.csv", mean)
            sides = zip(("actual", "predicted"), seeds.pooled(), strict=True)
            pooled = {side: [classes.names[i] for i in classes.of(v)] for side, v in sides}
            _columns(folder / f"confusion/{model}.csv", pooled)
    scores = {metric: [row[metric] for row in table6.values()] for metric in HEADLINE}
    _columns(folder / "table6.csv", {"model": list(table6), **scores})


def _columns(path: Path, columns: Mapping[str, Sequence[Any] | np.ndarray]) -> None:
    """Write columns of one length as csv, floats to 4 decimals, nothing for what is not defined."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for line in zip(*columns.values(), strict=True):
            writer.writerow([_cell(value) for value in line])


def _cell(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return "" if np.isnan(value) else f"{round(value, 4):zg}"
