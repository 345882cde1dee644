"""TETFN (Wang et al., Pattern Recognition 2023): attention across modalities, between audio and
vision by way of the text, and unimodal tasks with generated labels.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from jaxtyping import Float
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from msabench.networks.attention import Transformer, ends, joint_width, pairs
from msabench.networks.batches import Batch, Padded
from msabench.networks.layers import Convolution, DropoutRate, FinalHiddenState
from msabench.networks.precision import in_mixed_precision
from msabench.networks.sequences import Sequences
from msabench.networks.text import TextEncoder
from msabench.params import OfFrames, OfModalities, Start
from msabench.training.unimodal import FUSION, OfTasks, UnimodalTasks
from msabench.utterances import MODALITIES


class RecurrentConvolution(nn.Module):
    """An LSTM over real frames, and a convolution over the windows of its states."""

    def __init__(self, width: int, hidden: int, out: int, kernel: int) -> None:
        super().__init__()
        self.lstm = FinalHiddenState(width, hidden)
        self.windows = Convolution(hidden, out, kernel)

    def forward(self, sequence: Padded) -> Padded:
        states, _ = self.lstm.states_and_ends(sequence)
        return self.windows(states)


class TextEnhanced(nn.Module):
    """A target reads what a source has read of the text: upper(target, lower(source, text)).

    build: makes a Transformer of `layers`. layers: of the upper one; the lower one has one layer.
    enhanced: whether there is text; without, the target reads the source itself.
    """

    def __init__(self, build: Callable[..., Transformer], *, layers: int, enhanced: bool) -> None:
        super().__init__()
        self.lower = build(layers=1) if enhanced else None
        self.upper = build(layers=layers)

    def forward(self, target: Padded, source: Padded, text: Padded | None) -> Padded:
        if self.lower is not None:
            source = self.lower(source, text)
        return self.upper(target, source)


class TETFN(UnimodalTasks):
    """A multimodal and up to three unimodal tasks over crossmodal attention.

    P_m (b, t_m, d): of the text a convolution over its states, of audio and vision one over the
    states of an LSTM.
    X_mn = Transformer(P_m, P_n), (b, t_m, d): target m reads source n, where one of them is the
    text; X_av, X_va are TextEnhanced, with positions.
    v_m (b, 2 d): the last real step of a Transformer by which [X_mn over the other modalities n]
    reads itself. The multimodal task has [v_t; v_a; v_v], that of m the maximum of P_m over steps.

    Of two modalities, v_m is (b, d). One alone has no X_mn: P_m reads itself.
    dim, heads, layers: d, and the heads and layers of every Transformer, but for the lower one of
    TextEnhanced, which has one layer. lstm_dim: hidden size of the LSTMs. kernel: steps of a
    convolution's window; vision_kernel_of_audio: as published, vision's is that of audio. causal:
    see Transformer. attention_dropout: by the source; that of text where a sequence reads itself,
    and in TextEnhanced. post_dim, dropout, exclude_zero, clamp, label_range, neutral: see
    UnimodalTasks; published: a clamp of 3 on every data set. pad_to, standardize: see Sequences;
    published: padded, averaged to the steps of the text, and not
    standardized. start: the label that is predicted before training; published: neutral. MMSA's
    settings: `tetfn_published` in params.yaml.
    Raises ValueError for a dim that does not fit heads or positions.
    """

    reads_states = True

    def __init__(
        self,
        encoder: TextEncoder | None,
        widths: Mapping[str, int],
        *,
        dim: PositiveInt,
        heads: PositiveInt,
        layers: PositiveInt,
        lstm_dim: OfFrames[PositiveInt],
        kernel: OfModalities[PositiveInt],
        attention_dropout: OfModalities[DropoutRate],
        embedding_dropout: DropoutRate,
        relu_dropout: DropoutRate,
        residual_dropout: DropoutRate,
        post_dim: OfTasks[PositiveInt],
        dropout: OfTasks[DropoutRate],
        exclude_zero: bool = True,
        clamp: PositiveFloat | None = None,
        causal: bool = True,
        vision_kernel_of_audio: bool = False,
        pad_to: OfModalities[PositiveInt] | None = None,
        standardize: bool = False,
        start: Start = "median",
        label_range: Sequence[float] = (-3.0, 3.0),
        neutral: float | None = None,
    ) -> None:
        super().__init__(
            post_dim=post_dim,
            exclude_zero=exclude_zero,
            clamp=clamp,
            label_range=label_range,
            neutral=neutral,
            start=start,
        )
        self.encoder = encoder
        self.names = [name for name in MODALITIES if name in widths]
        self.sequences = Sequences(
            encoder, widths, standardize=standardize, pad_to=pad_to, align=True
        )
        kernels = {
            name: kernel["audio" if name == "vision" and vision_kernel_of_audio else name]
            for name in self.names
        }
        self.convolutions = nn.ModuleDict(
            {
                name: Convolution(widths[name], dim, kernels[name])
                for name in self.names
                if name == "text"
            }
        )
        self.frames = nn.ModuleDict(
            {
                name: RecurrentConvolution(widths[name], lstm_dim[name], dim, kernels[name])
                for name in self.names
                if name != "text"
            }
        )
        transformer = partial(
            Transformer,
            heads=heads,
            embedding_dropout=embedding_dropout,
            relu_dropout=relu_dropout,
            residual_dropout=residual_dropout,
            causal=causal,
        )
        self.crossmodal = crossmodal(
            self.names,
            partial(transformer, dim),
            layers=layers,
            attention_dropout=attention_dropout,
        )
        width = joint_width(dim, len(self.names))
        self.self_attention = nn.ModuleDict(
            {
                name: transformer(
                    width,
                    layers=layers,
                    attention_dropout=attention_dropout["text"],
                    positions=False,
                )
                for name in self.names
            }
        )
        inputs = {FUSION: width * len(self.names), **dict.fromkeys(self.names, dim)}
        self.heads = self.make_heads(inputs, dropout)

    @in_mixed_precision
    def vectors(self, batch: Batch) -> dict[str, Float[Tensor, "b _"]]:
        """Return [v_m] of all modalities, and the maximum of each P_m over its steps."""
        sequences = self.sequences(batch.sequences, self.encoder)
        layers = {**self.convolutions, **self.frames}
        read = {name: layers[name](sequences[name]) for name in self.names}
        fused = ends(read, partial(self._with, read), self.self_attention)
        return {FUSION: fused, **{name: maximum(sequence) for name, sequence in read.items()}}

    def _with(self, read: Mapping[str, Padded], target: str, source: str) -> Padded:
        """Return X_mn of a target m and a source n."""
        layer = self.crossmodal[f"{target}_with_{source}"]
        if isinstance(layer, TextEnhanced):
            return layer(read[target], read[source], read.get("text"))
        return layer(read[target], read[source])


def crossmodal(
    names: Sequence[str],
    build: Callable[..., Transformer],
    *,
    layers: int,
    attention_dropout: OfModalities[float],
) -> nn.ModuleDict:
    """Return what each target reads each source by: see TETFN."""
    with_text = "text" in names

    def pair(target: str, source: str) -> nn.Module:
        if "text" in (target, source):
            rate = attention_dropout[source]
            return build(layers=layers, attention_dropout=rate, positions=False)
        enhanced = partial(build, attention_dropout=attention_dropout["text"], positions=True)
        return TextEnhanced(enhanced, layers=layers, enhanced=with_text)

    return pairs(names, pair)


def maximum(sequence: Padded) -> Float[Tensor, "b d"]:
    """Return the maximum of each feature over the real steps."""
    return sequence.values.masked_fill(~sequence.mask[..., None], -torch.inf).max(dim=1).values


Model = TETFN
