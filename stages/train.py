"""One run and seed: fit on train and valid, then predict -> runs/ and predictions/."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from msabench.errors import DataError
from stages import parent_is_alive, run

PAGE = "docs/reliability.md"
PREPARED, FEATURES = Path("data/prepared"), Path("data/features")


def main(name: str, seed: int) -> None:
    plan = Path(f"runs/plan/{name}.json")
    weights, outcome = Path(f"runs/{name}-{seed}"), Path(f"predictions/{name}-{seed}")
    config = json.loads(plan.read_text())
    for reason in ("same_as", "not_compared"):  # the run that is trained for it; its model
        if reason in config:
            _write_all(f"{reason}.json", config, weights, outcome)
            return
    # Here, because torch takes seconds to import, which an equal run does not need.
    from msabench import hashes, models, runs
    from msabench.execution import interruption, scratch, times
    from msabench.folds import FIRST, splits_of
    from msabench.networks import corrupted, parallel, torch_settings
    from msabench.utterances import MEAN_FRAMES, load_splits, mean_frames

    file = models.files()[config["model"]]
    if hashes.of_file(file) != config["code"]:  # else DVC would record it as the code of the plan
        raise DataError(f"{file} has changed since the plan was made: `dvc repro plan`")
    torch_settings.configure(config)
    reads, data = FEATURES / f"runs/{name}.json", PREPARED / "sha256.json"
    text = json.loads(reads.read_text())
    parts = load_splits(PREPARED, FEATURES, text["array"], config["modalities"])
    if "missing" in text:
        parts = corrupted.with_copies(parts, FEATURES, text["missing"])
    train = splits_of(parts)["train"]
    absent = [name for name in config["modalities"] if name not in train.sequences]
    if absent and config.get("modalities_required"):
        print(f"{name}: not trained, the data set has no {', '.join(absent)}", file=sys.stderr)
        _write_all("absent.json", {"absent": absent}, weights, outcome)
        return
    decisive = (plan, reads, data, *scratch.decisive_code())
    record = Path(f"runs/times/{outcome.name}.json")
    machine = torch_settings.machine(config["device"])
    machine += f", {config['threads']} of {os.cpu_count()} cores"
    identity = torch_settings.identity(config["device"])
    with (
        scratch.folder(Path("runs/scratch"), outcome.name, *decisive, machine=identity) as place,
        interruption.after_step(parent_is_alive),
        times.recorded(record, place.name, machine, kept=parallel.is_rank_zero()) as time,
    ):
        if parallel.is_rank_zero():
            _empty(weights, outcome)
        regressor = runs.fit_and_predict(config, parts, seed, scratch=place, outcome=outcome)
        if not parallel.is_rank_zero():
            return
        regressor.save(weights)
        if FIRST in parts:
            (weights / MEAN_FRAMES).write_text(json.dumps(mean_frames(train)) + "\n")
        else:
            shutil.copyfile(PREPARED / MEAN_FRAMES, weights / MEAN_FRAMES)
        time["weights"] = hashes.of_file(weights / "weights.safetensors")
        facts = {"run": name, "seed": seed, **config, "text": text}
        facts |= {"data": json.loads(data.read_text()), "widths": train.widths}
        facts |= {"fold": FIRST} if FIRST in parts else {}  # of the weights
        facts |= {"about": models.about(config["model"]), "size": regressor.size()}
        facts |= {"versions": scratch.versions(), "weights": time["weights"]}
        runs.write_facts(facts, weights, outcome)


def _write_all(file: str, content: dict[str, Any], *folders: Path) -> None:
    """Write the one file of a run that is not trained."""
    _empty(*folders)
    for folder in folders:
        (folder / file).write_text(json.dumps(content) + "\n")


def _empty(*folders: Path) -> None:
    """Begin with nothing, as under DVC: a killed run may have left a part of a file."""
    for folder in folders:
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)


if __name__ == "__main__":
    run(main, *sys.argv[1:])
