"""One run and seed: fit on train and valid, then predict -> runs/ and predictions/."""

import json
import os
import shutil
import sys
from pathlib import Path

from msabench import arithmetic
from stages import PARENT, run

SECTION = "Interrupted"  # of the README


def main(name: str, seed: int) -> None:
    plan = Path(f"runs/plan/{name}.json")
    reads = Path(f"data/features/runs/{name}.json")
    data = Path("data/prepared/sha256.json")
    weights, outcome = Path(f"runs/{name}-{seed}"), Path(f"predictions/{name}-{seed}")
    config = json.loads(plan.read_text())
    if "same_as" in config:  # a row of the sweep that another run has trained
        _empty(weights, outcome)
        for folder in (weights, outcome):
            (folder / "same_as.json").write_text(json.dumps(config) + "\n")
        return
    # Here, because torch takes seconds to import, which a row trained elsewhere does not need.
    from msabench import hashes, models, runs
    from msabench.networks import parallel, torch_settings
    from msabench.training import interruption, scratch, times
    from msabench.utterances import load_splits

    torch_settings.configure(config)
    text = json.loads(reads.read_text())
    splits = load_splits(
        Path("data/prepared"), Path("data/features"), text["array"], config["modalities"]
    )
    decisive = (plan, reads, data, Path("src/msabench"))
    machine = torch_settings.identity(config["device"])
    first = parallel.is_rank_zero()  # of several processes, the first writes
    used = (
        f"{torch_settings.machine(config['device'])}, {config['threads']} of {os.cpu_count()} cores"
    )
    with (
        scratch.folder(Path("runs/scratch"), outcome.name, *decisive, machine=machine) as place,
        interruption.after_step(PARENT),
        times.counted(
            Path(f"runs/times/{outcome.name}.json"), place.name, used, kept=first
        ) as time,
    ):
        if first:
            _empty(weights, outcome)
        regressor = runs.fit_and_predict(config, splits, seed, scratch=place, outcome=outcome)
        if not first:
            return
        regressor.save(weights)
        means = runs.mean_frames(splits["train"])
        (weights / runs.MEAN_FRAMES).write_text(json.dumps(means) + "\n")
        made = {"run": name, "seed": seed, **config, "text": text}
        made |= {"data": json.loads(data.read_text()), "widths": splits["train"].widths}
        time["weights"] = hashes.of_file(weights / "weights.safetensors")
        made |= {"about": models.about(config["model"]), "size": regressor.size()}
        made |= {"versions": scratch.versions(), "weights": time["weights"]}
        made["arithmetic_in_use"] = arithmetic.in_use
        for folder in (weights, outcome):  # what made the weights made the predictions
            (folder / "run.json").write_text(json.dumps(made, indent=2) + "\n")


def _empty(*folders: Path) -> None:
    """Begin with nothing, as under DVC: a killed run may have left a part of a file."""
    for folder in folders:
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)


if __name__ == "__main__":
    run(main, *sys.argv[1:])
