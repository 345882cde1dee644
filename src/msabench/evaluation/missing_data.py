"""The curve of missing data: the same share of all modalities missing, from none to nine tenths.

The protocol of LNLN (Zhang et al., NeurIPS 2024, Towards Robust Multimodal Sentiment Analysis with
Incomplete Data): a metric is measured at each of ten shares, and their mean is the area under the
curve. As a MAE it is that of the errors averaged over shares, and has the statistics of one.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from msabench.evaluation import metrics, statistics, tables
from msabench.evaluation.metrics import METRICS, Metric
from msabench.evaluation.robustness import ALL
from msabench.evaluation.tables import Row
from msabench.predictions import Predictions
from msabench.utterances import Utterances


def measure(
    plan: Mapping[str, Any],
    files: Mapping[tuple[str, str, str], Sequence[Path]],
    test: Utterances,
) -> dict[str, Any]:
    """Measure the curve of each model; empty where no corrupted data were predicted.

    plan: of the tables. files: see tables.robustness_files; a model without all of its own is left
    out. Models stand in the order of side_by_side.

    Returns `whole` and `area`: the MAE at share 0 and its mean over shares, with the `models` and
    `pairs` of statistics.compare, and `counterparts`: the difference of each model trained with
    missing data to its counterpart, below 0 in favour of the former, paired by seed; `metrics`: of
    each model the mean over shares of every metric, with its spread over seeds. What is not defined
    is None.
    """
    curves = _read(plan, files, test)
    if not curves:
        return {}
    own = {name: trained["counterpart"] for name, trained in plan["missing"].items()}
    pairs = [(name, other) for name, other in own.items() if {name, other} <= curves.keys()]
    metric = over_shares(metrics.mae)
    compared = {}
    for part, shares in (("whole", slice(1)), ("area", slice(None))):
        models = {
            name: statistics.replicates(metric, labels, predictions[..., shares], test.videos)
            for name, (labels, predictions) in curves.items()
        }
        compared[part] = tables.compare_replicates(models, test)
        paired = tables.compare_replicates(models, test, pairs=pairs, paired=True)["pairs"]
        compared[part]["counterparts"] = {name: paired[f"{name} - {of}"] for name, of in pairs}
    return compared | {"metrics": {name: _means(plan, *curve) for name, curve in curves.items()}}


def over_shares(metric: Metric) -> Metric:
    """Return the mean of a metric over s shares; None where it is not defined at one.

    It takes labels, (n,), and predictions, (n, s).
    """

    def mean(labels: np.ndarray, predictions: np.ndarray) -> float | None:
        return _mean([metric(labels, of_share) for of_share in predictions.T])

    return mean


def side_by_side(plan: Mapping[str, Any], models: Iterable[str]) -> list[str]:
    """Return the models, each that is trained with missing data right after its counterpart."""
    places = {name: place for place, name in enumerate(models)}

    def place(name: str) -> tuple[int, bool]:
        counterpart = plan["missing"].get(name, {}).get("counterpart")
        follows = counterpart in places
        return places[counterpart if follows else name], follows

    return sorted(places, key=place)


def _read(
    plan: Mapping[str, Any],
    files: Mapping[tuple[str, str, str], Sequence[Path]],
    test: Utterances,
) -> dict[str, tuple[Float[np.ndarray, " n"], Float[np.ndarray, "k n s"]]]:
    """Read the labels and the predictions of k seeds at s shares of each model."""
    paths: dict[str, list[Sequence[Path]]] = {}
    for (model, kind, _), seeds in files.items():
        if kind == ALL:
            paths.setdefault(model, []).append(seeds)
    read = {}
    for model in side_by_side(plan, paths):
        if all(path.exists() for seeds in paths[model] for path in seeds):
            runs = [[_run(path, test) for path in seeds] for seeds in paths[model]]
            predictions = np.array([[run.predictions for run in seeds] for seeds in runs])
            read[model] = runs[0][0].labels, np.moveaxis(predictions, 0, 2)
    return read


def _run(path: Path, test: Utterances) -> Predictions:
    run = Predictions.read(path)
    run.check(path, test)
    return run


def _means(
    plan: Mapping[str, Any],
    labels: Float[np.ndarray, " n"],
    predictions: Float[np.ndarray, "k n s"],
) -> Row:
    """Return every metric of the data set as its mean over s shares, with the spread over seeds."""
    seeds = [
        [tables.evaluate(plan, labels, of_share) for of_share in of_seed.T]
        for of_seed in predictions
    ]
    return tables.mean_and_spread(
        {
            metric: [_mean([row[metric] for row in shares]) for shares in seeds]
            for metric in METRICS[plan["metrics"]]
        }
    )


def _mean(values: Sequence[float | None]) -> float | None:
    """Return the mean; None where a value is, as that over the others is one of other shares."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None
