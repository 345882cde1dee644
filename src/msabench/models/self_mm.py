"""Self-MM: modality-specific representations by self-supervised multi-task learning (Yu, Xu, Yuan
and Wu, AAAI 2021).

The network predicts the sentiment from the fused modalities and from each alone; the labels of the
unimodal tasks are generated while it trains, from where an utterance's features lie between the
centres of the positive and the negative utterances: see `training.unimodal`.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from msabench.networks.batches import Batch
from msabench.networks.layers import DropoutRate, FinalStateEncoder, StandardizeEach
from msabench.networks.precision import in_mixed_precision
from msabench.networks.text import TextEncoder, untrained
from msabench.params import OfFrames, Start
from msabench.training.unimodal import FUSION, OfTasks, UnimodalTasks
from msabench.utterances import MODALITIES


class SelfMM(UnimodalTasks):
    """One multimodal and up to three unimodal tasks over shared encoders (paper, Figure 1).

    encoder: of the text, None without. widths: features of each modality; that of text is the
    encoder's. lstm_dim, out_dim: hidden and output size of the LSTM encoders. lstm_dropout: on an
    LSTM's final hidden state. post_dim, dropout, exclude_zero, clamp, label_range, neutral: see
    UnimodalTasks. start: the label that an output of 0 predicts, in all tasks; the neutral point,
    as published, or the median of the training labels. standardize: all features that are not
    trained, by training statistics; not so as published. Defaults in params.yaml are MMSA's for
    MOSEI.
    """

    def __init__(
        self,
        encoder: TextEncoder | None,
        widths: Mapping[str, int],
        *,
        lstm_dim: OfFrames[PositiveInt],
        lstm_dropout: DropoutRate,
        out_dim: OfFrames[PositiveInt],
        post_dim: OfTasks[PositiveInt],
        dropout: OfTasks[DropoutRate],
        exclude_zero: bool,
        clamp: PositiveFloat | None = None,
        label_range: Sequence[float] = (-3.0, 3.0),
        neutral: float | None = None,
        start: Start = "neutral",
        standardize: bool = False,
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
        self.standardize = StandardizeEach(untrained(encoder, widths) if standardize else {})
        self.frames = nn.ModuleDict(
            {
                name: FinalStateEncoder(width, lstm_dim[name], out_dim[name], lstm_dropout)
                for name, width in widths.items()
                if name != "text"
            }
        )
        outs: dict[str, int] = {
            name: width if name == "text" else out_dim[name] for name, width in widths.items()
        }
        self.heads = self.make_heads({FUSION: sum(outs.values()), **outs}, dropout)

    @in_mixed_precision
    def vectors(self, batch: Batch) -> dict[str, Float[Tensor, "b _"]]:
        """Return the vector of each modality, and all of them side by side."""
        vectors = {
            name: self.encoder(sequence) if name == "text" else self.frames[name](sequence)
            for name, sequence in self.standardize(batch.sequences).items()
        }
        fused = torch.cat([vectors[m] for m in MODALITIES if m in vectors], dim=1)
        return {FUSION: fused, **vectors}


Model = SelfMM
