"""The default run in a fresh clone, beside that of an earlier commit, and what starting costs.

`make repro` of both commits in turn, each with an installation of its own, which is not counted; of
this one also `dvc repro` again. A training: the CPU seconds of `ours` with seed 1 as `make repro`
runs it, in turn too; a forked one finds its modules imported. Start-up is the time that Python
takes to import all that the stages use, in whatever process, added up; of DVC's own processes it is
not counted.
"""

import re
import shutil
from pathlib import Path
from statistics import median
from typing import Any

from bench import trees
from bench.harness import Measured, run, wait_until_idle

BEFORE = "e328e44"
SELF_SECONDS = re.compile(r"import time:\s+(\d+) \|")
REPEATS = 3  # of the start of one stage
ALONE = ("plan", "download", "prepare", "features", "tables", "report", "cards")
# The programs of a training: forked after its imports, as by `python -m stages`, or started.
FORKED = """
import multiprocessing
from importlib import import_module
from stages import __main__ as side_by_side, run_forked
for name in side_by_side.IMPORTED:
    import_module(name)
training = multiprocessing.get_context("fork").Process(
    target=run_forked, args=(["stages.train", "ours", "1"], {})
)
training.start()
training.join()
status = training.exitcode
"""
STARTED = """
import subprocess, sys
status = subprocess.call([sys.executable, "-m", "stages.train", "ours", "1"])
"""
SECONDS = """
import resource, sys
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(usage.ru_utime + usage.ru_stime)
sys.exit(status)
"""


def measure(folder: Path, *, before: str = BEFORE, repeats: int = 3) -> dict[str, Any]:
    clones = {"before": folder / "before", "now": folder / "now"}
    for name, clone in clones.items():
        if not clone.exists():
            trees.clone(clone)
            run("git", "checkout", "--quiet", before if name == "before" else "HEAD", cwd=clone)
            run("make", ".venv/installed", cwd=clone, PYTHONPATH="")
    load = wait_until_idle()
    repro: dict[str, list[float]] = {name: [] for name in clones}
    training: dict[str, list[float]] = {name: [] for name in clones}
    noop = []
    for repeat in range(repeats):
        for name, clone in clones.items():
            _forget(clone)
            repro[name].append(run("make", "repro", cwd=clone, PYTHONPATH="").seconds)
            program = FORKED if name == "now" else STARTED
            training[name].append(_python(clone, "-c", program + SECONDS).result)
            print(repeat, name, repro[name][-1], training[name][-1], flush=True)
        noop.append(_python(clones["now"], "-m", "dvc", "repro").seconds)
    seconds = {name: round(median(values), 1) for name, values in repro.items()}
    cpu = {name: round(median(values), 1) for name, values in training.items()}
    started = start_up(clones["now"])
    return {
        "data": "simulated, the default run",
        "before": before,
        "repeats": repeats,
        "load_before": load,
        "repro_seconds": seconds,
        "repro_ratio": round(seconds["now"] / seconds["before"], 3),
        "training_cpu_seconds": cpu,
        "training_ratio": round(cpu["now"] / cpu["before"], 3),
        "start_up": started,
        "headlines": {
            "repro_seconds": seconds["now"],
            "noop_seconds": round(median(noop), 2),
            "startup_seconds": round(sum(started.values()), 1),
        },
    }


def _python(clone: Path, *arguments: str) -> Measured:
    python = clone / ".venv/bin/python"
    return run(python, *arguments, cwd=clone, PYTHONPATH="")


def _forget(clone: Path) -> None:
    """Remove what a run has made, and DVC's cache."""
    for name in ("data", "runs", "predictions", ".dvc/cache", ".dvc/tmp"):
        shutil.rmtree(clone / name, ignore_errors=True)
    run("git", "checkout", "--quiet", ".", cwd=clone)


def start_up(clone: Path) -> dict[str, float]:
    """Return the seconds of imports of each stage that DVC starts, and of all that are forked.

    The latter are those of the process that forks, of its parent, which records, and of the runs.
    """
    seconds = {
        name: median(_imports(clone, "-m", f"stages.{name}") for _ in range(REPEATS))
        for name in ALONE
    }
    shutil.rmtree(clone / ".dvc/cache/runs")
    for name in ("runs", "predictions"):
        for path in (clone / name).glob("*-*"):
            shutil.rmtree(path)
    lock = clone / "dvc.lock"
    lock.write_text(re.sub(r"(?ms)^  (train|sweep|ablation)@.*?(?=^  \S)", "", lock.read_text()))
    seconds["runs"] = _imports(clone, "-m", "stages")
    return seconds


def _imports(clone: Path, *arguments: str) -> float:
    lines = _python(clone, "-X", "importtime", *arguments).lines
    return round(
        sum(int(match[1]) for line in lines if (match := SELF_SECONDS.match(line))) / 1e6, 2
    )
