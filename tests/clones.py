"""A copy of this tree as a repository of its own, in which commands run as a user runs them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from msabench.training.checkpoints import SECONDS

ROOT = Path(__file__).resolve().parents[1]
SHELLS = [shell for shell in ("/bin/sh", "/bin/bash") if Path(shell).exists()]  # of make and DVC
# What makes a run short: little data, one epoch, one seed, no sweep.
SMALL = (
    "seeds=[1]",
    "sweep_seeds=[]",
    "ablation.models=[]",
    "datasets.simulated.settings.train=48",
    "datasets.simulated.settings.valid=24",
    "datasets.simulated.settings.test=24",
    "models.ours.epochs=1",
    "models.cnn.epochs=1",
    "models.self_mm.epochs=2",
)
# What gives it every stage and table.
ALL = ("sweep_seeds=[1]", "ablation.models=[svm,cnn]", "robustness_seeds=[1]")


def environment() -> dict[str, str]:
    """This Python's programs, one thread, and the plainest shell, whoever runs the tests.

    Some shells stay between DVC and the program it runs (Debian's), others do not (bash).
    """
    return os.environ | {
        "SHELL": "/bin/sh",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": "",
        "HF_HUB_OFFLINE": "1",
    }


def run(
    folder: Path, *command: str | Path, check: bool = True
) -> "subprocess.CompletedProcess[str]":
    """Run a command in a folder, without a terminal; an AssertionError tells what it printed."""
    result = subprocess.run(
        command,
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=3600,
        check=False,
    )
    if check and result.returncode:
        raise AssertionError(f"{command}\n{result.stdout[-4000:]}\n{result.stderr[-4000:]}")
    return result


def clone(folder: Path) -> None:
    """Copy this tree, what git does not know yet included, and commit it as `main`."""
    listed = run(ROOT, "git", "ls-files", "--cached", "--others", "--exclude-standard").stdout
    for name in listed.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    run(folder, "git", "init", "--quiet", "--initial-branch=main")
    run(folder, "git", "config", "user.email", "test@example.org")
    run(folder, "git", "config", "user.name", "test")
    run(folder, "git", "add", "--all")
    run(folder, "git", "commit", "--quiet", "--message", "start")


def install(folder: Path) -> None:
    """Give a copy an installation in its place, as `make` knows one, that is this Python's."""
    place = folder / ".venv"
    place.mkdir()
    for entry in Path(sys.prefix).iterdir():
        if not entry.name.startswith("installed"):
            (place / entry.name).symlink_to(entry)
    _stamp(place)


def _stamp(place: Path) -> None:
    for stamp in ("installed", "installed-cluster"):
        (place / stamp).write_text(f"{place.resolve()}\n")


def run_pipeline(folder: Path) -> None:
    """Copy this tree and do there with small settings what the README begins with."""
    clone(folder)
    install(folder)
    run(folder, "dvc", "exp", "run", *options(SMALL), "plan")
    run(folder, "make", "repro")


def copy(pipeline: Path, folder: Path) -> Path:
    """Return a copy of a repository in which the pipeline has run, with an installation."""
    shutil.copytree(pipeline, folder, symlinks=True)
    _stamp(folder / ".venv")
    return folder


def options(changes: Sequence[str]) -> list[str]:
    """Return changes of params.yaml as options of `dvc exp run`."""
    return [part for change in changes for part in ("--set-param", change)]


def start(folder: Path, *command: str, shell: str = "/bin/sh") -> "subprocess.Popen[str]":
    """Start a command that has a process group of its own, as from a terminal.

    Its trainings write a checkpoint after every step. shell: in which DVC starts them.
    """
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment() | {SECONDS: "0", "SHELL": shell},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
