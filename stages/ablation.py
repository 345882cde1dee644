"""One model on each smaller subset of the modalities -> predictions/ablation-<model>/.

Off unless the params say `ablation.enabled: true`.
"""

import json
import shutil
import sys
from functools import partial
from pathlib import Path

from stages import PARENT, run

SECTION = "Interrupted"  # of the README


def main(name: str) -> None:
    plan = Path(f"runs/plan/ablation/{name}.json")
    out = Path(f"predictions/ablation-{name}")
    config = json.loads(plan.read_text())
    out.mkdir(parents=True, exist_ok=True)
    (out / "enabled.json").write_text(json.dumps(config["enabled"]) + "\n")
    if not config["enabled"]:
        return
    # Here, because torch takes seconds to import, which a stage switched off does not need.
    from msabench import runs
    from msabench.networks import torch_settings
    from msabench.training import interruption, scratch
    from msabench.utterances import load_splits

    torch_settings.configure(config)
    reads = Path(f"data/features/runs/{name}.json")
    decisive = (plan, reads, Path("data/prepared/sha256.json"), Path("src/msabench"))
    array = json.loads(reads.read_text())["array"]
    machine = torch_settings.identity(config["device"])
    with (
        scratch.folder(Path("runs/scratch"), out.name, *decisive, machine=machine) as place,
        interruption.after_step(PARENT),
    ):
        for subset, modalities in config["subsets"].items():
            splits = load_splits(Path("data/prepared"), Path("data/features"), array, modalities)
            if list(splits["train"].sequences) != modalities:
                print(f"{subset}: left out, the data set lacks one of {', '.join(modalities)}")
                continue
            for seed in config["seeds"]:
                one = f"{subset}-{seed}"
                training_place = place / f"training-{one}"
                train = partial(runs.fit_and_predict, config, splits, seed, scratch=training_place)
                try:  # interrupted, the stage repeats no finished run
                    scratch.once(place / one, train)
                except (FloatingPointError, MemoryError) as error:
                    kind = MemoryError if isinstance(error, MemoryError) else FloatingPointError
                    raise kind(f"{one}: {error}") from error
                shutil.rmtree(training_place, ignore_errors=True)
                shutil.copytree(place / one, out / one, ignore=scratch.ignore_manifest)


if __name__ == "__main__":
    run(main, *sys.argv[1:])
