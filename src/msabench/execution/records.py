"""Runs that DVC does not start itself: which are out of date, and the record of their outputs.

DVC would start a process of its own and one of Python for each run. `python -m stages` forks the
runs instead, and `stages.cluster` sends them away; DVC records their outputs as if it had run them.
"""

import logging
import shlex
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from msabench import hashes
from msabench.errors import DataError, ProcessError

# One round after the other: no stage of a round needs another of it.
ROUNDS = (("train", "sweep", "ablation", "tune"), ("robustness",))
RECORD = 30.0  # seconds between two records of what has ended: each takes DVC one


@dataclass(frozen=True)
class Run:
    """A stage that is out of date.

    command: the module and its arguments. outs: paths. cached: DVC's run cache has its outputs.
    """

    name: str
    command: list[str]
    outs: list[str]
    cached: bool


def out_of_date(stages: Collection[str]) -> list[Run]:
    """Return the runs of these stages that DVC would start, in the order of `dvc repro`.

    Raises ProcessError where a stage before them is out of date, and for what DVC does not accept.
    """
    with _repo() as repo:
        names = [stage.addressing for stage in repo.index.stages]
        # By groups: DVC reads dvc.yaml, dvc.lock and params.yaml again for each target.
        groups = [group for group in stages if any(name.startswith(f"{group}@") for name in names)]
        runs = []
        for stage in repo.reproduce(targets=groups, dry=True) if groups else []:
            if stage.addressing.partition("@")[0] not in groups:
                reason = f"{stage.addressing} is out of date; dvc repro features first"
                raise ProcessError(reason)
            words = shlex.split(stage.cmd)
            command = words[words.index("-m") + 1 :]
            outs = [out.def_path for out in stage.outs]
            runs.append(Run(stage.addressing, command, outs, _in_run_cache(stage)))
        return runs


def record(runs: Sequence[Run]) -> None:
    """Let DVC record runs: from its run cache, or the outputs that lie here.

    In their order, in which dvc.lock names what it had not. Raises ProcessError where DVC does not.
    """
    if not runs:
        return
    from dvc.repo import lock_repo

    with _repo() as repo:
        for cached, group in groupby(runs, key=lambda run: run.cached):
            names = [run.name for run in group]
            if cached:
                repo.reproduce(targets=names, single_item=True)
                for name in names:
                    print(f"{name}: restored from DVC's run cache", flush=True)
                continue
            # What `dvc commit --force` does, which takes one stage and a second to write dvc.lock.
            with lock_repo(repo):
                known = {stage.addressing: stage for stage in repo.index.stages}
                stages = [known[name] for name in names]
                for stage in stages:
                    stage.save()
                    stage.commit()
                stages[0].dvcfile.dump_stages(stages, update_pipeline=False)


@contextmanager
def _repo() -> Iterator[Any]:
    from dvc.exceptions import DvcException  # half a second, which `--help` need not wait for
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.WARNING)
    try:
        with Repo(_wait_for_lock=True) as repo:
            yield repo
    except DvcException as error:
        raise ProcessError(f"dvc: {error}") from error


def _in_run_cache(stage: Any) -> bool:
    """Return whether DVC would restore the outputs of a stage instead of running it."""
    from dvc.stage.cache import RunCacheNotFoundError

    if not stage.deps_cached():  # then the outputs that dvc.lock names are of other dependencies
        for out in stage.outs:
            out.clear()
    stage.save_deps()  # in memory; a dry run would ask with the hashes of dvc.lock
    try:
        stage.repo.stage_cache.restore(stage, dry=True)
    except RunCacheNotFoundError:
        return False
    return True


def decisive_files() -> tuple[dict[str, str], dict[str, str]]:
    """Return what decides the outcome of a run: code and plan, and the hashes of the data.

    dvc.yaml is among them: it lists the code that a checkpoint is named by (scratch.decisive_code).
    """
    code = [
        path
        for folder in ("src/msabench", "stages", "runs/plan")
        for path in hashes.files_in(Path(folder))
        if path.suffix in (".py", ".json", ".yaml")
    ]
    data = [Path("data/prepared/sha256.json"), *hashes.files_in(Path("data/features/runs"))]
    return read([*code, Path("dvc.yaml")]), read(data)


def check_unchanged(decisive: tuple[dict[str, str], dict[str, str]]) -> None:
    """Raise DataError where code, plan or data are no longer those that runs have begun with.

    DVC records the hashes of what it finds after a run.
    """
    if decisive_files() != decisive:
        raise DataError("code, plan or data changed while the runs went on; not recorded")


def read(paths: Sequence[Path]) -> dict[str, str]:
    """Return the texts of files by their paths."""
    return {path.as_posix(): path.read_text(encoding="utf-8") for path in paths}
