"""What a network reads that takes every modality as a sequence: token states, and frames."""

from collections.abc import Mapping

from pydantic import PositiveInt
from torch import nn

from msabench.networks.batches import Padded
from msabench.networks.layers import StandardizeEach
from msabench.networks.text import TextEncoder, untrained
from msabench.params import OfModalities


class Sequences(nn.Module):
    """The states of the text's tokens, and the frames of audio and vision, (b, t, d) each.

    standardize: features that are not trained, by training statistics. pad_to: as published, every
    sequence is cut or padded to so many steps, whose zeros count as real. Else none does.
    """

    def __init__(
        self,
        encoder: TextEncoder | None,
        widths: Mapping[str, int],
        *,
        standardize: bool,
        pad_to: OfModalities[PositiveInt] | None,
    ) -> None:
        super().__init__()
        self.standardize = StandardizeEach(untrained(encoder, widths) if standardize else {})
        self.pad_to = pad_to

    def forward(
        self, sequences: Mapping[str, Padded], encoder: TextEncoder | None
    ) -> dict[str, Padded]:
        """Return what the network reads of a batch; encoder: that of its text."""
        read = self.standardize(sequences)
        if encoder is not None:
            read["text"] = encoder.states(read["text"])
        if self.pad_to is None:
            return read
        return {name: of.extended(self.pad_to[name]).unmasked() for name, of in read.items()}
