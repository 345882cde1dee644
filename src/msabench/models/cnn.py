"""One-dimensional convolutions over the concatenated modalities (report 4.2)."""

from collections.abc import Mapping
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from msabench.networks.batches import Batch
from msabench.networks.layers import DropoutRate, Output, StandardizeEach, segment_means
from msabench.networks.precision import in_mixed_precision
from msabench.networks.text import TextEncoder, untrained
from msabench.training.network import Network


class CNN(Network):
    """y = CNN([F_t ; I_a ; I_v]) on a common grid of time steps.

    The report gives this formula alone. Our reading: the frames of audio and vision are averaged
    in each of `steps` equal segments and F_t is repeated along them; convolutions of several
    widths (Kim 2014, "Convolutional Neural Networks for Sentence Classification"), ReLU, maximum
    over time, dropout, linear.
    standardize: all features that are not trained, by training statistics. Learning rate, its
    schedule and dropout in params.yaml were chosen on validation: see docs/models.md.
    """

    def __init__(
        self,
        encoder: TextEncoder | None,
        widths: Mapping[str, int],
        *,
        steps: PositiveInt,
        channels: PositiveInt,
        kernel_widths: Annotated[list[PositiveInt], Field(min_length=1)],
        dropout: DropoutRate,
        standardize: bool,
    ) -> None:
        super().__init__()
        self.steps = steps
        self.encoder = encoder
        self.standardize = StandardizeEach(untrained(encoder, widths) if standardize else {})
        self.convolutions = nn.ModuleList(
            nn.Conv1d(sum(widths.values()), channels, kernel, padding=kernel // 2)
            for kernel in kernel_widths
        )
        self.dropout = nn.Dropout(dropout)
        self.linear = Output(channels * len(kernel_widths))

    @in_mixed_precision
    def forward(self, batch: Batch) -> Float[Tensor, " b"]:
        """Predict the sentiment of each utterance."""
        grids = []
        for name, sequence in self.standardize(batch.sequences).items():
            if name == "text":
                vector = self.encoder(sequence)  # (b, d)
                grids.append(vector[..., None].expand(-1, -1, self.steps))
            else:
                grids.append(segment_means(sequence, self.steps))
        grid = torch.cat(grids, dim=1)  # (b, sum of d, steps)
        maxima = [torch.relu(convolve(grid)).amax(dim=2) for convolve in self.convolutions]
        return self.label_offset + self.linear(self.dropout(torch.cat(maxima, dim=1)))


Model = CNN
