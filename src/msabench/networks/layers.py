"""Layers that the networks share: each respects the true lengths of padded sequences."""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from msabench.networks import precision
from msabench.networks.batches import Padded
from msabench.params import Pooling
from msabench.utterances import Ragged, Utterances, mean_and_std

DropoutRate = Annotated[float, Field(ge=0.0, lt=1.0)]


def pool(
    states: Float[Tensor, "b t d"], sequence: Padded, pooling: Pooling
) -> Float[Tensor, "b d"]:
    """Return one vector per sequence: the first state ("cls"), or the mean over the real ones."""
    if pooling == "cls":
        return states[:, 0]
    kept = states * sequence.mask[..., None]
    return kept.sum(dim=1) / sequence.lengths[:, None]


def check_heads(name: str, dim: int, heads: int) -> None:
    """Raise ValueError for a width, the setting of that name, that its heads do not divide."""
    if dim % heads:
        raise ValueError(f"{name}: {dim}; it should be a multiple of heads, {heads}")


def segment_means(sequence: Padded, steps: int) -> Float[Tensor, "b d steps"]:
    """Return the mean over the real frames of each of `steps` equal segments.

    Segment i of a sequence of l frames covers frames floor(i l / steps) to ceil((i+1) l / steps),
    so that a sequence shorter than `steps` repeats its frames.
    """
    segments = torch.full_like(sequence.lengths, steps)
    return _segment_means(sequence, segments, steps).transpose(1, 2)


def aligned(frames: Padded, text: Padded) -> Padded:
    """Return as many frames as a text has tokens, (b, t, d): means of equal segments.

    Segments as those of segment_means, so that frames which are aligned already stay as they are;
    zeros behind the real tokens.
    """
    values = _segment_means(frames, text.lengths, text.values.shape[1])
    return Padded(values, text.lengths)


def _segment_means(
    sequence: Padded, segments: Int[Tensor, " b"], steps: int
) -> Float[Tensor, "b steps d"]:
    """Return the means of each sequence's own number of segments, and zeros up to `steps`."""
    values, lengths = sequence.values, sequence.lengths[:, None]  # (b, t, d), (b, 1)
    count = segments[:, None]
    i = torch.arange(steps, device=lengths.device)
    first = (i * lengths) // count
    last = -((-(i + 1) * lengths) // count)  # rounds up
    frame = torch.arange(values.shape[1], device=lengths.device)
    inside = (frame >= first[..., None]) & (frame < last[..., None])  # (b, steps, t)
    inside = inside & (i < count)[..., None]
    weights = inside.to(values.dtype) / (last - first)[..., None]
    return weights @ values


def varies(mean: Any, std: Any) -> Any:
    """Return which features, of these means and standard deviations, vary by more than rounding.

    Both are arrays of NumPy, or tensors.
    """
    return std > 1e-6 * abs(mean).clip(1e-6)


class FinalHiddenState(nn.Module):
    """The final hidden state of a one-layer LSTM over the real frames of each sequence.

    The LSTM runs over the padded batch and is read at the true last frame; for the backward
    direction the real frames are reversed first. That gives the numbers of packed sequences and
    is several times faster, because the fused kernel is used.
    """

    def __init__(self, width: int, hidden: int, *, bidirectional: bool = False) -> None:
        super().__init__()
        self.forwards = nn.LSTM(width, hidden, batch_first=True)
        self.backwards = nn.LSTM(width, hidden, batch_first=True) if bidirectional else None
        self.width = hidden * (2 if bidirectional else 1)

    def forward(self, sequence: Padded) -> Float[Tensor, "b h"]:
        ends = [last_state(states, sequence) for states in self._as_read(sequence)]
        return torch.cat(ends, dim=1)

    def states_and_ends(self, sequence: Padded) -> tuple[Padded, list[Float[Tensor, "b h"]]]:
        """Return the states at every frame, (b, t, h), and the final one of each direction."""
        forwards, *backwards = as_read = self._as_read(sequence)
        in_place = [_reversed(Padded(states, sequence.lengths)) for states in backwards]
        ends = [last_state(states, sequence) for states in as_read]
        return Padded(torch.cat([forwards, *in_place], dim=2), sequence.lengths), ends

    def _as_read(self, sequence: Padded) -> list[Float[Tensor, "b t h"]]:
        """Return the states of each direction, in the order in which it reads the frames."""
        sequence = Padded(precision.exact(sequence.values), sequence.lengths)
        with precision.full(sequence.values.device):
            states = [self.forwards(sequence.values)[0]]
            if self.backwards is not None:
                states.append(self.backwards(_reversed(sequence))[0])
        return states


class FinalStateEncoder(nn.Module):
    """The final hidden states of an LSTM, dropout and a linear layer: one vector per sequence."""

    def __init__(
        self, width: int, hidden: int, out: int, dropout: float, *, bidirectional: bool = False
    ) -> None:
        super().__init__()
        self.end = FinalHiddenState(width, hidden, bidirectional=bidirectional)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(self.end.width, out)

    def forward(self, sequence: Padded) -> Float[Tensor, "b out"]:
        return self.linear(self.dropout(self.end(sequence)))


def last_state(states: Float[Tensor, "b t h"], sequence: Padded) -> Float[Tensor, "b h"]:
    """Return the state at the last real frame of each sequence."""
    rows = torch.arange(len(states), device=states.device)
    return states[rows, sequence.lengths - 1]


def _reversed(sequence: Padded) -> Float[Tensor, "b t d"]:
    """Reverse the real frames of each sequence; what follows them is never read."""
    rows = torch.arange(len(sequence.lengths), device=sequence.lengths.device)[:, None]
    steps = torch.arange(sequence.values.shape[1], device=sequence.lengths.device)
    return sequence.values[rows, (sequence.lengths[:, None] - 1 - steps).clamp(min=0)]


class Output(nn.Linear):
    """A last layer, of one number: in full precision, see networks.precision."""

    def __init__(self, width: int) -> None:
        super().__init__(width, 1)

    def forward(self, x: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        with precision.full(x.device):
            return super().forward(precision.exact(x)).squeeze(1)


class Convolution(nn.Module):
    """A convolution without bias over the windows of `kernel` real frames of each sequence.

    Of l frames there are l - kernel + 1 windows. A shorter sequence, filled with zeros, is one.
    """

    def __init__(self, width: int, out: int, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.convolution = nn.Conv1d(width, out, kernel, bias=False)

    def forward(self, sequence: Padded) -> Padded:
        filled = sequence.extended(max(self.kernel, sequence.values.shape[1])).values
        values = self.convolution(filled.transpose(1, 2)).transpose(1, 2)
        return Padded(values, (sequence.lengths - self.kernel + 1).clamp(min=1))


class BatchNorm(nn.BatchNorm1d):
    """Batch normalization that permits a training batch of one utterance, which has no variance.

    It is normalized by the running statistics and leaves them as they are.
    """

    def forward(self, input: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        if self.training and len(input) == 1:
            statistics = self.running_mean, self.running_var
            return batch_norm(input, *statistics, self.weight, self.bias, eps=self.eps)
        return super().forward(input)


class Standardize(nn.Module):
    """Frames to zero mean and unit variance per feature, by the statistics of the training split.

    COVAREP's features differ by orders of magnitude, which no learning rate fits.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))

    def fit_statistics(self, frames: Ragged) -> None:
        """Take mean and standard deviation over all frames; a constant feature is only centred."""
        mean, std = map(torch.from_numpy, mean_and_std(frames))
        self.mean.copy_(mean)
        self.std.copy_(torch.where(varies(mean, std), std, 1.0))

    def forward(self, sequence: Padded) -> Padded:
        return Padded((sequence.values - self.mean) / self.std, sequence.lengths)


class StandardizeEach(nn.ModuleDict):
    """Standardize for each modality named in widths; other modalities pass unchanged."""

    def __init__(self, widths: Mapping[str, int]) -> None:
        super().__init__({name: Standardize(width) for name, width in widths.items()})

    def fit_statistics(self, train: Utterances) -> None:
        """Take the statistics of the training split."""
        for name in self:
            self.get_submodule(name).fit_statistics(train.sequences[name])  # type: ignore[operator]

    def forward(self, sequences: Mapping[str, Padded]) -> dict[str, Padded]:
        return {
            name: self[name](sequence) if name in self else sequence
            for name, sequence in sequences.items()
        }
