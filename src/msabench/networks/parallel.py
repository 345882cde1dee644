"""Data-parallel training: collectives over the processes of one training, each with its own device.

`accelerate launch` (or torchrun) starts the processes and sets their environment. In one process
every function here returns its input, and the package accelerate is not needed.

Rank 0 alone writes files. What one rank observes alone (an interruption, a loss) is reduced or
broadcast before any rank acts on it, so that all ranks take the same branches.
"""

import atexit
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Integer, Num, Shaped
from torch import Tensor, nn

from msabench import errors, program
from msabench.errors import DeviceError, ProcessError

T = TypeVar("T")


def is_distributed() -> bool:
    """Return whether this process trains together with others."""
    return _world_size() > 1


def is_rank_zero() -> bool:
    """Return whether this is rank 0, the one process that writes files."""
    return _rank() == 0


@errors.see("docs/systems.md")
def init(kind: str) -> torch.device:
    """Initialize the process group and return the device of this process, of that kind.

    Raises DeviceError without accelerate, for a kind that several processes cannot use, and for
    more processes than GPUs; ParamsError for an environment variable that is not permitted.
    """
    if not is_distributed():
        return torch.device(kind)
    try:
        from accelerate import PartialState
    except ModuleNotFoundError:
        raise DeviceError(
            f"{_world_size()} processes need accelerate: pip install .[cluster]"
        ) from None
    if kind not in ("cpu", "cuda"):
        raise DeviceError(
            f"device: {kind!r} is for one process; permitted for {_world_size()}: cpu, cuda"
        )
    if torch.distributed.is_initialized():  # accelerate has changed the environment since
        return PartialState().device
    local_world_size = program.whole("LOCAL_WORLD_SIZE", _world_size(), 1, _world_size())
    if kind == "cuda" and local_world_size > torch.cuda.device_count():
        raise DeviceError(
            f"{local_world_size} processes for {torch.cuda.device_count()} GPUs; one each is needed"
        )
    _check_launch(local_world_size)
    # Without it accelerate sets the number of threads, which `threads` in params.yaml decides.
    os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))
    with _peer_failures():
        PartialState(cpu=kind == "cpu")
    atexit.register(torch.distributed.destroy_process_group)  # its threads must not outlive it
    return PartialState().device


def _check_launch(local_world_size: int) -> None:
    """Check the environment, of which accelerate would take some mistakes for a single process.

    Raises DeviceError for a variable that is not set, ParamsError for a value out of range.
    """
    needed = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    if unset := [name for name in needed if not os.environ.get(name)]:
        raise DeviceError(
            f"environment variable WORLD_SIZE: '{_world_size()}', but not set: {', '.join(unset)}; "
            "`accelerate launch` and `torchrun` set them all; for one process set none"
        )
    _rank()
    program.whole("LOCAL_RANK", 0, 0, local_world_size - 1)
    program.whole("MASTER_PORT", 0, 0, 65535)


def shard(index: Integer[np.ndarray, " b"]) -> tuple[Integer[np.ndarray, " p"], float]:
    """Return this rank's shard of a batch, and the weight of its mean in the mean of the batch.

    The shards of a batch that is sorted by length have similar lengths. A batch of fewer rows than
    ranks is computed whole by each: no shard is empty.
    """
    if not is_distributed():
        return index, 1.0
    rows, computed = index[_rank() :: _world_size()], len(index)
    if len(index) < _world_size():
        rows, computed = index, len(index) * _world_size()
    return rows, len(rows) / computed


def seed_rank(rows: Integer[np.ndarray, " p"], seed: int) -> None:
    """Seed this rank's RNG, of several, by the rows of its shard and the seed of the epoch.

    So that a checkpoint needs no RNG state of the other ranks.
    """
    if is_distributed():
        torch.manual_seed(int(np.random.default_rng([seed, *rows]).integers(2**63)))


def shard_batches(batches: Iterable[T]) -> Iterator[T]:
    """Yield this rank's share of batches that can be computed independently."""
    return islice(batches, _rank(), None, _world_size())


def all_reduce(values: Num[Tensor, "*d"]) -> Num[Tensor, "*d"]:
    """Return the sum over all ranks, the same bits on each."""
    if not is_distributed():
        return values
    from accelerate.utils import reduce

    with _peer_failures():
        return reduce(values.to(_device()), reduction="sum").to(values.device)


def any_rank(*flags: bool) -> list[bool]:
    """Return for each flag whether it is true on any rank."""
    return [count > 0 for count in all_reduce(torch.tensor(flags, dtype=torch.float32)).tolist()]


def all_gather(
    index: Integer[Tensor, " p"], rows: Mapping[str, Shaped[Tensor, "p *_"]]
) -> tuple[Integer[Tensor, " b"], dict[str, Shaped[Tensor, "b *_"]]]:
    """Concatenate the shards of a batch from all ranks: its rows in the split, and tensors.

    State that a network keeps per utterance goes through here, so that it is the same on every
    rank. A row occurs more than once only where every rank has computed the whole batch.
    """
    if not is_distributed():
        return index, dict(rows)
    from accelerate.utils import gather, pad_across_processes

    with _peer_failures():
        index, rows = gather(pad_across_processes((index, dict(rows)), pad_index=-1))
    real = index >= 0
    return index[real], {name: values[real] for name, values in rows.items()}


@torch.no_grad()
def all_reduce_gradients(network: nn.Module) -> None:
    """Sum the gradients over all ranks; a parameter that has none on any rank keeps None."""
    if not is_distributed():
        return
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    present = torch.tensor([float(weight.grad is not None) for weight in weights])
    gradients = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
    summed = all_reduce(torch.cat([g.flatten() for g in gradients] + [present.to(_device())]))
    *gradients, present = summed.split([w.numel() for w in weights] + [len(weights)])
    for weight, gradient, ranks in zip(weights, gradients, present.tolist(), strict=True):
        weight.grad = gradient.view_as(weight) if ranks else None


def broadcast(value: T) -> T:
    """Return rank 0's value on every rank."""
    if not is_distributed():
        return value
    from accelerate.utils import broadcast_object_list

    with _peer_failures():
        return broadcast_object_list([value])[0]


@contextmanager
def rank_zero_first() -> Iterator[None]:
    """Let rank 0 run the block before the other ranks do."""
    if not is_rank_zero():
        barrier()
    yield
    if is_rank_zero():
        barrier()


def barrier() -> None:
    """Wait until all ranks have reached this call."""
    if is_distributed():
        from accelerate import PartialState

        with _peer_failures():
            PartialState().wait_for_everyone()


def _world_size() -> int:
    return program.whole("WORLD_SIZE", 1, 1)


def _rank() -> int:
    return program.whole("RANK", 0, 0, _world_size() - 1) if is_distributed() else 0


def _device() -> torch.device:
    from accelerate import PartialState

    return PartialState().device


@contextmanager
def _peer_failures() -> Iterator[None]:
    """Turn the error of a collective whose other end has failed into a ProcessError."""
    with errors.see("docs/systems.md"):
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise ProcessError(
                f"another process has ended or failed; see its own error: {error}"
            ) from error
