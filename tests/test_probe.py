"""The probe: the ridge regression of scikit-learn, whole videos out of fold, no vector too odd."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from msabench.evaluation import metrics, probe
from msabench.utterances import SPLITS, Ragged, Utterances

PLAN = {
    **{"probe": {"array": "pooled-mean"}, "metrics": "mosei", "simulated": False},
    **{"label_range": [-3.0, 3.0], "neutral": 0.0},
}
SIZES = {"train": 240, "valid": 120, "test": 150}


def labelled(rng, n):
    return rng.choice(np.arange(-9, 10) / 3, n)


def write(root, sizes=SIZES, clips=6, labels=labelled, **vectors):
    """Write the features of the text and return the data.

    vectors: of text, audio and vision, each a function of labels, random numbers and split.
    """
    data = {}
    for seed, (split, n) in enumerate(sizes.items()):
        rng = np.random.default_rng(seed)
        own = labels(rng, n)
        made = {
            name: np.asarray(function(own, rng, split), np.float32)
            for name, function in vectors.items()
        }
        pooled = Ragged(made.pop("text", np.zeros((n, 2), np.float32)), np.arange(n + 1))
        (root / split).mkdir(parents=True)
        pooled.save(root / split, "pooled-mean")
        ids = [f"{split}{i // clips}$_${i % clips}" for i in range(n)]
        frames = {name: Ragged(values, np.arange(n + 1)) for name, values in made.items()}
        data[split] = Utterances(ids, ["x"] * n, own.astype(np.float32), frames)
    return data


def noise(labels, rng, *_):
    return rng.normal(size=(len(labels), 4))


def signal(labels, rng, *_):
    return labels[:, None] + rng.normal(size=(len(labels), 3))


def table(rng, n=90, d=7, scales=True):
    """Columns of very different scales, labels that depend on them, and clips of five."""
    columns = rng.normal(size=(n, d))
    labels = columns @ rng.normal(size=d) + rng.normal(scale=4, size=n)
    if scales:
        columns = columns * 10.0 ** np.arange(-3, d - 3) + 50 * np.arange(d)
    return columns, labels, [f"v{i // 5}" for i in range(n)]


@pytest.mark.parametrize("d", [7, 120])
def test_the_fit_is_that_of_scikit_learn(d):
    """Standardized, with an intercept that is not penalized; fewer columns than rows and more."""
    rng = np.random.default_rng(d)
    columns, labels, videos = table(rng, d=d, scales=d < 10)
    new = columns[::-1] * 1.5
    fitted = probe.fit(columns, labels, videos, {"some": slice(1, d - 1), "all": slice(0, d)})
    for ridge in fitted.values():
        scikit = make_pipeline(StandardScaler(), Ridge(ridge.alpha))
        expected = scikit.fit(columns[:, ridge.block], labels).predict(new[:, ridge.block])
        np.testing.assert_allclose(ridge.predict(new), expected, rtol=1e-10, atol=1e-10)


def test_alpha_and_out_of_fold_are_those_of_a_fit_for_each_fold_and_penalty():
    columns, labels, videos = table(np.random.default_rng(3))
    columns[:, 2] = 0
    columns[:5, 2] = 1  # constant where the first fold is left out
    ridge = probe.fit(columns, labels, videos, {"all": slice(0, 7)})["all"]
    folds = probe.video_folds(videos)
    errors = []
    for alpha in probe.ALPHAS:
        guesses = np.empty(len(labels))
        for fold in range(5):
            others = folds != fold
            scikit = make_pipeline(StandardScaler(), Ridge(alpha))
            scikit.fit(columns[others], labels[others] - labels[others].mean())
            guesses[~others] = scikit.predict(columns[~others]) + labels.mean()
        errors.append(((guesses - labels) ** 2).mean())
        if alpha == ridge.alpha:
            assert ridge.out_of_fold == pytest.approx(guesses, rel=1e-9, abs=1e-9)
    assert ridge.alpha == probe.ALPHAS[int(np.argmin(errors))]
    assert 1 < ridge.alpha < 1e6  # both ends of the grid are worse


def test_folds_are_whole_videos_of_about_equal_size_whatever_their_order():
    videos = [f"v{i}" for i in range(13) for _ in range(1 + 3 * i % 11)]
    folds = probe.video_folds(videos)
    assert all(len({f for f, v in zip(folds, videos, strict=True) if v == w}) == 1 for w in videos)
    sizes = np.bincount(folds)
    assert len(sizes) == probe.FOLDS
    assert np.ptp(sizes) <= 4
    order = np.random.default_rng(0).permutation(len(videos))
    assert np.array_equal(probe.video_folds([videos[i] for i in order]), folds[order])
    assert set(probe.video_folds(["a", "b", "b"])) == {0, 1}


def test_a_video_that_repeats_its_label_does_not_flatter_the_probe(tmp_path):
    """Vectors that name the video alone predict the label of its other clips, if they are seen."""

    def of_videos(rng, n):
        return np.repeat(rng.choice([-2.0, 2.0], n // 6), 6)

    def named(labels, *_):
        return np.repeat(np.eye(len(labels) // 6, 40), 6, axis=0)

    data = write(tmp_path, labels=of_videos, audio=named)
    row = probe.measure(PLAN, data, tmp_path)["audio"]
    assert row["train_corr"] < 0.5  # 1 where the clips of a video are in several folds


def test_rows_are_those_of_table_6_and_what_they_read_is_measured(tmp_path):
    data = write(tmp_path, text=signal, vision=noise)
    rows = probe.measure(PLAN, data, tmp_path)
    assert list(rows) == ["text", "vision", "all"]
    assert rows["text"]["corr"] > 0.9
    assert abs(rows["vision"]["corr"]) < 0.3
    names = list(metrics.METRICS["mosei"])
    for row in rows.values():
        assert [*row] == [
            *(column for name in names for column in (name, f"{name}_std")),
            *(f"valid_{name}" for name in metrics.HEADLINE),
            *("train_mae", "train_corr", "alpha"),
        ]
        assert {row[f"{name}_std"] for name in names} == {None}
    text = np.load(tmp_path / "test/pooled-mean.npy")
    labels = data["train"].labels.astype(np.float64)
    scikit = make_pipeline(StandardScaler(), Ridge(rows["text"]["alpha"]))
    scikit.fit(np.load(tmp_path / "train/pooled-mean.npy").astype(np.float64), labels)
    expected = metrics.mae(data["test"].labels, scikit.predict(text.astype(np.float64)))
    assert rows["text"]["mae"] == round(expected, 4)


def test_frames_are_averaged(tmp_path):
    data = write(tmp_path, audio=signal)
    for split in SPLITS:
        sequence = data[split].sequences["audio"]
        doubled = np.repeat(sequence.values, 2, axis=0)
        doubled[::2] += 1
        doubled[1::2] -= 1
        object.__setattr__(
            data[split], "sequences", {"audio": Ragged(doubled, 2 * sequence.offsets)}
        )
    assert probe.measure(PLAN, data, tmp_path)["audio"]["corr"] > 0.9


def test_vectors_that_are_constant_predict_the_mean(tmp_path):
    """As those of empty texts, which differ in the last digits of float32."""

    def equal(labels, rng, *_):
        return 0.1 * (1 + 1e-7 * rng.integers(0, 2, size=(len(labels), 8)))

    def late(labels, _, split):
        return np.full((len(labels), 2), 1.0 if split == "train" else 5.0)

    rows = probe.measure(PLAN, write(tmp_path, text=equal, audio=late), tmp_path)
    for row in rows.values():
        assert row["train_corr"] is row["valid_corr"] is row["corr"] is None
        assert row["mae"] > 0
        assert row["alpha"] == probe.ALPHAS[0]


def test_of_one_video_nothing_is_known_out_of_fold(tmp_path):
    data = write(tmp_path, sizes={"train": 12, "valid": 3, "test": 1}, clips=12, text=signal)
    row = probe.measure(PLAN, data, tmp_path)["all"]
    assert row["train_mae"] is row["train_corr"] is row["corr"] is None
    assert row["mae"] > 0


@pytest.mark.parametrize("label", [0.0, 1 / 3])
def test_of_labels_that_are_all_alike_nothing_is_correlated(tmp_path, label):
    data = write(tmp_path, labels=lambda _, n: np.full(n, label), text=noise, audio=noise)
    for row in probe.measure(PLAN, data, tmp_path).values():
        assert row["train_corr"] is row["corr"] is None
        assert row["mae"] == pytest.approx(0, abs=1e-4)


def test_more_columns_than_rows(tmp_path):
    def wide(labels, rng, *_):
        return np.concatenate([signal(labels, rng), rng.normal(size=(len(labels), 60))], 1)

    data = write(tmp_path, sizes={"train": 30, "valid": 12, "test": 12}, clips=3, text=wide)
    assert probe.measure(PLAN, data, tmp_path)["text"]["train_corr"] > 0.5
