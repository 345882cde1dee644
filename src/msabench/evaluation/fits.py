"""How each run ended, as far as its predictions and its history show."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from msabench.evaluation.statistics import Row
from msabench.predictions import Predictions

# A model whose predictions on test have less than this share of the standard deviation of the
# labels is nearly a constant. Self-MM has .01 on POM, where nothing beats a constant, ours .07 to
# .13; on simulated data the least is .48 (SVM, audio alone).
LEAST_SPREAD = 0.1


def measure(folders: Iterable[str], predictions: Path) -> dict[str, Row]:
    """Measure each of these folders of predictions, by its name.

    spread: the standard deviation of its predictions on test over that of the labels; None where
    all labels are equal.
    """
    return {folder: {"spread": _spread(predictions / folder / "test.csv")} for folder in folders}


def _spread(path: Path) -> float | None:
    run = Predictions.read(path)
    varies = np.ptp(run.labels) > 0
    return float(run.predictions.std() / run.labels.std()) if varies else None
