"""Trainings on a cluster: how they scale with its workers, and what Dask itself takes per task.

The trainings of all models of the default run, two seeds each, in clones of the last commit, on a
local cluster of one worker process and of two; and 1,000 tasks that do nothing. --set: changes of
params.yaml, for a short trial.
"""

import sys
import time
from pathlib import Path
from typing import Any

from bench import trees
from bench.harness import run, wait_until_idle

WORKERS = (1, 2)
DVC = (sys.executable, "-m", "dvc")


def measure(
    folder: Path, *, seeds: int = 2, tasks: int = 1000, set: tuple[str, ...] = ()
) -> dict[str, Any]:
    load = wait_until_idle()
    seconds = {
        str(workers): round(trainings(clone(folder / f"{workers}", seeds, set), workers), 1)
        for workers in WORKERS
    }
    return {
        "data": "simulated, the default run",
        "load_before": load,
        "runs": len(list((folder / "1/predictions").glob("*-100[0-9]"))),
        "seconds_by_workers": seconds,
        "speedup": round(seconds["1"] / seconds["2"], 2),
        "tasks": tasks,
        "milliseconds_per_empty_task": round(1000 * overhead(tasks), 2),
    }


def clone(folder: Path, seeds: int, changes: tuple[str, ...]) -> Path:
    """Make a clone in which the trainings of so many seeds are out of date, and nothing else."""
    trees.clone(folder)
    settings = [f"seeds={[1000 + seed for seed in range(seeds)]}", "sweep_seeds=[]", *changes]
    options = [part for setting in settings for part in ("--set-param", setting)]
    run(*DVC, "exp", "run", *options, "features", cwd=folder, PYTHONPATH="")
    run(*DVC, "repro", "--single-item", "ablation", cwd=folder, PYTHONPATH="")
    return folder


def trainings(folder: Path, workers: int) -> float:
    """Return the seconds of the trainings that a clone lacks, from the start to dvc.lock."""
    command = (sys.executable, "-m", "stages.cluster", f"local:{workers}")
    return run(*command, cwd=folder, PYTHONPATH="").seconds


def overhead(tasks: int) -> float:
    """Return the seconds that Dask takes for each of so many tasks that do nothing."""
    from stages.cluster import connected

    with connected("local:2") as client:
        client.gather([client.submit(int, pure=False) for _ in range(10)])  # all is imported
        start = time.perf_counter()
        client.gather([client.submit(int, pure=False) for _ in range(tasks)])
        return (time.perf_counter() - start) / tasks
