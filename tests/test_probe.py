"""The probe: the ridge regression of scikit-learn, whole videos out of fold, no vector too odd."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from msabench.data import sources
from msabench.data.sources import simulated
from msabench.evaluation import metrics, probe
from msabench.networks import encoders, text
from msabench.params import Pooling, TrainableLayers
from msabench.utterances import SPLITS, Ragged, Utterances, mean_frames

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


def leaked(labels, rng, split):
    """The label and noise, as of features trained on the labels; noise alone in test."""
    return 0.5 * labels[:, None] * (split != "test") + rng.normal(size=(len(labels), 4))


def sentences(data, folder, rows=None, plan=PLAN):
    splits = {split: {"utterances": len(data[split])} for split in SPLITS}
    rows = rows or probe.measure(plan, data, folder)
    return probe.leaks(rows, splits, simulated=plan["simulated"])


def test_features_made_with_the_labels_of_train_and_valid_are_named(tmp_path):
    data = write(tmp_path, text=signal, audio=noise, vision=leaked)
    rows = probe.measure(PLAN, data, tmp_path)
    assert rows["vision"]["alpha"] < 1e6
    (sentence,) = sentences(data, tmp_path, {name: rows[name] for name in ("audio", "vision")})
    corr = [rows["vision"][name] for name in ("train_corr", "valid_corr", "corr")]
    shown = "{:.2f} on train, {:.2f} on valid, {:.2f} on test".format(*corr)
    assert sentence.startswith(f"Vision alone: Corr {shown} (far less on test than on train and ")
    assert "; check how these features were made (docs/features.md). Epochs, " in sentence
    assert sentence.endswith("are chosen on valid, which does not stand for test then.")


def test_of_simulated_data_only_what_is_lost_on_test_is_named(tmp_path):
    data = write(tmp_path, text=signal, audio=signal, vision=leaked)
    assert [each.split()[0] for each in sentences(data, tmp_path)] == ["Text", "Audio", "Vision"]
    simulated = PLAN | {"simulated": True}
    assert [each.split()[0] for each in sentences(data, tmp_path, plan=simulated)] == ["Vision"]


def test_honest_features_are_not_named(tmp_path):
    def weak(labels, rng, *_):
        return 0.2 * labels[:, None] + rng.normal(size=(len(labels), 2))

    assert sentences(write(tmp_path, text=weak, audio=noise, vision=weak), tmp_path) == []


CORR = ("train_corr", "valid_corr", "corr")


@pytest.mark.parametrize(
    ("modality", "corr", "named"),
    [
        ("vision", (0.5, 0.5, 0.19), True),
        ("vision", (0.5, 0.5, 0.0), True),
        ("vision", (0.5, 0.5, 0.21), False),
        ("vision", (0.5, 0.3, 0.1), False),  # the split of valid is as honest as that of test
        ("vision", (0.3, 0.5, 0.1), False),
        ("vision", (0.5, None, 0.1), False),
        ("vision", (None, None, None), False),
        ("audio", (0.1, 0.1, 0.61), True),
        ("audio", (0.59, 0.59, 0.59), False),
        ("text", (0.82, 0.82, 0.82), False),
        ("text", (0.91, 0.8, 0.8), True),
        ("all", (0.99, 0.99, 0.1), False),
    ],
)
def test_thresholds(modality, corr, named):
    splits = {split: {"utterances": 100} for split in SPLITS}
    rows = {modality: dict(zip(CORR, corr, strict=True))}
    assert len(probe.leaks(rows, splits, simulated=False)) == named


@pytest.mark.parametrize("split", SPLITS)
def test_few_utterances_are_no_evidence(split):
    splits = {name: {"utterances": 99 if name == split else 500} for name in SPLITS}
    lost = {"vision": dict(zip(CORR, (0.5, 0.5, 0.0), strict=True))}
    assert probe.leaks(lost, splits, simulated=False) == []
    high = {"vision": dict.fromkeys(CORR, 0.1) | {CORR[SPLITS.index(split)]: 0.9}}
    assert probe.leaks(high, splits, simulated=False) == []


@pytest.fixture(scope="module")
def minilm():
    return text.load_tokenizer(encoders.MINILM), text.load_model(encoders.MINILM)


REAL: dict[str, tuple[str, list[str], dict[str, float]]] = {
    "MOSI_OLD_SPLIT": ("folder", ["Vision"], {"text": 0.67, "audio": 0.17, "vision": 0.08}),
    "MOSI_UTTERANCES": ("folder", [], {"text": 0.71, "audio": 0.15}),
    "POM": ("folder", [], {"audio": 0.08, "vision": -0.04}),
    "MOSEI_LABELS": ("label_csv", [], {"text": 0.55}),
}


def read(source, path, settings):
    """Return real data as a model reads them."""
    data = sources.read(source, path, settings)
    means = mean_frames(data["train"])
    return {split: utterances.imputed(means) for split, utterances in data.items()}


def encode(minilm, data, folder):
    """Write the features of real texts."""
    wanted: dict[str, tuple[TrainableLayers, Pooling]] = {"pooled-mean": (0, "mean")}
    for split, utterances in data.items():
        tokens = text.truncate(text.tokenize(minilm[0], utterances.texts), 50)
        (folder / split).mkdir()
        text.encode(minilm[1], tokens, wanted, folder / split, device=torch.device("cpu"))


def test_simulated_data_are_honest(minilm, tmp_path):
    sizes = {"train": 300, "valid": 120, "test": 150}
    simulated.write(tmp_path / "data.pkl", seed=1, **sizes)
    data = read("simulated", tmp_path / "data.pkl", {"seed": 1, **sizes})
    encode(minilm, data, tmp_path)
    rows = probe.measure(PLAN, data, tmp_path)
    assert min(rows[name]["corr"] for name in ("text", "audio", "vision")) > 0.2
    assert rows["all"]["corr"] > 0.5
    assert sentences(data, tmp_path, rows, PLAN | {"simulated": True}) == []


def every_eighth_video(data):
    """Return 2,800 utterances of MOSEI: all of it takes minutes, and has Corr 0.63."""
    chosen = set(sorted(set(data.videos))[::8])
    return data.take([i for i, video in enumerate(data.videos) if video in chosen])


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name == "MOSEI_LABELS" else ()) for name in REAL],
)
def test_of_real_data_the_features_trained_on_labels_are_named_and_no_others(
    name, minilm, tmp_path
):
    """The vision of MOSI's old split. POM has no text, and no vision for half of its videos."""
    if name not in os.environ:
        pytest.skip(f"{name} names no data")
    source, named, corr = REAL[name]
    data = read(source, Path(os.environ[name]), {})
    if name == "MOSEI_LABELS":
        data = {split: every_eighth_video(utterances) for split, utterances in data.items()}
    encode(minilm, data, tmp_path)
    scale: dict = {"label_range": [1.0, 7.0], "neutral": 4.0} if name == "POM" else {}
    plan = PLAN | scale
    rows = probe.measure(plan, data, tmp_path)
    assert {key: row["corr"] for key, row in rows.items() if key != "all"} == {
        key: pytest.approx(value, abs=0.01) for key, value in corr.items()
    }
    assert [each.split()[0] for each in sentences(data, tmp_path, rows)] == named
