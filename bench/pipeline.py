"""The default run in a fresh clone: `make repro`, `dvc repro` again, and what starting costs.

The clone is of the last commit; installation is not counted. Start-up is the time that Python takes
to start and to import all that a stage uses, added up over all stages.
"""

import re
import sys
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

from bench import trees
from bench.harness import ROOT, run, wait_until_idle

SELF_SECONDS = re.compile(r"import time:\s+(\d+) \|.*?(\S+)$")
DVC = (sys.executable, "-m", "dvc")


def measure(folder: Path) -> dict[str, Any]:
    clone = trees.clone(folder / "clone")
    (clone / ".venv").symlink_to(ROOT / ".venv")
    (ROOT / ".venv" / "installed").touch()
    load = wait_until_idle()
    repro = run("make", "repro", cwd=clone, PYTHONPATH="").seconds
    noop = [run(*DVC, "repro", cwd=clone).seconds for _ in range(5)]
    with_torch, without, counts = start_up(clone)
    total = sum(counts[kind] * value for kind, value in (with_torch | without).items())
    return {
        "data": "simulated, the default run",
        "load_before": load,
        "stages": counts.total(),
        "start_up_with_torch": with_torch,
        "start_up_without_torch": without,
        "of_each": dict(counts),
        "headlines": {
            "repro_seconds": round(repro, 1),
            "noop_seconds": round(median(noop), 2),
            "startup_seconds": round(total, 1),
        },
    }


def start_up(clone: Path) -> tuple[dict[str, float], dict[str, float], Counter]:
    """Return the seconds of each kind of stage, with torch and without, and their numbers."""
    boot = median(run(sys.executable, "-c", "pass", cwd=clone).seconds for _ in range(5))
    kinds: dict[str, list[str]] = {}
    counts: Counter = Counter()
    for name in run(*DVC, "stage", "list", "--name-only", cwd=clone).lines:
        stage, _, item = name.partition("@")
        model, _, seed = item.rpartition("-")
        arguments = [f"stages.{stage}", *([item] if item else [])]
        if stage in ("train", "sweep"):
            arguments = ["stages.train", model, seed]
            if (clone / f"runs/{item}/same_as.json").exists():
                stage = "sweep row that is trained already"
            else:
                stage = f"train {model if model in ('self_mm', 'svm', 'cnn') else 'ours'}"
        kinds.setdefault(stage, arguments)
        counts[stage] += 1
    with_torch: dict[str, float] = {}
    without: dict[str, float] = {}
    for kind, arguments in kinds.items():
        seconds, torch = imports(clone, *arguments)
        (with_torch if torch else without)[kind] = round(boot + seconds, 2)
    return with_torch, without, counts


def imports(clone: Path, *arguments: str) -> tuple[float, bool]:
    """Return the seconds of a stage's imports, and whether torch is among them."""
    options = ("-X", "importtime", "-m")
    lines = run(sys.executable, *options, *arguments, cwd=clone, PYTHONPATH="").lines
    imported = [match for line in lines if (match := SELF_SECONDS.match(line))]
    microseconds = sum(int(match[1]) for match in imported)
    return microseconds / 1e6, any(match[2] == "torch" for match in imported)
