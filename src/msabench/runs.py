"""One run: a model, its settings and a seed, from prepared data to predictions, and back again."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msabench import errors, models
from msabench.errors import DataError
from msabench.models import Regressor
from msabench.networks import parallel
from msabench.networks.layers import Standardize
from msabench.networks.torch_settings import Device
from msabench.predictions import Predictions
from msabench.training.loop import write_history
from msabench.utterances import Utterances

MEAN_FRAMES = "mean_frames.json"  # beside the weights


def fit_and_predict(
    config: Mapping[str, Any],
    splits: Mapping[str, Utterances],
    seed: int,
    *,
    scratch: Path,
    outcome: Path,
) -> Regressor:
    """Fit on train and valid; write predictions of valid and test, and the history, to outcome.

    config: a run of the plan. scratch: where an unfinished training keeps its checkpoint. Of
    several processes the first writes.
    """
    train = splits["train"]
    regressor = models.build(
        config["model"],
        config["settings"],
        train.widths,
        text_encoder=config["text_encoder"],
        device=config["device"],
    )
    with errors.see("docs/experiments.md"):
        history = regressor.fit(train, splits["valid"], seed=seed, scratch=scratch)
        found = {split: regressor.predict(splits[split]) for split in ("valid", "test")}
    if parallel.is_rank_zero():
        outcome.mkdir(parents=True, exist_ok=True)
        for split, predictions in found.items():
            data = splits[split]
            Predictions(data.ids, data.labels, predictions).write(outcome / f"{split}.csv")
        write_history(outcome / "history.csv", history)
    return regressor


def mean_frames(train: Utterances) -> dict[str, list[float]]:
    """Return the mean frame of each modality but text, which may stand in for one that is missing.

    To six digits, which are the same on every processor.
    """
    means = {}
    for name, width in train.widths.items():
        if name != "text":
            statistics = Standardize(width)
            statistics.adapt(train.sequences[name])
            means[name] = [float(f"{value:.6g}") for value in statistics.mean.tolist()]
    return means


def config(folder: Path) -> dict[str, Any]:
    """Return what run.json of a saved run says.

    Raises DataError for a folder that holds no whole run.
    """
    if not all((folder / name).is_file() for name in ("run.json", "weights.safetensors")):
        raise DataError(f"{folder}: holds no trained run (run.json and weights.safetensors)")
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))


def restore(folder: Path, config: Mapping[str, Any], device: Device) -> Regressor:
    """Return the trained model of a saved run, of which config is run.json."""
    regressor = models.build(
        config["model"],
        config["settings"],
        config["widths"],
        text_encoder=config["text_encoder"],
        device=device,
    )
    regressor.load(folder)
    return regressor
