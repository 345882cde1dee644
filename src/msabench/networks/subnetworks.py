"""The subnetworks that TFN and LMF share: one vector for each modality.

Zadeh et al., EMNLP 2017, section 4.1; Liu et al., ACL 2018, section 4.2.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from msabench.networks import precision
from msabench.networks.batches import Padded
from msabench.networks.layers import BatchNorm, FinalStateEncoder, pool
from msabench.params import OfModalities


class Subnetworks(nn.ModuleDict):
    """A vector of each modality, in the order audio, vision, text of those present.

    widths: features of each modality. hidden: of its layers. out: of its vector, which is hidden,
    of the text text_out. dropout: before the first linear layer. The text's vector is made of the
    final hidden state of an LSTM.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        hidden: OfModalities[int],
        text_out: int,
        dropout: OfModalities[float],
    ) -> None:
        frames = [name for name in ("audio", "vision") if name in widths]
        subnetworks: dict[str, nn.Module] = {
            name: OfFrameMean(widths[name], hidden[name], dropout[name]) for name in frames
        }
        self.out = {name: hidden[name] for name in frames}
        if "text" in widths:
            subnetworks["text"] = FinalStateEncoder(
                widths["text"], hidden["text"], text_out, dropout["text"]
            )
            self.out["text"] = text_out
        super().__init__(subnetworks)

    def forward(self, sequences: Mapping[str, Padded]) -> dict[str, Float[Tensor, "b _"]]:
        return {name: precision.exact(self[name](sequences[name])) for name in self}


class OfFrameMean(nn.Module):
    """The mean over frames, normalized over the batch, through three linear layers with ReLU."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm = BatchNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(nn.Linear(w, hidden) for w in (width, hidden, hidden))

    def forward(self, sequence: Padded) -> Float[Tensor, "b h"]:
        vector = self.dropout(self.norm(pool(sequence.values, sequence, "mean")))
        for layer in self.layers:
            vector = torch.relu(layer(vector))
        return vector


def with_one(vector: Float[Tensor, "b d"]) -> Float[Tensor, "b e"]:
    """Return [1; z], so that products of such vectors have those of fewer modalities too."""
    return torch.cat([torch.ones_like(vector[:, :1]), vector], dim=1)
