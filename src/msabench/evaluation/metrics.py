"""Metrics: how far predictions are from labels.

Every metric takes the labels and the predictions of n >= 1 utterances, each (n,) and finite, and
returns one float, or None where it is not defined (where MMSA raises, or yields NaN or 0); its name
is its key in json and its column in the tables. Accuracies and F1 lie in 0..1. The definitions are
those of the MMSA benchmark (MOSEI = MOSI; CH-SIMS has its own set), which names `acc_2, f1` "Non0"
and `acc_2_has0, f1_has0` "Has0". Here 0 is the neutral label; `evaluate` measures labels about any
neutral point from there.
"""

from collections.abc import Callable, Collection

import numpy as np
from jaxtyping import Bool, Float, Integer

from msabench.labels import MOSEI, NO_NEUTRAL, SIMS_CUTS, Classes, LabelScale, binned

Values = Float[np.ndarray, " n"]

HEADLINE = ("mae", "corr", "acc_2", "f1")  # the columns of the report's tables


def mae(labels: Values, predictions: Values) -> float:
    """Return the mean absolute error, in units of the label."""
    return float(np.abs(predictions.astype(np.float64) - labels.astype(np.float64)).mean())


def corr(labels: Values, predictions: Values) -> float | None:
    """Return Pearson's correlation, -1..1; None where a side is constant (n = 1 included)."""
    if np.ptp(labels) == 0 or np.ptp(predictions) == 0:
        return None
    a, b = _standardised(labels), _standardised(predictions)
    return float(np.clip((a * b).sum(), -1.0, 1.0))


def acc_2(labels: Values, predictions: Values) -> float | None:
    """Return the accuracy of the sign, value > 0, without the labels equal to 0.

    A prediction of exactly 0 counts as negative. None where every label is 0.
    """
    kept = labels != 0
    return _accuracy(labels[kept] > 0, predictions[kept] > 0) if kept.any() else None


def f1(labels: Values, predictions: Values) -> float | None:
    """Return the weighted F1 of the sign, value > 0, without the labels equal to 0; see acc_2."""
    kept = labels != 0
    return _weighted_f1(labels[kept] > 0, predictions[kept] > 0) if kept.any() else None


def acc_2_has0(labels: Values, predictions: Values) -> float:
    """Return the accuracy of value >= 0 over all utterances."""
    return _accuracy(labels >= 0, predictions >= 0)


def f1_has0(labels: Values, predictions: Values) -> float:
    """Return the weighted F1 of value >= 0 over all utterances."""
    return _weighted_f1(labels >= 0, predictions >= 0)


def acc_2_pos(labels: Values, predictions: Values) -> float:
    """Return the accuracy of value > 0 over all utterances; the report's SVM rows fit this one."""
    return _accuracy(labels > 0, predictions > 0)


def f1_pos(labels: Values, predictions: Values) -> float | None:
    """Return the F1 of the class value > 0 over all utterances; see acc_2_pos.

    None where neither a label nor a prediction is positive.
    """
    return _f1(labels > 0, predictions > 0)


def acc_3(labels: Values, predictions: Values) -> float:
    """Return the accuracy of the value clipped to -1..1 and rounded."""
    return _accuracy(_rounded(labels, 1), _rounded(predictions, 1))


def acc_5(labels: Values, predictions: Values) -> float:
    """Return the accuracy of the value clipped to -2..2 and rounded."""
    return _accuracy(_rounded(labels, 2), _rounded(predictions, 2))


def acc_7(labels: Values, predictions: Values) -> float:
    """Return the accuracy of the value clipped to -3..3 and rounded."""
    return _accuracy(_rounded(labels, 3), _rounded(predictions, 3))


def f1_sims(labels: Values, predictions: Values) -> float:
    """Return the weighted F1 of value > 0 over all utterances (CH-SIMS: 0 is negative)."""
    return _weighted_f1(labels > 0, predictions > 0)


def acc_3_sims(labels: Values, predictions: Values) -> float:
    """Return the accuracy of three classes, cut at -0.1 and 0.1."""
    cuts = (-0.1, 0.1)
    return _accuracy(binned(labels, cuts), binned(predictions, cuts))


def acc_5_sims(labels: Values, predictions: Values) -> float:
    """Return the accuracy of five classes, cut at -0.7, -0.1, 0.1 and 0.7."""
    return _accuracy(binned(labels, SIMS_CUTS), binned(predictions, SIMS_CUTS))


Metric = Callable[[np.ndarray, np.ndarray], float | None]

_MOSEI: tuple[Metric, ...] = (
    *(mae, corr, acc_2, f1),
    *(acc_2_has0, f1_has0, acc_2_pos, f1_pos),
    *(acc_3, acc_5, acc_7),
)
METRICS: dict[str, dict[str, Metric]] = {
    "mosei": {metric.__name__: metric for metric in _MOSEI},
    # The names of CH-SIMS's metrics are those of MOSEI; what they cut, and where, differs.
    "sims": {
        **{"mae": mae, "corr": corr, "acc_2": acc_2_pos, "f1": f1_sims},
        **{"acc_3": acc_3_sims, "acc_5": acc_5_sims},
    },
}
# Those of labels on any scale; all others count from the neutral point.
ANYWHERE = ("mae", "corr")
UNITS = {"acc_3": 3, "acc_5": 5, "acc_7": 7}  # classes of whole units about it
# What a metric needs of labels and predictions.
NEEDS = {
    "corr": "labels and predictions that vary",
    "acc_2": "a label that is not neutral",
    "f1": "a label that is not neutral",
    "f1_pos": "a positive label or prediction",
}


def evaluate(
    labels: Values,
    predictions: Values,
    kind: str = "mosei",
    scale: LabelScale = MOSEI,
) -> dict[str, float | None]:
    """Return every metric of a set, by name, None where undefined: see `undefined`.

    Signs and classes are those about the neutral point of the scale. "sims", which is for its own
    scale alone, clips both sides to -1..1 first.
    Raises ValueError for an unknown set, for no utterance and for a value that is not finite
    (MMSA counts a NaN as negative).
    """
    if kind not in METRICS:
        raise ValueError(f"metrics: {kind!r} is unknown; known: {', '.join(METRICS)}")
    if len(labels) == 0:
        raise ValueError("metrics: 0 utterances; at least 1 is needed")
    for name, values in (("label", labels), ("prediction", predictions)):
        if not np.isfinite(values).all():
            i = int((~np.isfinite(values)).argmax())
            raise ValueError(f"metrics: {name} {i} is {values[i]}; permitted: finite numbers")
    return {name: on_scale(name, kind, scale)(labels, predictions) for name in METRICS[kind]}


def on_scale(name: str, kind: str = "mosei", scale: LabelScale = MOSEI) -> Metric:
    """Return a metric of a set as a function of values on this scale, which it does not check."""
    metric, centre = METRICS[kind][name], scale.centre
    if name in undefined(kind, scale):
        return _undefined
    if kind == "sims":
        return lambda labels, predictions: metric(labels.clip(-1, 1), predictions.clip(-1, 1))
    if name in ANYWHERE:
        return metric
    return lambda labels, predictions: metric(labels - centre, predictions - centre)


def undefined(kind: str, scale: LabelScale) -> set[str]:
    """Return the metrics of a set that are undefined for labels on this scale.

    Without a neutral point, all that count from it; with one, those of classes of whole units
    where the range has no such classes.
    """
    if kind == "sims":
        return set()
    if scale.neutral is None:
        return set(METRICS[kind]) - set(ANYWHERE)
    return {name for name, classes in UNITS.items() if not scale.has_units(classes)}


def why_undefined(names: Collection[str], kind: str, scale: LabelScale) -> str:
    """Return a sentence on why these metrics are None, or "" for no metrics."""
    never = undefined(kind, scale)
    by_scale = [name for name in METRICS[kind] if name in names and name in never]
    reasons = [
        f"{name} is not defined without {NEEDS[name]}."
        for name in METRICS[kind]
        if name in names and name not in never
    ]
    if by_scale and scale.neutral is None:
        reasons.insert(0, f"Acc and F1 are not defined: {scale} {NO_NEUTRAL}.")
    elif by_scale:
        reasons.insert(
            0,
            f"Not defined for {scale}: {', '.join(by_scale)}; acc_k needs (k - 1) / 2 to 3 whole "
            "units on both sides of the neutral point.",
        )
    return " ".join(reasons)


def confusion(labels: Values, predictions: Values, classes: Classes) -> Integer[np.ndarray, "k k"]:
    """Return the confusion matrix: utterances by true class (row) and predicted class (column)."""
    k = len(classes.names)
    counts = np.zeros((k, k), dtype=np.int64)
    np.add.at(counts, (classes.of(labels), classes.of(predictions)), 1)
    return counts


def _undefined(labels: Values, predictions: Values) -> None:  # noqa: ARG001
    return None


def _standardised(values: Values) -> Values:
    """Centre values that vary to mean 0 and scale them to length 1."""
    values = values.astype(np.float64)
    values = values - values.mean()
    values = values / np.abs(values).max()  # so that no square underflows
    return values / np.sqrt((values**2).sum())


def _rounded(values: Values, top: int) -> Integer[np.ndarray, " n"]:
    return np.rint(values.clip(-top, top)).astype(np.int64)  # halves to even, as in MMSA


def _accuracy(truth: np.ndarray, guess: np.ndarray) -> float:
    return float((truth == guess).mean())


def _f1(truth: Bool[np.ndarray, " n"], guess: Bool[np.ndarray, " n"]) -> float | None:
    total = truth.sum() + guess.sum()
    return float(2 * (truth & guess).sum() / total) if total else None


def _weighted_f1(truth: Bool[np.ndarray, " n"], guess: Bool[np.ndarray, " n"]) -> float:
    """Return the F1 of both classes, weighted by their frequency among the labels."""
    share = float(truth.mean())
    # A class without labels has weight 0, and its F1 may be undefined.
    return share * (_f1(truth, guess) or 0.0) + (1 - share) * (_f1(~truth, ~guess) or 0.0)
