"""Tensor Fusion Network (Zadeh, Chen, Poria, Cambria and Morency, EMNLP 2017): the outer product of
the modalities' vectors."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from msabench.networks.batches import Batch
from msabench.networks.layers import DropoutRate, Output
from msabench.networks.precision import in_mixed_precision
from msabench.networks.sequences import Sequences
from msabench.networks.subnetworks import Subnetworks, with_one
from msabench.networks.text import TextEncoder
from msabench.params import OfModalities
from msabench.training.network import Network
from msabench.training.schedule import Adam


class TFN(Network):
    """y = c + l (2 sigmoid(MLP([1; z_a] (x) [1; z_v] (x) [1; z_t])) - 1) (paper, section 4).

    z_a, z_v: subnetworks of the mean over frames. z_t: the final hidden state of an LSTM over token
    states. The product, (b, (h_a + 1)(h_v + 1)(h_t + 1)), holds the products of all three
    modalities, of each two, and each alone; without a modality, those of the others.
    c, l: the middle of the label range and half of it.

    hidden: width of each modality's layers; text_out: of z_t. fusion_dim: of the MLP. limit: l for
    every data set, about 0, as published. pad_to, standardize: see Sequences; published: padded and
    not standardized. MMSA's settings: `tfn_published` in params.yaml.
    """

    optimizer_settings = Adam
    reads_states = True
    couples_utterances = True  # by batch normalization

    def __init__(
        self,
        encoder: TextEncoder | None,
        widths: Mapping[str, int],
        *,
        hidden: OfModalities[PositiveInt],
        text_out: PositiveInt,
        fusion_dim: PositiveInt,
        dropout: OfModalities[DropoutRate],
        fusion_dropout: DropoutRate,
        limit: PositiveFloat | None = None,
        pad_to: OfModalities[PositiveInt] | None = None,
        standardize: bool = False,
        label_range: Sequence[float] = (-3.0, 3.0),
    ) -> None:
        low, high = label_range
        super().__init__("neutral", (low + high) / 2 if limit is None else 0.0)
        self.limit = limit or (high - low) / 2
        self.encoder = encoder
        self.sequences = Sequences(encoder, widths, standardize=standardize, pad_to=pad_to)
        self.subnetworks = Subnetworks(widths, hidden, text_out, dropout)
        products = 1
        for width in self.subnetworks.out.values():
            products *= width + 1
        self.head = nn.Sequential(
            nn.Dropout(fusion_dropout),
            nn.Linear(products, fusion_dim),
            nn.ReLU(),
            nn.Linear(fusion_dim, fusion_dim),
            nn.ReLU(),
            Output(fusion_dim),
        )

    @in_mixed_precision
    def forward(self, batch: Batch) -> Float[Tensor, " b"]:
        """Predict the sentiment of each utterance."""
        first, *others = self.subnetworks(self.sequences(batch.sequences, self.encoder)).values()
        product = with_one(first)
        for vector in others:  # the last one, text, runs fastest
            product = (product[:, :, None] * with_one(vector)[:, None]).flatten(start_dim=1)
        share = torch.sigmoid(self.head(product))
        return self.label_offset + self.limit * (2 * share - 1)


Model = TFN
