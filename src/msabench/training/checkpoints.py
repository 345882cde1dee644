"""Checkpoints of a training: atomic, verified by SHA-256, at most SHARE of its time.

checkpoint.json is replaced last, in one step. It names two files with their SHA-256:
state-<epoch>-<batch>.safetensors, all that training changes, and best-<epoch>.safetensors, the
weights of the best epoch, which are written whether or not a checkpoint is due.
"""

import hashlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from msabench import errors, hashes, program
from msabench.errors import StorageError
from msabench.networks import parallel

History = list[dict[str, int | float]]

NAME = "checkpoint.json"
SECONDS = "MSABENCH_CHECKPOINT_SECONDS"  # at least, between two; 0: after every step
PAGE = "docs/reliability.md"
SHARE = 0.01  # of the time of a training, at most, without the best weights
WRITTEN_PER_SECOND = 200e6  # bytes; assumed until the first checkpoint is timed


@dataclass
class Progress:
    """The position of a training.

    history: one row per finished epoch. batches, loss: of the current epoch, the batches done, and
    the summed loss of those of its last phase.
    """

    history: History = field(default_factory=list)
    batches: int = 0
    loss: float = 0.0


class Checkpoints:
    """The checkpoint of one training, in a folder of its own.

    Every rank calls these methods; rank 0 writes, all ranks read.
    Raises OSError where a file cannot be written: the previous checkpoint stays valid.
    """

    @errors.see(PAGE)
    def __init__(self, folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.folder = folder
        self.network = network
        self.optimizer = optimizer
        self.seconds = program.seconds(SECONDS, 30.0)
        self.best: Path | None = None  # the file with the weights of the best epoch
        self.checkpointed_best: Path | None = None  # the one that checkpoint.json names
        self.generators: dict[str, Tensor] = {}
        folder.mkdir(parents=True, exist_ok=True)
        weights = sum(value.nbytes for value in network.state_dict().values())
        self._wait(3 * weights / WRITTEN_PER_SECOND)  # with Adam's two moments

    def due(self) -> bool:
        """Return whether enough time has passed since the last checkpoint."""
        return parallel.is_rank_zero() and time.monotonic() >= self.next

    @errors.see(PAGE)
    def write(self, progress: Progress) -> None:
        """Write a checkpoint, between two steps of the optimizer: gradients are not stored.

        Raises FloatingPointError for weights that are not finite: the previous checkpoint stays.
        """
        start = time.monotonic()
        epoch = len(progress.history) + 1
        self._check(f"epoch {epoch}, after {progress.batches} batches")
        if not parallel.is_rank_zero():
            return
        tensors = {f"network/{name}": value for name, value in _trained_state(self.network).items()}
        for number, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{number}/{name}": value for name, value in moments.items()}
        tensors |= {f"generator/{name}": value for name, value in _rng_states().items()}
        state = self.folder / f"state-{epoch}-{progress.batches}.safetensors"
        write(state, tensors)
        files = [state] if self.best is None else [state, self.best]
        for path in files:
            _fsync(path)
        content = {
            "history": progress.history,
            "batches": progress.batches,
            "loss": progress.loss,
            "state": state.name,
            "best": self.best and self.best.name,
            "sha256": {path.name: hashes.of_file(path) for path in files},
        }
        unfinished = self.folder / f"{NAME}.unfinished"
        try:
            unfinished.write_text(json.dumps({"sha256": _digest(content), "made": content}))
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(unfinished)) from error
        _fsync(unfinished)
        unfinished.replace(self.folder / NAME)
        _fsync(self.folder)
        self.checkpointed_best = self.best
        self._remove_all_but(self.folder / NAME, *files)
        self._wait(time.monotonic() - start)

    @errors.see(PAGE)
    def keep_best(self, epoch: int) -> None:
        """Save the weights of this epoch, the best one so far. Raises as write does."""
        self._check(f"epoch {epoch}")
        previous, self.best = self.best, self.folder / f"best-{epoch}.safetensors"
        if not parallel.is_rank_zero():
            return
        write(self.best, self.network.state_dict())
        if previous is not None and previous not in (self.best, self.checkpointed_best):
            previous.unlink()

    def restore_best(self) -> None:
        """Load the weights of the best epoch into the network."""
        assert self.best is not None
        self.network.load_state_dict(load_file(self.best))
        parallel.barrier()  # rank 0 may remove the file from here on

    @errors.see(PAGE)
    def resume(self) -> Progress:
        """Load the checkpoint into network and optimizer and return its position, else the start.

        A damaged checkpoint is moved to the folder `damaged`, with a line on stderr. Rank 0 must
        resume before the other ranks. Raises StorageError on a rank that cannot read what rank 0
        could.
        """
        path = self.folder / NAME
        if not path.exists():
            return Progress()
        try:
            content = _read_verified(path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._discard(f"{path}: {error}")
            return Progress()
        self._load(self.folder / content["state"])
        best = self.folder / content["best"] if content["best"] else None
        self.best = self.checkpointed_best = best
        progress = Progress(content["history"], content["batches"], content["loss"])
        where = f"epoch {len(progress.history) + 1}, after {progress.batches} batches"
        if parallel.is_rank_zero():
            print(f"resumed from {path}: {where}", file=sys.stderr)
        return progress

    def restore_rng_state(self) -> None:
        """Set the RNG states of all devices to those of the checkpoint."""
        for name, state in self.generators.items():
            _RNGS[name][1](state)

    @errors.see("docs/experiments.md")
    def _check(self, when: str) -> None:
        for name, value in _trained_state(self.network).items():
            if not torch.isfinite(value).all():
                raise FloatingPointError(
                    f"{when}: {name} is not finite; try a smaller learning rate"
                )

    def _load(self, path: Path) -> None:
        state: dict[int, dict[str, Tensor]] = {}
        # Cloned: a tensor that maps the file would keep its disk space in use.
        with safe_open(path, framework="pt") as file, torch.no_grad():
            for name, value in _trained_state(self.network).items():
                value.copy_(file.get_tensor(f"network/{name}"))
            for name in file.keys():  # noqa: SIM118
                part, _, rest = name.partition("/")
                if part == "optimizer":
                    number, _, moment = rest.partition("/")
                    state.setdefault(int(number), {})[moment] = file.get_tensor(name).clone()
                elif part == "generator":
                    self.generators[rest] = file.get_tensor(name).clone()
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})

    def _wait(self, cost: float) -> None:
        """Schedule the next checkpoint: one that costs so many seconds takes at most SHARE."""
        self.next = time.monotonic() + (max(self.seconds, cost / SHARE) if self.seconds else 0)

    def _discard(self, reason: str) -> None:
        if not parallel.is_rank_zero():
            raise StorageError(f"{reason}; rank 0 could read it")
        damaged = self.folder / "damaged"
        shutil.rmtree(damaged, ignore_errors=True)
        damaged.mkdir()
        for path in self.folder.iterdir():
            if path != damaged:
                path.rename(damaged / path.name)
        print(f"{reason}; moved to {damaged}, training starts again", file=sys.stderr)

    def _remove_all_but(self, *kept: Path) -> None:
        for path in self.folder.iterdir():
            if path.is_file() and path not in kept:
                path.unlink()


def write(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors to a safetensors file atomically. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with errors_of_the_disk(unfinished):
        save_file(tensors, unfinished)
    unfinished.replace(path)


@contextmanager
def errors_of_the_disk(path: Path) -> Iterator[None]:
    """Turn a SafetensorError for a file that cannot be written into an OSError, with its errno."""
    try:
        yield
    except SafetensorError as error:
        path.unlink(missing_ok=True)  # the disk may be full
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def _trained_state(network: nn.Module) -> dict[str, Tensor]:
    """Return all tensors that training changes: parameters, and buffers outside state_dict too."""
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}


_RNGS = {
    "cpu": (torch.get_rng_state, torch.set_rng_state),
    "cuda": (torch.cuda.get_rng_state, torch.cuda.set_rng_state),
    "mps": (torch.mps.get_rng_state, torch.mps.set_rng_state),
}


def _rng_states() -> dict[str, Tensor]:
    """Return the RNG state of each device in use."""
    used = ["cpu"]
    used += ["cuda"] if torch.cuda.is_initialized() else []
    used += ["mps"] if torch.backends.mps.is_available() else []
    return {name: _RNGS[name][0]() for name in used}


def _read_verified(path: Path) -> dict[str, Any]:
    """Read checkpoint.json. Raises ValueError where it or a file that it names has changed."""
    checkpoint = json.loads(path.read_text())
    content = checkpoint["made"]
    if checkpoint["sha256"] != _digest(content):
        raise ValueError("damaged, its SHA-256 does not match")
    for name, digest in content["sha256"].items():
        if hashes.of_file(path.with_name(name)) != digest:
            raise ValueError(f"{name} is damaged, its SHA-256 does not match")
    return content


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _fsync(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk, so that they survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
