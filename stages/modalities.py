"""Table 2: one model on each subset of the modalities -> predictions/modalities/<subset>/."""

import json
import shutil
import sys
from pathlib import Path

from msabench.utterances import load_splits
from stages import PARENT, run

SECTION = "Interrupted"  # of the README
OUT = Path("predictions/modalities")


def main() -> None:
    # Here, because torch takes seconds to import, which `--help` does not need.
    from msabench import runs
    from msabench.networks import torch_settings
    from msabench.training import interruption

    stage = json.loads(Path("runs/plan/stages/modalities.json").read_text())
    config = json.loads(Path(f"runs/plan/{stage['run']}.json").read_text())
    array = json.loads(Path(f"data/features/runs/{stage['run']}.json").read_text())["array"]
    torch_settings.configure(config)
    shutil.rmtree(OUT, ignore_errors=True)
    with interruption.after_step(PARENT):
        for subset, modalities in stage["subsets"].items():
            splits = load_splits(Path("data/prepared"), Path("data/features"), array, modalities)
            if list(splits["train"].sequences) != modalities:
                print(f"{subset}: left out, the data set lacks one of {', '.join(modalities)}")
                continue
            runs.fit_and_predict(config, splits, seed=0, scratch=OUT, outcome=OUT / subset)


if __name__ == "__main__":
    run(main, *sys.argv[1:])
