"""One run and seed: fit on train and valid, then predict -> runs/ and predictions/."""

import json
import sys
from importlib.metadata import version
from pathlib import Path

from msabench import models, scratch, training
from msabench.predictions import Predictions
from msabench.utterances import load_splits
from stages import run

PACKAGES = ("numpy", "scikit-learn", "torch", "transformers")


def main(name: str, seed: str) -> None:
    plan = Path(f"runs/plan/{name}.json")
    reads = Path(f"data/features/runs/{name}.json")
    weights, outcome = Path(f"runs/{name}-{seed}"), Path(f"predictions/{name}-{seed}")
    config = json.loads(plan.read_text())
    for folder in (weights, outcome):
        folder.mkdir(parents=True, exist_ok=True)
    if "same_as" in config:  # a row of the sweep that another run has trained
        for folder in (weights, outcome):
            (folder / "same_as.json").write_text(json.dumps(config) + "\n")
        return
    training.settle(config["threads"])
    array = json.loads(reads.read_text())["array"]
    splits = load_splits(Path("data/prepared"), Path("data/features"), array, config["modalities"])
    train, valid = splits["train"], splits["valid"]
    regressor = models.build(
        config["model"],
        config["settings"],
        train.widths,
        text_encoder=config["text_encoder"],
        device=config["device"],
    )
    data = Path("data/prepared/sha256.json")
    place = scratch.folder(Path("runs/scratch"), seed, plan, reads, data, Path("src/msabench"))
    history = regressor.fit(train, valid, seed=int(seed), scratch=place)
    for split in ("valid", "test"):
        predictions = regressor.predict(splits[split])
        Predictions(splits[split].ids, splits[split].labels, predictions).write(
            outcome / f"{split}.csv"
        )
    training.write_history(outcome / "history.csv", history)
    regressor.save(weights)
    made = {"run": name, "seed": int(seed), **config, "text": json.loads(reads.read_text())}
    made |= {"data": json.loads(data.read_text()), "widths": train.widths}
    made |= {"versions": {package: version(package) for package in PACKAGES}}
    (weights / "run.json").write_text(json.dumps(made, indent=2) + "\n")
    scratch.remove(place)


if __name__ == "__main__":
    run(main, *sys.argv[1:])
