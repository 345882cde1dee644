"""How often two models that differ by chance alone get p < .05, by the number of seeds.

160 videos of 1 to 9 clips, with the spreads of the default run: the standard error of a difference
in MAE over videos .0106, the standard deviation over seeds .014. A test is right where it is .05.
Compared: `statistics.compare`; the same with the chance of videos alone; and a bootstrap that draws
both videos and seeds with replacement (a quarter of an hour; no disk).
"""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from msabench.evaluation import statistics
from msabench.evaluation.statistics import Replicates

VIDEOS, SEEDS = 160, (2, 3, 5, 10)
OF_VIDEOS, OF_SEEDS = 0.0106, 0.014
DRAWS = 1000
ALPHA = 1 - statistics.LEVEL


def measure(folder: Path, *, trials: int = 4000) -> dict[str, Any]:  # noqa: ARG001
    shares = {k: share_below(k, trials) for k in SEEDS}
    return {
        "data": "simulated",
        "trials": trials,
        "videos": VIDEOS,
        "standard_error_of_videos": OF_VIDEOS,
        "standard_deviation_of_seeds": OF_SEEDS,
        "seeds": list(SEEDS),
        "share_below_05": {test: [shares[k][test] for k in SEEDS] for test in shares[SEEDS[0]]},
    }


def share_below(k: int, trials: int) -> dict[str, float]:
    """Return the share of trials in which each test has p < ALPHA, of k seeds."""
    random = np.random.default_rng(k)
    below = dict.fromkeys(("videos alone", "bootstrap of videos and seeds", "videos and seeds"), 0)
    for _ in range(trials):
        clips = random.integers(1, 10, VIDEOS)
        # The mean error of each seed on each video. Of videos a difference has one skewed share.
        spread = OF_VIDEOS * np.sqrt(VIDEOS)
        errors = {name: random.normal(0, OF_SEEDS, (k, 1)) + np.zeros(VIDEOS) for name in "ab"}
        errors["a"] = errors["a"] + random.exponential(spread, VIDEOS) - spread
        models = {name: replicates(error, clips) for name, error in errors.items()}
        one = {
            name: model._replace(seeds=model.seeds.mean(keepdims=True))
            for name, model in models.items()
        }
        p = {
            "videos alone": _p(one),
            "bootstrap of videos and seeds": bootstrap_p(errors, clips, random),
            "videos and seeds": _p(models),
        }
        for test, value in p.items():
            below[test] += value < ALPHA
    print(k, below, flush=True)
    return {test: round(count / trials, 4) for test, count in below.items()}


def replicates(errors: Float[np.ndarray, "k v"], clips: Float[np.ndarray, " v"]) -> Replicates:
    """Return the replicates of the mean error over clips."""
    sums = errors.mean(axis=0) * clips
    without = (sums.sum() - sums) / (clips.sum() - clips)
    return Replicates(errors @ clips / clips.sum(), without)


def bootstrap_p(
    errors: dict[str, Float[np.ndarray, "k v"]],
    clips: Float[np.ndarray, " v"],
    random: np.random.Generator,
) -> float:
    """Return twice the share of bootstrap samples on the lesser side of 0."""
    weights = random.multinomial(VIDEOS, [1 / VIDEOS] * VIDEOS, DRAWS) * clips
    means = {}
    for name, seeds in errors.items():
        k = len(seeds)
        of_each = weights @ seeds.T / weights.sum(axis=1, keepdims=True)  # (draws, k)
        drawn = random.integers(k, size=(DRAWS, k))
        means[name] = np.take_along_axis(of_each, drawn, axis=1).mean(axis=1)
    difference = means["a"] - means["b"]
    return 2 * min((difference <= 0).mean(), (difference >= 0).mean())


def _p(models: dict[str, Replicates]) -> float:
    return statistics.compare(models, VIDEOS)["pairs"]["a - b"]["p"]
