"""Runs that DVC does not start itself: which are out of date, and the record of their outputs.

DVC would start a process of its own and one of Python for each run. `python -m stages` forks the
runs instead, and `stages.cluster` sends them away; DVC records their outputs as if it had run them.
"""

import logging
import os
import shlex
import sys
from collections.abc import Collection, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePath
from typing import Any

from msabench import hashes
from msabench.errors import DataError, ProcessError

# One round after the other: no stage of a round needs another of it.
ROUNDS = (("train", "sweep", "ablation", "tune"), ("robustness",))
RECORD = 30.0  # seconds between two records of what has ended: each takes DVC one


@dataclass(frozen=True)
class Run:
    """A stage that is out of date.

    command: the module and its arguments. deps, outs: paths. cached: DVC's run cache has its
    outputs. after: a run that is out of date too and has to go first, or "".
    """

    name: str
    command: list[str]
    deps: list[str]
    outs: list[str]
    cached: bool
    after: str = ""


def out_of_date(stages: Collection[str]) -> list[Run]:
    """Return the runs of these stages that DVC would start, in the order of `dvc repro`.

    Last those that wait for another run. Raises ProcessError where a stage before all runs is out
    of date, and for what DVC does not accept.
    """
    with _repo() as repo:
        before = {
            stage.addressing: {each.addressing for each in repo.index.graph.successors(stage)}
            for stage in repo.index.stages
            if _group(stage.addressing) in stages
        }
        # DVC plans no stage without its inputs, which a run that has failed did not write.
        of_other_rounds = {each for names in before.values() for each in names if _is_run(each)}
        stale = {stage.addressing for stage in _changed(repo, of_other_rounds - before.keys())}
        behind = {name: min(names & stale) for name, names in before.items() if names & stale}
        runs = [
            _run(stage, cached=_in_run_cache(stage))
            for stage in _changed(repo, before.keys() - behind.keys())
        ]
        waiting = [stage for stage in repo.index.stages if stage.addressing in behind]
        return runs + [_run(each, after=behind[each.addressing]) for each in waiting]


def _changed(repo: Any, names: Set[str]) -> list[Any]:
    """Return the stages of these names that DVC would run, in its order; see out_of_date."""
    if not names:
        return []
    # By groups where all of one are asked for: DVC reads its files again for each target.
    targets = list[str]()
    for group, members in groupby((stage.addressing for stage in repo.index.stages), _group):
        of_group = [*members]
        asked_for = [name for name in of_group if name in names]
        targets += [group] if asked_for == of_group else asked_for
    changed = []
    for stage in repo.reproduce(targets=targets, dry=True):
        if stage.addressing in names:
            changed.append(stage)
        elif not _is_run(stage.addressing):
            raise ProcessError(f"{stage.addressing} is out of date; dvc repro features first")
    return changed


def _group(name: str) -> str:
    return name.partition("@")[0]


def _is_run(name: str) -> bool:
    """Return whether a stage is a run, and no stage before all of them."""
    return any(_group(name) in stages for stages in ROUNDS)


def _run(stage: Any, *, cached: bool = False, after: str = "") -> Run:
    words = shlex.split(stage.cmd)
    command = words[words.index("-m") + 1 :]
    deps, outs = ([each.def_path for each in of] for of in (stage.deps, stage.outs))
    return Run(stage.addressing, command, deps, outs, cached, after)


def record(runs: Sequence[Run]) -> list[str]:
    """Let DVC record runs: from its run cache, or the outputs that lie here.

    In their order, in which dvc.lock names what it had not. Returns the names of those that it does
    not record, of each of which it has printed why.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import lock_repo

    failed = []
    for cached, group in groupby(runs, key=lambda run: run.cached):
        names = [run.name for run in group]
        with _repo() as repo:
            if cached:
                repo.reproduce(targets=names, single_item=True)
                for name in names:
                    print(f"{name}: restored from DVC's run cache", flush=True)
                continue
            # What `dvc commit --force` does, which takes one stage and a second to write dvc.lock.
            with lock_repo(repo):
                known = {stage.addressing: stage for stage in repo.index.stages}
                saved = []
                for name in names:
                    try:
                        if name not in known:
                            raise ProcessError("params.yaml no longer names it")
                        known[name].save()
                        known[name].commit()
                        saved.append(known[name])
                    except (DvcException, ProcessError) as error:
                        print(f"error: {name}: not recorded: {error}", file=sys.stderr)
                        failed.append(name)
                if saved:
                    saved[0].dvcfile.dump_stages(saved, update_pipeline=False)
    return failed


@contextmanager
def locked(runs: Sequence[Run]) -> Iterator[None]:
    """Keep every other DVC from the outputs of runs, and from changing what they read.

    As DVC does while it runs a stage. Raises ProcessError where another process keeps one.
    """
    from dvc.rwlock import rwlock

    with _repo() as repo:
        hardlink = repo.config["core"].get("hardlink_lock", False)
        read = sorted({os.path.abspath(path) for run in runs for path in run.deps})
        write = sorted({os.path.abspath(path) for run in runs for path in run.outs})
        # By the command DVC knows its own locks: `record` takes them again.
        with rwlock(repo.tmp_dir, repo.fs, " ".join(sys.argv), read, write, hardlink):
            yield


@contextmanager
def _repo() -> Iterator[Any]:
    from dvc.exceptions import DvcException  # half a second, which `--help` need not wait for
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.WARNING)
    try:
        with Repo(_wait_for_lock=True) as repo:
            yield repo
    except DvcException as error:
        reason, _, _ = str(error.__cause__ or error).partition("\n\n")
        raise ProcessError(f"dvc: {' '.join(reason.split())}") from error


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
    """Return what runs are made of: code and plan, and the hashes of the data.

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


def check_unchanged(decisive: tuple[dict[str, str], dict[str, str]], runs: Collection[Run]) -> None:
    """Raise DataError where a file on which one of these runs depends has changed, or dvc.yaml.

    DVC records the hashes of what it finds after a run. decisive: the files before it.
    """
    deps = {"dvc.yaml"}.union(*(run.deps for run in runs))
    for before, now in zip(decisive, decisive_files(), strict=True):
        for name in before.keys() | now.keys():
            path = PurePath(name)
            if before.get(name) != now.get(name) and any(map(path.is_relative_to, deps)):
                raise DataError(f"{name}: changed while runs went on that read it; not recorded")


def read(paths: Sequence[Path]) -> dict[str, str]:
    """Return the texts of files by their paths."""
    return {path.as_posix(): path.read_text(encoding="utf-8") for path in paths}
