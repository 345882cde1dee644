"""How often two models that differ by chance alone get p < .05, by the number of seeds.

160 videos of 1 to 9 clips; the standard error of a difference in MAE over videos is .0106, the
standard deviation over seeds .014, about those of the default run. The share should be .05.
Compared: `statistics.compare`; the same with the chance of videos alone; and a bootstrap that draws
both videos and seeds with replacement. Last, the first again where a part of the spread over seeds,
.0075 of it, is what each seed does to single videos (ten minutes; no disk).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Integer

from msabench.evaluation import statistics
from msabench.evaluation.statistics import Replicates

VIDEOS, SEEDS = 160, (2, 3, 5, 10)
OF_VIDEOS, OF_SEEDS, OF_BOTH = 0.0106, 0.014, 0.0075
TESTS = ("videos alone", "bootstrap of videos and seeds", "videos and seeds")
DRAWS = 1000
ALPHA = 1 - statistics.LEVEL


def measure(folder: Path, *, trials: int = 4000) -> dict[str, Any]:  # noqa: ARG001
    shares = {k: share_below(k, trials) for k in SEEDS}
    single = {k: share_below(k, trials, of_both=OF_BOTH, tests=TESTS[2:]) for k in SEEDS}
    return {
        "data": "simulated",
        "trials": trials,
        "videos": VIDEOS,
        "standard_error_of_videos": OF_VIDEOS,
        "standard_deviation_of_seeds": OF_SEEDS,
        "seeds": list(SEEDS),
        "share_below_05": {test: [shares[k][test] for k in SEEDS] for test in TESTS},
        "of_which_by_single_videos": OF_BOTH,
        "share_below_05_then": [single[k][TESTS[2]] for k in SEEDS],
    }


def share_below(
    k: int, trials: int, *, of_both: float = 0.0, tests: Sequence[str] = TESTS
) -> dict[str, float]:
    """Return the share of trials in which each test has p < ALPHA, of k seeds.

    of_both: the part of OF_SEEDS, a standard deviation, that is different for each video.
    """
    random = np.random.default_rng(k)
    below = dict.fromkeys(tests, 0)
    for _ in range(trials):
        clips = random.integers(1, 10, VIDEOS)
        # A mean over clips has the standard error 1 of videos of this standard deviation.
        one = clips.sum() / np.sqrt((clips**2).sum())
        of_seeds = np.sqrt(OF_SEEDS**2 - of_both**2)
        # The mean error of each seed on each video; of videos a difference has one skewed share.
        errors = {
            name: random.normal(0, of_seeds, (k, 1)) + random.normal(0, of_both * one, (k, VIDEOS))
            for name in "ab"
        }
        errors["a"] += random.exponential(OF_VIDEOS * one, VIDEOS) - OF_VIDEOS * one
        for test in tests:
            below[test] += p_of(test, errors, clips, random) < ALPHA
    print(k, of_both, below, flush=True)
    return {test: round(int(count) / trials, 4) for test, count in below.items()}


def p_of(
    test: str,
    errors: dict[str, Float[np.ndarray, "k v"]],
    clips: Integer[np.ndarray, " v"],
    random: np.random.Generator,
) -> float:
    """Return p of no difference by one of TESTS."""
    if test == "bootstrap of videos and seeds":
        return bootstrap_p(errors, clips, random)
    models = {name: replicates(error, clips) for name, error in errors.items()}
    if test == "videos alone":
        models = {
            name: model._replace(seeds=model.seeds.mean(keepdims=True))
            for name, model in models.items()
        }
    return statistics.compare(models, VIDEOS)["pairs"]["a - b"]["p"]


def replicates(errors: Float[np.ndarray, "k v"], clips: Integer[np.ndarray, " v"]) -> Replicates:
    """Return the replicates of the mean error over clips."""
    sums = errors.mean(axis=0) * clips
    without = (sums.sum() - sums) / (clips.sum() - clips)
    return Replicates(errors @ clips / clips.sum(), without)


def bootstrap_p(
    errors: dict[str, Float[np.ndarray, "k v"]],
    clips: Integer[np.ndarray, " v"],
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
