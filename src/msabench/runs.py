"""One run: a model, its settings and a seed, from prepared data to predictions, and back again."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msabench import __version__, arithmetic, errors, models
from msabench.errors import DataError
from msabench.folds import folds_of, splits_of
from msabench.models import Regressor
from msabench.networks import parallel
from msabench.networks.torch_settings import Device
from msabench.predictions import Predictions
from msabench.training.loop import write_history
from msabench.utterances import MEAN_FRAMES, Utterances

PREDICTED = ("valid", "test")
FILES = ("run.json", "weights.safetensors", MEAN_FRAMES)  # of a saved run


def fit_and_predict(
    config: Mapping[str, Any],
    parts: Mapping[str, Utterances],
    seed: int,
    *,
    scratch: Path,
    outcome: Path,
) -> Regressor:
    """Fit on train and valid; write predictions of valid and test, and the history, to outcome.

    Over folds: one model for each, whose predictions are joined; the history and the model that is
    returned are those of the first, which is the last to be fitted.
    config: a run of the plan. parts: see msabench.folds. scratch: where an unfinished training
    keeps its checkpoint, and what the finished folds predicted. Of several processes the first
    writes.
    """
    predicted = {fold: scratch / "predicted" / fold for fold in folds_of(parts)}
    *others, first = reversed(predicted)
    for fold in others:
        if not parallel.broadcast(predicted[fold].exists()):
            splits = splits_of(parts, fold)
            _fit_and_predict(config, splits, seed, scratch / fold, predicted[fold])
    splits = splits_of(parts, first)
    regressor = _fit_and_predict(config, splits, seed, scratch / first, predicted[first])
    if parallel.is_rank_zero():
        _join([*predicted.values()], outcome)
    return regressor


def _fit_and_predict(
    config: Mapping[str, Any],
    splits: Mapping[str, Utterances],
    seed: int,
    scratch: Path,
    predicted: Path,
) -> Regressor:
    """Do so for one fold, and write to `predicted`, which is whole as soon as it has its name."""
    train = splits["train"]
    regressor = models.build(config, train.widths, config["device"])
    with errors.see("docs/experiments.md"):
        history = regressor.fit(train, splits["valid"], seed=seed, scratch=scratch)
        predictions = {split: regressor.predict(splits[split]) for split in PREDICTED}
    if parallel.is_rank_zero():
        unfinished = predicted.with_name(f"{predicted.name}.unfinished")
        for folder in (predicted, unfinished):
            shutil.rmtree(folder, ignore_errors=True)
        unfinished.mkdir(parents=True)
        for split, values in predictions.items():
            data = splits[split]
            Predictions(data.ids, data.labels, values).write(unfinished / f"{split}.csv")
        write_history(unfinished / "history.csv", history)
        unfinished.rename(predicted)
    return regressor


def _join(folds: Sequence[Path], outcome: Path) -> None:
    """Write the predictions of all folds as one, and the history of the first."""
    shutil.copytree(folds[0], outcome, dirs_exist_ok=True)
    for split in PREDICTED if len(folds) > 1 else ():
        parts = [Predictions.read(fold / f"{split}.csv") for fold in folds]
        Predictions.join(parts).write(outcome / f"{split}.csv")


def write_facts(facts: Mapping[str, Any], *folders: Path) -> None:
    """Write run.json: what a run is, beside the weights and beside the predictions."""
    facts = {"msabench": __version__, **facts, "arithmetic_in_use": arithmetic.in_use}
    for folder in folders:
        (folder / "run.json").write_text(json.dumps(facts, indent=2) + "\n")


def config(folder: Path) -> dict[str, Any]:
    """Return run.json of a saved run.

    Raises DataError for a folder that holds no complete run, and for one of an earlier version.
    """
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise DataError(f"{folder}: no trained run; {' and '.join(missing)} missing")
    saved = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    if "msabench" not in saved:  # as of 0.1.0, whose settings are flat
        raise DataError(
            f"{folder}: saved by msabench 0.1.0 or earlier; this is {__version__}: train it again: "
            "`dvc repro`"
        )
    return saved


def restore(folder: Path, config: Mapping[str, Any], device: Device) -> Regressor:
    """Return the trained model of a saved run, of which config is run.json.

    Of the settings, `encoder` and `network` suffice.
    """
    regressor = models.build(config, config["widths"], device)
    regressor.load(folder)
    return regressor
