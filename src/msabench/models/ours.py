"""Text-guided two-stage transformer fusion, the report's own model (report 4.4, Figure 2)."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from msabench.networks.batches import Batch
from msabench.networks.layers import (
    DropoutRate,
    FinalHiddenState,
    Output,
    StandardizeEach,
    check_heads,
)
from msabench.networks.precision import in_mixed_precision
from msabench.networks.text import TextEncoder, untrained
from msabench.training.network import Network


class Ours(Network):
    """Text is fused with audio and with vision first, then both fusions with each other.

    F_t = MLP(BERT(I_t)), F_s = projected final hidden states of a BiLSTM over I_s, s in {a, v};
    all in R^d
    F_ms = TRM([F_t ; F_s])         stage 1: a sequence of two vectors, weights not shared
    y = MLP(TRM([F_ma ; F_mv]))     stage 2: a sequence of four vectors

    Our readings, where the report is silent: learned embeddings are added to the vectors before
    each stage (of the modality, then of the place), since a transformer sees no order without them;
    the last MLP reads all outputs of stage 2. Without audio or vision, stage 1 has the other branch
    alone; with text alone, stage 2 reads F_t; without text, it reads F_a and F_v.
    transformer_dim: d. feedforward: width of the transformers' inner layer, in multiples of d.
    standardize: all features that are not trained, by training statistics. Layers, feed-forward
    width, dropout and standardization in params.yaml were chosen on validation: see docs/models.md.
    """

    def __init__(
        self,
        encoder: TextEncoder | None,
        widths: Mapping[str, int],
        *,
        transformer_dim: PositiveInt,
        heads: PositiveInt,
        layers: PositiveInt,
        feedforward: PositiveInt,
        lstm_dim: PositiveInt,
        dropout: DropoutRate,
        standardize: bool,
    ) -> None:
        super().__init__()
        check_heads("transformer_dim", transformer_dim, heads)
        d = transformer_dim
        self.encoder = encoder
        self.standardize = StandardizeEach(untrained(encoder, widths) if standardize else {})
        self.ends = nn.ModuleDict()
        self.projections = nn.ModuleDict()
        for name, width in widths.items():
            if name == "text":
                self.projections[name] = nn.Sequential(
                    nn.Linear(width, d), nn.ReLU(), nn.Dropout(dropout), nn.Linear(d, d)
                )
            else:
                self.ends[name] = FinalHiddenState(width, lstm_dim, bidirectional=True)
                self.projections[name] = nn.Linear(2 * lstm_dim, d)
        self.embeddings = nn.ParameterDict(
            {name: nn.Parameter(0.02 * torch.randn(d)) for name in widths}
        )

        def transformer() -> nn.TransformerEncoder:
            layer = nn.TransformerEncoderLayer(
                d, heads, feedforward * d, dropout, activation="gelu", batch_first=True
            )
            return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

        others = [name for name in widths if name != "text"]
        self.branches = others if "text" in widths and others else []
        self.stage1 = nn.ModuleDict({name: transformer() for name in self.branches})
        self.stage2 = transformer()
        vectors = 2 * len(self.branches) or len(widths)
        self.positions = nn.Parameter(0.02 * torch.randn(vectors, d))
        self.head = nn.Sequential(
            nn.Linear(vectors * d, d), nn.ReLU(), nn.Dropout(dropout), Output(d)
        )

    @in_mixed_precision
    def forward(self, batch: Batch) -> Float[Tensor, " b"]:
        """Predict the sentiment of each utterance."""
        vectors = {}
        for name, sequence in self.standardize(batch.sequences).items():
            end = self.encoder(sequence) if name == "text" else self.ends[name](sequence)
            vectors[name] = self.projections[name](end) + self.embeddings[name]  # (b, d)
        if self.branches:
            pairs = [
                self.stage1[name](torch.stack([vectors["text"], vectors[name]], dim=1))  # (b, 2, d)
                for name in self.branches
            ]
            fused = torch.cat(pairs, dim=1)  # (b, 2 per branch, d)
        else:
            fused = torch.stack(list(vectors.values()), dim=1)  # (b, modalities, d)
        fused = self.stage2(fused + self.positions)
        return self.label_offset + self.head(fused.flatten(start_dim=1))


Model = Ours
