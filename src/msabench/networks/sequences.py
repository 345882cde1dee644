"""What a network reads that takes every modality as a sequence: token states, and frames."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from msabench.networks.batches import Padded
from msabench.networks.layers import StandardizeEach
from msabench.networks.text import TextEncoder, untrained
from msabench.params import OfModalities


class Sequences(nn.Module):
    """The states of the text's tokens, and the frames of audio and vision, (b, t, d) each.

    standardize: features that are not trained, by training statistics. pad_to: as published, every
    sequence is cut or padded to so many steps, whose zeros count as real; the text encoder attends
    to none, but has states of them. Else no padding counts. align: with pad_to, frames
    are averaged to as many steps as the text has: see averaged.
    """

    def __init__(
        self,
        encoder: TextEncoder | None,
        widths: Mapping[str, int],
        *,
        standardize: bool,
        pad_to: OfModalities[PositiveInt] | None,
        align: bool = False,
    ) -> None:
        super().__init__()
        self.standardize = StandardizeEach(untrained(encoder, widths) if standardize else {})
        self.pad_to = pad_to
        self.align = align

    def forward(
        self, sequences: Mapping[str, Padded], encoder: TextEncoder | None
    ) -> dict[str, Padded]:
        """Return what the network reads of a batch; encoder: that of its text."""
        read = self.standardize(sequences)
        if self.pad_to is not None:
            read = {name: of.extended(self.pad_to[name]) for name, of in read.items()}
        if encoder is not None:
            read["text"] = encoder.states(read["text"])
        if self.pad_to is None:
            return read
        read = {name: of.unmasked() for name, of in read.items()}
        if self.align:
            steps = self.pad_to["text"]
            read |= {n: averaged(of.values, steps) for n, of in read.items() if n != "text"}
        return read


def averaged(frames: Float[Tensor, "b n d"], steps: int) -> Padded:
    """Return the means of n frames in `steps` equal segments (MMSA's AlignSubNet), all real.

    The last frame is repeated until `steps` divides their number. Of as many frames as steps, each
    is its own mean.
    """
    n = frames.shape[1]
    size = -(-n // steps)  # rounds up
    repeated = frames[:, -1:].expand(-1, steps * size - n, -1)
    values = torch.cat([frames, repeated], dim=1).unflatten(1, (steps, size)).mean(dim=2)
    lengths = torch.full((len(frames),), steps, device=frames.device)
    return Padded(values, lengths)
