"""Run what is out of date side by side, trainings first: python -m stages [--jobs N].

Each worker has a GPU to itself where there are any, else as many cores as `threads` says. The
stages before, which all of them need, must have run: `dvc repro features`.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from msabench import params, program
from msabench.execution.jobs import by_default, gpus_for, places
from stages import run

PAGE = "docs/experiments.md"

# One round after the other: no stage of a round needs another of it.
ROUNDS = (("train", "sweep", "ablation", "tune"), ("robustness",))


def main(*arguments: str) -> None:
    parser = program.Parser(prog="python -m stages", description=__doc__)
    parser.add_argument(
        "--jobs", type=int, help="so many at once; default: the GPUs, or the cores / threads"
    )
    parser.add_argument("--only", choices=sum(ROUNDS, ()), help="the runs of this stage alone")
    options = parser.parse_args(arguments)
    jobs = options.jobs
    settings = params.load(Path("params.yaml"))
    gpus = gpus_for(settings)
    if jobs is None:
        jobs = by_default(settings, gpus)
    if jobs < 1:
        parser.error(f"--jobs: {jobs}; it should be at least 1")

    free = places(jobs, gpus)

    def reproduce(stage: str) -> int:
        place = free.get()
        try:
            result = _dvc("--wait-for-lock", "repro", "--single-item", stage, place=place)
            return result.returncode
        finally:
            free.put(place)

    listed = _dvc("stage", "list", "--name-only", stdout=subprocess.PIPE)
    if listed.returncode:
        sys.exit("error: `dvc stage list` failed: no run is known")
    named = listed.stdout.split()
    if options.only:
        named = [stage for stage in named if stage.partition("@")[0] == options.only]
    rounds = [[s for s in named if s.partition("@")[0] in programs] for programs in ROUNDS]
    pool = ThreadPoolExecutor(jobs)
    try:
        statuses = [status for stages in rounds for status in list(pool.map(reproduce, stages))]
    except KeyboardInterrupt:
        pool.shutdown(cancel_futures=True)
        raise
    stages = [stage for stages in rounds for stage in stages]
    failed = [stage for stage, status in zip(stages, statuses, strict=True) if status]
    if failed:
        sys.exit(f"error: {len(failed)} of {len(stages)} failed: {', '.join(failed)}")


def _dvc(
    *arguments: str, stdout: int | None = None, place: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "dvc", *arguments]
    environment = os.environ | (place or {})
    return subprocess.run(command, stdout=stdout, env=environment, text=True, check=False)


if __name__ == "__main__":
    run(lambda: main(*sys.argv[1:]))
