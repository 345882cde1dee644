"""Ctrl-C, SIGTERM and a parent that is gone, on real processes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import stages
from msabench import errors
from msabench.execution import interruption
from msabench.training.checkpoints import NAME
from tests.conftest import until
from tests.test_training import LABELS, Line, fit, utterances

pytestmark = pytest.mark.slow  # trainings in processes of their own, which wait for signals

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = """
import sys, time
from pathlib import Path
from msabench.execution import interruption
from stages import parent_is_alive, run
from tests.test_training import LABELS, Line, fit, utterances

folder, seconds, interruption.GRACE = Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])

class Slow(Line):
    def training_loss(self, batch, epoch):
        (folder / "started").touch()
        time.sleep(seconds)  # as a long computation, it is not broken off by a signal's handler
        return super().training_loss(batch, epoch)

def main():
    with interruption.after_step(parent_is_alive):
        fit(Slow, utterances(LABELS), folder / "scratch")
    (folder / "ended").touch()

run(main)
"""


def start(folder, seconds, *before, grace=300.0):
    """Train with steps of so many seconds. grace: long, for what must end after its step."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "OMP_NUM_THREADS": "1"}
    command = [*before, sys.executable, "-c", PROGRAM, str(folder), str(seconds), str(grace)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    until(lambda: (folder / "started").exists())
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_training_after_its_step(number, in_memory):
    """With a checkpoint, from which it ends as if nothing had happened."""
    process = start(in_memory, 0.2)
    process.send_signal(number)
    _, printed = process.communicate(timeout=300)
    assert process.returncode == errors.INTERRUPTED_STATUS
    assert printed.splitlines()[-1] == errors.INTERRUPTED
    assert (in_memory / "scratch" / NAME).exists()
    assert not (in_memory / "ended").exists()
    _, history = fit(Line, utterances(LABELS), in_memory / "scratch")
    _, expected = fit(Line, utterances(LABELS), in_memory / "whole")
    assert history == expected


def test_a_step_that_takes_too_long_is_broken_off(in_memory):
    process = start(in_memory, 3600, grace=0.5)
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=300)
    assert process.returncode == errors.INTERRUPTED_STATUS
    assert printed.splitlines()[-1] == errors.INTERRUPTED
    assert not (in_memory / "scratch" / NAME).exists()


def test_a_training_has_less_than_five_seconds_to_end():
    assert 1 <= interruption.GRACE < 5


def test_without_its_parent_the_training_ends(in_memory):
    """A shell starts it and is killed, as `dvc` may be."""
    shell = 'trap "" INT; "$@" & echo $! > "$0"; wait'
    process = start(in_memory, 0.2, "sh", "-c", shell, str(in_memory / "number"))
    process.kill()
    child = int((in_memory / "number").read_text())
    until(lambda: not running(child))
    assert (in_memory / "scratch" / NAME).exists()
    assert not (in_memory / "ended").exists()
    process.stderr.close()
    process.wait()


def running(process):
    """Whether a process is there; one that has ended and waits for its parent is not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_parent_that_ended_before_is_noticed(monkeypatch):
    """It may have been killed while PyTorch was imported."""
    monkeypatch.setattr(stages, "PARENT", os.getppid() + 1)
    with pytest.raises(KeyboardInterrupt):
        asked_and_ended(send=())


def asked_and_ended(send=(signal.SIGTERM,)):
    """A signal comes, and what runs ends by itself."""
    with interruption.after_step(stages.parent_is_alive):
        for number in send:
            os.kill(os.getpid(), number)
        until(interruption.stop_requested)


def test_the_handlers_before_are_back_afterwards():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with interruption.after_step(stages.parent_is_alive):
        assert signal.getsignal(signal.SIGINT) != before[0]
        assert not interruption.stop_requested()
    with pytest.raises(KeyboardInterrupt):
        asked_and_ended()
    assert not interruption.stop_requested()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
