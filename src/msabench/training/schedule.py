"""The settings of a training: its optimizer, and the schedule of the loop."""

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from msabench.params import Strict


class AdamW(Strict):
    """The optimizer of a network that names no other settings.

    lr: learning rate. bert_lr: that of the text encoder's trained layers. weight_decay: decoupled.
    """

    decoupled: ClassVar[bool] = True

    lr: PositiveFloat
    bert_lr: PositiveFloat
    weight_decay: NonNegativeFloat


class Adam(AdamW):
    """Adam, whose weight decay is coupled, as in most published code: a part of the gradient."""

    decoupled: ClassVar[bool] = False


class Clip(Strict):
    """How gradients are clipped, after the backward pass of every batch.

    kind: "value", each to -limit..limit, or "norm", that of all gradients to at most limit.
    """

    kind: Literal["value", "norm"]
    limit: PositiveFloat


class Plateau(Strict):
    """A learning-rate schedule that follows the validation loss (PyTorch's ReduceLROnPlateau).

    After more than `patience` epochs in a row without a loss below (1 - threshold) times the best,
    rates are multiplied by factor, from the next epoch on, and epochs are counted anew.
    """

    LEAST: ClassVar[float] = 1e-8  # by which a rate falls, or else it stays

    factor: Annotated[float, Field(gt=0.0, lt=1.0)]
    patience: NonNegativeInt
    threshold: NonNegativeFloat = 1e-4

    def rate(self, initial: float, losses: Sequence[float]) -> float:
        """Return the rate after epochs of these validation losses: a function of them alone."""
        rate, best, waited = initial, float("inf"), 0
        for loss in losses:
            if loss < best * (1 - self.threshold):
                best, waited = loss, 0
            else:
                waited += 1
            if waited > self.patience:
                waited = 0
                if rate - rate * self.factor > self.LEAST:
                    rate *= self.factor
        return rate


class Cosine(Strict):
    """A learning-rate schedule by whole epochs, as ALMT's: a linear rise, then half a cosine.

    After k epochs: the rate k / warmup while k is at most warmup, so that the first epoch has the
    rate 0, and then (1 + cos(pi (k - floor(warmup) - 1) / cosine)) / 2 of it. warmup, cosine: in
    epochs.
    """

    warmup: PositiveFloat
    cosine: PositiveFloat

    def rate(self, initial: float, epochs: int) -> float:
        """Return the rate after so many epochs."""
        if epochs <= self.warmup:
            return initial * epochs / self.warmup
        angle = math.pi * (epochs - math.floor(self.warmup) - 1) / self.cosine
        return initial * (1 + math.cos(angle)) / 2


class Missing(Strict):
    """How much of an utterance is missing in training.

    share: of its frames and tokens, at most. copies: corrupted ones of each text, cached, and so
    the number of levels above 0: at level k of these, share * k / copies is missing. absent: the
    probability that a modality is absent as a whole.
    """

    share: Annotated[float, Field(gt=0.0, le=1.0)]
    copies: PositiveInt = 4
    absent: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0

    @property
    def shares(self) -> list[float]:
        """What is missing at each level, from 0 on, to six digits."""
        levels = range(self.copies + 1)
        return [float(f"{self.share * level / self.copies:.6g}") for level in levels]


class Schedule(Strict):
    """The settings of the loop.

    batch_size: utterances per batch. accumulate: batches per optimizer step; their gradients are
    summed. drop_incomplete: throw the gradients of an incomplete last group away, as the published
    Self-MM does. clip: the gradients accumulated so far, after every batch. epochs: at most so
    many. patience: stop after so many epochs without an improvement of the validation loss by at
    least minimum_improvement. validation_loss: "mae" over all utterances; or, as published,
    "mean_of_batches" or "mse_of_batches", the mean of each batch's MAE or mean squared error,
    which weighs a short last batch too much, rounded to four decimals. decay: the learning-rate
    schedule; "linear" lowers every rate from its value to zero over `epochs`, batch by batch, and
    "cosine" by half a cosine from the end of the warm-up on; a Plateau lowers them by the
    validation loss, a Cosine by whole epochs, as published; "none" keeps them. warmup: epochs in
    which rates rise linearly, batch by batch, to what `decay` gives. missing: train on utterances
    of which random parts are missing.
    """

    batch_size: PositiveInt
    accumulate: PositiveInt = 1
    drop_incomplete: bool = False
    clip: Clip | None = None
    epochs: PositiveInt
    patience: PositiveInt
    minimum_improvement: NonNegativeFloat = 0.0
    validation_loss: Literal["mae", "mean_of_batches", "mse_of_batches"] = "mae"
    decay: Literal["none", "linear", "cosine"] | Plateau | Cosine = "none"
    warmup: NonNegativeFloat = 0.0
    missing: Missing | None = None

    def rate(self, initial: float, epochs: float, losses: Sequence[float], batches: int) -> float:
        """Return a learning rate after so many epochs (a fraction) with these validation losses.

        batches: of an epoch. In the warm-up the batch of the step counts too: no rate is 0.
        """
        rate = initial
        if isinstance(self.decay, Plateau):
            rate = self.decay.rate(initial, losses)
        elif isinstance(self.decay, Cosine):
            rate = self.decay.rate(initial, int(epochs))
        elif self.decay == "linear":
            rate = initial * (1 - epochs / self.epochs)
        elif self.decay == "cosine":
            done = max(epochs - self.warmup, 0.0) / max(self.epochs - self.warmup, 1 / batches)
            rate = initial * (1 + math.cos(math.pi * min(done, 1.0))) / 2
        if self.warmup > 0:
            rate *= min(1.0, (epochs + 1 / batches) / self.warmup)
        return rate

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
