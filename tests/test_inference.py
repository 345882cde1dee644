"""A saved run predicts elsewhere what it predicted for the test split, whatever stands around."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import msabench
from msabench import inference, runs
from msabench.data.sources._frames import Frames
from msabench.errors import DataError
from msabench.networks import text
from msabench.predictions import Predictions
from msabench.utterances import Ragged, Utterances, load_splits
from tests import trained_tree
from tests.conftest import random_utterances
from tests.trained_tree import NAMES

TEXT = "the film was very good"


@pytest.fixture(scope="module", params=[1, "all"], ids=lambda layers: f"{layers}-layers")
def tree(request, trained_with):
    """Trees in which networks read hidden states, and token ids; other models one vector."""
    return trained_with(request.param)


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def split(tree):
    return Utterances.load(tree / "data/prepared/test")


@pytest.fixture(scope="module")
def predictor(tree, name):
    return inference.load(tree / "runs" / name, device="cpu")


def one_by_one(data) -> list[dict[str, Any]]:
    """The utterances of a split as somebody has them who knows no split."""
    return [
        {
            "text": data.texts[i],
            "audio": trained_tree.frames(data, "audio", i),
            "vision": trained_tree.frames(data, "vision", i),
        }
        for i in range(len(data))
    ]


def same(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)


def test_predicts_as_the_run_did(tree, name, split):
    actual = [msabench.load(tree / "runs" / f"{name}-{seed}").predict(split) for seed in (1, 2)]
    for seed, predictions in enumerate(actual, start=1):
        written = Predictions.read(tree / "predictions" / f"{name}-{seed}" / "test.csv")
        assert written.ids == split.ids
        same(predictions, written.predictions)
    both = msabench.load(str(tree / "runs" / name))
    assert [folder.name for folder in both.folders] == [f"{name}-1", f"{name}-2"]
    np.testing.assert_array_equal(both.predict_each(split), actual)
    np.testing.assert_array_equal(both.predict(split), np.mean(actual, axis=0))


def test_prepared_data_and_arrays_are_the_same(predictor, split):
    same(predictor.predict(one_by_one(split)), predictor.predict(split))


def test_neither_order_nor_company_matters(predictor, split, monkeypatch):
    given = one_by_one(split)
    expected = predictor.predict(given)
    assert len(np.unique(expected)) > 1
    order = np.random.default_rng(0).permutation(len(given))
    same(predictor.predict([given[i] for i in order]), expected[order])
    same([predictor.predict(one).item() for one in given], expected)
    monkeypatch.setattr(inference.predictor, "CHUNK", 5)
    same(predictor.predict(given), expected)


def test_frames_may_lie_in_files(predictor, split, tmp_path):
    given = one_by_one(split)[0]
    paths: dict[str, Any] = {"text": given["text"]}
    for modality in ("audio", "vision"):
        np.save(tmp_path / f"{modality}.npy", given[modality])
        paths[modality] = tmp_path / f"{modality}.npy"
    same(predictor.predict(paths), predictor.predict(given))
    same(predictor.predict(paths | {"audio": str(paths["audio"])}), predictor.predict(given))


def test_what_is_missing_is_a_mean_frame_or_an_empty_text(tree, predictor, split):
    train = Utterances.load(tree / "data/prepared/train")
    means = {
        modality: np.asarray(ragged.values, np.float64).mean(axis=0, keepdims=True)
        for modality, ragged in train.sequences.items()
    }
    whole = one_by_one(split)[0]
    for modality, mean in means.items():
        left_out = {key: value for key, value in whole.items() if key != modality}
        same(predictor.predict(left_out), predictor.predict(whole | {modality: mean}))
        same(predictor.predict(left_out), predictor.predict(whole | {modality: None}))
        data = split.take([0]).select(set(means) - {modality})  # nobody has it
        same(predictor.predict(data), predictor.predict(left_out))
    frames = {key: whole[key] for key in means}
    same(predictor.predict(frames), predictor.predict(frames | {"text": " "}))
    same(predictor.predict(TEXT), predictor.predict({"text": TEXT} | means))
    assert predictor.predict(frames) != predictor.predict(whole)


def test_a_missing_modality_is_what_the_run_learned_it_as(tree, predictor, split):
    """To the byte, in training, in a split that is given, and in arrays; and so its prediction."""
    folders = tree / "data/prepared", tree / "data/features"
    array = predictor.config["text"]["array"]
    learned = load_splits(*folders, array, predictor.widths)["test"]
    expected = predictor.predict_read(learned)
    every = np.arange(len(split))
    whole: tuple[Any, ...] = (split, learned, one_by_one(split))
    for given in whole:
        read, losses = predictor.read(predictor.gather(given))
        assert [i for i, own in enumerate(losses) if own.get("audio_missing")] == [1, 6, 11]
        assert [i for i, own in enumerate(losses) if own.get("vision_missing")] == [2, 7]
        for name in ("audio", "vision"):
            actual, own = (data.sequences[name].padded(every)[0] for data in (read, learned))
            assert actual.tobytes() == own.tobytes()
        read = replace(read, sequences={**read.sequences, "text": learned.sequences["text"]})
        np.testing.assert_array_equal(predictor.predict_read(read), expected)
    for seed, predictions in zip((1, 2), expected, strict=True):
        folder = tree / "predictions" / f"{predictor.config['run']}-{seed}"
        written = Predictions.read(folder / "test.csv").predictions  # decimals of a float32
        assert predictions.astype(np.float32).tobytes() == written.astype(np.float32).tobytes()
    without = {"text": split.texts[2], "audio": one_by_one(split)[2]["audio"]}
    same(predictor.predict_each(without)[:, 0], expected[:, 2])


def test_a_modality_left_out_is_one_not_given(predictor, split):
    read, _ = predictor.read(predictor.gather(split.take([3])))
    whole = one_by_one(split)[3]
    for modality in predictor.widths:
        actual = predictor.predict_read(predictor.without(read, modality))[:, 0]
        left_out = {key: value for key, value in whole.items() if key != modality}
        same(actual, predictor.predict_each(left_out)[:, 0])


def test_a_row_of_the_sweep_that_trained_nothing_is_the_run_it_equals(tree):
    equal, own = (tree / "runs" / f"batch_size_{size}" for size in (64, 32))
    assert [folder.name for folder in inference.folders(equal)] == ["ours-1"]
    assert inference.folders(Path(f"{equal}-1")) == inference.folders(equal)
    assert inference.folders(own) == [Path(f"{own}-1")]


@pytest.fixture(scope="module")
def first(tree):
    return msabench.load(tree / "runs" / f"{NAMES[0]}-1")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], inference.NOTHING),
        ([TEXT, " "], "utterance 2: nothing is given; this run reads text, audio, vision"),
        ({}, "utterance 1: nothing is given; this run reads text, audio, vision"),
        ({"id": "mine", "text": ""}, "mine: nothing is given; this run reads text, audio, vision"),
        ([TEXT, 3], "utterance 2: a int; permitted: a text, or a mapping that has one"),
        ({"text": 3}, "utterance 1: text is a int; permitted: a string"),
        ({"text": "\ud800"}, "utterance 1: text '\\ud800' is not Unicode"),
        ({"text": TEXT, "video": 1}, "utterance 1: 'video'; this run reads text, audio, vision"),
        (
            {"audio": np.zeros((3, 6))},
            "utterance 1: audio: 6 features in a frame; this run reads 5",
        ),
        (
            {"audio": np.zeros(5)},
            "utterance 1: audio: float64 of shape (5,); permitted: numbers, (frames, 5)",
        ),
        (
            {"audio": np.ones((3, 5), bool)},
            "utterance 1: audio: bool of shape (3, 5); permitted: numbers, (frames, 5)",
        ),
        (
            {"audio": [[None] * 5]},
            "utterance 1: audio: object of shape (1, 5); permitted: numbers, (frames, 5)",
        ),
        (
            {"vision": np.zeros((0, 3))},
            "utterance 1: vision: 3 features in a frame; this run reads 4",
        ),
        ({"audio": "no.npy"}, "utterance 1: audio: no.npy: missing"),
        (
            Utterances([], [], np.zeros(0, np.float32)),
            "no utterance is given; at least 1 is needed",
        ),
    ],
)
def test_bad_utterances_are_one_line(first, given, message):
    with pytest.raises(DataError) as caught:
        first.predict(given)
    assert str(caught.value) == message


def test_rows_of_different_lengths_are_one_line(first):
    with pytest.raises(DataError, match=r"^utterance 1: audio: .*inhomogeneous"):
        first.predict({"audio": [[1, 2], [3]]})


def test_an_array_of_objects_is_not_read(first, tmp_path):
    """It is a pickle, and a pickle is a program."""
    np.save(tmp_path / "a.npy", np.array([[{}]], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"audio: .*a\.npy: no array can be read: .*objects"):
        first.predict({"audio": tmp_path / "a.npy"})


def test_prepared_data_of_another_width_are_refused(first):
    other = random_utterances().sequences["vision"]
    message = r"^video0_0\$_\$0: audio: 4 features in a frame; this run reads 5$"
    with pytest.raises(DataError, match=message):
        first.predict(replace(random_utterances(), sequences={"audio": other}))
    one = random_utterances().sequences["audio"].take([0])
    with pytest.raises(DataError, match=r"^audio has 1 sequences for 48 utterances$"):
        first.predict(replace(random_utterances(), sequences={"audio": one}))


def damaged(kind: str) -> tuple[np.ndarray, np.ndarray | None, dict[str, int]]:
    """Frames of vision, what training would have made of them (None: none), what is counted."""
    frames = np.random.default_rng(0).normal(size=(3, 4))
    repaired = frames.copy()
    if kind in ("no frames", "zeros"):
        return np.zeros((0 if kind == "no frames" else 2, 4)), None, {"vision_missing": 1}
    for row, column in ((0, 1), (2, 3)):
        frames[row, column] = {"masked": np.nan, "too large": -1e300}.get(kind) or float(kind)
        repaired[row, column] = 0
    if kind == "masked":
        frames = np.ma.masked_invalid(frames)
        frames.data[frames.mask] = 7.0
    return frames, repaired, {"vision_not_finite": 2}


DAMAGE = ["nan", "inf", "-inf", "too large", "masked", "no frames", "zeros"]


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_training_repaired_is_repaired_and_counted(predictor, kind):
    frames, repaired, losses = damaged(kind)
    rest = {"text": "good film", "audio": np.ones((2, 5))}
    (actual,) = predictor.attempt(rest | {"vision": frames})
    (expected,) = predictor.attempt(rest | {"vision": repaired})
    np.testing.assert_array_equal(actual.seeds, expected.seeds)
    assert actual.losses == losses
    np.testing.assert_array_equal(
        actual.seeds, predictor.predict_each(rest | {"vision": frames})[:, 0]
    )


@pytest.mark.parametrize("kind", DAMAGE)
def test_frames_in_files_and_prepared_data_are_repaired_alike(first, split, tmp_path, kind):
    frames, _, losses = damaged(kind)
    given = {"text": "good film", "audio": np.ones((1, 5)), "vision": frames}
    (expected,) = first.attempt(given)
    np.save(tmp_path / "vision.npy", np.ma.filled(frames, np.nan))
    (actual,) = first.attempt(given | {"vision": tmp_path / "vision.npy"})
    np.testing.assert_array_equal(actual.seeds, expected.seeds)
    assert actual.losses == losses
    with np.errstate(over="ignore"):
        values = np.ma.filled(frames, np.nan).astype(np.float32)
    data = replace(
        split.take([0]),
        texts=["good film"],
        sequences={
            "vision": Ragged.of([values]),
            "audio": Ragged.of([np.ones((1, 5), np.float32)]),
        },
    )
    (actual,) = first.attempt(data)
    np.testing.assert_array_equal(actual.seeds, expected.seeds)
    assert actual.losses == losses


def test_frames_are_prepared_as_a_source_prepares_them(first, tmp_path):
    """To the bit: -0 and numbers too small for a normal float stay what they are."""
    values = np.array([[np.nan, -0.0, 1e-42, 3.4e38], [-np.inf, 1e39, 1 / 3, -1.0]])
    for dtype in (np.float64, np.float32, ">f8", np.longdouble):
        with np.errstate(over="ignore"):
            frames = values.astype(dtype)
        with Frames("vision", 4, tmp_path) as source:
            source.add("a", frames)
            expected = np.array(source.finish().values)
        (one,) = first.gather({"vision": frames})
        assert one.frames["vision"].tobytes() == expected.tobytes()
        assert one.losses["vision_not_finite"] == source.repairs["vision_not_finite"] == 3


def test_what_training_refused_is_refused(own):
    for seed in (1, 2):
        rewrite(Path(f"{own}-{seed}") / "run.json", not_finite="refuse")
    frames = np.array([[1.0, 2, 3, 4, 5], [1, 2, -np.inf, 4, 5]])
    predictor = msabench.load(own)
    message = "frame 1, feature 2 is -inf; permitted: finite numbers of float32"
    with pytest.raises(DataError, match=f"^utterance 1: audio: {message}$"):
        predictor.predict({"audio": frames})
    with pytest.raises(DataError, match=r"^a: audio: frame 0, feature 0 is 1e\+40; permitted: "):
        predictor.predict({"id": "a", "audio": np.full((1, 5), 1e40)})
    predictor.predict({"audio": np.zeros((0, 5))})  # no value is wrong


def test_what_stands_in_is_counted(first, split):
    (actual,) = first.attempt("good film")
    assert actual.losses == {"audio_imputed": 1, "vision_imputed": 1}
    (actual,) = first.attempt({"text": " ", "audio": np.ones((1, 5))})
    assert actual.losses == {"text_missing": 1, "vision_imputed": 1}
    data = replace(split.take([0, 1]), texts=["good", ""]).select(["vision"])
    assert [one.losses for one in first.attempt(data)] == [
        {"audio_imputed": 1},
        {"text_missing": 1, "audio_imputed": 1},
    ]


@pytest.mark.parametrize(
    ("said", "losses"),
    [
        ("film " * 80, {"tokens_cut": 76}),
        ("film " * 1700, {"tokens_cut": 1696}),
        ("good 😂", {"tokens_unknown": 1}),
        ("好 电影", {"tokens_unknown": 2}),
        ("好 " * 9, {"tokens_cut": 5, "tokens_unknown": 4}),
    ],
    ids=["80-words", "1700-words", "emoji", "Chinese", "both"],
)
def test_what_is_not_read_of_a_text_is_counted(predictor, said, losses):
    given = {"audio": np.ones((1, 5)), "vision": np.ones((1, 4))}
    actual = predictor.attempt([given | {"text": "good"}, given | {"text": said}])
    assert [one.losses for one in actual] == [{}, losses]


def test_a_text_that_the_run_does_not_read_is_counted(first, monkeypatch):
    monkeypatch.setattr(first, "widths", {"audio": 5, "vision": 4})
    monkeypatch.setattr(first, "predict_read", lambda data: np.zeros((1, len(data))))
    given = {"audio": np.ones((1, 5)), "vision": np.ones((1, 4))}
    actual = first.attempt([given, given | {"text": "good"}])
    assert [one.losses for one in actual] == [{}, {"text_unread": 1}]


def test_what_cannot_be_read_stops_no_other(predictor, split, monkeypatch):
    monkeypatch.setattr(inference.predictor, "CHUNK", 2)
    given: list[Any] = one_by_one(split)[:5]
    expected = predictor.predict_each(given)
    given[2:2] = [{"audio": "no.npy"}, {"id": "mine"}]
    given.append({"id": "long", "audio": "a" * 5000})
    actual = predictor.attempt(given)
    assert [i for i, one in enumerate(actual) if isinstance(one, DataError)] == [2, 3, 7]
    same(np.stack([actual[i].seeds for i in (0, 1, 4, 5, 6)], axis=1), expected)
    assert str(actual[2]) == "utterance 3: audio: no.npy: missing"
    assert str(actual[3]) == "mine: nothing is given; this run reads text, audio, vision"
    assert str(actual[7]).startswith("long: audio: [Errno ")
    with pytest.raises(DataError, match=r"^utterance 3: audio: no\.npy: missing$"):
        predictor.predict(given)


def test_a_prediction_that_is_not_finite_stops_no_other(first, monkeypatch):
    def predict_read(data):
        return np.array([[np.inf if text == "bad" else 0.5 for text in data.texts]])

    monkeypatch.setattr(first, "predict_read", predict_read)
    good, bad = first.attempt(["good", "bad"])
    assert good.seeds.tolist() == [0.5]
    assert str(bad) == "utterance 2: the prediction is not finite"
    with pytest.raises(DataError, match=r"^utterance 2: the prediction is not finite$"):
        first.predict(["good", "bad"])


def test_there_may_be_more_files_than_may_be_open(first, tmp_path):
    resource = pytest.importorskip("resource")
    first.predict("good")  # what it opens is open
    np.save(tmp_path / "a.npy", np.ones((1, 5), np.float32))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, before[1]))
    try:
        assert len(first.predict([{"audio": tmp_path / "a.npy"}] * 300)) == 300
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_text_is_tokenized_once(first, monkeypatch):
    seen, tokenize = [], text.tokenize

    def listed(tokenizer, texts):
        seen.append(texts)
        return tokenize(tokenizer, texts)

    monkeypatch.setattr(text, "tokenize", listed)
    first.attempt(["good film", "bad"])
    assert seen == [["good film", "bad"]]


@pytest.fixture
def own(tree, tmp_path):
    """The two seeds of a run, to be damaged."""
    for seed in (1, 2):
        shutil.copytree(tree / "runs" / f"ours-{seed}", tmp_path / "runs" / f"ours-{seed}")
    return tmp_path / "runs" / "ours"


def rewrite(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def refusal(run) -> str:
    with pytest.raises(DataError) as caught:
        msabench.load(run)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_run_that_is_not_there(own):
    none = own.with_name("mine")
    assert refusal(none) == f"{none}: no such run; in {none.parent} there are: ours"
    assert refusal(own.parent / "none" / "a").endswith("there are: none")


@pytest.mark.parametrize("file", runs.FILES)
def test_a_run_without_its_files(own, file):
    folder = Path(f"{own}-2")
    (folder / file).unlink()
    assert refusal(own) == f"{folder}: no trained run; {file} missing"


def test_a_run_of_0_1_0_is_refused(own):
    """Its run.json names no version and has flat settings: golden/run_of_0.1.0.json."""
    of_before = Path(__file__).parent / "golden/run_of_0.1.0.json"
    shutil.copy(of_before, Path(f"{own}-1") / "run.json")
    expected = (
        f"{own}-1: saved by msabench 0.1.0 or earlier; this is {msabench.__version__}: train it "
        "again: `dvc repro`"
    )
    assert refusal(own) == expected


def test_weights_without_a_part_are_refused(own):
    """Those of 0.2.0 have no label offset."""
    file = Path(f"{own}-1") / "weights.safetensors"
    weights = {name: array for name, array in load_file(file).items() if name != "label_offset"}
    save_file(weights, file)
    expected = f"{file}: no label_offset; an earlier version saved it: train again: `dvc repro`"
    assert refusal(own) == expected


def test_a_run_is_loaded_by_encoder_and_network_alone(own, split):
    expected = msabench.load(own).predict_each(split)
    for seed in (1, 2):
        file = Path(f"{own}-{seed}") / "run.json"
        saved = json.loads(file.read_text())
        assert saved["msabench"] == msabench.__version__
        del saved["optimizer"], saved["schedule"]
        file.write_text(json.dumps(saved))
    same(msabench.load(own).predict_each(split), expected)


def test_a_damaged_run(own):
    weights = Path(f"{own}-1") / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    assert refusal(own).startswith(f"{own}-1: damaged, or of another version (")
    (Path(f"{own}-1") / "run.json").write_text("{")
    assert refusal(own).startswith(f"{own}-1: damaged, or of another version (")


def test_seeds_of_different_settings_are_not_averaged(own):
    """A seed that params.yaml no longer names stays behind with the settings it had."""
    rewrite(Path(f"{own}-2") / "run.json", data={})
    assert refusal(own).startswith(f"{own}-2: data in run.json differ from {own}-1, ")
    assert len(msabench.load(f"{own}-2").folders) == 1


@pytest.mark.parametrize("key", ["seeds", "sweep_seeds", "ablation_seeds"])
def test_a_seed_that_the_plan_does_not_name_is_left_out(own, key):
    """It stays behind when `seeds` shrinks, and the tables have it no more."""
    plan = own.parent / "plan/stages/tables.json"
    plan.parent.mkdir(parents=True)
    plan.write_text(json.dumps({"seeds": [], "sweep_seeds": [], key: [2]}))
    assert [folder.name for folder in msabench.load(own).folders] == ["ours-2"]


def test_import_is_cheap():
    """PyTorch comes with the first load."""
    code = "import sys, msabench; msabench.load; sys.exit('torch' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(trained_tree.ROOT / "src")}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0
