"""A drawn split: whole videos, balanced, the same on every machine, whatever the data are like."""

import hashlib

import numpy as np
import pytest

from msabench.data.splitting import TENTHS, draw, video_folds
from msabench.errors import DataError


def clips(seed: int, videos: int, most: int) -> tuple[list[str], np.ndarray]:
    """1 to `most` clips of each video, whose labels are near one another."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, most + 1, videos)
    names = [f"v{i}" for i in np.repeat(np.arange(videos), sizes)]
    labels = np.repeat(rng.normal(0, 1, videos), sizes) + rng.normal(0, 1, sizes.sum())
    return names, labels.clip(-3, 3).astype(np.float32)


@pytest.mark.parametrize("most", [1, 8])
@pytest.mark.parametrize("videos", [10, 30, 300])
def test_every_clip_is_in_one_split_and_no_video_in_two(videos, most):
    names, labels = clips(videos, videos, most)
    drawn = draw(names, labels, seed=1)
    assert list(drawn) == ["train", "valid", "test"]
    assert sorted(np.concatenate([*drawn.values()])) == list(range(len(names)))
    of_split = [{names[i] for i in rows} for rows in drawn.values()]
    assert all(of_split)
    assert sum(map(len, of_split)) == videos


@pytest.mark.parametrize("most", [1, 8])
def test_sizes_and_labels_are_balanced(most):
    names, labels = clips(5, 200, most)
    for split, rows in draw(names, labels, seed=1).items():
        assert len(rows) / len(names) == pytest.approx(TENTHS[split] / 10, abs=0.01)
        assert labels[rows].mean() == pytest.approx(labels.mean(), abs=0.15)
        assert np.mean(labels[rows] > 1) == pytest.approx(np.mean(labels > 1), abs=0.05)


def test_chance_alone_would_balance_less():
    """Mean labels of the folds differ by less than those of whole videos drawn by chance."""
    names, labels = clips(5, 60, 8)

    def spread(fold):
        return np.std([labels[fold == k].mean() for k in range(5)])

    rng = np.random.default_rng(0)
    by_chance = []
    for _ in range(50):
        of_video = dict(zip(np.unique(names), rng.permutation(np.arange(60) % 5), strict=True))
        by_chance.append(spread(np.array([of_video[name] for name in names])))
    balanced = [spread(video_folds(names, labels, 5, seed)) for seed in range(10)]
    assert max(balanced) < np.median(by_chance)


ODD = {
    "constant labels": np.zeros(40),
    "two labels": np.arange(40) % 2,
    "one label in nine of ten": np.where(np.arange(40) % 10, 0, 3),
    "all different": np.linspace(-3, 3, 40),
}


@pytest.mark.parametrize("folds", [3, 10])
@pytest.mark.parametrize("labels", ODD.values(), ids=ODD)
def test_no_fold_is_empty(labels, folds):
    """Not with one video of most clips, nor with as many videos as folds."""
    for videos in (np.arange(40) % folds, np.maximum(np.arange(40) - 30, 0), np.arange(40)):
        fold = video_folds(videos.astype(str).tolist(), labels.astype(np.float32), folds, seed=1)
        assert set(fold) == set(range(folds))


def test_a_seed_draws_the_same_split_whatever_the_order_of_the_rows():
    names, labels = clips(1, 60, 8)
    drawn = dict(zip(names, video_folds(names, labels, 10, seed=1), strict=True))
    order = np.random.default_rng(0).permutation(len(names))
    again = video_folds([names[i] for i in order], labels[order], 10, seed=1)
    assert {names[i]: fold for i, fold in zip(order, again, strict=True)} == drawn
    others = [video_folds(names, labels, 10, seed) for seed in range(2, 7)]
    assert all(dict(zip(names, other, strict=True)) != drawn for other in others)


def test_a_split_once_drawn_stays():
    """As other versions of NumPy must draw it: a paper's split is its seed."""
    names, labels = clips(1, 60, 8)
    digest = hashlib.sha256(bytes(video_folds(names, labels, 10, seed=1).tolist())).hexdigest()
    assert digest[:16] == "4610d2e886988373"


def test_too_few_videos():
    with pytest.raises(DataError, match=r"^9 videos; permitted: 10 or more"):
        draw([f"v{i % 9}" for i in range(100)], np.zeros(100), seed=1)
