"""One training by several processes, each with a device of its own: what they tell each other.

`accelerate launch` (or torchrun) starts them and says so in the environment. In one process every
function here gives back what it was given, and the package accelerate is not needed.

The first process alone writes. What it or another learns alone (an interruption, a loss) is told
to all before anything follows from it, so that all do the same.
"""

import atexit
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Integer, Num, Shaped
from torch import Tensor, nn

from msabench import errors, program
from msabench.errors import DeviceError, ProcessError

T = TypeVar("T")


def is_distributed() -> bool:
    """Tell whether this process trains together with others."""
    return _count() > 1


def is_rank_zero() -> bool:
    """Tell whether this is the one process that writes."""
    return _rank() == 0


@errors.section("Systems")
def init(kind: str) -> torch.device:
    """Meet the other processes and return the device of this one, of that kind.

    Raises DeviceError without accelerate, for a kind that several processes cannot use, and for
    more processes than GPUs, ParamsError for what the environment says amiss.
    """
    if not is_distributed():
        return torch.device(kind)
    try:
        from accelerate import PartialState
    except ModuleNotFoundError:
        raise DeviceError(f"{_count()} processes need accelerate: pip install .[cluster]") from None
    if kind not in ("cpu", "cuda"):
        raise DeviceError(
            f"device: {kind!r} is for one process; permitted for {_count()}: cpu, cuda"
        )
    if torch.distributed.is_initialized():  # accelerate has set variables of its own meanwhile
        return PartialState().device
    here = program.whole("LOCAL_WORLD_SIZE", _count(), 1, _count())
    if kind == "cuda" and here > torch.cuda.device_count():
        raise DeviceError(
            f"{here} processes for {torch.cuda.device_count()} GPUs; one each is needed"
        )
    _check_launch(here)
    # Without it accelerate sets the number of threads, which `threads` in params.yaml decides.
    os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))
    with _heard():
        PartialState(cpu=kind == "cpu")
    atexit.register(torch.distributed.destroy_process_group)  # its threads must not outlive it
    return PartialState().device


def _check_launch(here: int) -> None:
    """Refuse what accelerate would take for one process, or not understand.

    Raises DeviceError for a variable that is not set, ParamsError for one without sense.
    """
    needed = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    if unset := [name for name in needed if not os.environ.get(name)]:
        raise DeviceError(
            f"environment variable WORLD_SIZE: '{_count()}', but not set: {', '.join(unset)}; "
            "`accelerate launch` and `torchrun` set them all; for one process set none"
        )
    _rank()
    program.whole("LOCAL_RANK", 0, 0, here - 1)
    program.whole("MASTER_PORT", 0, 0, 65535)


def shard(index: Integer[np.ndarray, " b"], chance: int) -> tuple[Integer[np.ndarray, " p"], float]:
    """Return this process's rows of a batch, and the weight of their mean in that of the batch.

    In an order of length the parts are of similar length. A batch of fewer rows than processes is
    computed whole by each: no part is empty. chance: of the epoch; each part has random numbers of
    its own, a function of it and of the rows, so that no generator's state needs to be kept.
    """
    if not is_distributed():
        return index, 1.0
    rows, computed = index[_rank() :: _count()], len(index)
    if len(index) < _count():
        rows, computed = index, len(index) * _count()
    torch.manual_seed(int(np.random.default_rng([chance, *rows]).integers(2**63)))
    return rows, len(rows) / computed


def shard_batches(batches: Iterable[T]) -> Iterator[T]:
    """Yield this process's share of what each can do by itself."""
    return islice(batches, _rank(), None, _count())


def all_reduce(values: Num[Tensor, "*d"]) -> Num[Tensor, "*d"]:
    """Return the sum over all processes, the same bits in each."""
    if not is_distributed():
        return values
    from accelerate.utils import reduce

    with _heard():
        return reduce(values.to(_device()), reduction="sum").to(values.device)


def any_rank(*flags: bool) -> list[bool]:
    """Tell for each flag whether any process has raised it."""
    return [count > 0 for count in all_reduce(torch.tensor(flags, dtype=torch.float32)).tolist()]


def all_gather(
    index: Integer[Tensor, " p"], rows: Mapping[str, Shaped[Tensor, "p *_"]]
) -> tuple[Integer[Tensor, " b"], dict[str, Shaped[Tensor, "b *_"]]]:
    """Return what all processes have of a batch, end to end: its rows in the split, and tensors.

    What a network keeps of the utterances that it was trained on goes through here, so that it is
    the same in every process. A row occurs more than once only where each has computed it alike.
    """
    if not is_distributed():
        return index, dict(rows)
    from accelerate.utils import gather, pad_across_processes

    with _heard():
        index, rows = gather(pad_across_processes((index, dict(rows)), pad_index=-1))
    real = index >= 0
    return index[real], {name: values[real] for name, values in rows.items()}


@torch.no_grad()
def all_reduce_gradients(network: nn.Module) -> None:
    """Add up the gradients of all processes; what none of them has reached keeps none."""
    if not is_distributed():
        return
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    reached = torch.tensor([float(weight.grad is not None) for weight in weights])
    gradients = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
    summed = all_reduce(torch.cat([g.flatten() for g in gradients] + [reached.to(_device())]))
    *gradients, reached = summed.split([w.numel() for w in weights] + [len(weights)])
    for weight, gradient, processes in zip(weights, gradients, reached.tolist(), strict=True):
        weight.grad = gradient.view_as(weight) if processes else None


def broadcast(value: T) -> T:
    """Return what the first process has in the place of this value."""
    if not is_distributed():
        return value
    from accelerate.utils import broadcast_object_list

    with _heard():
        return broadcast_object_list([value])[0]


def rank_zero_first() -> AbstractContextManager[Any]:
    """Let the first process run what is inside, and then the others."""
    return _heard_first() if is_distributed() else nullcontext()


@contextmanager
def _heard_first() -> Iterator[None]:
    if not is_rank_zero():
        barrier()
    yield
    if is_rank_zero():
        barrier()


def barrier() -> None:
    """Wait until all processes are here."""
    if is_distributed():
        from accelerate import PartialState

        with _heard():
            PartialState().wait_for_everyone()


def _count() -> int:
    return program.whole("WORLD_SIZE", 1, 1)


def _rank() -> int:
    return program.whole("RANK", 0, 0, _count() - 1) if is_distributed() else 0


def _device() -> torch.device:
    from accelerate import PartialState

    return PartialState().device


@contextmanager
def _heard() -> Iterator[None]:
    """Say in one line that another process has ended, which the exchange with it tells first."""
    with errors.section("Systems"):
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise ProcessError(
                f"no answer of another process, which may tell why: {error}"
            ) from error
