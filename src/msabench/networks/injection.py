"""Texts that read audio and vision inside their encoder, between two of its layers."""

import math
from collections.abc import Callable, Mapping
from functools import partial

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from msabench.networks import precision
from msabench.networks.batches import Padded
from msabench.networks.layers import StandardizeEach, pool
from msabench.networks.text import TextEncoder, untrained
from msabench.params import OfModalities

BERT_WIDTH, BERT_STD = 768, 0.02  # of bert-base; the latter of its starting weights


class Injection(nn.Module):
    """What acts on the states of the tokens, by the frames of audio and vision."""

    def forward(
        self, states: Float[Tensor, "b t d"], text: Padded, frames: Mapping[str, Padded]
    ) -> Float[Tensor, "b t d"]:
        """Return the states; text: whose lengths they have. frames: of the modalities present."""
        raise NotImplementedError


class InjectedText(nn.Module):
    """A vector of each utterance: its text's, whose encoder meets the frames on the way.

    build: makes the injection, of the widths of the frames and that of the text, and so of the
    vector; there is none without audio and vision. before: the layer before which it acts, of all
    layers of the encoder, from 0. Where its lower layers are frozen it acts before the first that
    is trained; where all are, on the vector of the text. Without text it acts on one learned state.
    pad_to: as published, frames are cut or padded to so many, whose zeros count as real, and tokens
    are cut. Else none is. standardize: features that are not trained, by training statistics.
    Raises ValueError for a layer that the encoder does not have.
    """

    WITHOUT_TEXT = 64  # width of the learned state

    def __init__(
        self,
        encoder: TextEncoder | None,
        widths: Mapping[str, int],
        build: Callable[[Mapping[str, int], int], Injection],
        *,
        before: int,
        pad_to: OfModalities[PositiveInt] | None,
        standardize: bool,
    ) -> None:
        super().__init__()
        self.at = 0
        if encoder is not None and encoder.embeddings is not None:
            if before >= (layers := len(encoder.layers)):
                raise ValueError(
                    f"inject_before: {before}; permitted: 0 to {layers - 1}, as the text encoder "
                    f"has {layers} layers"
                )
            self.at = before
        frames = {name: of for name, of in widths.items() if name != "text"}
        self.injection = build(frames, width_of(widths)) if frames else None
        self.pad_to = pad_to
        self.standardize = StandardizeEach(untrained(encoder, widths) if standardize else {})
        if encoder is None:
            self.state = nn.Parameter(bert_normal(torch.empty(width_of(widths))))

    def forward(
        self, sequences: Mapping[str, Padded], encoder: TextEncoder | None
    ) -> Float[Tensor, "b d"]:
        """Return the vectors of a batch; encoder: that of its text."""
        read = self.standardize(sequences)
        text = read.pop("text", None)
        if self.pad_to is not None:
            read = {name: of.extended(self.pad_to[name]).unmasked() for name, of in read.items()}
            text = None if text is None else text.extended(self.pad_to["text"])
        if encoder is None or text is None:
            return self._without_text(read)
        inject = None if self.injection is None else partial(self.injection, text=text, frames=read)
        states = encoder.states(text, inject, self.at)
        return pool(states.values, states, encoder.pooling)

    def _without_text(self, frames: Mapping[str, Padded]) -> Float[Tensor, "b d"]:
        lengths = next(iter(frames.values())).lengths
        states = self.state.expand(len(lengths), 1, -1)
        text = Padded(states, torch.ones_like(lengths))
        assert self.injection is not None
        with precision.full(states.device):
            return self.injection(states, text, frames).squeeze(1)


def width_of(widths: Mapping[str, int]) -> int:
    """Return the width of the text, or of the learned state that takes its place."""
    return widths.get("text", InjectedText.WITHOUT_TEXT)


def bert_normal(weight: Tensor) -> Tensor:
    """Fill a weight by BERT's rule: N(0, .02) at its width of 768, in place.

    Of narrower ones the deviation grows by the root, so that sums over them have the same size.
    """
    return nn.init.normal_(weight, 0.0, BERT_STD * math.sqrt(BERT_WIDTH / weight.shape[-1]))


def start_as_bert(module: nn.Module) -> None:
    """Give all linear layers of a module weights by BERT's rule, and biases of 0."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            bert_normal(part.weight)
            nn.init.zeros_(part.bias)
