"""MISA (Hazarika, Zimmermann and Poria, ACM MM 2020): modality-invariant and modality-specific
representations, fused by a transformer."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import torch
from jaxtyping import Float
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from typing_extensions import TypedDict

from msabench.errors import ParamsError
from msabench.networks.batches import Batch, Padded
from msabench.networks.layers import (
    DropoutRate,
    FinalHiddenState,
    Output,
    StandardizeEach,
    check_heads,
)
from msabench.networks.precision import in_mixed_precision
from msabench.networks.text import TextEncoder, untrained
from msabench.params import Start
from msabench.training.network import Network
from msabench.training.schedule import Adam

Vectors = dict[str, Float[Tensor, "b d"]]  # by modality


class Weights(TypedDict):
    """Of the terms of the loss beside the squared error."""

    difference: NonNegativeFloat
    similarity: NonNegativeFloat
    reconstruction: NonNegativeFloat


@dataclass(frozen=True)
class Representations:
    """Of a batch: x_m, the modality-specific p_m and the modality-invariant s_m; all (b, d)."""

    projected: Vectors
    private: Vectors
    shared: Vectors


class FrameEncoder(nn.Module):
    """Final hidden states of two bidirectional LSTMs, the second over the normalized first."""

    OUT = 4  # times as many as the features of a frame

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = FinalHiddenState(width, width, bidirectional=True)
        self.norm = nn.LayerNorm(2 * width)
        self.second = FinalHiddenState(2 * width, width, bidirectional=True)

    def forward(self, sequence: Padded) -> Float[Tensor, "b d"]:
        states, (forwards, backwards) = self.first.states_and_ends(sequence)
        ends = self.second(Padded(self.norm(states.values), states.lengths)).chunk(2, dim=1)
        return torch.cat([forwards, ends[0], backwards, ends[1]], dim=1)


class MISA(Network):
    """y = MLP(TRM([p_t; p_v; p_a; s_t; s_v; s_a])) (paper, section 3, Figure 2).

    x_m = LayerNorm(ReLU(W_m u_m)), of u_m, the text's vector or final hidden states over frames
    p_m = sigmoid(P_m x_m), s_m = sigmoid(S x_m)    specific and invariant: S is shared (3.3)
    loss: squared error + weighted difference, similarity and reconstruction (3.5); without a
    modality, over the others.

    dim: of all these vectors, d. heads, feedforward, dropout: of the transformer layer.
    fusion_dropout: in the MLP. frames_of_text: as many frames are read as the text has tokens, as
    published, which is right for aligned frames alone. start: the label that is predicted before
    training; published: neutral. standardize: features that are not trained, by training
    statistics; published: not. MMSA's settings: `misa_published` in params.yaml.
    Raises ValueError for a dim that is no multiple of heads, and ParamsError for frames of a frozen
    text, which is one vector.
    """

    MOMENTS = 5  # of central moment discrepancy (Zellinger et al., ICLR 2017)
    ORDER = ("text", "vision", "audio")  # of the transformer's sequence
    optimizer_settings = Adam
    couples_utterances = True  # by difference and similarity

    def __init__(
        self,
        encoder: TextEncoder | None,
        widths: Mapping[str, int],
        *,
        dim: PositiveInt,
        heads: PositiveInt,
        feedforward: PositiveInt,
        dropout: DropoutRate,
        fusion_dropout: DropoutRate,
        weights: Weights,
        frames_of_text: bool = False,
        standardize: bool = False,
        start: Start = "median",
        neutral: float | None = None,
    ) -> None:
        super().__init__(start, neutral)
        check_heads("dim", dim, heads)
        if frames_of_text and encoder is not None and encoder.frozen:
            raise ParamsError(
                "frames_of_text: true; permitted: false where the text is frozen, whose tokens are "
                "one vector, or trainable_layers of 1 or more"
            )
        self.weights = weights
        self.frames_of_text = frames_of_text
        self.encoder = encoder
        self.standardize = StandardizeEach(untrained(encoder, widths) if standardize else {})
        self.frames = nn.ModuleDict(
            {name: FrameEncoder(width) for name, width in widths.items() if name != "text"}
        )
        present = [name for name in self.ORDER if name in widths]
        inputs = {
            name: width if name == "text" else FrameEncoder.OUT * width
            for name, width in widths.items()
        }
        self.projections = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Linear(inputs[name], dim), nn.ReLU(), nn.LayerNorm(dim))
                for name in present
            }
        )
        self.private = nn.ModuleDict({name: nn.Linear(dim, dim) for name in present})
        self.shared = nn.Linear(dim, dim)
        self.reconstructions = nn.ModuleDict({name: nn.Linear(dim, dim) for name in present})
        self.transformer = nn.TransformerEncoderLayer(
            dim, heads, feedforward, dropout, batch_first=True
        )
        width = len(present) * dim
        self.head = nn.Sequential(
            nn.Linear(2 * width, width), nn.Dropout(fusion_dropout), nn.ReLU(), Output(width)
        )

    @in_mixed_precision
    def represent(self, batch: Batch) -> Representations:
        """Return the representations of each modality."""
        sequences = self.standardize(batch.sequences)
        vectors = {
            name: frames(self._frames(name, sequences)) for name, frames in self.frames.items()
        }
        if "text" in sequences:
            vectors["text"] = self.encoder(sequences["text"])
        x = {name: project(vectors[name]) for name, project in self.projections.items()}
        return Representations(
            projected=x,
            private={name: torch.sigmoid(self.private[name](x[name])) for name in x},
            shared={name: torch.sigmoid(self.shared(x[name])) for name in x},
        )

    def _frames(self, name: str, sequences: Mapping[str, Padded]) -> Padded:
        frames, text = sequences[name], sequences.get("text")
        if text is None or not self.frames_of_text:
            return frames
        return Padded(frames.extended(text.values.shape[1]).values, text.lengths)

    @in_mixed_precision
    def fuse(self, of: Representations) -> Float[Tensor, " b"]:
        """Predict the sentiment of each utterance from its representations."""
        sequence = torch.stack([*of.private.values(), *of.shared.values()], dim=1)  # (b, 2 m, d)
        fused = self.head(self.transformer(sequence).flatten(start_dim=1))
        return self.label_offset + fused

    def forward(self, batch: Batch) -> Float[Tensor, " b"]:
        """Predict the sentiment of each utterance."""
        return self.fuse(self.represent(batch))

    def terms(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Return the terms of the loss, unweighted."""
        of = self.represent(batch)
        pairs = [
            *((of.private[name], of.shared[name]) for name in of.private),
            *combinations(of.private.values(), 2),
        ]
        reconstructions = [
            mse_loss(decode(of.private[name] + of.shared[name]), of.projected[name])
            for name, decode in self.reconstructions.items()
        ]
        similarities = [
            discrepancy(a, b, self.MOMENTS) for a, b in combinations(of.shared.values(), 2)
        ]
        alone = [torch.zeros_like(self.label_offset)]  # one modality is similar to no other
        return {
            "mse": mse_loss(self.fuse(of), batch.labels),
            "difference": torch.stack([overlap(a, b) for a, b in pairs]).sum(),
            "similarity": torch.stack(similarities or alone).mean(),
            "reconstruction": torch.stack(reconstructions).mean(),
        }

    def training_loss(self, batch: Batch, epoch: int) -> Float[Tensor, ""]:
        """Return the weighted sum of the terms (paper, section 3.5)."""
        terms = self.terms(batch)
        return (
            terms["mse"]
            + self.weights["difference"] * terms["difference"]
            + self.weights["similarity"] * terms["similarity"]
            + self.weights["reconstruction"] * terms["reconstruction"]
        )


def overlap(a: Float[Tensor, "b d"], b: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    """Return how far two representations are from orthogonal (paper, section 3.5.2).

    The mean square of A^T B, of rows of unit length; no gradient flows through the length.
    """
    a, b = a - a.mean(dim=0), b - b.mean(dim=0)
    a, b = (x / (x.detach().norm(dim=1, keepdim=True) + 1e-6) for x in (a, b))
    return (a.T @ b).square().mean()


def discrepancy(
    a: Float[Tensor, "b d"], b: Float[Tensor, "b d"], moments: int
) -> Float[Tensor, ""]:
    """Return the distance of means, plus those of central moments up to so many.

    A vector norm, whose gradient at 0 is 0, so that a batch of one has one too.
    """
    means = a.mean(dim=0), b.mean(dim=0)
    distance = (means[0] - means[1]).norm()
    a, b = a - means[0], b - means[1]
    for order in range(2, moments + 1):
        distance = distance + (a.pow(order).mean(dim=0) - b.pow(order).mean(dim=0)).norm()
    return distance


Model = MISA
