"""One run: a model, its settings and a seed, from prepared data to predictions, and back again."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msabench import __version__, arithmetic, errors, models
from msabench.errors import DataError
from msabench.models import Regressor
from msabench.networks import parallel
from msabench.networks.torch_settings import Device
from msabench.predictions import Predictions
from msabench.training.loop import write_history
from msabench.utterances import MEAN_FRAMES, Utterances

FILES = ("run.json", "weights.safetensors", MEAN_FRAMES)  # of a saved run


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
    regressor = models.build(config, train.widths, config["device"])
    with errors.see("docs/experiments.md"):
        history = regressor.fit(train, splits["valid"], seed=seed, scratch=scratch)
        predicted = {split: regressor.predict(splits[split]) for split in ("valid", "test")}
    if parallel.is_rank_zero():
        outcome.mkdir(parents=True, exist_ok=True)
        for split, predictions in predicted.items():
            data = splits[split]
            Predictions(data.ids, data.labels, predictions).write(outcome / f"{split}.csv")
        write_history(outcome / "history.csv", history)
    return regressor


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
