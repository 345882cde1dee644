"""Trainings on a cluster: how they scale with its workers, and what Dask itself takes per task.

    python bench/cluster.py --folder /an/empty/folder

The trainings of all models of the default run, two seeds each, in clones of the last commit, on a
local cluster of one worker process and of two; and 1,000 tasks that do nothing.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in ("src", "")]

from bench.processes import ROOT, run, wait_until_idle  # noqa: E402
from bench.results import record  # noqa: E402

WORKERS = (1, 2)
TASKS = 1000
DVC = (sys.executable, "-m", "dvc")


def clone(folder: Path, seeds: int, changes: list[str]) -> Path:
    """Make a clone in which the trainings of so many seeds are out of date, and nothing else."""
    subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="an empty folder to work in")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--tasks", type=int, default=TASKS)
    parser.add_argument("--set", action="append", default=[], help="a setting, to try the program")
    parser.add_argument("--try", dest="trial", action="store_true", help="at once; record nothing")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    load = None if options.trial else wait_until_idle()
    seconds = {
        str(workers): round(
            trainings(clone(options.folder / f"{workers}", options.seeds, options.set), workers), 1
        )
        for workers in WORKERS
    }
    runs = len(list((options.folder / "1/predictions").glob("*-100[0-9]")))
    figures = {
        "data": "simulated, the default run",
        "load_before": load,
        "runs": runs,
        "seconds_by_workers": seconds,
        "speedup": round(seconds["1"] / seconds["2"], 2),
        "tasks": options.tasks,
        "milliseconds_per_empty_task": round(1000 * overhead(options.tasks), 2),
    }
    if options.trial:
        print(figures)
    else:
        record("cluster", figures)


if __name__ == "__main__":
    main()
