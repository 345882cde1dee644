"""Where an unfinished run keeps its checkpoint: outside the outputs, which DVC deletes first.

The folder is named by a hash of everything that decides the numbers, so that a run never
continues from a checkpoint of other code, packages, settings, data or seed.
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
    """Hold the scratch folder of a run: under root, named by what decides its numbers.

    decisive: files, or folders of Python files; the packages that compute count too.
    machine: what computes, as one kind may go on with other numbers than another.
    The folder is removed once what runs inside has succeeded, and kept if it has not. Of several
    processes the first holds it for all.
    Raises ProcessError where another process holds it.
    """
    content = [
        hashes.of_folder(path, "*.py") if path.is_dir() else hashes.of_file(path)
        for path in decisive
    ]
    digest = hashlib.sha256(json.dumps([content, versions(), machine]).encode()).hexdigest()
    place = parallel.broadcast(root / f"{name}-{digest[:16]}")
    if not parallel.is_rank_zero():
        yield place
        return
    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / f"{place.name}.lock", timeout=program.seconds(SECONDS, WAIT))
    _acquire(lock, place)
    try:
        _tell_of_others(root, name, place)
        yield place
        shutil.rmtree(place, ignore_errors=True)
    finally:
        lock.release()


@errors.section("Interrupted")
def _acquire(lock: BaseFileLock, place: Path) -> None:
    try:
        lock.acquire()
    except Timeout:
        reason = "another process trains this run; wait for its end"
        raise ProcessError(f"{place}: {reason}") from None


def decisive_code(model: str) -> list[Path]:
    """Return the code that decides the numbers of a training: the deps of stage `train`.

    model: whose file is among them. One list for both: what makes no training stale throws no
    checkpoint away.
    """
    deps = YAML(typ="safe").load(TREE / "dvc.yaml")["stages"]["train"]["deps"]
    code = [dep for dep in deps if dep.startswith(("src/", "stages/"))]
    return [TREE / dep.replace("${item.run}", model) for dep in code]


def versions() -> dict[str, str]:
    """Return the versions of the packages that decide the numbers of a training."""
    return {package: version(package) for package in PACKAGES}


def _tell_of_others(root: Path, name: str, place: Path) -> None:
    """Say which unfinished trainings of the same run do not count, as what decides has changed."""
    form = re.compile(re.escape(name) + "-[0-9a-f]{16}")
    for other in sorted(root.iterdir()):
        if other.is_dir() and other != place and form.fullmatch(other.name):
            reason = "it is of other settings, data, code, packages or another device"
            print(f"{other}: not continued, {reason}; rm -r it to free its room", file=sys.stderr)
