"""Labels: the range of a data set's labels, their neutral point, and the classes they fall into."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log10

import numpy as np
from jaxtyping import Float, Integer

CLASSES = 7  # at most, of the labels of a data set
SIMS_CUTS = (-0.7, -0.1, 0.1, 0.7)


@dataclass(frozen=True)
class LabelScale:
    """The range of the labels and the point from which they are positive or negative.

    low, high: finite, low < high. neutral: strictly between, None where there is no such point.
    """

    low: float = -3.0
    high: float = 3.0
    neutral: float | None = 0.0

    def __post_init__(self) -> None:
        """Raise ValueError, in one line, for numbers that are not such a scale."""
        if not self.low < self.high:
            raise ValueError(
                f"label_range: [{self.low:g}, {self.high:g}]; permitted: the lowest label, then a "
                "higher one"
            )
        if self.neutral is not None and not self.low < self.neutral < self.high:
            raise ValueError(
                f"neutral: {self.neutral:g}; permitted: above {self.low:g} and below "
                f"{self.high:g}, the label_range"
            )

    @classmethod
    def of(
        cls, label_range: Sequence[float | int], neutral: float | int | None = None
    ) -> "LabelScale":
        """Return the scale of a range; where no neutral point is given, 0 is, if it lies inside."""
        low, high = map(float, label_range)
        if neutral is None and low < 0 < high:
            neutral = 0.0
        return cls(low, high, None if neutral is None else float(neutral))

    @property
    def centre(self) -> float:
        """The neutral point, or the middle of the range where there is none."""
        return (self.low + self.high) / 2 if self.neutral is None else self.neutral

    @property
    def decimals(self) -> int:
        """Those with which a value is shown: 2, or more where the range is narrow."""
        return max(2, 2 - ceil(log10((self.high - self.low) / 6)))

    def has_units(self, classes: int) -> bool:
        """Return whether acc_k, k = classes, is defined: its classes are unit steps around neutral.

        Both sides of the neutral point must span the units of these classes, and at most 3.
        """
        if self.neutral is None:
            return False
        sides = [round(side, 6) for side in (self.neutral - self.low, self.high - self.neutral)]
        return min(sides) >= (classes - 1) / 2 and max(sides) <= 3

    def __str__(self) -> str:
        about = "" if self.neutral is None else f" about {self.neutral:g}"
        return f"labels of {self.low:g} to {self.high:g}{about}"


MOSEI = LabelScale()
SIMS = LabelScale(-1.0, 1.0, 0.0)
NO_NEUTRAL = "have no neutral point (`neutral` of the data set in params.yaml)"


@dataclass(frozen=True)
class Classes:
    """The k classes that labels and predictions fall into, lowest first.

    values: the label that each stands for. names: as csv and json have them. cuts: the k - 1
    values up to which a class but the last reaches; empty where the nearest label decides.
    """

    values: tuple[float, ...]
    names: tuple[str, ...]
    cuts: tuple[float, ...] = ()

    @property
    def signed_names(self) -> list[str]:
        """The names; positive ones have a plus sign if there are negative ones."""
        both = self.values[0] < 0
        return [
            f"+{name}" if both and value > 0 else name
            for name, value in zip(self.names, self.values, strict=True)
        ]

    def of(self, values: Float[np.ndarray, " n"]) -> Integer[np.ndarray, " n"]:
        """Return the class of each value, 0..k-1."""
        if self.cuts:
            return binned(values, self.cuts)
        # Counted from the middle class, so that halves round to even as in Acc-7.
        middle = len(self.values) // 2
        steps = np.arange(len(self.values)) - middle
        nearest = np.interp(values.astype(np.float64), self.values, steps)
        return np.rint(nearest).astype(np.int64) + middle


def binned(values: Float[np.ndarray, " n"], cuts: Sequence[float]) -> Integer[np.ndarray, " n"]:
    """Return the class of each value, 0..k-1, between k - 1 cuts, each in the class below it."""
    # In float32, the precision of the labels: 0.1 must not lie above its own cut.
    return np.searchsorted(np.array(cuts, np.float32), values.astype(np.float32), side="left")


def classes_of(labels: Float[np.ndarray, " n"], scale: LabelScale, kind: str) -> Classes:
    """Return the classes of a data set with these labels, all splits together; see about_classes.

    kind: its set of metrics.
    """
    if kind == "sims":
        # The labels of CH-SIMS are multiples of 0.2; each value is the middle one of its class.
        return Classes((-0.9, -0.4, 0.0, 0.4, 0.9), ("-2", "-1", "0", "1", "2"), SIMS_CUTS)
    distinct = np.unique(labels.astype(np.float64)) + 0.0
    if len(distinct) > CLASSES:
        distinct = np.linspace(scale.low, scale.high, CLASSES) + 0.0
    return Classes(tuple(distinct.tolist()), _names(distinct.tolist()))


def about_classes(kind: str) -> str:
    """Describe what classes_of returns, in a sentence."""
    if kind == "sims":
        cuts = ", ".join(f"{cut:g}" for cut in SIMS_CUTS)
        return f"The classes are the five of CH-SIMS's Acc-5, cut at {cuts}."
    return (
        f"The classes are the labels that occur, if those are at most {CLASSES}, else {CLASSES} "
        "even steps over their range; a value belongs to the nearest."
    )


def _names(values: Sequence[float]) -> tuple[str, ...]:
    """Format the values with three digits, or as many as make them distinct."""
    printed = (tuple(f"{value:.{digits}g}" for value in values) for digits in range(3, 18))
    return next(names for names in printed if len(set(names)) == len(names))
