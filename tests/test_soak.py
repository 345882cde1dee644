"""The soak, short: `make soak` is the long one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(("model", "networks"), [((), 3), (("--model", "mmim"), 1)])
def test_killed_trainings_end_as_if_nothing_had_happened(model, networks):
    """Each network once at any moment and once while a checkpoint is written.

    MMIM has phases, and remembers batches. Full and read-only disks are in test_checkpoints.py.
    """
    environment = os.environ | {"PYTHONPATH": "src"}
    command = [sys.executable, "-m", "tests.soak", "--kills", "2", "--seed", "1", "--no-disks"]
    command += model
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    passed, _, failed = result.stdout.splitlines()[-1].partition(" passed, ")
    assert failed == "0 failed"
    assert int(passed) >= networks * 2
