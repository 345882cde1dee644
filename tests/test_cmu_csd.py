"""CMU's computational sequences: cut by midpoint, by time, and never beyond the files named."""

import json
import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from msabench.data import sources
from msabench.data.sources import cmu_csd, simulated
from msabench.errors import DataError, ParamsError
from msabench.utterances import SPLITS, Utterances, check_splits
from tests.conftest import anonymous_megabytes, assert_same

NAMES = {
    "labels": "CMU_MOSEI_Labels.csd",
    "words": "CMU_MOSEI_TimestampedWords.csd",
    "audio": "CMU_MOSEI_COVAREP.csd",
    "vision": "CMU_MOSEI_VisualFacet42.csd",
}
ROOTS = {"labels": "All Labels", "words": "words", "audio": "COVAREP", "vision": "FACET 4.2"}
FOLDS = {"train": ["v1", "v2"], "valid": ["v3"], "test": ["v4"]}

Rows = tuple[Any, Any]  # features and intervals


def write_csd(path: Path, root: str, data: Mapping[str, Rows], **options: Any) -> None:
    with h5py.File(path, "w") as file:
        group = file.create_group(root)
        group.create_group("metadata")["root name"] = root
        for video, (features, intervals) in data.items():
            rows = group.create_group(f"data/{video}")
            rows.create_dataset("features", data=features, **options)
            rows.create_dataset("intervals", data=intervals)


def write_folder(folder: Path, content: Mapping[str, Mapping[str, Rows]], folds: object) -> Path:
    folder.mkdir(exist_ok=True)
    for key, data in content.items():
        write_csd(folder / NAMES[key], ROOTS[key], data)
    (folder / "folds.json").write_text(json.dumps(folds))
    return folder


def words(*row: str) -> np.ndarray:
    return np.array([[word.encode()] for word in row])


def small() -> dict[str, dict[str, Rows]]:
    """Four videos of two segments, which hold two words, two audio and one vision frame each."""
    times = np.arange(4) + np.array([[0.0], [1.0]])
    return {
        "labels": {
            f"v{i}": (np.array([[i - 2.0], [0.5]], np.float32), [[0.0, 2.0], [2.0, 4.0]])
            for i in range(1, 5)
        },
        "words": {f"v{i}": (words("not", "sp", "very", f"good{i}"), times.T) for i in range(1, 5)},
        "audio": {
            f"v{i}": (np.arange(12.0).reshape(4, 3) + i, times.T.astype("f4")) for i in range(1, 5)
        },
        "vision": {
            f"v{i}": (np.array([[i, 1], [i, 2]], "i4"), [[0, 2], [2, 4]]) for i in range(1, 5)
        },
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "mosei", small(), FOLDS)


def read(folder: Path, **settings: Any) -> dict[str, Utterances]:
    sources.check_settings("cmu_csd", settings, "mosei")
    return sources.read("cmu_csd", folder, settings)


def evenly(start: float, end: float, n: int) -> np.ndarray:
    edges = np.linspace(start, end, n + 1)
    return np.stack([edges[:-1], edges[1:]], axis=1)


def as_sequences(splits: Mapping[str, Utterances]) -> dict[str, dict[str, Rows]]:
    """The same utterances as whole videos: segments one after the other, silence in between."""
    pieces: dict[str, dict[str, list[tuple[np.ndarray, np.ndarray]]]] = {key: {} for key in NAMES}
    for split in splits.values():
        for i, video in enumerate(split.videos):
            start = 1.7 * int(split.ids[i].split("$_$")[1]) - 0.3
            end = start + 1.3
            spoken = words(*split.texts[i].split(), "sp")
            times = [*evenly(start, end, len(spoken) - 1), [end, start + 1.7]]
            added = {"words": (spoken, np.array(times))}
            emotions = np.full((1, 7), 9, np.float32)
            emotions[0, 0] = split.labels[i]
            added["labels"] = (emotions, np.array([[start, end]]))
            for modality, ragged in split.sequences.items():
                added[modality] = (ragged[i], evenly(start, end, len(ragged[i])))
            for key, rows in added.items():
                pieces[key].setdefault(video, []).append(rows)
    generator = np.random.default_rng(0)
    result: dict[str, dict[str, Rows]] = {key: {} for key in NAMES}
    for key, videos in pieces.items():
        for video, actual in videos.items():
            features = np.concatenate([each for each, _ in actual])
            order = np.arange(len(features))
            if key in ("labels", "vision"):
                generator.shuffle(order)
            intervals = np.concatenate([each for _, each in actual])
            result[key][video] = (features[order], intervals[order])
    return result


def test_round_trip(tmp_path: Path) -> None:
    sizes: dict[str, int] = {"train": 12, "valid": 6, "test": 6}
    simulated.write(tmp_path / "data.pkl", **sizes, audio_frames=20, vision_frames=12)
    expected = simulated.read(tmp_path / "data.pkl")
    assert all(text == " ".join(text.split()) for each in expected.values() for text in each.texts)
    folds = {split: list(dict.fromkeys(each.videos)) for split, each in expected.items()}
    folder = write_folder(tmp_path / "mosei", as_sequences(expected), folds)
    actual = read(folder)
    check_splits(actual, (-3.0, 3.0))
    for split in SPLITS:
        assert len(expected[split]) == sizes[split]
        assert_same(actual[split], replace(expected[split], unimodal_labels={}))
        assert sum(actual[split].repairs.values()) == actual[split].repairs["vision_missing"]


def test_what_the_small_folder_holds(folder: Path) -> None:
    train = read(folder)["train"]
    assert train.ids == ["v1$_$0", "v1$_$1", "v2$_$0", "v2$_$1"]
    assert train.texts == ["not", "very good1", "not", "very good2"]
    assert train.labels.tolist() == [-1, 0.5, 0, 0.5]
    assert train.sequences["audio"][1].tolist() == [[7, 8, 9], [10, 11, 12]]
    assert train.sequences["vision"][1].tolist() == [[1, 2]]
    assert all(each.values.dtype == np.float32 for each in train.sequences.values())
    assert list(train.repairs.values()) == [0] * 8
    only_text = read(folder, audio=None, vision=None)["train"]
    assert (only_text.texts, list(only_text.sequences)) == (train.texts, [])
    assert list(read(folder, audio=None)["test"].sequences) == ["vision"]


def test_segments_are_cut_by_midpoints_in_the_order_of_time(folder: Path) -> None:
    times = [[2.9, 3.1], [0.5, 1.5], [-1.5, 0.5], [1.5, 2.5], [0.4, 1.4], [2.0, 2.9], [1.9, 1.9]]
    midpoints = np.array([3.0, 1.0, -0.5, 2.0, 0.9, 2.45, 1.9])
    spoken = words("outside", "start", "before0", "next", "before", "last", "end")
    starts = [[2.0, 3.0], [1.0, 2.0], [-0.5, 2.0], [1.0, 1.95]]
    write_csd(folder / NAMES["labels"], "x", {"v1": (np.array([[3], [2], [0], [1]]), starts)})
    write_csd(folder / NAMES["words"], "x", {"v1": (spoken, times)})
    write_csd(folder / NAMES["audio"], "x", {"v1": (midpoints[:, None], times)})
    train = read(folder)["train"]
    assert train.ids == [f"v1$_${i}" for i in range(4)]
    assert train.labels.tolist() == [0, 1, 2, 3]
    assert train.texts == ["before0 before start end", "start end", "start end", "next last"]
    audio = train.sequences["audio"]
    expected = [[-0.5, 0.9, 1.0, 1.9], [1.0, 1.9], [1.0, 1.9], [2.0, 2.45]]
    for i, row in enumerate(expected):
        np.testing.assert_array_equal(audio[i][:, 0], np.array(row, np.float32))


def test_folds_in_both_formats(folder: Path) -> None:
    expected = read(folder)
    lists = [f"standard_{split}_fold={videos!r}\n" for split, videos in FOLDS.items()]
    (folder / "std_folds.py").write_text("# CMU's\n" + "\n".join(reversed(lists)))
    actual = read(folder, folds="std_folds.py")
    assert list(actual) == list(SPLITS)
    for split in SPLITS:
        assert_same(actual[split], expected[split])
    (folder / "folds.json").write_text(json.dumps({**FOLDS, "train": ["v2", "v1", "v2"]}))
    assert read(folder)["train"].videos == ["v2", "v2", "v1", "v1"]


BROKEN_FOLDS: dict[str, tuple[str, str, str]] = {
    "in two": ("f.json", json.dumps({**FOLDS, "test": ["v1"]}), "video 'v1' is in train and in t"),
    "missing": ("f.json", '{"train": [], "valid": []}', "folds: 'train', 'valid'; needed: train,"),
    "unknown": ("f.json", json.dumps({**FOLDS, "dev": []}), "'dev'; needed: train, valid, test"),
    "another name": (
        "f.json",
        json.dumps({"train": [], "dev": [], "Test": []}),
        "valid, test .write 'valid' for 'dev', 'test' for 'Test'",
    ),
    "none": ("f.json", "{}", "folds: none; needed"),
    "a list": ("f.json", "[]", "folds: list; needed"),
    "no JSON": ("f.json", "train:\n- v1\n", "Expecting value"),
    "nested": ("f.json", "[" * 100_000, "recursion"),
    "no list": ("f.json", json.dumps({**FOLDS, "test": "v4"}), "test: not a list of video ids"),
    "numbers": ("f.json", json.dumps({**FOLDS, "test": [4]}), "test: not a list of video ids"),
    "half a letter": ("f.json", json.dumps({**FOLDS, "test": ["\ud800"]}), "surrogates not allow"),
    "unknown in Python": ("f.py", "standard_dev_fold=['v1']", "folds: 'dev'; needed"),
    "in two in Python": (
        "f.py",
        "standard_train_fold=['v1']\nstandard_valid_fold=['v1']\nstandard_test_fold=[]",
        "'v1' is in train and in valid",
    ),
    "a call": ("f.py", "standard_train_fold=list(open('marker', 'w'))", "malformed node"),
    "an import": ("f.py", "import os", "line 1: permitted: `name = .*`"),
    "added to": (
        "f.py",
        "standard_train_fold=[]\nstandard_train_fold+=['v1']",
        "line 2: permitted",
    ),
    "two names": ("f.py", "standard_train_fold=standard_test_fold=[]", "line 1: permitted"),
    "no Python": ("f.py", "standard_train_fold=[", "was never closed"),
    "deep Python": ("f.py", "x = " + "-" * 5_000 + "1", "."),
}


@pytest.mark.parametrize("name", BROKEN_FOLDS)
def test_broken_folds_are_named(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    file, text, message = BROKEN_FOLDS[name]
    (folder / file).write_text(text)
    check_refusal(folder, f"{folder / file}: ", message, folds=file)
    assert not (tmp_path / "marker").exists()


def check_refusal(folder: Path, start: str, message: str, **settings: Any) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(folder, **settings)
    assert str(caught.value).startswith(start)
    assert "\n" not in str(caught.value)


def test_what_is_left_out_or_repaired_is_counted(folder: Path) -> None:
    content = small()
    content["labels"]["v1"] = (
        np.array([[1], [np.nan], [2], [-np.inf], [3], [1e300]]),
        [[0, 2], [1, 2], [2, 2], [0, 1], [9, 10], [2, 4]],
    )
    for videos in content.values():
        videos["v7"] = videos["v4"]
    del content["labels"]["v2"], content["words"]["v3"], content["vision"]["v3"]
    content["words"]["v4"] = (words("sp", "", "sp", "good"), content["words"]["v4"][1])
    audio = np.array([[np.nan, 1, 2], [-np.inf, 1e300, 3], [0, 0, 0], [0, 0, 0]])
    content["audio"]["v4"] = (audio, content["audio"]["v4"][1])
    for video in ("v5", "v6"):
        content["labels"][video] = content["labels"]["v3"]
    actual = read(write_folder(folder, content, {**FOLDS, "valid": ["v3", "v7"]}))
    assert actual["train"].ids == ["v1$_$1", "v1$_$4", "v1$_$5"]
    assert actual["train"].labels.tolist() == [1, np.inf, 3]  # too large is for check to refuse
    assert actual["train"].texts == ["not", "very good1", ""]
    assert actual["valid"].texts == ["", "", "not", "very good4"]
    assert actual["valid"].sequences["vision"].values.tolist() == [[4, 1], [4, 2]]
    assert actual["test"].texts == ["", "good"]
    assert actual["test"].sequences["audio"].values[:2].tolist() == [[0, 1, 2], [0, 0, 3]]
    counts = {
        split: {kind: n for kind, n in each.repairs.items() if n} for split, each in actual.items()
    }
    assert counts == {
        "train": {
            "segments_empty": 1,
            "labels_not_finite": 2,
            "audio_missing": 1,
            "vision_missing": 1,
            "videos_without_labels": 1,
            "videos_without_fold": 2,
        },
        "valid": {"vision_missing": 2},
        "test": {"audio_not_finite": 3, "audio_missing": 1},
    }
    assert all(list(each.repairs) == list(actual["train"].repairs) for each in actual.values())
    message = r"audio: 'v4\$_\$0': frame 0, feature 0 is nan"
    with pytest.raises(DataError, match=message):
        read(folder, not_finite="refuse")


@pytest.mark.parametrize("key", ["words", "audio", "vision"])
@pytest.mark.parametrize("change", ["milliseconds", "no video", "no row"])
def test_a_file_with_nothing_for_a_split_is_no_absent_modality(
    folder: Path, key: str, change: str
) -> None:
    """One of another unit of time, or of other videos, would pass for silence and no face."""
    content = small()[key]
    features, intervals = content.pop("v3")
    if change == "milliseconds":
        content["v3"] = (features, 1000 * np.asarray(intervals) + 4000)
    if change == "no row":
        content["v3"] = (features[:0], np.zeros((0, 2)))
    write_csd(folder / NAMES[key], "x", content)
    words = "valid: no row is in any of the 2 labelled segments; are the intervals in seconds"
    check_refusal(folder, f"{folder / NAMES[key]}: ", words)


def test_words_of_any_letters(folder: Path) -> None:
    spoken = words("très", "sp", "\U0001f600 ", "a  b")
    rows = (spoken, [[0, 1], [1, 2], [2, 3], [3, 4]])
    write_csd(folder / NAMES["words"], "x", {f"v{i}": rows for i in range(1, 5)})
    assert read(folder)["train"].texts[:2] == ["très", "\U0001f600 a b"]


@pytest.mark.parametrize("name", ["../folds.json", "/etc/passwd", "a/b.csd", "", ".", "..", "./a"])
@pytest.mark.parametrize("key", [*NAMES, "folds"])
def test_settings_that_lead_out_of_the_folder_are_refused(
    folder: Path, key: str, name: str
) -> None:
    settings: dict[str, Any] = {key: name}
    with pytest.raises(DataError, match="is not the name of a file in the folder"):
        cmu_csd.read(folder, **settings)
    with pytest.raises(ParamsError, match=rf"mosei: {key}: '.*' is not the name of a file"):
        sources.check_settings("cmu_csd", settings, "mosei")


def test_settings(folder: Path) -> None:
    assert sources.reads_folder("cmu_csd")
    with pytest.raises(
        ParamsError, match=r"mosei\.text: .* permitted for cmu_csd: labels, words, audio, vi"
    ):
        read(folder, text="x.csd")
    with pytest.raises(ParamsError, match="mosei: labels: None"):
        read(folder, labels=None)
    with pytest.raises(ParamsError, match="mosei: not_finite: 'keep'"):
        read(folder, not_finite="keep")


def put(name: str, value: Any, **options: Any) -> Callable[[Any], None]:
    """Put another member in the place of one of a sequence; None leaves the place empty."""

    def change(root: Any) -> None:
        del root[name]
        if options or isinstance(value, np.ndarray):
            root.create_dataset(name, data=value, **options)
        elif value is not None:
            root[name] = value

    return change


def put_storage(root: Any) -> None:
    raw = Path(root.file.filename).with_name("raw")
    put(FEATURES, np.zeros((4, 3)), external=[(str(raw), 0, h5py.h5f.UNLIMITED)])(root)


def put_virtual(root: Any) -> None:
    """Map a grown array of another file: its very shape is looked up there."""
    layout = h5py.VirtualLayout((4, 3), "f8", maxshape=(None, 3))
    source = h5py.VirtualSource("other.csd", f"COVAREP/{FEATURES}", (4, 3), maxshape=(None, 3))
    layout[: h5py.h5s.UNLIMITED] = source[: h5py.h5s.UNLIMITED]
    del root[FEATURES]
    root.create_virtual_dataset(FEATURES, layout)


def put_root_link(root: Any) -> None:
    file = root.file
    del file["COVAREP"]
    file["COVAREP"] = h5py.ExternalLink("other.csd", "/COVAREP")


def ragged_rows() -> np.ndarray:
    rows = np.empty((4, 3), object)
    rows[:] = [[np.zeros(2)] * 3] * 4
    return rows


V2, FEATURES, INTERVALS = "video 'v2': ", "data/v2/features", "data/v2/intervals"
TIMES = [[0, 1], [1, 2], [2, 3]]
# what is done to the audio; the place and the words of the error
BROKEN: dict[str, tuple[Callable[[Any], None], str, str]] = {
    "two roots": (lambda root: root.file.create_group("x"), "", "2 groups at the root; needed: 1"),
    "no root": (lambda root: root.file.clear(), "", "0 groups at the root"),
    "no data": (put("data", None), "", "data: missing"),
    "no videos": (lambda root: root["data"].clear(), "", "data: no videos"),
    "data an array": (put("data", np.ones(1)), "", "data: a Dataset; needed: a Group"),
    "video an array": (put("data/v2", np.ones(1)), V2, "v2: a Dataset; needed: a Group"),
    "video a type": (put("data/v2", np.dtype("f4")), V2, "v2: a Datatype; needed: a Group"),
    "no features": (put(FEATURES, None), V2, "features: missing"),
    "no intervals": (put(INTERVALS, None), V2, "intervals: missing"),
    "one axis": (put(FEATURES, np.ones(4)), V2, r"features: shape \(4,\); needed: \(n, 3\)"),
    "no axis": (put(FEATURES, np.array(1.0)), V2, r"features: shape \(\); needed"),
    "no shape": (put(FEATURES, h5py.Empty("f4")), V2, "features: shape None; needed"),
    "three axes": (put(FEATURES, np.zeros((4, 3, 1))), V2, r"\(4, 3, 1\); needed"),
    "other width": (put(FEATURES, np.zeros((4, 2))), V2, r"\(4, 2\); needed: \(n, 3\)"),
    "no width": (put("data/v1/features", np.zeros((4, 0))), "video 'v1': ", "at least 1"),
    "other length": (put(FEATURES, np.zeros((3, 3))), V2, "3 rows of features, 4 intervals"),
    "wide intervals": (put(INTERVALS, np.zeros((4, 3))), V2, r"intervals: .*; needed: \(n, 2\)"),
    "backwards": (put(INTERVALS, np.array([*TIMES, [2, 1]])), V2, r"interval 3 is \[2.0, 1.0\]; n"),
    "NaN": (put(INTERVALS, np.array([*TIMES, [np.nan, 1]])), V2, r"interval 3 is \[nan, 1.0\]"),
    "infinite": (put(INTERVALS, np.array([[0, np.inf], *TIMES])), V2, r"interval 0 is \[0.0, inf"),
    "infinite as 64 bits": (
        put(INTERVALS, np.array([*TIMES, [0, np.longdouble("1e4000")]], np.longdouble)),
        V2,
        r"interval 3 is \[0.0, inf\]",
    ),
    "far too large": (
        put(FEATURES, None, shape=(1 << 61, 3), dtype="f8", chunks=(1, 3)),
        V2,
        "features: shape .*; permitted: 1073741824 bytes",
    ),
    "soft link": (put(FEATURES, h5py.SoftLink("/COVAREP/data/v1/features")), V2, "a link to elsew"),
    "soft link nowhere": (put(FEATURES, h5py.SoftLink("/no")), V2, "features: a link to elsewhere"),
    "linked root": (put_root_link, "", "COVAREP: a link to elsewhere: refused"),
    "linked data": (
        put("data", h5py.ExternalLink("other.csd", "COVAREP/data")),
        "",
        "data: a link",
    ),
    "linked video": (
        put("data/v2", h5py.ExternalLink("other.csd", "COVAREP/data/v2")),
        V2,
        "v2: a link to elsewhere: refused",
    ),
    "linked features": (
        put(FEATURES, h5py.ExternalLink("other.csd", f"COVAREP/{FEATURES}")),
        V2,
        "features: a link to elsewhere: refused",
    ),
    "external storage": (put_storage, V2, "features: kept in other files: refused"),
    "virtual": (put_virtual, V2, "features: kept in other files: refused"),
    "references": (
        put(FEATURES, np.full((4, 3), h5py.h5r.Reference(), h5py.ref_dtype)),
        V2,
        "type object; needed: numbers",
    ),
    "ragged": (
        put(FEATURES, ragged_rows(), dtype=h5py.vlen_dtype(np.float64)),
        V2,
        "type object; needed: numbers",
    ),
    "strings": (put(FEATURES, np.full((4, 3), b"1")), V2, r"type \|S1; needed: numbers"),
    "records": (put(FEATURES, np.zeros((4, 3), [("a", "f4")])), V2, r"type \[\('a', '<f4'\)\]"),
    "complex": (put(FEATURES, np.zeros((4, 3), complex)), V2, "type complex128; needed: numbers"),
    "opaque": (put(FEATURES, np.zeros((4, 3), "V8")), V2, r"type \|V8; needed: numbers"),
    "intervals of strings": (put(INTERVALS, np.full((4, 2), b"1")), V2, r"type \|S1; needed: num"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_sequences_are_named(folder: Path, name: str) -> None:
    change, place, message = BROKEN[name]
    shutil.copy(folder / NAMES["audio"], folder / "other.csd")
    with h5py.File(folder / NAMES["audio"], "a") as file:
        change(file["COVAREP"])
    check_refusal(folder, f"{folder / NAMES['audio']}: {place}", message)


BROKEN_ROWS: dict[str, tuple[str, Any, str]] = {
    "emotions alone": ("labels", np.zeros((4, 6)), r"video 'v1': features: 6 columns; labels have"),
    "labels of words": ("labels", words(*"abcd"), r"video 'v1': type \|S1; needed: numbers"),
    "word vectors": ("words", np.zeros((4, 300)), "video 'v1': features: 300 columns; words have"),
    "numbers for words": ("words", np.zeros((4, 1)), "video 'v1': type float64; needed: strings"),
    "endless words": (
        "words",
        np.full((4, 1), "a", h5py.string_dtype()),
        "video 'v1': type object; needed: strings of a fixed length",
    ),
    "not UTF-8": ("words", np.array([[b"\xe9"]] * 4), "video 'v1': .* can't decode byte"),
}


@pytest.mark.parametrize("name", BROKEN_ROWS)
def test_broken_labels_and_words_are_named(folder: Path, name: str) -> None:
    key, features, message = BROKEN_ROWS[name]
    write_csd(folder / NAMES[key], "x", {"v1": (features, [*TIMES, [3, 4]])})
    check_refusal(folder, f"{folder / NAMES[key]}: ", message)


@pytest.mark.parametrize("key", [*NAMES, "folds"])
def test_files_that_are_not_there_or_no_sequences(folder: Path, key: str) -> None:
    settings: dict[str, Any] = {key: "other.csd"}
    start = f"{folder / 'other.csd'}: "
    check_refusal(folder, start, "No such file", **settings)
    (folder / "other.csd").write_bytes(b"")
    check_refusal(folder, start, "truncated|file signature|Expecting value", **settings)
    (folder / "other.csd").write_bytes(b"\x93NUMPY" * 400)
    check_refusal(folder, start, "file signature not found|is not UTF-8", **settings)
    (folder / "other.csd").unlink()
    (folder / "other.csd").mkdir()
    check_refusal(folder, start, "directory|read", **settings)


def test_a_name_that_is_not_utf8_is_only_a_name(folder: Path) -> None:
    with h5py.File(folder / NAMES["audio"], "a") as file:
        file["COVAREP/data"].move("v2", b"\xff")
        file.move("COVAREP", b"\xfe")
    assert read(folder)["train"].repairs["audio_missing"] == 2


def test_a_name_with_a_slash_leads_nowhere(folder: Path) -> None:
    path = folder / NAMES["labels"]
    label = (np.ones((1, 1)), [[0, 1]])
    write_csd(folder / "other.csd", "x", {"b": label})
    write_csd(path, "x", {"A": label, "a_b": label})
    with h5py.File(path, "a") as file:
        file["x/data/a"] = h5py.ExternalLink("other.csd", "x/data")
    path.write_bytes(path.read_bytes().replace(b"a_b", b"a/b"))
    (folder / "folds.json").write_text(json.dumps({**FOLDS, "train": ["a/b"]}))
    check_refusal(folder, f"{path}: video 'a/b': ", "a/b: missing")


def test_every_truncation_is_refused(folder: Path) -> None:
    path = folder / NAMES["audio"]
    content = path.read_bytes()
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        check_refusal(folder, f"{path}: ", "truncated|signature|read")


def test_changed_bytes_give_data_or_an_error(folder: Path) -> None:
    generator = random.Random(1)
    outcomes = {"read": 0, "refused": 0}
    for key in NAMES:
        path = folder / NAMES[key]
        content = path.read_bytes()
        used = [i for i, byte in enumerate(content) if byte]
        for _ in range(12):
            changed = bytearray(content)
            changed[generator.choice(used)] ^= 1 << generator.randrange(8)
            path.write_bytes(changed)
            try:
                read(folder)
                outcomes["read"] += 1
            except DataError:
                outcomes["refused"] += 1
        path.write_bytes(content)
    assert min(outcomes.values()) > 10


def test_a_large_sequence_takes_the_memory_of_one_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos = [f"v{i}" for i in range(100)]
    frames = (np.ones((3500, 74), np.float32), evenly(0, 35, 3500))  # 1 MB
    label = (np.ones((2, 1)), [[0, 20], [20, 35]])
    content: dict[str, dict[str, Rows]] = {
        "labels": dict.fromkeys(videos, label),
        "words": dict.fromkeys(videos, (words("good"), [[0, 1]])),
        "audio": dict.fromkeys(videos, frames),
    }
    folds = {"train": videos, "valid": [], "test": []}
    folder = write_folder(tmp_path / "mosei", content, folds)
    assert (folder / NAMES["audio"]).stat().st_size > 100e6
    seen: list[float] = []

    class Watched(cmu_csd.Frames):
        def add(self, id: str, frames: np.ndarray) -> None:
            super().add(id, frames)
            seen.append(anonymous_megabytes())

    monkeypatch.setattr(cmu_csd, "Frames", Watched)
    before = anonymous_megabytes()
    train = read(folder, vision=None)["train"]
    seen.append(anonymous_megabytes())
    assert train.sequences["audio"].values.shape == (350_000, 74)
    assert max(seen) - before < 12
