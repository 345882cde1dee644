"""params.yaml -> runs/plan/: one resolved, validated configuration per run and stage.

Predictions of runs that the params no longer name are removed: the stages that read all of
predictions/ would take them for results. DVC's cache keeps those of stages that had ended. What has
no name of a run stays, as .dvcignore keeps it from those stages.
"""

import json
import re
import shutil
import sys
from pathlib import Path

from stages import run

PAGE = "docs/experiments.md"
OUT, PREDICTIONS = Path("runs/plan"), Path("predictions")
OF_A_RUN = re.compile(r"[\w.+-]+-\d+")


def main() -> None:
    # Here, because torch takes seconds to import, which `--help` does not need.
    from msabench import params, plan

    settings = params.load(Path("params.yaml"))
    runs = plan.runs_of(settings)
    configs = plan.resolve(settings, runs)
    shutil.rmtree(OUT, ignore_errors=True)
    for name, config in configs.items():
        path = OUT / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(config, indent=2) + "\n")
    _remove_all_but(plan.prediction_folders(settings, runs))


def _remove_all_but(named: set[str]) -> None:
    for folder in sorted(PREDICTIONS.glob("*/")):
        if OF_A_RUN.fullmatch(folder.name) and folder.name not in named:
            if folder.is_symlink():
                folder.unlink()
            else:
                shutil.rmtree(folder)
            print(f"{folder}: removed, as params.yaml names no such run")


if __name__ == "__main__":
    run(main, *sys.argv[1:])
