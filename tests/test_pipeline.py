"""The real stages, end to end, on a few dozen simulated utterances in a fresh clone."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# What makes the run short: little data, one epoch, one seed; every stage and table stays.
SMALL = [
    "seeds=[1]",
    "datasets.simulated.settings.train=48",
    "datasets.simulated.settings.valid=24",
    "datasets.simulated.settings.test=24",
    "models.ours.epochs=1",
    "models.cnn.epochs=1",
    "models.self_mm.epochs=2",
]


def run(folder, *command, check=True):
    """Run a command in the clone with this Python's programs, one thread, no terminal."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": "",
    }
    made = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900
    )
    if check and made.returncode:
        raise AssertionError(f"{command}\n{made.stdout[-4000:]}\n{made.stderr[-4000:]}")
    return made


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """This tree as a repository of its own, run once with small settings."""
    folder = tmp_path_factory.mktemp("clone") / "msabench"
    listed = run(ROOT, "git", "ls-files", "--cached", "--others", "--exclude-standard").stdout
    for name in listed.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    run(folder, "git", "init", "--quiet")
    run(folder, "git", "config", "user.email", "test@example.org")
    run(folder, "git", "config", "user.name", "test")
    run(folder, "git", "add", "--all")
    run(folder, "git", "commit", "--quiet", "--message", "start")
    changes = [part for change in SMALL for part in ("--set-param", change)]
    run(folder, "dvc", "exp", "run", *changes)
    return folder
