"""The simulated data: its format, its truths, and what its frames give away and to whom."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from msabench.data.sources import simulated
from msabench.errors import DataError
from msabench.utterances import SPLITS, check_splits, video_of

FEW: dict[str, Any] = {
    "train": 40,
    "valid": 10,
    "test": 20,
    "audio_frames": 30,
    "vision_frames": 20,
}


@pytest.fixture(scope="module")
def data():
    return simulated.simulate(train=1500, valid=20, test=500, audio_frames=40, vision_frames=30)


def truths(split):
    letters = {"text": "T", "audio": "A", "vision": "V"}
    return {
        name: split[f"regression_labels_{letter}"].astype(np.float64)
        for name, letter in letters.items()
    }


def real_frames(split, modality):
    pairs = zip(split[modality], split[f"{modality}_lengths"], strict=True)
    return [np.nan_to_num(frames[:length], neginf=0) for frames, length in pairs]


@pytest.mark.parametrize("padding", ["end", "front"])
def test_format_is_that_of_mmsa(padding):
    data = simulated.simulate(padding=padding, **FEW)
    assert tuple(data) == SPLITS
    for name, split in data.items():
        n = FEW[name]
        assert {key: len(value) for key, value in split.items()} == dict.fromkeys(split, n)
        assert split["regression_labels"].dtype == np.float32
        for modality, limit, width in (("audio", 30, 74), ("vision", 20, 35)):
            assert split[modality].dtype == np.float64
            assert split[modality].shape == (n, limit, width)
            lengths = np.array(split[f"{modality}_lengths"])
            assert 1 <= lengths.min() < lengths.max() <= limit
            step = np.arange(limit) if padding == "end" else np.arange(limit)[::-1]
            real = (split[modality] != 0).any(axis=2)
            assert not real[step >= lengths[:, None]].any()
            blank = ~real.any(axis=1)
            assert (real | blank[:, None])[step < lengths[:, None]].all()
        signs = np.sign(split["regression_labels"]).astype(int) + 1
        assert split["classification_labels"].tolist() == signs.tolist()
        assert split["annotations"] == [("Negative", "Neutral", "Positive")[s] for s in signs]


@pytest.mark.parametrize("padding", ["end", "front"])
def test_importer_reads_it(tmp_path, padding):
    path = tmp_path / "simulated.pkl"
    simulated.write(path, padding=padding, **FEW)
    splits = simulated.read(path, padding=padding, **FEW)
    check_splits(splits, (-3.0, 3.0))
    expected = simulated.simulate(**FEW)  # the same frames, whatever the padding
    for name, split in splits.items():
        assert split.ids == expected[name]["id"]
        assert split.texts == expected[name]["raw_text"]
        assert set(split.unimodal_labels) == {"text", "audio", "vision"}
        for modality, ragged in split.sequences.items():
            for i, frames in enumerate(real_frames(expected[name], modality)):
                np.testing.assert_allclose(ragged[i], frames, rtol=1e-6)


def test_same_settings_same_bytes_in_a_new_process(tmp_path):
    here, present = tmp_path / "here.pkl", tmp_path / "there.pkl"
    simulated.write(here, **FEW)
    program = (
        "from pathlib import Path; from msabench.data.sources import simulated\n"
        f"simulated.write(Path({str(present)!r}), **{FEW})"
    )
    source = str(Path(simulated.__file__).parents[3])
    environment = {"PYTHONHASHSEED": "7", "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
    assert here.read_bytes() == present.read_bytes()


def test_another_seed_another_world():
    one, other = (simulated.simulate(seed=seed, **FEW)["test"] for seed in (1, 2))
    assert one["raw_text"] != other["raw_text"]
    assert (one["regression_labels_A"] != other["regression_labels_A"]).all()
    assert (one["audio"][:, 0] != other["audio"][:, 0]).all()


def test_a_split_depends_on_no_other_and_texts_on_no_frames():
    one = simulated.simulate(**FEW)["test"]
    other = simulated.simulate(**FEW | {"train": 5, "audio_frames": 40})["test"]
    assert one["raw_text"] == other["raw_text"]
    np.testing.assert_array_equal(one["regression_labels"], other["regression_labels"])
    np.testing.assert_array_equal(one["vision"], other["vision"])
    assert one["audio"].shape != other["audio"].shape


def test_full_length():
    data = simulated.simulate(full_length=True, **FEW | {"train": 2, "valid": 1, "test": 1})
    assert data["train"]["audio"].shape == (2, 500, 74)
    assert data["train"]["vision"].shape == (2, 500, 35)


@pytest.mark.parametrize(
    ("setting", "value", "permitted"),
    [
        ("train", 0, "1"),
        ("seed", -1, "0"),
        ("audio_frames", 501, "500"),
        ("vision_frames", 3, "4"),
        ("irony", 1.5, "1"),
    ],
)
def test_a_setting_out_of_range_is_named(setting, value, permitted):
    with pytest.raises(DataError) as caught:
        simulated.simulate(**FEW | {setting: value})
    message = str(caught.value)
    assert "\n" not in message
    assert f"datasets.simulated.settings: {setting}: {value}; " in message
    assert message.endswith(permitted)


def test_no_video_crosses_splits(data):
    videos = [{video_of(id) for id in data[name]["id"]} for name in SPLITS]
    assert not videos[0] & videos[1] | videos[0] & videos[2] | videos[1] & videos[2]
    assert 5 < 1500 / len(videos[0]) < 10  # clips in a video


def test_labels_are_the_known_function_of_the_truths(data):
    assert simulated.fuse(np.array([1.0]), np.array([0.5]), np.array([1.0])) == pytest.approx(0.92)
    assert simulated.fuse(np.array([2.0]), np.array([-1.0]), np.array([-1.0])) == pytest.approx(
        -0.1
    )
    labels = data["train"]["regression_labels"]
    error = np.abs(simulated.fuse(**truths(data["train"])) - labels)
    assert error.max() < 1 / 6 + 1e-6
    assert 0.05 < error.mean() < 0.1


def test_labels_are_distributed_like_those_of_mosei(data):
    labels = data["train"]["regression_labels"]
    assert np.abs(labels * 6 - np.round(labels * 6)).max() < 1e-5
    assert 19 <= len(np.unique(labels)) <= 37
    assert 0.17 < (labels == 0).mean() < 0.27
    assert (labels > 0).mean() > 1.2 * (labels < 0).mean()
    assert 0.75 < np.abs(labels - labels.mean()).mean() < 0.95
    words = np.array([len(text.split()) for text in data["train"]["raw_text"]])
    assert 14 <= np.median(words) <= 20
    assert words.max() > 70


def test_truths_agree_mostly(data):
    correlation = np.corrcoef(list(truths(data["train"]).values()))
    assert ((correlation > 0.55) & (correlation < 0.85) | np.eye(3, dtype=bool)).all()
    agreeing = simulated.simulate(irony=0.0, **FEW | {"train": 400})["train"]
    opposed = simulated.simulate(irony=1.0, **FEW | {"train": 400})["train"]
    for split, sign in ((agreeing, 1), (opposed, -1)):
        said = truths(split)
        assert sign * np.corrcoef(said["text"], said["vision"])[0, 1] > 0.5


def test_scores_follow_the_rules():
    scores = {words: score for _, words, score in simulated._phrases()}
    assert scores["good"] == 1.1
    assert scores["very good"] == pytest.approx(1.43)
    assert scores["not good"] == -0.55
    assert scores["hardly bad"] == 0.7
    assert scores["absolutely perfect"] == 3.0  # 3.9, cut
    writer = simulated.Writer(np.random.default_rng(0))
    for _ in range(50):
        aim = writer.rng.uniform(-2.5, 2.5)
        assert abs(writer.text(aim)[1] - aim) < 1.5
        words, score = writer.clause(aim, "film", short=True)
        assert any(phrase in words.lower() and scores[phrase] == score for phrase in scores)


def test_a_contrast_counts_its_second_half_three_times():
    writer = simulated.Writer(np.random.default_rng(0))
    written = [(1.0, "first"), (-2.0, "second")]
    writer.clause = lambda *_: written.pop(0)[::-1]  # type: ignore[method-assign]
    writer.rng = type("Always", (), {"random": lambda _: 0.0, "uniform": lambda *_: 1.0})()
    writer.pick = lambda words: words[0]  # type: ignore[method-assign]
    assert writer.opinion(-1.0, "film", 20.0) == ("first, but second", -1.25)


def test_neutral_texts_hold_no_opinion(data):
    opinions = {word for key in ("adjectives", "verbs") for word in simulated._grammar()[key]}
    split = data["train"]
    actual = [
        bool(opinions & set(text.lower().replace(",", "").replace(".", "").split()))
        for text in split["raw_text"]
    ]
    scores = split["regression_labels_T"]
    assert not scores[~np.array(actual)].any()
    assert np.abs(scores[actual]).mean() > 1
    assert 0.17 < 1 - np.mean(actual) < 0.25


@pytest.mark.parametrize("modality", ["audio", "vision"])
def test_only_the_order_of_the_frames_tells_the_most(data, modality):
    """A ridge on the frames' mean and slope loses what the slope adds when frames are shuffled."""
    rng = np.random.default_rng(0)

    def mean_and_slope(frames):
        weights = np.linspace(-1, 1, len(frames))[:, None]
        return np.concatenate([frames.mean(axis=0), (weights * frames).mean(axis=0)])

    def mae(view):
        train, test = (
            np.stack([view(frames) for frames in real_frames(data[name], modality)])
            for name in ("train", "test")
        )
        ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(0, 4, 5)))
        ridge.fit(train, truths(data["train"])[modality])
        return np.abs(ridge.predict(test) - truths(data["test"])[modality]).mean()

    constant = np.abs(truths(data["test"])[modality] - truths(data["train"])[modality].mean())
    mean = mae(lambda frames: frames.mean(axis=0))
    ordered = mae(mean_and_slope)
    shuffled = mae(lambda frames: mean_and_slope(rng.permutation(frames)))
    assert mean < 0.97 * constant.mean()  # the mean tells something
    assert ordered < 0.8 * mean  # the order more
    assert shuffled > 0.95 * mean


def test_the_event_and_the_ramp_leave_the_mean_alone():
    for t in (4, 7, 100):
        assert simulated._ramp(t).mean() == pytest.approx(0)
        assert simulated._event(np.random.default_rng(t), t).mean() == pytest.approx(0)


def test_noise_is_autocorrelated():
    noise = simulated._autocorrelated(np.random.default_rng(0), 5000, 4)
    assert noise.std() == pytest.approx(1, abs=0.05)
    assert np.corrcoef(noise[1:, 0], noise[:-1, 0])[0, 1] == pytest.approx(0.8, abs=0.03)


def test_scales_and_defects_are_those_of_real_data(data):
    train = data["train"]
    spread = np.concatenate(real_frames(train, "audio")[:200]).std(axis=0)
    assert spread.max() / spread.min() > 1e4
    infinite = np.isinf(train["audio"]).any(axis=(1, 2))
    assert 2 <= infinite.sum() <= 15
    assert (train["audio"][np.isinf(train["audio"])] < 0).all()
    assert 3 <= (train["vision"] == 0).all(axis=(1, 2)).sum() <= 20
    assert np.isfinite(train["vision"]).all()
