"""The settings of a training: its optimizer, and the schedule of the loop."""

from collections.abc import Sequence
from typing import Literal

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from msabench.params import Strict


class AdamW(Strict):
    """The optimizer of a network that names no other settings.

    lr: learning rate. bert_lr: that of the text encoder's trained layers. weight_decay: decoupled.
    """

    lr: PositiveFloat
    bert_lr: PositiveFloat
    weight_decay: NonNegativeFloat


class Schedule(Strict):
    """The settings of the loop.

    batch_size: utterances per batch. accumulate: batches per optimizer step; their gradients are
    summed. drop_incomplete: throw the gradients of an incomplete last group away, as the published
    Self-MM does. epochs: at most so many. patience: stop after so many epochs without an
    improvement of the validation loss by at least minimum_improvement. validation_loss: "mae"
    over all utterances, or "mean_of_batches", the mean of each batch's MAE, which weighs a short
    last batch too much, as the published Self-MM does. decay: the learning-rate schedule; "linear"
    lowers every rate from its value to zero over `epochs`, batch by batch; "none" keeps it.
    """

    batch_size: PositiveInt
    accumulate: PositiveInt = 1
    drop_incomplete: bool = False
    epochs: PositiveInt
    patience: PositiveInt
    minimum_improvement: NonNegativeFloat = 0.0
    validation_loss: Literal["mae", "mean_of_batches"] = "mae"
    decay: Literal["none", "linear"] = "none"

    def best_epoch(self, losses: Sequence[float]) -> int:
        """Return the epoch, from 1, that lowered the loss by the minimum last: it is kept.

        losses: the validation loss of each epoch so far.
        """
        best, lowest = 1, losses[0]
        for epoch, loss in enumerate(losses[1:], start=2):
            improvement = lowest - loss
            if improvement > 0 and improvement >= self.minimum_improvement:
                best, lowest = epoch, loss
        return best
