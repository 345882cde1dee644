"""The crossmodal transformer (Tsai et al., ACL 2019, section 3.1, and the authors' code): pre-norm,
the steps of one sequence attend to those of another, or of the same one."""

import math
from collections.abc import Callable, Iterable, Mapping
from itertools import permutations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import linear

from msabench.networks import precision
from msabench.networks.batches import Padded
from msabench.networks.layers import check_heads, last_state


class Transformer(nn.Module):
    """Layers in which every step of a target attends to the steps of a source, or to its own.

    Both are scaled by sqrt(e) first, in every transformer. dim: their width e, a multiple of heads.
    attention_dropout: of the attention weights; embedding_dropout: of the scaled sequences;
    relu_dropout: of the inner layer, of width 4 e; residual_dropout: of what a block adds. causal:
    see visible. positions: sinusoids are added to the scaled sequences.
    Raises ValueError for a dim that does not fit heads or positions.
    """

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        layers: int,
        attention_dropout: float,
        embedding_dropout: float,
        relu_dropout: float,
        residual_dropout: float,
        causal: bool,
        positions: bool,
    ) -> None:
        super().__init__()
        check_heads("dim", dim, heads)
        if positions and dim < 4:
            raise ValueError(f"dim: {dim}; it should be at least 4, for positions")
        self.causal = causal
        self.positions = positions
        self.embedding_dropout = nn.Dropout(embedding_dropout)
        self.layers = nn.ModuleList(
            Layer(dim, heads, attention_dropout, relu_dropout, residual_dropout)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, target: Padded, source: Padded) -> Padded:
        """Return the states of a target that attends to a source, (b, t, e)."""
        states, read = self.embedding_dropout(self._scaled(target)), self._scaled(source)
        # Keys and values have dropout masks of their own; every layer reads these same two.
        memory = self.embedding_dropout(read), self.embedding_dropout(read)
        mask = additive(visible(target, source, causal=self.causal), states.dtype)
        for layer in self.layers:
            states = layer(states, memory, mask)
        return Padded(self.norm(states), target.lengths)

    def end(self, sequence: Padded) -> Float[Tensor, "b e"]:
        """Return the last real state of a sequence that attends to itself.

        The last layer computes no other one: a sixth of MulT's time, where sequences are long.
        """
        states = self.embedding_dropout(self._scaled(sequence))
        mask = additive(visible(sequence, sequence, causal=self.causal), states.dtype)
        *below, top = self.layers
        for layer in below:
            states = layer(states, None, mask)
        last = last_state(states, sequence)[:, None]  # sees every real state, causal or not
        mask = additive(sequence.mask[:, None], states.dtype)
        return self.norm(top(last, (states, states), mask)).squeeze(1)

    def _scaled(self, sequence: Padded) -> Float[Tensor, "b t e"]:
        # The states that every layer adds to: in mixed precision a convolution returns bfloat16,
        # in which no position beyond 256 is odd.
        values = math.sqrt(sequence.values.shape[2]) * precision.exact(sequence.values)
        return values + sinusoids(values) if self.positions else values


class Layer(nn.Module):
    """x <- x + Attention(LN1 x, LN1 k, LN1 v); x <- x + W_b ReLU(W_a LN2 x + a) + b.

    One LN1 for queries, keys and values. In self-attention k and v are x.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        attention_dropout: float,
        relu_dropout: float,
        residual_dropout: float,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads, attention_dropout)
        self.norm2 = nn.LayerNorm(dim)
        self.feedforward = nn.Sequential(
            xavier(nn.Linear(dim, 4 * dim)),
            nn.ReLU(),
            nn.Dropout(relu_dropout),
            xavier(nn.Linear(4 * dim, dim)),
        )
        self.dropout = nn.Dropout(residual_dropout)

    def forward(
        self,
        x: Float[Tensor, "b t e"],
        memory: tuple[Float[Tensor, "b s e"], Float[Tensor, "b s e"]] | None,
        mask: Float[Tensor, "b 1 t s"],
    ) -> Float[Tensor, "b t e"]:
        """Return the next states; memory: what keys and values are made of, None for x itself."""
        queries = self.norm1(x)
        keys, values = (queries, queries) if memory is None else map(self.norm1, memory)
        x = x + self.dropout(self.attention(queries, keys, values, mask))
        return x + self.dropout(self.feedforward(self.norm2(x)))


class Attention(nn.Module):
    """Scaled dot-product attention of several heads (Vaswani et al., NIPS 2017, section 3.2)."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.projection = xavier(nn.Linear(dim, 3 * dim))  # of queries, keys and values
        self.dropout = nn.Dropout(dropout)
        self.out = xavier(nn.Linear(dim, dim))

    def forward(
        self,
        queries: Float[Tensor, "b t e"],
        keys: Float[Tensor, "b s e"],
        values: Float[Tensor, "b s e"],
        mask: Float[Tensor, "b 1 t s"],
    ) -> Float[Tensor, "b t e"]:
        """Return what each query reads of the values, by the keys; mask: see additive.

        Every query has to see a key, or else what it reads is not a number.
        """
        weights, biases = self.projection.weight.chunk(3), self.projection.bias.chunk(3)
        q, k, v = (
            linear(x, weight, bias).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for x, weight, bias in zip((queries, keys, values), weights, biases, strict=True)
        )  # (b, h, t, e / h), and (b, h, s, e / h) twice
        shares = ((q / math.sqrt(q.shape[3])) @ k.transpose(2, 3) + mask).softmax(dim=3)
        return self.out((self.dropout(shares) @ v).transpose(1, 2).flatten(start_dim=2))


def pairs(names: Iterable[str], build: Callable[[str, str], nn.Module]) -> nn.ModuleDict:
    """Return `target_with_source` for each ordered pair of modalities, built for these two."""
    return nn.ModuleDict(
        {
            f"{target}_with_{source}": build(target, source)
            for target, source in permutations(names, 2)
        }
    )


def joint_width(dim: int, modalities: int) -> int:
    """Return the width of what a modality has read of all others, side by side: see ends."""
    return dim * max(modalities - 1, 1)


def ends(
    sequences: Mapping[str, Padded],
    read: Callable[[str, str], Padded],
    self_attention: nn.ModuleDict,
) -> Float[Tensor, "b e"]:
    """Return [v_m] of all modalities m, in their order (section 3.2).

    v_m: the last real step of a Transformer by which the results of m with each other modality,
    side by side, read themselves. One modality alone has no results: its sequence reads itself.
    sequences: (b, t_m, d) each. read: returns the result of a target, (b, t_target, d), with a
    source, from their names. self_attention: a Transformer of each modality, of joint_width.
    """
    vectors = []
    for target, sequence in sequences.items():
        results = [read(target, source).values for source in sequences if source != target]
        joint = Padded(torch.cat(results, dim=2), sequence.lengths) if results else sequence
        vectors.append(self_attention[target].end(joint))  # type: ignore[operator]
    return torch.cat(vectors, dim=1)


def visible(target: Padded, source: Padded, *, causal: bool) -> Bool[Tensor, "b t s"]:
    """Return which steps of the source each step of the target sees: the real ones.

    causal: of those, step i sees step j if j <= i + |difference of the true lengths|, both counted
    from 0 (the authors' code; the paper has no mask). Every step, padding too, sees step 0.
    """
    seen = source.mask[:, None]
    if causal:
        difference = (target.lengths - source.lengths).abs()
        i = torch.arange(target.values.shape[1], device=difference.device)
        j = torch.arange(source.values.shape[1], device=difference.device)
        return seen & (j <= (i + difference[:, None])[..., None])
    return seen.expand(-1, target.values.shape[1], -1)


def additive(seen: Bool[Tensor, "b t s"], dtype: torch.dtype) -> Float[Tensor, "b 1 t s"]:
    """Return what is added to the scores of every head: 0 where a step is seen, else -inf."""
    zero = torch.zeros((), dtype=dtype, device=seen.device)
    return torch.where(seen, zero, -torch.inf)[:, None]


def sinusoids(states: Float[Tensor, "b t e"]) -> Float[Tensor, "t e"]:
    """Return positions for such states, of e >= 4 (section 3.2; this form: the authors' code).

    With m = floor(e / 2) and f_k = 10000^(-k / (m - 1)), step p, from 1, has sin(p f_k) for all k,
    then cos(p f_k), then 0 where e is odd.
    """
    steps, width = states.shape[1:]
    half = width // 2
    k = torch.arange(half, device=states.device, dtype=states.dtype)
    p = torch.arange(1, steps + 1, device=states.device, dtype=states.dtype)
    angles = p[:, None] * torch.exp(k * (-math.log(10000) / (half - 1)))
    odd = angles.new_zeros(steps, width % 2)
    return torch.cat([angles.sin(), angles.cos(), odd], dim=1)


def xavier(layer: nn.Linear) -> nn.Linear:
    """Give a layer uniform Xavier weights, as of one matrix, and biases of 0."""
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
