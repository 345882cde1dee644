"""From utterances to tensors: padded batches of utterances of similar length."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer, Shaped
from torch import Tensor

from msabench.utterances import Ragged, Utterances

T = TypeVar("T")

# A pool of this many batches is shuffled, sorted by length and cut: large enough that batches
# pad little, small enough that every epoch meets other neighbours.
POOL = 16


@dataclass(frozen=True)
class Padded:
    """Sequences of one modality, padded to the longest of the batch.

    values: (b, t, d) frames or hidden states, or (b, t) token ids. lengths: (b,) real frames, >= 1.
    """

    values: Shaped[Tensor, "b t *d"]
    lengths: Int[Tensor, " b"]

    @classmethod
    def of(cls, ragged: Ragged, index: np.ndarray, device: torch.device) -> "Padded":
        """Pad the sequences at index, (b,), and move them to the device."""
        values, lengths = ragged.padded(index)
        return cls(moved(values, device), moved(lengths, device))

    @property
    def mask(self) -> Bool[Tensor, "b t"]:
        """True at real frames."""
        steps = torch.arange(self.values.shape[1], device=self.lengths.device)
        return steps < self.lengths[:, None]

    def extended(self, steps: int) -> "Padded":
        """Cut or pad to so many steps, with zeros behind the real frames; token ids become 0."""
        values = self.values[:, :steps]
        real = self.mask[:, :steps].reshape(values.shape[:2] + (1,) * (values.ndim - 2))
        values = torch.where(real, values, values.new_zeros(()))
        missing = steps - values.shape[1]
        values = torch.cat([values, values.new_zeros(len(values), missing, *values.shape[2:])], 1)
        return Padded(values, self.lengths.clamp(max=steps))

    def unmasked(self) -> "Padded":
        """Take the padding for real frames, as published models do that know no lengths."""
        return Padded(self.values, torch.full_like(self.lengths, self.values.shape[1]))


@dataclass(frozen=True)
class Batch:
    """Some utterances of a split as tensors on one device.

    index: (b,) their rows in the split. labels: (b,). sequences: by modality, those present.
    """

    index: Int[Tensor, " b"]
    labels: Float[Tensor, " b"]
    sequences: Mapping[str, Padded]

    @classmethod
    def of(cls, data: Utterances, index: np.ndarray, device: torch.device) -> "Batch":
        """Pad and move the utterances at index, (b,), to the device."""
        return cls(
            index=moved(index, device),
            labels=moved(data.labels[index], device),
            sequences={
                name: Padded.of(ragged, index, device) for name, ragged in data.sequences.items()
            },
        )


def moved(array: np.ndarray, device: torch.device) -> Tensor:
    """Return an array on the device; on a GPU at once, to be there before what is computed next."""
    tensor = torch.from_numpy(array)
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def loaded(load: Callable[[T], Batch], parts: Iterable[T], device: torch.device) -> Iterator[Batch]:
    """Yield the batch of each part; for a GPU, the next one is padded while it computes with one.

    Its copy follows what has been given to the GPU before, in the one stream that there is.
    """
    if device.type != "cuda":
        yield from map(load, parts)
        return
    with ThreadPoolExecutor(1) as thread:
        ahead: Future[Batch] | None = None
        for part in parts:
            before, ahead = ahead, thread.submit(load, part)
            if before is not None:
                yield before.result()
        if ahead is not None:
            yield ahead.result()


def cost(data: Utterances) -> Integer[np.ndarray, " n"]:
    """Return what utterances are sorted by: the tokens of each, among equals the frames.

    A token passes through transformer layers, a frame through a small LSTM: padding costs most
    in the text. A frozen text is one vector, so that there the frames alone decide.
    """
    frames = np.zeros(len(data), dtype=np.int64)
    for name, ragged in data.sequences.items():
        if name != "text":
            frames += ragged.lengths
    if "text" not in data.sequences:
        return frames
    return data.sequences["text"].lengths * (frames.max(initial=0) + 1) + frames


def length_bucketed(
    lengths: Integer[np.ndarray, " n"], batch_size: int, rng: np.random.Generator
) -> list[Integer[np.ndarray, " b"]]:
    """Return length-bucketed batches of n utterances: similar lengths, in random order.

    Every utterance occurs once; all batches but one have batch_size utterances.
    """
    order = rng.permutation(len(lengths))
    pool = POOL * batch_size
    for start in range(0, len(order), pool):
        part = order[start : start + pool]
        order[start : start + pool] = part[np.argsort(lengths[part], kind="stable")]
    batches = _cut(order, batch_size)
    return [batches[i] for i in rng.permutation(len(batches))]


def shuffled(n: int, batch_size: int, rng: np.random.Generator) -> list[Integer[np.ndarray, " b"]]:
    """Return batches of n utterances in random order."""
    return _cut(rng.permutation(n), batch_size)


def sorted_by_length(
    lengths: Integer[np.ndarray, " n"], batch_size: int
) -> Iterator[Integer[np.ndarray, " b"]]:
    """Yield batches of the n utterances from the longest to the shortest."""
    yield from _cut(np.argsort(-lengths, kind="stable"), batch_size)


def _cut(order: Integer[np.ndarray, " n"], size: int) -> list[Integer[np.ndarray, " b"]]:
    """Cut an order into batches; the last one may be smaller."""
    return [order[start : start + size] for start in range(0, len(order), size)]
