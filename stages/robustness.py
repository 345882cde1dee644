"""One trained run on corrupted test data -> predictions/robustness-<run>-<seed>/<kind>/<level>.csv.

See msabench.evaluation.robustness for kinds and levels.
"""

import shutil
import sys
from pathlib import Path

from stages import parent_is_alive, run

PAGE = "docs/results.md"
PREPARED = Path("data/prepared")


def main(name: str, seed: int) -> None:
    from msabench import runs  # here, as `--help` needs none of these
    from msabench.evaluation.corrupted_data import CorruptedData
    from msabench.evaluation.robustness import kinds_by_level
    from msabench.execution import interruption
    from msabench.networks import text, torch_settings
    from msabench.predictions import Predictions
    from msabench.utterances import SPLITS, load_prepared, parts_of

    weights, out = Path(f"runs/{name}-{seed}"), Path(f"predictions/robustness-{name}-{seed}")
    shutil.rmtree(out, ignore_errors=True)
    if parts_of(PREPARED) != SPLITS:
        print(f"{name}: robustness is not measured over folds", file=sys.stderr)
        out.mkdir(parents=True)
        return
    with interruption.after_step(parent_is_alive):
        config = runs.config(weights)
        torch_settings.configure(config)
        regressor = runs.restore(weights, config, config["device"])
        splits = load_prepared(PREPARED)
        train, test = splits["train"], splits["test"].select(config["widths"])
        reader = None
        if "text" in config["widths"]:
            device = torch_settings.choose_device(config["device"])
            reader = text.Reader(config["encoder"], config["text"], device)
        data = CorruptedData.of(train, test, reader, seed)

        untouched = regressor.predict(data.whole)
        for level, kinds in kinds_by_level(data.whole.sequences).items():
            for kind in kinds:
                predictions = regressor.predict(data.at(kind, level)) if level > 0 else untouched
                (out / kind).mkdir(parents=True, exist_ok=True)
                Predictions(test.ids, test.labels, predictions).write(out / kind / f"{level:g}.csv")


if __name__ == "__main__":
    run(main, *sys.argv[1:])
