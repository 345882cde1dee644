"""The data report, by values counted by hand, and on the real transcripts."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from msabench.data import sources
from msabench.evaluation import data_report
from msabench.labels import MOSEI, LabelScale, classes_of
from msabench.reporting.content import results as content
from msabench.utterances import Ragged, Utterances


def split(ids, texts, labels, repairs, audio):
    frames = Ragged.of([np.ones((t, 2), np.float32) for t in audio])
    return Utterances(
        ids=ids,
        texts=texts,
        labels=np.array(labels, np.float32),
        sequences={"audio": frames},
        repairs=repairs,
    )


DATA = {
    "train": split(
        ["a$_$0", "a$_$1", "b$_$0"],
        ["x", "x", "y"],
        [-3, 0.4, 0.6],
        {"audio_lengths": 2},
        [1, 2, 9],
    ),
    "valid": split(["c$_$0"], ["y"], [3], {"audio_lengths": 0}, [4]),
    "test": split(["b$_$1", "d$_$0"], ["z", "x"], [0, 1], {"audio_lengths": 1}, [2, 2]),
}


SEVENTHS = classes_of(np.linspace(-3, 3, 50), MOSEI, "mosei")


@pytest.fixture
def report(tmp_path):
    for name, data in DATA.items():
        (tmp_path / name).mkdir()
        Ragged.of([np.zeros(3, np.int32)] * len(data)).save(tmp_path / name, "tokens")
        (tmp_path / name / "tokens.json").write_text(json.dumps({"tokens_cut": len(data)}))
    return data_report.describe(DATA, tmp_path, SEVENTHS)


def column(report, key):
    return [report[name][key] for name in ("train", "valid", "test", "all")]


def test_texts_and_videos_of_several_utterances_and_splits(report):
    assert column(report, "repeated_texts") == [1, 0, 0, 2]
    assert column(report, "repeated_utterances") == [2, 0, 0, 5]  # three x, two y
    assert column(report, "shared_texts") == [2, 1, 1, 2]
    assert column(report, "videos") == [2, 1, 2, 4]
    assert column(report, "shared_videos") == [1, 0, 1, 1]


def test_a_blank_text_is_no_repeated_text(tmp_path):
    data = {name: replace(split, texts=[" "] * len(split)) for name, split in DATA.items()}
    data["train"] = replace(data["train"], texts=["x", "", "x"])
    actual = data_report.describe(data, tmp_path, SEVENTHS)
    assert column(actual, "repeated_utterances") == [2, 0, 0, 2]
    assert column(actual, "shared_texts") == [0] * 4


def test_videos_that_the_source_names_are_counted(tmp_path):
    """Ids that say nothing hide neither the videos of a split nor those that cross splits."""
    names = {"train": ["a", "a", "b"], "valid": ["b"], "test": ["c", "c"]}
    data = {
        name: replace(
            split, ids=[f"{name}_{i}" for i in range(len(split))], video_names=names[name]
        )
        for name, split in DATA.items()
    }
    actual = data_report.describe(data, tmp_path, SEVENTHS)
    assert column(actual, "videos") == [2, 1, 1, 3]
    assert column(actual, "shared_videos") == [1, 1, 0, 1]


def test_lengths_labels_and_counts(report):
    assert column(report, "audio_frames") == [4, 4, 2, round(20 / 6, 4)]
    assert column(report, "audio_frames_median") == [2, 4, 2, 2]
    assert column(report, "audio_frames_max") == [9, 4, 2, 9]
    assert column(report, "vision_frames_max") == [None] * 4
    assert column(report, "tokens") == [3] * 4
    assert column(report, "tokens_cut") == [3, 1, 2, 6]
    assert column(report, "audio_lengths") == [2, 0, 1, 3]
    assert report["train"]["labels"] == {
        **{"-3": 1, "-2": 0, "-1": 0, "0": 1, "1": 1, "2": 0, "3": 0}
    }
    assert sum(report["all"]["labels"].values()) == report["all"]["utterances"] == 6


def test_the_histogram_shows_the_labels_that_there_are(tmp_path):
    """Labels 0 and 1 have two classes, not seven steps of which five are empty."""
    data = {
        name: split([f"{name}$_$0", f"{name}$_$1"], ["x", "y"], [0, 1], {}, [1, 1])
        for name in ("train", "valid", "test")
    }
    classes = classes_of(np.array([0, 1], np.float32), LabelScale.of([0, 1]), "mosei")
    actual = data_report.describe(data, tmp_path, classes)
    assert actual["train"]["labels"] == {"0": 1, "1": 1}
    assert actual["all"]["labels"] == {"0": 3, "1": 3}


def test_columns_that_say_little_are_found_over_all_splits(monkeypatch):
    """Columns: fine, zero, constant, never finite, constant but for one split, partly finite."""
    monkeypatch.setattr(data_report, "CHUNK", 14)  # two frames at once
    values = np.zeros((5, 7), np.float32)
    values[:, 0], values[:, 2], values[:, 4] = [1, 2, 3, 4, 5], 0.5, -1
    values[::2, 5] = 2
    values[:, 6] = np.where([True, False, True, True, True], 0, 0.0)
    counts = {"train": {3: 5, 5: 2}, "valid": {3: 5}, "test": {3: 5, 5: 1, 6: 1}}
    data = {}
    for name, count in counts.items():
        frames = values.copy()
        frames[:, 4] += name == "test"
        absent = np.zeros((0, 7), np.float32)  # of an utterance without frames
        audio = Ragged.of([frames[:3], absent, frames[3:]])
        labels = np.zeros(3, np.float32)
        ids = [f"{name}$_${i}" for i in range(3)]
        data[name] = Utterances(
            *(ids, ["x"] * 3, labels, {"audio": audio}),
            repairs={"audio_missing": 1},
            not_finite={"audio": count},
        )
    named = {"names": {"3": "peakSlope", "0": "F0"}, "tool": "COVAREP", "certainty": "sure"}
    assert data_report.columns(data, {"audio": named}) == {
        "audio": {
            **{"width": 7, "tool": "COVAREP", "certainty": "sure", "names": {"3": "peakSlope"}},
            **{"never_finite": [3], "zero": [1, 6], "constant": [2]},
            "not_finite": {"5": 3, "6": 1},
        }
    }
    assert data_report.columns({name: split.select([]) for name, split in data.items()}, {}) == {}


def test_a_column_that_is_0_where_it_is_finite_is_not_called_never_finite():
    audio = Ragged.of([np.zeros((4, 1), np.float32)])
    split = Utterances(
        *(["a$_$0"], ["x"], np.zeros(1, np.float32), {"audio": audio}),
        repairs={"audio_missing": 0},
        not_finite={"audio": {0: 2}},
    )
    report = data_report.columns(dict.fromkeys(("train", "valid", "test"), split), {})["audio"]
    assert (report["never_finite"], report["zero"]) == ([], [0])
    assert report["not_finite"] == {"0": 6}


def test_columns_are_listed_by_name_and_the_most_important_ones_alone():
    listed = content._listed
    names = {"7": "peakSlope", "36": "HMPDM_0", "41": "HMPDM_5"}
    assert listed([7], names) == "7 peakSlope"
    assert listed([1, 7, 36, 37, 38, 39, 40, 41], names) == (
        "column 1, 7 peakSlope, 36 HMPDM_0 to 41 HMPDM_5"
    )
    assert listed(list(range(0, 70, 2)), {}) == (
        "column 0, column 2, column 4, column 6, column 8 and 30 more"
    )
    assert listed({"1": 5, "7": 1200}, names) == "7 peakSlope (1200 values), column 1 (5 values)"


@pytest.mark.skipif("MOSEI_LABELS" not in os.environ, reason="MOSEI_LABELS names no label.csv")
def test_real_transcripts(tmp_path):
    """What is known of MOSEI's own file."""
    data = sources.read("label_csv", Path(os.environ["MOSEI_LABELS"]), {})
    actual = data_report.describe(data, tmp_path, SEVENTHS)["all"]
    assert actual["utterances"] == 22856
    assert (actual["repeated_utterances"], actual["repeated_texts"]) == (302, 109)
    assert actual["shared_texts"] == 36
    assert actual["shared_videos"] == 0
