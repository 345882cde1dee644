"""ALMT (Zhang et al., EMNLP 2023): learned tokens gather each modality, and language guides what a
hyper-modality takes of audio and vision."""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from typing_extensions import TypedDict

from msabench.networks.batches import Batch, Padded
from msabench.networks.layers import Output, StandardizeEach, check_heads
from msabench.networks.precision import in_mixed_precision
from msabench.networks.text import TextEncoder, untrained
from msabench.params import OfModalities, Start
from msabench.training.network import Network
from msabench.utterances import MODALITIES


class Heads(TypedDict):
    """Attention heads of each part: the three embeddings, language, hyper-modality and fusion."""

    text: PositiveInt
    audio: PositiveInt
    vision: PositiveInt
    language: PositiveInt
    hyper: PositiveInt
    fusion: PositiveInt


class Hidden(TypedDict):
    """Widths of the inner layers of each part."""

    embedding: PositiveInt
    language: PositiveInt
    fusion: PositiveInt


class Layers(TypedDict):
    """How many layers each part has; the language has one less than the hyper-modality."""

    embedding: PositiveInt
    hyper: PositiveInt
    fusion: PositiveInt


class Attention(nn.Module):
    """W_o sum over z of att(W_q x, W_kz z, W_vz z) + b_o, one query x, sources z of one width each.

    sources: how many z. Only W_o has a bias. Scores are divided by the root of head_dim.
    """

    def __init__(self, dim: int, *, heads: int, head_dim: int, sources: int = 1) -> None:
        super().__init__()
        self.heads = heads
        inner = heads * head_dim
        self.query = nn.Linear(dim, inner, bias=False)
        self.keys, self.values = (
            nn.ModuleList(nn.Linear(dim, inner, bias=False) for _ in range(sources))
            for _ in range(2)
        )
        self.out = nn.Linear(inner, dim)

    def forward(
        self,
        query: Float[Tensor, "b t d"],
        sources: list[tuple[Float[Tensor, "b s d"], Float[Tensor, "b s d"]]],
        seen: Bool[Tensor, "b s"] | None = None,
    ) -> Float[Tensor, "b t d"]:
        """Return what a query reads; sources: what keys and values are made of, for each z."""
        q = self._heads(self.query(query))
        read = torch.zeros_like(q)
        for key, value, (k, v) in zip(self.keys, self.values, sources, strict=True):
            scores = q @ self._heads(key(k)).transpose(2, 3) / math.sqrt(q.shape[3])
            if seen is not None:
                scores = scores.masked_fill(~seen[:, None, None], -torch.inf)
            read = read + scores.softmax(dim=3) @ self._heads(value(v))
        return self.out(read.transpose(1, 2).flatten(start_dim=2))

    def _heads(self, x: Float[Tensor, "b t hc"]) -> Float[Tensor, "b h t c"]:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class Block(nn.Module):
    """x <- x + Attention(LN_q x, LN_k z, LN_v z); x <- x + W_2 GELU(W_1 LN_f x + b_1) + b_2.

    Queries, keys and values have LayerNorms of their own, also where z is x.
    """

    def __init__(self, dim: int, *, heads: int, head_dim: int, hidden: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))
        self.attention = Attention(dim, heads=heads, head_dim=head_dim)
        self.feedforward = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim)
        )

    def forward(
        self,
        x: Float[Tensor, "b t d"],
        source: Float[Tensor, "b s d"],
        seen: Bool[Tensor, "b s"] | None = None,
    ) -> Float[Tensor, "b t d"]:
        """Return the next states; source: z. seen: its steps that are real; None: all."""
        query, key, value = self.norms
        x = x + self.attention(query(x), [(key(source), value(source))], seen)
        return x + self.feedforward(x)


class Embedding(nn.Module):
    """H_m: `tokens` learned tokens in front of the steps of a modality, after some blocks (3.2)."""

    def __init__(
        self,
        width: int,
        dim: int,
        *,
        tokens: int,
        steps: int,
        layers: int,
        heads: int,
        head_dim: int,
        hidden: int,
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(width, dim)
        self.tokens = nn.Parameter(torch.zeros(tokens, dim))
        self.positions = nn.Parameter(torch.randn(tokens + steps, dim))
        self.blocks = nn.ModuleList(
            Block(dim, heads=heads, head_dim=head_dim, hidden=hidden) for _ in range(layers)
        )

    def forward(self, sequence: Padded) -> Float[Tensor, "b n d"]:
        tokens = self.tokens.expand(len(sequence.values), -1, -1)
        x = torch.cat([tokens, self.linear(sequence.values)], dim=1)
        x = x + self.positions[: x.shape[1]]
        seen = torch.cat([torch.ones_like(tokens[..., 0], dtype=torch.bool), sequence.mask], dim=1)
        *below, top = self.blocks
        for block in below:
            x = block(x, x, seen)
        return top(x[:, : tokens.shape[1]], x, seen)  # the only states of it that are read


class HyperLayer(nn.Module):
    """G <- LN G + W_o sum over s of att(W_q LN L, W_ks LN_s H_s, W_vs LN_s H_s) + b_o (3.4).

    The residual is the normalized G, as in the authors' code; the paper adds to G itself.
    """

    def __init__(self, dim: int, *, heads: int, sources: int) -> None:
        super().__init__()
        self.guide = nn.LayerNorm(dim)
        self.sources = nn.ModuleList(nn.LayerNorm(dim) for _ in range(sources))
        self.hyper = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads=heads, head_dim=dim // heads, sources=sources)

    def forward(
        self,
        hyper: Float[Tensor, "b n d"],
        guide: Float[Tensor, "b n d"],
        states: list[Float[Tensor, "b n d"]],
    ) -> Float[Tensor, "b n d"]:
        normed = [norm(of) for norm, of in zip(self.sources, states, strict=True)]
        return self.hyper(hyper) + self.attention(self.guide(guide), [(of, of) for of in normed])


class ALMT(Network):
    """y = w . f + c, f the state of a learned token that reads the hyper-modality (section 3).

    H_m (b, n, d): see Embedding.  L_0 = H_text + positions; L_i = Block(L_{i-1})
    G_{i+1}: see HyperLayer, of G_i, guided by L_i, by the same H_audio and H_vision in each layer
    f: the first step of blocks in which [e; L] attends to [e; G], both with positions (3.5). Only
    the first step is read, and no step reads another of [e; L], so that no other is computed.

    Without text the guide is L made of the positions alone; of text alone the hyper-modality reads
    H_text. dim, tokens: d and n. head_dim: of the blocks; in HyperLayer it is d / heads. masked:
    padding is not attended to; published: it is, to pad_to steps, to which longer sequences are cut
    in any case. standardize: features that are not trained, by training statistics; published: not.
    start: the label that is predicted before training; published: neutral. MMSA's settings:
    `almt_published` in params.yaml.
    Raises ValueError for a dim that is no multiple of the hyper-modality's heads.
    """

    reads_states = True
    only_weighs = ("text",)

    def __init__(
        self,
        encoder: TextEncoder | None,
        widths: Mapping[str, int],
        *,
        dim: PositiveInt,
        tokens: PositiveInt,
        heads: Heads,
        hidden: Hidden,
        layers: Layers,
        pad_to: OfModalities[PositiveInt],
        head_dim: PositiveInt = 64,
        masked: bool = True,
        standardize: bool = False,
        start: Start = "median",
        neutral: float | None = None,
    ) -> None:
        super().__init__(start, neutral)
        check_heads("dim", dim, heads["hyper"])
        self.pad_to, self.masked = pad_to, masked
        self.encoder = encoder
        self.standardize = StandardizeEach(untrained(encoder, widths) if standardize else {})
        self.embeddings = nn.ModuleDict(
            {
                name: Embedding(
                    widths[name],
                    dim,
                    tokens=tokens,
                    steps=pad_to[name],
                    layers=layers["embedding"],
                    heads=heads[name],
                    head_dim=head_dim,
                    hidden=hidden["embedding"],
                )
                for name in MODALITIES
                if name in widths
            }
        )

        def blocks(part: str, count: int) -> nn.ModuleList:
            settings = {"heads": heads[part], "head_dim": head_dim, "hidden": hidden[part]}
            return nn.ModuleList(Block(dim, **settings) for _ in range(count))

        self.sources = [name for name in self.embeddings if name != "text"] or ["text"]
        self.language_positions = nn.Parameter(torch.randn(tokens, dim))
        self.language = blocks("language", layers["hyper"] - 1)
        self.hyper = nn.Parameter(torch.ones(tokens, dim))
        self.hyper_layers = nn.ModuleList(
            HyperLayer(dim, heads=heads["hyper"], sources=len(self.sources))
            for _ in range(layers["hyper"])
        )
        self.token = nn.Parameter(torch.zeros(1, dim))
        self.source_positions, self.target_positions = (
            nn.Parameter(torch.randn(1 + tokens, dim)) for _ in range(2)
        )
        self.fusion = blocks("fusion", layers["fusion"])
        self.out = Output(dim)

    @in_mixed_precision
    def forward(self, batch: Batch) -> Float[Tensor, " b"]:
        """Predict the sentiment of each utterance."""
        read = self._cut(self.standardize(batch.sequences))
        if "text" in read:
            read["text"] = self.encoder.states(read["text"])
        if not self.masked:
            read = {name: sequence.unmasked() for name, sequence in read.items()}
        states = {name: embed(read[name]) for name, embed in self.embeddings.items()}
        hyper = self.hyper.expand(len(batch.labels), -1, -1)
        guide = self.language_positions + states.get("text", torch.zeros_like(hyper))
        for number, layer in enumerate(self.hyper_layers):
            if number > 0:
                guide = self.language[number - 1](guide, guide)
            hyper = layer(hyper, guide, [states[name] for name in self.sources])
        token = self.token.expand(len(hyper), 1, -1)
        source = torch.cat([token, hyper], dim=1) + self.source_positions
        target = token + self.target_positions[:1]
        for block in self.fusion:
            target = block(target, source)
        return self.label_offset + self.out(target.squeeze(1))

    def _cut(self, sequences: Mapping[str, Padded]) -> dict[str, Padded]:
        """Return sequences of at most pad_to steps; of as many, where padding is attended to."""
        return {
            name: of.extended(
                min(self.pad_to[name], of.values.shape[1]) if self.masked else self.pad_to[name]
            )
            for name, of in sequences.items()
        }

    def training_loss(self, batch: Batch, epoch: int) -> Float[Tensor, ""]:
        """Return the mean squared error."""
        return mse_loss(self(batch), batch.labels)


Model = ALMT
