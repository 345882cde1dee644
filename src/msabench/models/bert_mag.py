"""MAG-BERT (Rahman et al., ACL 2020): a gate shifts the text encoder's input by audio and vision of
the same moment."""

from collections.abc import Mapping
from functools import partial

import torch
from jaxtyping import Float
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from msabench.networks.batches import Batch, Padded
from msabench.networks.injection import InjectedText, Injection, start_as_bert, width_of
from msabench.networks.layers import DropoutRate, Output, aligned
from msabench.networks.precision import in_mixed_precision
from msabench.networks.sequences import averaged
from msabench.networks.text import TextEncoder
from msabench.params import OfModalities, Start
from msabench.training.network import Network
from msabench.training.schedule import Adam


class Gate(Injection):
    """The multimodal adaptation gate (section 3.1), of each token e (d) with its frames s.

    g_s = ReLU(G_s [s; e] + b_s);  h = sum over s of g_s * (W_s s + c_s)
    G(e) = Dropout(LayerNorm(e + alpha h)), alpha = min(beta |e| / (|h| + 1e-6), 1)

    widths: of audio and vision, those present. width: d. beta: the largest size of a shift, in
    sizes of its token. masked: the frames of a token are the mean of a segment of the real ones;
    else of all, as published: see sequences.averaged.
    """

    ORDER = ("vision", "audio")
    EPSILON = 1e-6

    def __init__(
        self, widths: Mapping[str, int], width: int, *, beta: float, dropout: float, masked: bool
    ) -> None:
        super().__init__()
        self.beta = beta
        self.masked = masked
        present = {name: widths[name] for name in self.ORDER if name in widths}
        self.gates = nn.ModuleDict(
            {name: nn.Linear(of + width, width) for name, of in present.items()}
        )
        self.shifts = nn.ModuleDict({name: nn.Linear(of, width) for name, of in present.items()})
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        start_as_bert(self)

    def forward(
        self, states: Float[Tensor, "b t d"], text: Padded, frames: Mapping[str, Padded]
    ) -> Float[Tensor, "b t d"]:
        shift = torch.zeros_like(states)
        for name, gate in self.gates.items():
            if self.masked:
                own = aligned(frames[name], Padded(states, text.lengths)).values  # (b, t, width)
            else:
                own = averaged(frames[name].values, states.shape[1]).values
            weight = torch.relu(gate(torch.cat([own, states], dim=2)))
            shift = shift + weight * self.shifts[name](own)
        size = shift.norm(dim=2, keepdim=True)
        alpha = self.beta * states.norm(dim=2, keepdim=True) / (size + self.EPSILON)
        return self.dropout(self.norm(states + alpha.clamp(max=1.0) * shift))


class BertMAG(Network):
    """y = w . tanh(P x + b) + c, x the vector of a gated text (section 3.2).

    Published: the state of its first token.

    The gate acts on the states below the first layer that is trained: the embeddings, as published,
    where the whole encoder is. Audio and vision need a frame for each token: means of equal
    segments, which leaves aligned data as they are. P starts as the pooler of the encoder's
    checkpoint, where it has one and reads the first token.

    beta_shift, gate_dropout: of the gate. dropout: after tanh. lr: of the gate, P and w; bert_lr:
    of the encoder; published: one rate. pad_to, standardize: see InjectedText; published: padded,
    and not standardized. start: the label that is predicted before training; published: neutral.
    MMSA's settings: `bert_mag_published` in params.yaml.
    """

    optimizer_settings = Adam

    def __init__(
        self,
        encoder: TextEncoder | None,
        widths: Mapping[str, int],
        *,
        beta_shift: NonNegativeFloat,
        gate_dropout: DropoutRate,
        dropout: DropoutRate,
        pad_to: OfModalities[PositiveInt] | None = None,
        standardize: bool = False,
        start: Start = "median",
        neutral: float | None = None,
    ) -> None:
        super().__init__(start, neutral)
        width = width_of(widths)
        self.encoder = encoder
        self.text = InjectedText(
            encoder,
            widths,
            partial(Gate, beta=beta_shift, dropout=gate_dropout, masked=pad_to is None),
            before=0,
            pad_to=pad_to,
            standardize=standardize,
        )
        self.dropout = nn.Dropout(dropout)
        self.pooler = nn.Linear(width, width)
        self.out = Output(width)
        start_as_bert(self.pooler)
        start_as_bert(self.out)
        weights = encoder.pooler() if encoder is not None and encoder.pooler is not None else None
        if weights is not None:
            self.pooler.load_state_dict(weights)

    @in_mixed_precision
    def forward(self, batch: Batch) -> Float[Tensor, " b"]:
        """Predict the sentiment of each utterance."""
        vector = self.text(batch.sequences, self.encoder)
        pooled = torch.tanh(self.pooler(vector))
        return self.label_offset + self.out(self.dropout(pooled))


Model = BertMAG
