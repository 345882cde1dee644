"""params.yaml -> runs/plan/: one resolved, validated configuration per run and stage."""

import json
import shutil
import sys
from pathlib import Path

from stages import run

OUT = Path("runs/plan")


def main() -> None:
    # Here, because torch takes seconds to import, which `--help` does not need.
    from msabench import params, plan

    configs = plan.resolve(params.load(Path("params.yaml")))
    shutil.rmtree(OUT, ignore_errors=True)
    for name, config in configs.items():
        path = OUT / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    run(main, *sys.argv[1:])
