"""Statistics: is a difference between models more than chance?"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from jaxtyping import Float

DRAWS = 10_000
SEED = 20240101
LEVEL = 0.95  # of every confidence interval


def mean_and_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the sample standard deviation, which a single value does not have."""
    mean = float(np.mean(values))
    return mean, float(np.std(values, ddof=1)) if len(values) > 1 else None


def mean_history(runs: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, list[float]]:
    """Return the mean over runs of each column, for the epochs that every run reached.

    Beyond those, the runs that go on are no sample of all.
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
    random = np.random.default_rng(seed)
    means = np.empty((len(errors), draws))
    chunk = max(1, 2_000_000 // v)  # bounds the memory of the counts
    for start in range(0, draws, chunk):
        stop = min(start + chunk, draws)
        drawn = random.integers(v, size=(stop - start, v)) + v * np.arange(stop - start)[:, None]
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
) -> dict[str, dict[str, dict[str, float]]]:
    """Compare models by the absolute error of each utterance.

    against: compare only pairs with this one. Returns `models`: mae, low, high of each; `pairs`,
    named "a - b": the difference in mae, its low and high, p, and p_holm over these pairs.
    """
    if not errors:
        return {"models": {}, "pairs": {}}
    samples = dict(
        zip(errors, bootstrap_means(np.stack([*errors.values()]), videos, draws=draws), strict=True)
    )
    models = {}
    for name, error in errors.items():
        low, high = interval(samples[name])
        models[name] = {"mae": float(error.mean()), "low": low, "high": high}
    pairs = {}
    for a, b in combinations(errors, 2):
        if against not in (None, a, b):
            continue
        low, high = interval(samples[a] - samples[b])
        p = two_sided_p(samples[a] - samples[b])
        difference = models[a]["mae"] - models[b]["mae"]
        pairs[f"{a} - {b}"] = {"difference": difference, "low": low, "high": high, "p": p}
    for pair, adjusted in zip(pairs.values(), holm([q["p"] for q in pairs.values()]), strict=True):
        pair["p_holm"] = adjusted
    return {"models": models, "pairs": pairs}
