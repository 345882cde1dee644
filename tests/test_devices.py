"""What several processes tell each other, and how they end together, with two real ones."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from msabench import errors
from msabench.errors import DeviceError, ParamsError
from msabench.execution import interruption, scratch
from msabench.networks import parallel, torch_settings
from msabench.training import checkpoints
from msabench.training.network import Network
from stages import parent_is_alive
from tests.conftest import until
from tests.test_training import LABELS, Line, fit, utterances

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = """
import sys
from importlib import import_module
from jaxtyping import install_import_hook
with install_import_hook("msabench", "beartype.beartype"):
    module = import_module(sys.argv[1])
from stages import run
run(getattr(module, sys.argv[2]), *sys.argv[3:])
"""


@contextmanager
def started(call, *arguments, processes=2):
    """Processes of one run, each of which calls a function of a test's file; none is left over."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "OMP_NUM_THREADS": "1"}
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), checkpoints.SECONDS: "0"}
    function = (call.__module__, call.__name__)
    command = [sys.executable, "-c", PROGRAM, *function, *map(str, arguments)]
    result = []
    for rank in map(str, range(processes)):
        place = {"WORLD_SIZE": str(processes), "RANK": rank, "LOCAL_RANK": rank}
        result.append(
            subprocess.Popen(command, env=environment | place, stderr=subprocess.PIPE, text=True)
        )
    try:
        yield result
    finally:
        for process in result:
            process.kill()
            process.communicate()


def ends(processes, seconds=900):
    """The status of each process, and the last line that it said."""
    end = time.monotonic() + seconds
    actual = []
    for process in processes:
        _, said = process.communicate(timeout=max(1.0, end - time.monotonic()))
        actual.append((process.returncode, (said.splitlines() or [""])[-1]))
    return actual


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 2**63))
def test_the_parts_of_a_batch(n, processes, seed):
    """Each utterance has the same weight, however it falls; no part is empty."""
    index = np.arange(n) + 7
    weights, drawn = np.zeros(n), {}
    for rank in range(processes):
        place = {"WORLD_SIZE": str(processes), "RANK": str(rank)}
        with patch.dict(os.environ, place), torch.random.fork_rng(devices=[]):
            rows, weight = parallel.shard(index)
            parallel.seed_rank(rows, seed)
            drawn[tuple(rows.tolist())] = torch.rand(1).item()
        weights[rows - 7] += weight / len(rows)
    np.testing.assert_allclose(weights, 1 / n, rtol=1e-12)
    assert len(set(drawn.values())) == len(drawn) == (processes if n >= processes else 1)


class Mean(Line):
    """A line, trained on a mean over the utterances, as two processes need it."""

    training_loss = Network.training_loss


def lose(folder):
    """Train with a loss that is not finite in one of the processes."""

    class Lost(Mean):
        def training_loss(self, batch, epoch):
            lost = epoch == 2 and os.environ["RANK"] == "1"
            return super().training_loss(batch, epoch) * (float("nan") if lost else 1.0)

    fit(Lost, utterances(LABELS), Path(folder))


def linger(folder):
    """Train slowly, and listen to signals."""
    folder = Path(folder)
    interruption.GRACE = 300.0

    class Slow(Mean):
        def training_loss(self, batch, epoch):
            (folder / f"started-{os.environ['RANK']}").touch()
            time.sleep(0.2)
            return super().training_loss(batch, epoch)

    with interruption.after_step(parent_is_alive):
        fit(Slow, utterances(LABELS), folder / "scratch")


def exchange():
    """Tell each other sums, flags, rows and gradients."""
    torch_settings.choose_device("cpu")
    rank = int(os.environ["RANK"])
    assert parallel.all_reduce(torch.tensor([1.0, rank])).tolist() == [2.0, 1.0]
    assert parallel.any_rank(False, rank == 1, True) == [False, True, True]
    assert parallel.broadcast(rank) == 0
    index, rows = parallel.all_gather(
        torch.arange(3 - rank),
        {"a": torch.full((3 - rank, 2), float(rank)), "b": torch.ones(3 - rank)},
    )
    assert index.tolist() == [0, 1, 2, 0, 1]
    assert rows["a"].tolist() == 3 * [[0.0, 0.0]] + 2 * [[1.0, 1.0]]
    assert rows["b"].tolist() == 5 * [1.0]
    network = nn.ModuleList(nn.Linear(2, 1, bias=False) for _ in "abcd")
    weights = list(network.parameters())
    weights[3].requires_grad_(False)
    weights[0].grad = torch.tensor([[1.0, 2.0]])
    if rank == 1:
        weights[1].grad = torch.tensor([[3.0, 4.0]])
    parallel.all_reduce_gradients(network)
    gradients = [None if w.grad is None else w.grad.tolist() for w in weights]
    assert gradients == [[[2.0, 4.0]], [[3.0, 4.0]], None, None]


def hold(root):
    """Hold the scratch folder of a run, for a moment."""
    torch_settings.choose_device("cpu")
    with (
        patch.object(scratch, "WAIT", 0.1),
        scratch.folder(Path(root), "run", machine=os.environ["RANK"]) as place,
    ):
        parallel.barrier()
        (place.parent / os.environ["RANK"]).write_text(str(place))
        place.mkdir(exist_ok=True)
        parallel.barrier()


needs_accelerate = pytest.mark.skipif(
    not shutil.which("accelerate", path=str(Path(sys.executable).parent)),
    reason="accelerate is not installed: pip install .[cluster]",
)


@pytest.mark.slow
@needs_accelerate
def test_what_they_tell_each_other():
    """Parts of unequal size, and weights that both, one or none of them has reached."""
    with started(exchange) as processes:
        assert ends(processes) == [(0, ""), (0, "")]


@pytest.mark.slow
@needs_accelerate
def test_a_loss_that_is_not_finite_in_one_ends_both(tmp_path):
    with started(lose, tmp_path) as processes:
        (status, said), other = ends(processes)
    assert status == 1
    assert "epoch 2, batch 1 of 8: the loss is nan; the inputs and predictions of its 4 " in said
    assert other == (status, said)


@pytest.mark.slow
@needs_accelerate
def test_a_signal_to_one_ends_both_after_their_step(tmp_path):
    """With a checkpoint, from which one process goes on to the same end."""
    with started(linger, tmp_path) as processes:
        until(lambda: all((tmp_path / f"started-{i}").exists() for i in (0, 1)))
        processes[1].send_signal(signal.SIGTERM)
        assert ends(processes) == 2 * [(errors.INTERRUPTED_STATUS, errors.INTERRUPTED)]
    assert (tmp_path / "scratch" / checkpoints.NAME).exists()
    _, history = fit(Mean, utterances(LABELS), tmp_path / "scratch")
    _, expected = fit(Mean, utterances(LABELS), tmp_path / "whole")
    for row, other in zip(history, expected, strict=True):
        assert row == pytest.approx(other, abs=1e-6)


@pytest.mark.slow
@needs_accelerate
def test_one_that_is_killed_ends_the_other(tmp_path):
    with started(linger, tmp_path) as processes:
        until(lambda: all((tmp_path / f"started-{i}").exists() for i in (0, 1)))
        processes[1].kill()
        status, said = ends(processes)[0]
    assert status == 1
    assert "another process has ended or failed" in said


@pytest.mark.slow
@needs_accelerate
def test_the_first_holds_the_scratch_folder_for_both(tmp_path):
    """Also on machines of two kinds; it is gone when both have ended."""
    with started(hold, tmp_path) as processes:
        assert [status for status, _ in ends(processes)] == [0, 0]
    place, other = ((tmp_path / rank).read_text() for rank in "01")
    assert place == other
    assert not Path(place).exists()
    with FileLock(f"{place}.lock"), started(hold, tmp_path) as processes:
        first, second = ends(processes)
    assert first[0] == second[0] == 1
    assert "another process trains this run" in first[1]
    assert "another process has ended or failed" in second[1]


@pytest.mark.parametrize(
    ("device", "expected"),
    [("cuda", "2 processes for 0 GPUs"), ("mps", "'mps' is for one process")],
)
def test_a_device_that_several_cannot_have(device, expected, monkeypatch):
    pytest.importorskip("accelerate")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(DeviceError, match=expected):
        parallel.init(device)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE: 'two'; permitted: a whole number, 1 or more"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE: '0'; permitted: a whole number, 1 or more"),
        ({"RANK": "2"}, "RANK: '2'; permitted: 0 to 1"),
        ({"LOCAL_WORLD_SIZE": "0"}, "LOCAL_WORLD_SIZE: '0'; permitted: 1 to 2"),
        ({"LOCAL_WORLD_SIZE": "3"}, "LOCAL_WORLD_SIZE: '3'; permitted: 1 to 2"),
        ({"LOCAL_RANK": "first"}, "LOCAL_RANK: 'first'; permitted: 0 to 1"),
        ({"MASTER_PORT": "99999"}, "MASTER_PORT: '99999'; permitted: 0 to 65535"),
        ({"RANK": "", "MASTER_PORT": ""}, "WORLD_SIZE: '2', but not set: RANK, MASTER_PORT; "),
    ],
)
def test_what_the_environment_says_amiss_of_several_processes_is_one_line(
    variables, message, monkeypatch
):
    pytest.importorskip("accelerate")
    launch = {"RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    for name, value in {"WORLD_SIZE": "2", **launch, **variables}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises((ParamsError, DeviceError), match=message) as caught:
        torch_settings.choose_device("cpu")
    assert errors.message(caught.value).endswith(" (docs/systems.md)")


def test_without_accelerate_it_is_one_line(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(
        DeviceError, match=r"^2 processes need accelerate: pip install \.\[cluster\]"
    ):
        torch_settings.choose_device("cpu")
