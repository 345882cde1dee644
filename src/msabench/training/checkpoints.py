"""Checkpoints of a training: complete or not there, verified, and a hundredth of its time.

The best weights, which a training needs in any case, come on top.

checkpoint.json is replaced last and in one step. It names the two files that it counts on, with
their SHA-256: state-<epoch>-<batch>.safetensors, all that training changes, and
best-<epoch>.safetensors, the weights of the best epoch.
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
SECONDS = "MSABENCH_CHECKPOINT_SECONDS"  # the least time between two; 0: after every step
SECTION = "Interrupted"  # of the README
SHARE = 0.01  # of the time of a training, at most
WRITTEN_PER_SECOND = 200e6  # bytes; assumed of the disk until a checkpoint has shown it


@dataclass
class Progress:
    """How far a training is.

    history: of the epochs that have ended. batches, loss: of the one that has begun, the batches
    done and their summed loss.
    """

    history: History = field(default_factory=list)
    batches: int = 0
    loss: float = 0.0


class Checkpoints:
    """The checkpoint of one training, in a folder of its own.

    Of several processes all call these methods; the first writes, all read.
    Raises OSError where a file cannot be written: the checkpoint before is still there.
    """

    @errors.section(SECTION)
    def __init__(self, folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.folder = folder
        self.network = network
        self.optimizer = optimizer
        self.seconds = program.seconds(SECONDS, 30.0)
        self.best: Path | None = None  # the file of the best weights
        self.counted_on: Path | None = None  # the one that checkpoint.json names
        self.generators: dict[str, Tensor] = {}
        folder.mkdir(parents=True, exist_ok=True)
        weights = sum(value.nbytes for value in network.state_dict().values())
        self._wait(3 * weights / WRITTEN_PER_SECOND)  # with Adam's two moments

    def due(self) -> bool:
        """Tell whether the training has gone on for long enough since the last checkpoint."""
        return parallel.is_rank_zero() and time.monotonic() >= self.next

    @errors.section(SECTION)
    def write(self, progress: Progress) -> None:
        """Write a checkpoint, between two steps of the optimizer: no gradient is kept.

        Raises FloatingPointError for weights that are not finite: the one before stays.
        """
        start = time.monotonic()
        epoch = len(progress.history) + 1
        self._check(f"epoch {epoch}, after {progress.batches} batches")
        if not parallel.is_rank_zero():
            return
        tensors = {f"network/{name}": value for name, value in _changing(self.network).items()}
        for number, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{number}/{name}": value for name, value in moments.items()}
        tensors |= {f"generator/{name}": value for name, value in _generators().items()}
        state = self.folder / f"state-{epoch}-{progress.batches}.safetensors"
        write(state, tensors)
        needed = [state] if self.best is None else [state, self.best]
        for path in needed:
            _to_disk(path)
        made = {
            "history": progress.history,
            "batches": progress.batches,
            "loss": progress.loss,
            "state": state.name,
            "best": self.best and self.best.name,
            "sha256": {path.name: hashes.of_file(path) for path in needed},
        }
        unfinished = self.folder / f"{NAME}.unfinished"
        try:
            unfinished.write_text(json.dumps({"sha256": _digest(made), "made": made}))
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(unfinished)) from error
        _to_disk(unfinished)
        unfinished.replace(self.folder / NAME)
        _to_disk(self.folder)
        self.counted_on = self.best
        self._remove_all_but(self.folder / NAME, *needed)
        self._wait(time.monotonic() - start)

    @errors.section(SECTION)
    def keep_best(self, epoch: int) -> None:
        """Keep the weights of this epoch: on disk, not in memory. Raises as write does."""
        self._check(f"epoch {epoch}")
        before, self.best = self.best, self.folder / f"best-{epoch}.safetensors"
        if not parallel.is_rank_zero():
            return
        write(self.best, self.network.state_dict())
        if before is not None and before not in (self.best, self.counted_on):
            before.unlink()

    def restore_best(self) -> None:
        """Give the network the weights of the best epoch."""
        assert self.best is not None
        self.network.load_state_dict(load_file(self.best))
        parallel.barrier()  # the first process may remove the file from here on

    @errors.section(SECTION)
    def resume(self) -> Progress:
        """Bring network and optimizer to the checkpoint and return it; an empty one without any.

        A damaged checkpoint is set aside, in the folder `damaged`, and said so on stderr. The first
        process must have done so before the others resume. Raises StorageError where one finds
        damage that the first did not.
        """
        path = self.folder / NAME
        if not path.exists():
            return Progress()
        try:
            made = _verified(path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._set_aside(f"{path}: {error}")
            return Progress()
        self._load(self.folder / made["state"])
        self.best = self.counted_on = self.folder / made["best"] if made["best"] else None
        progress = Progress(made["history"], made["batches"], made["loss"])
        where = f"epoch {len(progress.history) + 1}, after {progress.batches} batches"
        if parallel.is_rank_zero():
            print(f"goes on from {path}: {where}", file=sys.stderr)
        return progress

    def restore_chance(self) -> None:
        """Set the generators of random numbers to where the checkpoint found them."""
        for name, state in self.generators.items():
            _GENERATORS[name][1](state)

    @errors.section("Try one setting")
    def _check(self, when: str) -> None:
        for name, value in _changing(self.network).items():
            if not torch.isfinite(value).all():
                raise FloatingPointError(
                    f"{when}: {name} is not finite; try a smaller learning rate"
                )

    def _load(self, path: Path) -> None:
        state: dict[int, dict[str, Tensor]] = {}
        # Copies: a tensor that is a view of the file would keep its room on the disk.
        with safe_open(path, framework="pt") as file, torch.no_grad():
            for name, value in _changing(self.network).items():
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
        """Let the next checkpoint be due when one that costs so many seconds is a small share."""
        pause = max(self.seconds, cost / SHARE) if self.seconds else 0
        self.next = time.monotonic() + pause

    def _set_aside(self, reason: str) -> None:
        if not parallel.is_rank_zero():
            raise StorageError(f"{reason}; the first process could read it")
        aside = self.folder / "damaged"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        for path in self.folder.iterdir():
            if path != aside:
                path.rename(aside / path.name)
        print(f"{reason}; set aside in {aside}, training starts anew", file=sys.stderr)

    def _remove_all_but(self, *needed: Path) -> None:
        for path in self.folder.iterdir():
            if path.is_file() and path not in needed:
                path.unlink()


def write(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors as safetensors, complete or not at all, from where they lie: no copy.

    Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with errors_of_the_disk(unfinished):
        save_file(tensors, unfinished)
    unfinished.replace(path)


@contextmanager
def errors_of_the_disk(path: Path) -> Iterator[None]:
    """Raise OSError where safetensors, which has one kind of error for all, cannot write a file."""
    try:
        yield
    except SafetensorError as error:
        path.unlink(missing_ok=True)  # a full disk needs the room
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def _changing(network: nn.Module) -> dict[str, Tensor]:
    """Return all tensors that training changes: buffers that are no weights (label tables) too."""
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}


_GENERATORS = {
    "cpu": (torch.get_rng_state, torch.set_rng_state),
    "cuda": (torch.cuda.get_rng_state, torch.cuda.set_rng_state),
    "mps": (torch.mps.get_rng_state, torch.mps.set_rng_state),
}


def _generators() -> dict[str, Tensor]:
    """Return the state of the random numbers of each device in use."""
    used = ["cpu"]
    used += ["cuda"] if torch.cuda.is_initialized() else []
    used += ["mps"] if torch.backends.mps.is_available() else []
    return {name: _GENERATORS[name][0]() for name in used}


def _verified(path: Path) -> dict[str, Any]:
    """Read checkpoint.json. Raises ValueError where it or a file it counts on has changed."""
    read = json.loads(path.read_text())
    made = read["made"]
    if read["sha256"] != _digest(made):
        raise ValueError("damaged, its SHA-256 is another")
    for name, digest in made["sha256"].items():
        if hashes.of_file(path.with_name(name)) != digest:
            raise ValueError(f"{name} is damaged, its SHA-256 is another")
    return made


def _digest(made: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(made).encode()).hexdigest()


def _to_disk(path: Path) -> None:
    """Let a file, or the names in a folder, reach the disk, in case the power goes."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
