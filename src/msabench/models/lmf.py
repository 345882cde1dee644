"""Low-rank Multimodal Fusion (Liu, Shen, Lakshminarasimhan, Liang, Zadeh and Morency, ACL 2018):
the outer product of TFN, with weights of low rank."""

from collections.abc import Mapping
from math import prod
from typing import Any

import torch
from jaxtyping import Float
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from msabench.networks.batches import Batch
from msabench.networks.layers import DropoutRate, Output
from msabench.networks.precision import exact, in_mixed_precision
from msabench.networks.sequences import Sequences
from msabench.networks.subnetworks import Subnetworks, with_one
from msabench.networks.text import TextEncoder
from msabench.params import OfModalities, Start
from msabench.training.network import Network
from msabench.training.schedule import Adam


class AdamOfFactors(Adam):
    """Adam, with a rate of their own for the factors of each modality."""

    factor_lr: PositiveFloat


class LMF(Network):
    """y = w . prod_m (F_m [1; z_m]) + b over the modalities m (paper, section 3.2).

    z_m (b, h_m): as TFN's subnetworks; the vector of the text is half as wide as its layers. F_m
    (rank, h_m + 1): factors; their product over m, element by element, is (b, rank).

    hidden: width of each modality's layers. train_fusion: whether w and b are trained; published:
    not, by mistake. start: the label that is predicted before training; published: neutral. pad_to,
    standardize: see Sequences; published: padded and not standardized. MMSA's settings:
    `lmf_published` in params.yaml.
    """

    optimizer_settings = AdamOfFactors
    reads_states = True
    couples_utterances = True  # by batch normalization

    def __init__(
        self,
        encoder: TextEncoder | None,
        widths: Mapping[str, int],
        *,
        hidden: OfModalities[PositiveInt],
        rank: PositiveInt,
        dropout: OfModalities[DropoutRate],
        train_fusion: bool = True,
        pad_to: OfModalities[PositiveInt] | None = None,
        standardize: bool = False,
        start: Start = "median",
        neutral: float | None = None,
    ) -> None:
        super().__init__(start, neutral)
        self.encoder = encoder
        self.train_fusion = train_fusion
        self.sequences = Sequences(encoder, widths, standardize=standardize, pad_to=pad_to)
        self.subnetworks = Subnetworks(widths, hidden, hidden["text"] // 2, dropout)
        self.factors = nn.ParameterDict(
            {
                name: nn.init.xavier_normal_(torch.empty(rank, width + 1))
                for name, width in self.subnetworks.out.items()
            }
        )
        self.fusion = Output(rank)
        nn.init.xavier_normal_(self.fusion.weight)
        nn.init.zeros_(self.fusion.bias)

    @in_mixed_precision
    def forward(self, batch: Batch) -> Float[Tensor, " b"]:
        """Predict the sentiment of each utterance."""
        vectors = self.subnetworks(self.sequences(batch.sequences, self.encoder))
        factors = (with_one(vector) @ self.factors[name].T for name, vector in vectors.items())
        fused = prod(map(exact, factors))
        return self.label_offset + self.fusion(fused)

    def parameter_groups(self, settings: AdamOfFactors) -> list[dict[str, Any]]:
        """Return Adam's groups; w and b have a rate of 0 where they are not trained."""
        rates = {"other": settings.lr, "encoder": settings.bert_lr, "factors": settings.factor_lr}
        rates |= {} if self.train_fusion else {"fusion": 0.0}
        return self.grouped(rates, settings.weight_decay, decoupled=settings.decoupled)


Model = LMF
