"""Statistics of metrics and their differences: chance of videos and of seeds, Holm's correction.

A mean over k seeds, measured on v videos, would differ with other videos and with other seeds. Its
variance is the sum of two:

- over videos: the jackknife that leaves out one whole video at a time, since the clips of a video
  depend on each other (MacKinnon, Nielsen and Webb 2023, Fast and reliable jackknife and bootstrap
  methods for cluster-robust inference). It takes any smooth metric as it is defined and draws no
  random numbers. For a difference of two models it is paired by video;
- over seeds: s^2 / k of each model, s being the standard deviation over its seeds. What a seed does
  to single videos is in both, so that intervals are rather too wide than too narrow.

Intervals and p are those of a t distribution with Satterthwaite's degrees of freedom (1946, An
approximate distribution of estimates of variance components). A bootstrap that draws seeds with
replacement has (k - 1) / k of their variance, two thirds with three seeds.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import stdtr, stdtrit

from msabench.evaluation import clusters

LEVEL = 0.95  # of every confidence interval
GROUPS = 1000  # more videos than these are left out in as many groups, which bounds the time


Row = dict[str, Any]  # numbers by name, None where not defined


class Replicates(NamedTuple):
    """A metric of one model.

    seeds: of each seed, on all videos. without: the mean over seeds without each of the videos (or
    groups of them). NaN where it is not defined.
    """

    seeds: Float[np.ndarray, " k"]
    without: Float[np.ndarray, " v"]


class Change(NamedTuple):
    """A metric before and after a change: means over seeds.

    half: half the width of the confidence interval of their difference. paired: the seeds that were
    compared one by one; none where the means of all were.
    """

    before: float
    after: float
    half: float
    paired: list[str]

    @property
    def difference(self) -> float:
        """The metric after the change minus that before it."""
        return self.after - self.before


class Term(NamedTuple):
    """A variance, estimated with so many degrees of freedom."""

    variance: float
    df: int


def mean_and_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the sample standard deviation, None for a single value."""
    mean = float(np.mean(values))
    return mean, float(np.std(values, ddof=1)) if len(values) > 1 else None


def mean_history(runs: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, list[float]]:
    """Return the mean over runs of each column, for the epochs that every run reached.

    Later epochs are left out: the runs that are still training would be a biased sample.
    """
    epochs = min(len(run["epoch"]) for run in runs)
    return {
        column: np.mean([run[column][:epochs] for run in runs], axis=0).tolist()
        for column in runs[0]
    }


def replicates(
    metric: Callable[[np.ndarray, np.ndarray], float | None],
    labels: Float[np.ndarray, " n"],
    predictions: Float[np.ndarray, "k n *s"],
    videos: Sequence[str],
) -> Replicates:
    """Measure k seeds on all n utterances, and without each video.

    predictions: one of each utterance, or as many as the metric takes.
    """

    def measure(kept: np.ndarray | slice) -> list[float]:
        values = (metric(labels[kept], row[kept]) for row in predictions)
        return [np.nan if value is None else value for value in values]

    names, video = np.unique(np.asarray(videos), return_inverse=True)
    groups = min(len(names), GROUPS)
    without = (
        [np.mean(measure(video % groups != group)) for group in range(groups)] if groups > 1 else []
    )
    return Replicates(np.array(measure(slice(None))), np.array(without))


def compare(
    models: Mapping[str, Replicates],
    videos: int,
    *,
    against: str | None = None,
    pairs: Iterable[tuple[str, str]] | None = None,
    paired: bool = False,
) -> dict[str, dict[str, Row]]:
    """Compare one metric of several models, measured on the same videos.

    videos: their number. against: compare only pairs with this one; pairs: only these. paired:
    whether the seeds of the models belong together, one by one, as those of one model with other
    settings do.

    Returns `models`: value, low, high of each; `pairs`, named "a - b": difference, low, high, p,
    and p_holm over these pairs; both with the standard errors se_videos and se_seeds, the latter
    None with one seed: then all holds for that seed alone.

    From v videos even an exact sign-flip test cannot give a p below 2 / 2**v, which is above .05
    for v <= 5. So p is at least that, and with fewer than clusters.FEWEST videos all but value and
    difference is None: undefined. With fewer than clusters.FEW see `clusters.notes`.
    """
    rows, compared = {}, {}
    for name, one in models.items():
        value = float(one.seeds.mean())
        rows[name] = {"value": value, **_estimate(value, one.without, [one.seeds], videos)}
        del rows[name]["p"]  # that it is 0
    for a, b in combinations(models, 2) if pairs is None else pairs:
        if against in (None, a, b):
            one, other = models[a], models[b]
            value = float(one.seeds.mean() - other.seeds.mean())
            seeds = [one.seeds - other.seeds] if paired else [one.seeds, other.seeds]
            row = _estimate(value, one.without - other.without, seeds, videos)
            compared[a, b] = {"difference": value, **row}
    adjusted = iter(holm([row["p"] for row in compared.values() if row["p"] is not None]))
    for row in compared.values():
        row["p_holm"] = None if row["p"] is None else next(adjusted)
    return {"models": rows, "pairs": {" - ".join(names): row for names, row in compared.items()}}


def change(before: Mapping[str, float], after: Mapping[str, float]) -> Change | None:
    """Compare a metric of seeds with what the same or other seeds had before.

    Paired where both sides have all seeds of one of them, two at least, or three in common: a t
    interval of the differences of those seeds, since a sign-flip test of three cannot fall below
    p = .25. Else that of the difference of the means (Welch 1947). None where a side has one seed
    alone: its spread is unknown.
    """
    common = [seed for seed in before if seed in after]
    if len(common) >= min(3, max(2, len(before)), max(2, len(after))):
        pairs = np.array([(before[seed], after[seed]) for seed in common])
        samples = [pairs[:, 1] - pairs[:, 0]]
        means = pairs.mean(axis=0)
    else:
        common, samples = [], [np.array([*side.values()]) for side in (before, after)]
        if min(map(len, samples)) < 2:
            return None
        means = np.array([sample.mean() for sample in samples])
    half = _half_width([_of_seeds(sample) for sample in samples])
    return Change(float(means[0]), float(means[1]), half, common)


def holm(p: Sequence[float]) -> list[float]:
    """Return p adjusted for their number (Holm 1979), in the order given."""
    order = np.argsort(p, kind="stable")
    steps = np.asarray(p, dtype=np.float64)[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted.tolist()


def _estimate(
    value: float,
    without: Float[np.ndarray, " v"],
    seeds: Sequence[Float[np.ndarray, " _"]],
    videos: int,
) -> Row:
    """Return bounds, p of 0 and standard errors of a value; see `compare`.

    without: the value without each video. seeds: samples whose means the value adds or subtracts.
    """
    if videos < clusters.FEWEST or not np.isfinite([value, *without]).all():
        return dict.fromkeys(("low", "high", "p", "se_videos", "se_seeds"))
    of_videos = [_of_videos(without)]
    of_seeds = [_of_seeds(sample) for sample in seeds if len(sample) > 1]
    terms = of_videos + of_seeds
    half, error = _half_width(terms), _standard_error(terms)
    p = 2 * float(stdtr(_degrees(terms), -abs(value) / error)) if error else float(value == 0)
    return {
        "low": value - half,
        "high": value + half,
        "p": max(p, clusters.least_p(videos)),
        "se_videos": _standard_error(of_videos),
        "se_seeds": _standard_error(of_seeds) if of_seeds else None,
    }


def _of_videos(without: Float[np.ndarray, " v"]) -> Term:
    """Return the jackknife's variance, of a value without each of the videos."""
    v = len(without)
    return Term((v - 1) / v * float(((without - without.mean()) ** 2).sum()), v - 1)


def _of_seeds(values: Float[np.ndarray, " k"]) -> Term:
    """Return the variance of the mean of k >= 2 values."""
    return Term(float(values.var(ddof=1)) / len(values), len(values) - 1)


def _half_width(terms: Sequence[Term]) -> float:
    """Return half the width of the confidence interval of a value with these variances."""
    return _standard_error(terms) * float(stdtrit(_degrees(terms), (1 + LEVEL) / 2))


def _standard_error(terms: Sequence[Term]) -> float:
    return float(np.sqrt(sum(term.variance for term in terms)))


def _degrees(terms: Sequence[Term]) -> float:
    """Return Satterthwaite's degrees of freedom of the sum of these variances."""
    total = sum(term.variance for term in terms)
    if not total:  # nothing varies
        return float(sum(term.df for term in terms))
    return total**2 / sum(term.variance**2 / term.df for term in terms)
