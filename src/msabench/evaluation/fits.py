"""How each run ended, as far as its predictions and its history show."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from msabench.evaluation.statistics import Row
from msabench.evaluation.tables import read_history
from msabench.predictions import Predictions
from msabench.training.schedule import Cosine, Plateau, Schedule

# A model whose predictions on test have less than this share of the standard deviation of the
# labels is nearly a constant. Self-MM has .01 on POM, where nothing beats a constant, ours .07 to
# .13; on simulated data the least is .48 (SVM, audio alone).
LEAST_SPREAD = 0.1
# Of the schedules that are no single word in params.yaml.
NAMES: dict[type, str] = {Plateau: "plateau", Cosine: "cosine by epochs"}


def measure(folders: Iterable[str], predictions: Path) -> dict[str, Row]:
    """Measure each of these folders of predictions, by its name.

    spread: the standard deviation of its predictions on test over that of the labels; None where
    all labels are equal. Of a model that is trained in epochs, else None: best_epoch, that of the
    weights that were kept, epochs, the most that were permitted, and decay, the schedule of the
    learning rate: none, linear, cosine, or one of NAMES.
    """
    return {
        folder: {"spread": _spread(predictions / folder / "test.csv")}
        | _epochs(predictions / folder)
        for folder in folders
    }


def at_limit(fit: Row) -> bool:
    """Return whether more epochs might have been better: the last one permitted was the best.

    Not where the learning rates fall to zero by then (linear or cosine), or by a number of epochs:
    the last epochs, with the smallest steps, are nearly always the best of such a schedule, which
    says nothing of a longer one.
    """
    return fit["decay"] in ("none", "plateau") and fit["best_epoch"] == fit["epochs"]


def _spread(path: Path) -> float | None:
    run = Predictions.read(path)
    varies = np.ptp(run.labels) > 0
    return float(run.predictions.std() / run.labels.std()) if varies else None


def _epochs(folder: Path) -> Row:
    file = folder / "history.csv"
    if not file.exists():
        return dict.fromkeys(("best_epoch", "epochs", "decay"))
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    schedule = Schedule(**run["schedule"])
    best = schedule.best_epoch(read_history(file)["valid_loss"])
    decay = schedule.decay
    name = decay if isinstance(decay, str) else NAMES[type(decay)]
    return {"best_epoch": best, "epochs": schedule.epochs, "decay": name}
