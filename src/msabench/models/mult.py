"""Multimodal Transformer (Tsai et al., ACL 2019): each modality attends to each other one, without
alignment; with 500 frames of each, an epoch on CMU-MOSEI takes two hours of one core.
"""

from collections.abc import Mapping
from functools import partial

from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from msabench.networks.attention import Transformer, ends, joint_width, pairs
from msabench.networks.batches import Batch, Padded
from msabench.networks.layers import Convolution, DropoutRate, Output
from msabench.networks.precision import in_mixed_precision
from msabench.networks.sequences import Sequences
from msabench.networks.text import TextEncoder
from msabench.params import OfModalities, Start
from msabench.training.network import Network
from msabench.training.schedule import Adam
from msabench.utterances import MODALITIES


class MulT(Network):
    """y = w . (s + W_2 ReLU(W_1 s + b_1) + b_2) + c, s = [v_text; v_audio; v_vision] (section 3.2).

    X_m (b, t_m, d): a convolution over the steps of modality m.
    X_mn = Transformer(X_m, X_n), (b, t_m, d): target m reads source n, with weights of their own
    v_m (b, 2 d): the last real step of a Transformer of at least three layers, by which
    [X_mn over the other modalities n] reads itself.

    Of two modalities, v_m is (b, d). One alone has no X_mn: X_m reads itself.
    dim, heads: d, and the heads of every transformer. layers: of one for X_mn. kernel: steps of a
    convolution's window; a modality of width d has no convolution. causal, positions: see
    Transformer; published: no positions. attention_dropout: by the source; that of text where a
    sequence reads itself. output_dropout: before W_2. pad_to, standardize: see Sequences;
    published: padded and not standardized. start: the label that is predicted before training;
    published: neutral. MMSA's settings: `mult_published` in params.yaml.
    Raises ValueError for a dim that does not fit heads or positions.
    """

    optimizer_settings = Adam
    reads_states = True

    def __init__(
        self,
        encoder: TextEncoder | None,
        widths: Mapping[str, int],
        *,
        dim: PositiveInt,
        heads: PositiveInt,
        layers: PositiveInt,
        kernel: OfModalities[PositiveInt],
        text_dropout: DropoutRate,
        attention_dropout: OfModalities[DropoutRate],
        embedding_dropout: DropoutRate,
        relu_dropout: DropoutRate,
        residual_dropout: DropoutRate,
        output_dropout: DropoutRate,
        causal: bool = True,
        positions: bool = True,
        pad_to: OfModalities[PositiveInt] | None = None,
        standardize: bool = False,
        start: Start = "median",
        neutral: float | None = None,
    ) -> None:
        super().__init__(start, neutral)
        self.encoder = encoder
        self.sequences = Sequences(encoder, widths, standardize=standardize, pad_to=pad_to)
        self.names = [name for name in MODALITIES if name in widths]
        self.text_dropout = nn.Dropout(text_dropout)
        self.convolutions = nn.ModuleDict(
            {
                name: Convolution(widths[name], dim, kernel[name])
                for name in self.names
                if widths[name] != dim
            }
        )
        transformer = partial(
            Transformer,
            heads=heads,
            embedding_dropout=embedding_dropout,
            relu_dropout=relu_dropout,
            residual_dropout=residual_dropout,
            causal=causal,
            positions=positions,
        )
        self.crossmodal = pairs(
            self.names,
            lambda _, source: transformer(
                dim, layers=layers, attention_dropout=attention_dropout[source]
            ),
        )
        width = joint_width(dim, len(self.names))
        self.self_attention = nn.ModuleDict(
            {
                name: transformer(
                    width, layers=max(layers, 3), attention_dropout=attention_dropout["text"]
                )
                for name in self.names
            }
        )
        width *= len(self.names)
        self.residual = nn.Sequential(
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Dropout(output_dropout),
            nn.Linear(width, width),
        )
        self.out = Output(width)

    @in_mixed_precision
    def forward(self, batch: Batch) -> Float[Tensor, " b"]:
        """Predict the sentiment of each utterance."""
        read = self.sequences(batch.sequences, self.encoder)
        if "text" in read:
            text = read["text"]
            read["text"] = Padded(self.text_dropout(text.values), text.lengths)
        for name, convolution in self.convolutions.items():
            read[name] = convolution(read[name])
        read = {name: read[name] for name in self.names}
        vector = ends(read, partial(self._with, read), self.self_attention)
        return self.label_offset + self.out(vector + self.residual(vector))

    def _with(self, read: Mapping[str, Padded], target: str, source: str) -> Padded:
        """Return X_mn of a target m and a source n."""
        return self.crossmodal[f"{target}_with_{source}"](read[target], read[source])


Model = MulT
