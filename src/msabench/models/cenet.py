"""CENET (Wang et al., IEEE Transactions on Multimedia 2022): the tokens of a text attend to audio
and vision between two layers of its encoder."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from msabench.networks.attention import additive
from msabench.networks.batches import Batch, Padded
from msabench.networks.injection import InjectedText, Injection, start_as_bert, width_of
from msabench.networks.layers import DropoutRate, Output
from msabench.networks.precision import in_mixed_precision
from msabench.networks.text import TextEncoder
from msabench.params import OfModalities, Start
from msabench.training.network import Network
from msabench.training.schedule import Adam


class AdamWithEpsilon(Adam):
    """Adam with coupled decay, of no biases but those of the injection.

    epsilon: added to the root of Adam's second moment.
    """

    epsilon: PositiveFloat


class FrameAttention(nn.Module):
    """H_s = A_s V, (b, t, d): the frames of a modality, (b, t_s, width), as t tokens X read them.

    Z = W_2 ReLU(W_1 s + b_1) + b_2, K = W_k Z + b_k, V = W_v Z + b_v, (b, t_s, d) each
    Q = W_q X + b_q, (b, t, d)
    A_s = softmax over real frames of scale * Q K^T

    Products are taken in another order: W_k and W_2 times the few queries, W_v and W_2 times what
    the tokens read, which is equal, since the shares of A_s add up to 1.
    """

    def __init__(self, width: int, out: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.inner = nn.Linear(width, out)
        self.outer, self.query, self.key, self.value = (nn.Linear(out, out) for _ in range(4))

    def forward(self, states: Float[Tensor, "b t d"], frames: Padded) -> Float[Tensor, "b t d"]:
        hidden = torch.relu(self.inner(frames.values))  # (b, t_s, d)
        queries = self.scale * self.query(states)
        keys = queries @ self.key.weight  # of Z, not of K
        # The same for all frames of a query, so that it changes no share. It gives the keys' biases
        # a gradient, of rounding alone, with which they decay as in the published code.
        constant = queries @ self.key.bias + keys @ self.outer.bias
        scores = keys @ self.outer.weight @ hidden.transpose(1, 2) + constant[..., None]
        seen = frames.mask[:, None].expand(-1, states.shape[1], -1)
        shares = (scores + additive(seen, scores.dtype).squeeze(1)).softmax(dim=2)
        return self.value(self.outer(shares @ hidden))


class Enhancement(Injection):
    """X + W_c [H_vision; H_audio] + b_c (sections III-B and C). widths: of those present."""

    ORDER = ("vision", "audio")

    def __init__(self, widths: Mapping[str, int], width: int, *, scale: float) -> None:
        super().__init__()
        self.attention = nn.ModuleDict(
            {
                name: FrameAttention(widths[name], width, scale)
                for name in self.ORDER
                if name in widths
            }
        )
        self.joined = nn.Linear(len(self.attention) * width, width)
        start_as_bert(self)

    def forward(
        self, states: Float[Tensor, "b t d"], text: Padded, frames: Mapping[str, Padded]
    ) -> Float[Tensor, "b t d"]:
        read = [attend(states, frames[name]) for name, attend in self.attention.items()]
        return states + self.joined(torch.cat(read, dim=2))


class CENET(Network):
    """y = w . tanh(P x + b) + c, x the vector of an enhanced text.

    Published: the state of its first token.

    The enhancement acts before layer `inject_before` of the encoder, from 0, or before the first
    that is trained. score_scale: of attention; None: 1 / sqrt(d), d the text's width; published: 8.
    train_embeddings: false as published: the encoder's embeddings keep their weights. dropout:
    before and after P. pad_to, standardize: see InjectedText; published: padded and not
    standardized. start: the label that is predicted before training; published: neutral. MMSA's
    settings: `cenet_published` in params.yaml.
    Raises ValueError for a layer that the encoder does not have.
    """

    optimizer_settings = AdamWithEpsilon

    def __init__(
        self,
        encoder: TextEncoder | None,
        widths: Mapping[str, int],
        *,
        score_scale: PositiveFloat | None,
        inject_before: NonNegativeInt,
        dropout: DropoutRate,
        train_embeddings: bool = True,
        pad_to: OfModalities[PositiveInt] | None = None,
        standardize: bool = False,
        start: Start = "median",
        neutral: float | None = None,
    ) -> None:
        super().__init__(start, neutral)
        width = width_of(widths)
        self.encoder = encoder
        if encoder is not None and encoder.embeddings is not None:
            encoder.embeddings.requires_grad_(train_embeddings)
        self.text = InjectedText(
            encoder,
            widths,
            partial(Enhancement, scale=score_scale or 1 / math.sqrt(width)),
            before=inject_before,
            pad_to=pad_to,
            standardize=standardize,
        )
        self.head = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(width, width),
            nn.Tanh(),
            nn.Dropout(dropout),
            Output(width),
        )
        start_as_bert(self.head)

    @in_mixed_precision
    def forward(self, batch: Batch) -> Float[Tensor, " b"]:
        """Predict the sentiment of each utterance."""
        vector = self.text(batch.sequences, self.encoder)
        return self.label_offset + self.head(vector)

    def parameter_groups(self, settings: AdamWithEpsilon) -> list[dict[str, Any]]:
        """Return Adam's groups: biases and LayerNorms, which are vectors, do not decay.

        But for the injection's biases, which do, as published.
        """
        groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            if name.startswith("text.injection."):
                kind = "injection"
            else:
                kind = "decays" if parameter.ndim > 1 else "does not decay"
            if parameter.requires_grad:
                groups.setdefault((kind, name.startswith("encoder.")), []).append(parameter)
        return [
            {
                "name": kind,
                "params": parameters,
                "lr": settings.bert_lr if of_encoder else settings.lr,
                "weight_decay": 0.0 if kind == "does not decay" else settings.weight_decay,
                "decoupled_weight_decay": settings.decoupled,
                "eps": settings.epsilon,
            }
            for (kind, of_encoder), parameters in groups.items()
        ]


Model = CENET
