"""Folders for the checkpoints of unfinished runs: outside the outputs, which DVC deletes first.

A folder is named by a hash of everything that decides the numbers, so that a run never resumes
from a checkpoint of other code, packages, settings, data or seed.
"""

import hashlib
import json
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout
from ruamel.yaml import YAML

from msabench import errors, hashes, program
from msabench.errors import ProcessError
from msabench.networks import parallel

PACKAGES = ("numpy", "scikit-learn", "torch", "transformers")
TREE = Path(__file__).resolve().parents[3]
SECONDS = "MSABENCH_LOCK_SECONDS"  # how long to wait for the end of another that holds a folder
WAIT = 10.0  # by default: a run whose `dvc` was killed ends within five


@contextmanager
def folder(root: Path, name: str, *decisive: Path, machine: str) -> Iterator[Path]:
    """Lock the scratch folder of a run: under root, named by a hash of what decides its numbers.

    decisive: files, or folders of Python files; the versions of the packages count too.
    machine: as torch_settings.identity says.
    The folder is removed once the block has succeeded, and kept if it has not. Rank 0 holds the
    lock for all ranks. Raises ProcessError where another process holds it.
    """
    content = [
        hashes.of_folder(path, "*.py") if path.is_dir() else hashes.of_file(path)
        for path in decisive
    ]
    digest = hashlib.sha256(json.dumps([content, versions(), machine]).encode()).hexdigest()
    path = parallel.broadcast(root / f"{name}-{digest[:16]}")
    if not parallel.is_rank_zero():
        yield path
        return
    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / f"{path.name}.lock", timeout=program.seconds(SECONDS, WAIT))
    _acquire(lock, path)
    try:
        _print_stale(root, name, path)
        yield path
        shutil.rmtree(path, ignore_errors=True)
    finally:
        lock.release()


@errors.see("docs/reliability.md")
def _acquire(lock: BaseFileLock, path: Path) -> None:
    try:
        lock.acquire()
    except Timeout:
        raise ProcessError(f"{path}: another process trains this run; wait for its end") from None


def decisive_code() -> list[Path]:
    """Return the code that decides the numbers of all trainings: the deps of stage `train`.

    One list for both: what makes no training stale throws no checkpoint away. The hash of the file
    of a run's model stands in the plan of the run.
    """
    deps = YAML(typ="safe").load(TREE / "dvc.yaml")["stages"]["train"]["deps"]
    return [TREE / dep for dep in deps if dep.startswith(("src/", "stages/"))]


def versions() -> dict[str, str]:
    """Return the versions of the packages that decide the numbers of a training."""
    return {package: version(package) for package in PACKAGES}


def _print_stale(root: Path, name: str, path: Path) -> None:
    """Print which unfinished trainings of the same run are stale: what decides has changed."""
    form = re.compile(re.escape(name) + "-[0-9a-f]{16}")
    for other in sorted(root.iterdir()):
        if other.is_dir() and other != path and form.fullmatch(other.name):
            reason = "its settings, data, code, packages or device are not those of this run"
            print(f"{other}: not resumed: {reason}; rm -r frees its space", file=sys.stderr)
