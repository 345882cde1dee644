"""Run what is out of date side by side, trainings first: python -m stages [--jobs N].

Each worker has a GPU to itself where there are any, else as many cores as `threads` says. The
stages before, which all of them need, must have run: `dvc repro features`.
"""

import sys
import time
from collections import deque
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from msabench import params, program
from msabench.execution import interruption, records
from msabench.execution.jobs import by_default, gpus_for, places
from msabench.execution.records import RECORD, ROUNDS, Run
from stages import run as run_program
from stages import run_forked

PAGE = "docs/experiments.md"

# Where forking is safe, runs are forked from a process that has imported these once, and computed
# nothing: what a library decides at its first computation is decided in each run.
CONTEXT: Any = get_context("forkserver" if sys.platform == "linux" else "spawn")
IMPORTED = [
    *("stages.train", "msabench.runs", "msabench.training.unimodal", "sklearn.svm"),
    *("transformers.models.auto.modeling_auto", "transformers.models.bert.modeling_bert"),
]


def main(*arguments: str) -> None:
    parser = program.Parser(prog="python -m stages", description=__doc__)
    parser.add_argument(
        "--jobs", type=int, help="so many at once; default: the GPUs, or the cores / threads"
    )
    every = sum(ROUNDS, ())
    parser.add_argument("--only", choices=every, help="the runs of this stage alone")
    options = parser.parse_args(arguments)
    settings = params.load(Path("params.yaml"))
    gpus = gpus_for(settings)
    jobs = by_default(settings, gpus) if options.jobs is None else options.jobs
    if jobs < 1:
        parser.error(f"--jobs: {jobs}; it should be at least 1")
    failed, total = [], 0
    for stages in ROUNDS:
        runs = records.out_of_date([s for s in stages if options.only in (None, s)])
        failed += side_by_side(runs, places(jobs, gpus))
        total += len(runs)
    if failed:
        sys.exit(f"error: {len(failed)} of {total} failed: {', '.join(failed)}")


def side_by_side(runs: Sequence[Run], free: list[dict[str, str]]) -> list[str]:
    """Run each in a process of its own, let DVC record them, and return the names of the failed.

    free: the environment of each of those that go side by side.
    """
    failed, ready = list[str](), list[Run]()
    for run in runs:
        if run.after:
            print(f"error: {run.name}: {run.after} is out of date", file=sys.stderr)
            failed.append(run.name)
        else:
            ready.append(run)
    failed += records.record([run for run in ready if run.cached])
    waiting = deque(run for run in ready if not run.cached)
    if waiting:
        with records.locked(waiting):
            failed += _fork(waiting, free)
    return failed


def _fork(waiting: deque[Run], free: list[dict[str, str]]) -> list[str]:
    CONTEXT.set_forkserver_preload(IMPORTED)
    decisive, last = records.decisive_files(), time.monotonic()
    running: list[tuple[Run, BaseProcess, dict[str, str]]] = []
    ended, failed = list[Run](), list[str]()

    def record() -> None:
        if ended:
            records.check_unchanged(decisive, ended)
            failed.extend(records.record(ended))
            ended.clear()

    try:
        while waiting or running:
            while waiting and free:
                run, place = waiting.popleft(), free.pop()
                print(f"{run.name}: started, {len(waiting)} to follow", flush=True)
                process = CONTEXT.Process(target=run_forked, args=(run.command, place))
                process.start()
                running.append((run, process, place))
            wait([process.sentinel for _, process, _ in running], RECORD)
            for run, process, place in list(running):
                if process.exitcode is None:
                    continue
                running.remove((run, process, place))
                free.append(place)
                if process.exitcode == 0:
                    ended.append(run)
                    continue
                failed.append(run.name)
                if process.exitcode < 0:  # else it has said why
                    reason = f"killed by signal {-process.exitcode}"
                    print(f"error: {run.name}: {reason}", file=sys.stderr)
            if time.monotonic() - last > RECORD:
                record()
                last = time.monotonic()
    finally:
        for _, process, _ in running:
            process.terminate()
        for run, process, _ in running:
            process.join()
            if process.exitcode == 0:
                ended.append(run)
        record()
    return failed


if __name__ == "__main__":
    interruption.by_other_signals()
    run_program(lambda: main(*sys.argv[1:]))
