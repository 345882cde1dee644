"""The default run in a fresh clone: `make repro`, `dvc repro` again, and what starting costs.

    python bench/pipeline.py --folder /an/empty/folder

The clone is of the last commit; installation is not counted. Start-up is the time that Python takes
to start and to import all that a stage uses, added up over all stages.
"""

import argparse
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from statistics import median

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in ("src", "")]

from bench.processes import ROOT, run, wait_until_idle  # noqa: E402
from bench.results import record  # noqa: E402

SELF_SECONDS = re.compile(r"import time:\s+(\d+) \|")


def imports(clone: Path, *arguments: str) -> tuple[float, bool]:
    """Return the seconds of a stage's imports, and whether torch is among them."""
    command = [sys.executable, "-X", "importtime", "-m", *arguments]
    made = subprocess.run(
        command, cwd=clone, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": ""}
    )
    if made.returncode:
        raise SystemExit(f"error: {' '.join(command)}: {made.stderr.splitlines()[-1]}")
    found = SELF_SECONDS.findall(made.stderr)
    torch = re.search(r"\| +torch$", made.stderr, re.MULTILINE) is not None
    return sum(map(int, found)) / 1e6, torch


def start_up(clone: Path) -> tuple[dict[str, float], dict[str, float], Counter]:
    """Return the seconds of each kind of stage, with torch and without, and how many there are."""
    boot = median(run(sys.executable, "-c", "pass", cwd=clone).seconds for _ in range(5))
    listed = run_dvc(clone, "stage", "list", "--name-only").split()
    kinds: dict[str, list[str]] = {}
    counts: Counter = Counter()
    for name in listed:
        stage, _, item = name.partition("@")
        program, (model, _, seed) = stage, item.rpartition("-")
        if stage in ("train", "sweep"):
            program = "train"
            alias = (clone / f"runs/{item}/same_as.json").exists()
            stage = "sweep row that is trained already" if alias else f"train {model}"
            stage = "train ours" if model not in ("self_mm", "svm", "cnn") and not alias else stage
            arguments = [f"stages.{program}", model, seed]
        else:
            arguments = [f"stages.{program}", *([item] if item else [])]
        kinds.setdefault(stage, arguments)
        counts[stage] += 1
    with_torch: dict[str, float] = {}
    without: dict[str, float] = {}
    for kind, arguments in kinds.items():
        seconds, torch = imports(clone, *arguments)
        (with_torch if torch else without)[kind] = round(boot + seconds, 2)
    return with_torch, without, counts


def run_dvc(clone: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, cwd=clone, capture_output=True, text=True, check=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="an empty folder to work in")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    clone = options.folder / "clone"
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    (clone / ".venv").symlink_to(ROOT / ".venv")
    (ROOT / ".venv" / "installed").touch()
    load = wait_until_idle()
    repro = run("make", "repro", cwd=clone, PYTHONPATH="").seconds
    noop = [run(sys.executable, "-m", "dvc", "repro", cwd=clone).seconds for _ in range(5)]
    with_torch, without, counts = start_up(clone)
    total = sum(counts[kind] * value for kind, value in (with_torch | without).items())
    record(
        "pipeline",
        {
            "data": "simulated, the default run",
            "load_before": load,
            "stages": counts.total(),
            "start_up_with_torch": with_torch,
            "start_up_without_torch": without,
            "of_each": dict(counts),
        },
        repro_seconds=round(repro, 1),
        noop_seconds=round(median(noop), 2),
        startup_seconds=round(total, 1),
    )


if __name__ == "__main__":
    main()
