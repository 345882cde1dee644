"""What the loop asks of a network: its predictions, its loss, and the groups of its weights."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from msabench.networks.batches import Batch
from msabench.networks.layers import StandardizeEach
from msabench.params import Start, Strict
from msabench.training.schedule import AdamW
from msabench.utterances import Utterances


@dataclass(frozen=True)
class Phase:
    """A pass over batches of an epoch that moves some of the weights; the last one fits the labels.

    loss: of a batch, in an epoch that counts from 1. share: of the epoch's batches, the first ones.
    moves: the names of the parameter groups that its steps move; None: all of them.
    """

    loss: Callable[[Batch, int], Float[Tensor, ""]]
    share: float = 1.0
    moves: frozenset[str] | None = None


class Network(nn.Module):
    """What the loop needs to know of a network, beside `forward(batch) -> (b,)`.

    start: the label that an output of 0 predicts: neutral, where there is one, or the median of the
        training labels.
    optimizer_settings: the type of the settings that `parameter_groups` is given.
    reads_states: whether it reads the states of a text's tokens, not one vector of it.
    couples_utterances: whether the loss of a batch is no mean over its utterances, so that the
        batch cannot be divided among processes.
    only_weighs: modalities whose values no prediction reads: they decide how much of the others'
        is read.
    label_offset: (), what `forward` adds to its output: `start`. The median has the least L1 loss
        of all constants. So labels far from zero cost no training, and a constant added to all
        labels is added to all predictions.
    """

    optimizer_settings: ClassVar[type[Strict]] = AdamW
    reads_states: ClassVar[bool] = False
    couples_utterances: ClassVar[bool] = False
    only_weighs: ClassVar[tuple[str, ...]] = ()
    encoder: Any  # a TextEncoder, or None without text
    label_offset: Tensor

    def __init__(self, start: Start = "median", neutral: float | None = None) -> None:
        super().__init__()
        self.label_at_start = neutral if start == "neutral" else None
        # A buffer, as weight decay would pull a parameter towards zero.
        self.register_buffer("label_offset", torch.zeros(()))

    def forward(self, batch: Batch) -> Float[Tensor, " b"]:
        """Predict the sentiment of each utterance."""
        raise NotImplementedError

    def fit_statistics(self, train: Utterances) -> None:
        """Compute what training needs of the training split: offset, means, label tables.

        Here the label offset, and the statistics of every StandardizeEach.
        """
        median = float(np.median(train.labels))
        self.label_offset.fill_(median if self.label_at_start is None else self.label_at_start)
        for module in self.modules():
            if isinstance(module, StandardizeEach):
                module.fit_statistics(train)

    def begin_epoch(self) -> None:
        """Reset what a network keeps of an epoch, in buffers, which checkpoints hold."""

    def phases(self) -> Sequence[Phase]:
        """Return the passes over the batches that make up an epoch, in their order."""
        return [Phase(self.training_loss)]

    def training_loss(self, batch: Batch, epoch: int) -> Float[Tensor, ""]:
        """Return the loss of a training batch, a mean over its utterances; epochs count from 1.

        With several processes the batch is a part of the one that makes the step. What a network
        keeps of it (label tables, running means) goes through `parallel.all_gather`.
        """
        return l1_loss(self(batch), batch.labels)

    def epoch_metrics(self) -> dict[str, float]:
        """Return further columns of the history for an epoch that has ended. NaN: not defined."""
        return {}

    def parameter_groups(self, settings: Any) -> list[dict[str, Any]]:
        """Return Adam's groups: here the text encoder at bert_lr, the rest at lr.

        settings: of the type optimizer_settings. A group is params, lr, weight_decay,
        decoupled_weight_decay (true for AdamW), the name by which phases choose it, and scheduled:
        false where the learning-rate schedule leaves it alone. Every weight is in one group:
        gradients of others would never be zeroed, and yet count in a norm.
        """
        rates = {"other": settings.lr, "encoder": settings.bert_lr}
        return self.grouped(rates, settings.weight_decay, decoupled=settings.decoupled)

    def grouped(
        self, rates: Mapping[str, float], decay: float | Mapping[str, float], *, decoupled: bool
    ) -> list[dict[str, Any]]:
        """Return a group for each rate, of the weights whose name begins with the rate's.

        rates: a learning rate by name; "other" is that of all further weights. decay: of the
        weights, one for all or by the same names.
        """
        weights: dict[str, list[nn.Parameter]] = {name: [] for name in rates}
        for name, parameter in self.named_parameters():
            part, _, _ = name.partition(".")
            weights[part if part in rates else "other"].append(parameter)
        return [
            {
                "name": name,
                "params": weights[name],
                "lr": rate,
                "weight_decay": decay[name] if isinstance(decay, Mapping) else decay,
                "decoupled_weight_decay": decoupled,
            }
            for name, rate in rates.items()
            if weights[name]
        ]
