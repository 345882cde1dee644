"""Draw a split or folds of clips that come without a split: whole videos, and labels balanced."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Integer

from msabench.errors import DataError
from msabench.utterances import fold_names

TENTHS = {"train": 7, "valid": 1, "test": 2}  # of the clips
QUANTILES = (0.2, 0.4, 0.6, 0.8)  # of the labels, between which they are balanced


def draw(
    videos: Sequence[str], labels: Float[np.ndarray, " n"], seed: int, folds: int | None = None
) -> dict[str, Integer[np.ndarray, " _"]]:
    """Return the rows of train, valid and test, about TENTHS of the n clips each; or of the folds.

    Raises DataError for fewer videos than folds, or than ten.
    """
    names: Sequence[str] = fold_names(folds or 0)
    names = names or [split for split, tenths in TENTHS.items() for _ in range(tenths)]
    part = np.array(names)[video_folds(videos, labels, len(names), seed)]
    return {name: np.flatnonzero(part == name) for name in dict.fromkeys(names)}


def video_folds(
    videos: Sequence[str], labels: Float[np.ndarray, " n"], folds: int, seed: int
) -> Integer[np.ndarray, " n"]:
    """Return the fold of each of n clips, 0 to folds - 1: whole videos, none empty.

    The videos with most clips come first, in an order drawn by the seed where they have equally
    many, each to the fold that has fewest clips, in all and with labels near those of the video.
    Counts are whole numbers: the folds are the same on every machine, whatever the order of rows.
    (scikit-learn's StratifiedGroupKFold leaves folds empty, and warns of rare labels.)
    Raises DataError for fewer videos than folds.
    """
    names, video = np.unique(np.asarray(videos), return_inverse=True)
    if len(names) < folds:
        raise DataError(
            f"{len(names)} videos; permitted: {folds} or more, to draw a split of whole videos"
        )
    cuts = np.unique(np.quantile(labels, QUANTILES, method="lower"))
    counts = np.zeros((len(names), len(cuts) + 2), np.int64)  # of each bin of labels, and in all
    np.add.at(counts, (video, np.searchsorted(cuts, labels)), 1)
    counts[:, -1] = counts.sum(axis=1)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(names))
    order = order[np.argsort(-counts[order, -1], kind="stable")]
    fold_of = np.zeros(len(names), np.int64)
    filled = np.zeros((folds, counts.shape[1]), np.int64)
    for i in order:
        fold_of[i] = np.argmin(filled @ counts[i])
        filled[fold_of[i]] += counts[i]
    return rng.permutation(folds)[fold_of[video]]
