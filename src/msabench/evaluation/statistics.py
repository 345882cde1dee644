"""Statistics of differences between models: bootstrap over videos, Holm's correction."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from jaxtyping import Float

from msabench.evaluation import clusters

DRAWS = 10_000
SEED = 20240101
LEVEL = 0.95  # of every confidence interval


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


def bootstrap_means(
    errors: Float[np.ndarray, "m n"], videos: Sequence[str], *, draws: int = DRAWS, seed: int = SEED
) -> Float[np.ndarray, "m draws"]:
    """Return each row's mean over n utterances in every bootstrap sample of the videos.

    Whole videos are drawn, since the clips of one video depend on each other, and every row sees
    the same samples, so that differences between rows are paired.
    """
    _, video = np.unique(np.asarray(videos), return_inverse=True)
    sizes = np.bincount(video)
    v = len(sizes)
    sums = np.stack([np.bincount(video, weights=row) for row in errors])  # (m, v)
    rng = np.random.default_rng(seed)
    means = np.empty((len(errors), draws))
    chunk = max(1, 2_000_000 // v)  # bounds the memory of the counts
    for start in range(0, draws, chunk):
        stop = min(start + chunk, draws)
        drawn = rng.integers(v, size=(stop - start, v)) + v * np.arange(stop - start)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=v * (stop - start))
        weights = counts.reshape(stop - start, v).astype(np.float64)
        means[:, start:stop] = (sums @ weights.T) / (weights @ sizes)
    return means


def interval(samples: Float[np.ndarray, " draws"]) -> tuple[float, float]:
    """Return the percentile confidence interval of level LEVEL."""
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(samples, [tail, 100 - tail])
    return float(low), float(high)


def two_sided_p(differences: Float[np.ndarray, " draws"]) -> float:
    """Return the two-sided bootstrap p of no difference: twice the share beyond 0, never 0.

    Agrees with the interval: p < 0.05 where the 95 % interval leaves out 0.
    """
    beyond = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    return min(1.0, 2 * (beyond + 1) / (len(differences) + 1))


def holm(p: Sequence[float]) -> list[float]:
    """Return p adjusted for their number (Holm 1979), in the order given."""
    order = np.argsort(p, kind="stable")
    steps = np.asarray(p, dtype=np.float64)[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted.tolist()


def compare(
    errors: Mapping[str, Float[np.ndarray, " n"]],
    videos: Sequence[str],
    *,
    against: str | None = None,
    draws: int = DRAWS,
) -> dict[str, dict[str, dict[str, float | None]]]:
    """Compare models by the absolute error of each utterance.

    against: compare only pairs with this one. Returns `models`: mae, low, high of each; `pairs`,
    named "a - b": the difference in mae, its low and high, p, and p_holm over these pairs.

    From v videos even an exact sign-flip test cannot give a p below 2 / 2**v, which is above .05
    for v <= 5, while a bootstrap of them shows p = .0002, and of one an interval of width 0. So p
    is at least that, and with fewer than clusters.FEWEST videos all but mae and difference is
    None: undefined. With fewer than clusters.FEW the intervals are too narrow (`clusters.notes`).
    """
    mae = {name: float(error.mean()) for name, error in errors.items()}
    models: dict[str, dict[str, float | None]] = {
        name: {"mae": mae[name], "low": None, "high": None} for name in errors
    }
    pairs: dict[tuple[str, str], dict[str, float | None]] = {
        (a, b): {"difference": mae[a] - mae[b], **dict.fromkeys(("low", "high", "p", "p_holm"))}
        for a, b in combinations(errors, 2)
        if against in (None, a, b)
    }
    v = len(set(videos))
    if errors and v >= clusters.FEWEST:
        means = bootstrap_means(np.stack([*errors.values()]), videos, draws=draws)
        samples = dict(zip(errors, means, strict=True))
        for name, row in models.items():
            row["low"], row["high"] = interval(samples[name])
        p = []
        for (a, b), row in pairs.items():
            differences = samples[a] - samples[b]
            row["low"], row["high"] = interval(differences)
            p.append(max(two_sided_p(differences), clusters.least_p(v)))
        for row, before, adjusted in zip(pairs.values(), p, holm(p), strict=True):
            row["p"], row["p_holm"] = before, adjusted
    return {"models": models, "pairs": {" - ".join(names): row for names, row in pairs.items()}}
