"""Sources: MMSA's pickles and label.csv, with the defects that such files have."""

import copy
import hashlib
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msabench.data import sources
from msabench.data.sources import label_csv, mmsa_pickle, simulated
from msabench.errors import DataError, ParamsError
from msabench.utterances import SPLITS, Utterances, check_splits
from tests.conftest import assert_same

LENGTHS = {"audio": [3, 1, 7], "vision": [5, 5, 2]}
STEPS, WIDTHS = {"audio": 7, "vision": 5}, {"audio": 4, "vision": 2}


def frames(split: str, modality: str) -> list[np.ndarray]:
    """The real frames of three utterances."""
    generator = np.random.default_rng([SPLITS.index(split), WIDTHS[modality]])
    return [generator.normal(size=(t, WIDTHS[modality])) for t in LENGTHS[modality]]


def padded(split: str, modality: str, front: bool, steps: int | None = None) -> np.ndarray:
    result = np.zeros((3, steps or STEPS[modality], WIDTHS[modality]))
    for row, real in zip(result, frames(split, modality), strict=True):
        row[slice(len(row) - len(real), None) if front else slice(len(real))] = real
    return result


def unaligned(front: bool = False) -> dict[str, dict[str, Any]]:
    return {
        split: {
            "id": [f"{split}{i}$_${i}" for i in range(3)],
            "raw_text": np.array(["good", "très bien", "\U0001f600"]),
            "regression_labels": np.array([-3, 0, 1.5]),
            "audio": padded(split, "audio", front),
            "vision": padded(split, "vision", front),
            "audio_lengths": LENGTHS["audio"],
            "vision_lengths": np.array(LENGTHS["vision"]),
            "text_bert": np.zeros((3, 3, 50)),
        }
        for split in SPLITS
    }


def read(
    folder: Path, content: object, protocol: int = 4, **settings: Any
) -> dict[str, Utterances]:
    path = folder / "data.pkl"
    path.unlink(missing_ok=True)
    path.write_bytes(pickle.dumps(content, protocol))
    return sources.read("mmsa_pickle", path, settings)


def check_frames(splits: dict[str, Utterances]) -> None:
    for split, utterances in splits.items():
        assert list(utterances.sequences) == ["audio", "vision"]
        for modality, ragged in utterances.sequences.items():
            assert ragged.values.dtype == np.float32
            assert ragged.lengths.tolist() == LENGTHS[modality]
            for i, real in enumerate(frames(split, modality)):
                np.testing.assert_array_equal(ragged[i], real.astype(np.float32))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("front", [False, True])
def test_unaligned_frames_are_cut_to_their_lengths(
    tmp_path: Path, front: bool, protocol: int
) -> None:
    splits = read(tmp_path, unaligned(front), protocol)
    check_splits(splits, (-3.0, 3.0))
    check_frames(splits)
    train = splits["train"]
    assert train.ids == ["train0$_$0", "train1$_$1", "train2$_$2"]
    assert train.texts == ["good", "très bien", "\U0001f600"]
    assert all(type(text) is str for text in train.ids + train.texts)
    assert train.labels.dtype == np.float32
    assert train.labels.tolist() == [-3, 0, 1.5]
    assert train.unimodal_labels == {}
    assert train.repairs["audio_front"] == train.repairs["vision_front"] == (3 if front else 0)
    assert train.repairs["audio_lengths"] == 0


@pytest.mark.parametrize("front", [False, True])
@pytest.mark.parametrize("declared", [[1, 1, 1], [0, 1, 8], [3, 1, -2]])
def test_lengths_that_contradict_the_padding_are_repaired(
    tmp_path: Path, front: bool, declared: list[int]
) -> None:
    """Self-MM's rule, the first zero frame, makes every length 1 where the front is padded."""
    content = _with(unaligned(front), "audio_lengths", declared)
    splits = read(tmp_path, content)
    check_frames(splits)
    wrong = sum(a != b for a, b in zip(declared, LENGTHS["audio"], strict=True))
    assert [split.repairs["audio_lengths"] for split in splits.values()] == [wrong] * 3
    if min(declared) == 1:
        train = read(tmp_path, content, lengths="file")["train"]
        assert train.sequences["audio"].lengths.tolist() == [1, 1, 1]
    check_frames(read(tmp_path, content, lengths="padding"))


def test_zeros_within_a_length_stay_unless_the_padding_decides(tmp_path: Path) -> None:
    content = unaligned()
    content["train"]["vision"][0, 3:] = 0
    content["train"]["vision"][1] = 0
    for rule, expected in (("repair", [5, 0, 2]), ("file", [5, 0, 2]), ("padding", [3, 0, 2])):
        train = read(tmp_path, content, lengths=rule)["train"]
        assert train.sequences["vision"].lengths.tolist() == expected
        assert train.repairs["vision_missing"] == 1


def test_padding_that_is_not_finite_makes_no_length_wrong(tmp_path: Path) -> None:
    content = unaligned()
    content["train"]["audio"][0, 3:] = np.nan
    train = read(tmp_path, content)["train"]
    assert train.sequences["audio"].lengths.tolist() == LENGTHS["audio"]
    assert train.repairs["audio_lengths"] == train.repairs["audio_not_finite"] == 0


@pytest.mark.parametrize("front", [False, True])
def test_lengths_tell_the_side_where_zeros_mislead(tmp_path: Path, front: bool) -> None:
    """Long clips are full but for a face found late, or lost early: more zeros than the padding."""
    content = unaligned(front)
    for split in content.values():
        split["vision"][:2, slice(3, None) if front else slice(2)] = 0
    for utterances in read(tmp_path, content).values():
        assert utterances.sequences["vision"].lengths.tolist() == LENGTHS["vision"]
        assert utterances.repairs["vision_front"] == (3 if front else 0)
        assert utterances.repairs["vision_lengths"] == 0


def test_arrays_in_fortran_order(tmp_path: Path) -> None:
    content = unaligned()
    for split in content.values():
        split["audio"] = np.asfortranarray(split["audio"])
    check_frames(read(tmp_path, content))


def test_the_token_ids_of_the_file_are_kept(tmp_path: Path) -> None:
    content = unaligned()
    assert read(tmp_path, content)["train"].given_tokens is None  # nothing is unmasked
    tokens = np.zeros((3, 3, 5), np.float32)
    for row, ids in zip(tokens, [[101, 102], [101, 7, 102], [101, 7, 8, 9, 102]], strict=True):
        row[0, : len(ids)], row[1, : len(ids)] = ids, 1
    given = read(tmp_path, _with(content, "text_bert", tokens))["test"].given_tokens
    assert given is not None
    assert given.values.dtype == np.int32
    assert [row.tolist() for row in (given[0], given[1])] == [[101, 102], [101, 7, 102]]
    assert read(tmp_path, _with(content, "text_bert", tokens - 0.5))["test"].given_tokens is None
    tokens[1] = 0  # one text without tokens leaves the others to be compared
    given = read(tmp_path, _with(content, "text_bert", tokens))["test"].given_tokens
    assert given is not None
    assert given[1].tolist() == [0]


@pytest.mark.parametrize("front", [False, True])
def test_lengths_follow_from_the_padding_where_the_file_has_none(
    tmp_path: Path, front: bool
) -> None:
    content = unaligned(front)
    for split in content.values():
        del split["audio_lengths"], split["vision_lengths"]
    settings: dict[str, Any] = {"padding": "front" if front else "end"}
    check_frames(read(tmp_path, content, **settings))
    inner, outer = (-2, 0) if front else (1, -1)
    content["test"]["vision"][0] = 0  # nothing at all: one frame is kept
    content["test"]["vision"][1, inner] = 0  # a zero frame amid others is real
    content["test"]["vision"][2, outer, 0] = np.nan  # becomes zero, so padding
    vision = read(tmp_path, content, **settings)["test"].sequences["vision"]
    assert vision.lengths.tolist() == [0, 5, 2]


def test_chunks_give_the_same_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for chunk in (1, 60):  # one and two utterances at a time
        monkeypatch.setattr(mmsa_pickle, "CHUNK", chunk)
        check_frames(read(tmp_path, unaligned()))


def test_aligned_lengths_are_the_unmasked_pieces(tmp_path: Path) -> None:
    content = unaligned()
    for split in content.values():
        split["text_bert"] = np.zeros((3, 3, 8))
        for i, pieces in enumerate([2, 8, 5]):
            split["text_bert"][i, 1, :pieces] = 1
        for modality in ("audio", "vision"):
            split[modality] = np.arange(3 * 8 * 2.0).reshape(3, 8, 2)
            del split[f"{modality}_lengths"]
    for padding, last in (("end", [3.0, 31.0, 41.0]), ("front", [15.0, 31.0, 47.0])):
        rules: dict[str, Any] = {"aligned": True, "padding": padding, "lengths": "file"}
        for utterances in read(tmp_path, content, **rules).values():
            for ragged in utterances.sequences.values():
                assert ragged.lengths.tolist() == [2, 8, 5]
                assert [ragged[i][-1, -1] for i in range(3)] == last
    del content["valid"]["text_bert"]
    with pytest.raises(DataError, match="valid: text_bert: missing"):
        read(tmp_path, content, aligned=True)


def test_values_that_are_not_finite_become_zero(tmp_path: Path) -> None:
    content = unaligned()
    content["train"]["audio"][0, :2, 1] = [-np.inf, np.nan]
    content["test"]["vision"][1, 4, 1] = 1e300  # infinite as float32
    splits = read(tmp_path, content)
    check_splits(splits, (-3.0, 3.0))
    assert splits["train"].sequences["audio"][0][:2, 1].tolist() == [0, 0]
    assert splits["test"].sequences["vision"][1][4, 1] == 0
    assert splits["train"].repairs["audio_not_finite"] == 2
    assert splits["test"].repairs["vision_not_finite"] == 1
    assert splits["train"].not_finite == {"audio": {1: 2}, "vision": {}}
    assert splits["test"].not_finite == {"audio": {}, "vision": {1: 1}}
    assert sum(splits["valid"].repairs.values()) == 0
    with pytest.raises(DataError, match=r"audio: 'train0\$_\$0': frame 0, feature 1 is -inf"):
        read(tmp_path, content, not_finite="refuse")


def test_only_true_unimodal_labels_are_kept(tmp_path: Path) -> None:
    content = unaligned()
    for split in content.values():
        split["regression_labels_T"] = np.array([-1, 0, 1.0])
        split["regression_labels_A"] = [0.0, 0.0, 0.0]
        split["regression_labels_V"] = np.array([None, None, None], object)
    train = read(tmp_path, content)["train"]
    assert list(train.unimodal_labels) == ["text"]
    assert train.unimodal_labels["text"].tolist() == [-1, 0, 1]
    assert train.unimodal_labels["text"].dtype == np.float32
    content["train"]["regression_labels"][1] = 1e300
    assert read(tmp_path, content)["train"].labels[1] == np.inf  # for check to refuse
    content["train"]["regression_labels_V"] = [np.nan] * 3
    content["train"]["regression_labels_A"] = [0, 0, 2]
    assert list(read(tmp_path, content)["train"].unimodal_labels) == ["text", "audio"]


def test_what_the_file_lacks_is_absent(tmp_path: Path) -> None:
    content = unaligned()
    for split in content.values():
        del split["audio"]
        split["regression_labels"] = [np.float32(1), -2, 0.5]
        split["id"] = np.array(split["id"], object)
        split["raw_text"] = [np.str_("a"), "", "c"]
    splits = read(tmp_path, content)
    assert splits["train"].widths == {"vision": 2}
    assert splits["train"].labels.tolist() == [1, -2, 0.5]
    assert splits["train"].texts == ["a", "", "c"]
    empty = {key: value[:0] for key, value in content["valid"].items()}
    assert len(read(tmp_path, {**content, "valid": empty})["valid"].sequences["vision"]) == 0


BROKEN: dict[str, tuple[str, object, str]] = {
    "no id": ("id", None, "id: missing; found: 'id', 'raw_text'"),
    "no label": ("regression_labels", None, "regression_labels: missing"),
    "texts of another number": ("raw_text", ["a", "b"], "raw_text: 2 values; expected 3"),
    "labels of another number": ("regression_labels", np.zeros(4), "4 values; expected 3"),
    "labels of two axes": ("regression_labels", np.zeros((3, 1)), r"shape \(3, 1\); expected a li"),
    "labels of text": ("regression_labels", ["1", "2", "3"], "value 0 is a str; expected a number"),
    "label too large": ("regression_labels", [1, 2, 10**400], "an integer too large"),
    "ids of bytes": ("id", [b"a", "b", "c"], "value 0 is a bytes; expected text"),
    "ids of two axes": ("id", np.array([["a"], ["b"], ["c"]]), r"shape \(3, 1\)"),
    "ids in a string": ("id", "abc", "id: a str; expected a list"),
    "half a character": ("raw_text", ["a", "b\ud800", "c"], "value 1 holds a lone surrogate"),
    "audio of two axes": ("audio", np.zeros((3, 4)), r"audio: .*\(3, 4\); expected .* three axes"),
    "audio of text": ("audio", np.full((3, 2, 2), "x"), "<U1 .* array of numbers"),
    "audio in lists": ("audio", [[[1.0]]] * 3, "audio: a list; expected an array"),
    "audio of another number": ("audio", np.zeros((2, 7, 4)), r"\(2, 7, 4\); expected \(3, t"),
    "no features": ("audio", np.zeros((3, 7, 0)), r"\(3, 7, 0\); expected .* at least 1"),
    "length of a half": ("vision_lengths", [5, 1.5, 2], r"1\.5 frames of vision"),
    "length not a number": ("vision_lengths", [5, np.nan, 2], "nan frames of vision"),
    "lengths of another number": ("vision_lengths", [5], "1 values; expected 3"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_splits_are_named(tmp_path: Path, name: str) -> None:
    key, value, words = BROKEN[name]
    content = unaligned()
    content["test"][key] = value
    with pytest.raises(DataError, match=words) as caught:
        read(tmp_path, content)
    assert str(caught.value).startswith(f"{tmp_path / 'data.pkl'}: test: {key}: ")


def test_broken_files_and_settings_are_named(tmp_path: Path) -> None:
    content = unaligned()
    for lengths in ([3, 0, 7], [3, 1, 8]):
        wrong = _with(content, "audio_lengths", lengths)
        with pytest.raises(DataError, match=r"audio_lengths: . frames .*'; permitted: 1 to 7"):
            read(tmp_path, wrong, lengths="file")
    with pytest.raises(DataError, match=r"a list; expected a dict of \('train', "):
        read(tmp_path, [content])
    with pytest.raises(DataError, match=r"found: 'train', 'dev', 'test' \(write 'valid' f"):
        read(tmp_path, {"train": content["train"], "dev": {}, "test": content["test"]})
    with pytest.raises(DataError, match=r"text_bert: .*expected \(n, 3, pieces\)"):
        read(tmp_path, _with(content, "text_bert", np.ones((3, 2, 5))), aligned=True)
    pieces = _with(content, "text_bert", np.ones((3, 3, 10)))
    with pytest.raises(DataError, match="10 frames of audio for 'train0"):
        read(tmp_path, pieces, aligned=True, lengths="file")
    with pytest.raises(DataError, match="refused: the pickle names"):
        read(tmp_path, _with(content, "audio", os.getcwd))


@pytest.mark.parametrize("padding", ["end", "front"])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_simulated_data_are_the_same_by_every_way(
    tmp_path: Path, protocol: int, padding: Any
) -> None:
    """The csd files and the folder have this test in their own files."""
    sizes: Any = {"train": 30, "valid": 8, "test": 9, "audio_frames": 20, "vision_frames": 12}
    expected = read(tmp_path, simulated.simulate(**sizes))
    (tmp_path / "other").mkdir()
    data = simulated.simulate(**sizes, padding=padding)
    actual = read(tmp_path / "other", data, protocol)
    for split in SPLITS:
        assert_same(actual[split], expected[split])
        counts = {**actual[split].repairs, **dict.fromkeys(("audio_front", "vision_front"), 0)}
        assert counts == expected[split].repairs


def _with(content: dict[str, dict[str, Any]], key: str, value: object) -> dict[str, dict[str, Any]]:
    changed = copy.deepcopy(content)
    for split in changed.values():
        split[key] = value
    return changed


def test_unknown_sources_and_settings_are_named(tmp_path: Path) -> None:
    for name in ("hdf5", "../utterances", "__init__", ""):
        with pytest.raises(ParamsError, match=r"source: .*permitted: .*label_csv, mmsa_pickle"):
            sources.read(name, tmp_path, {})
    sources.check_settings("mmsa_pickle", {"aligned": True, "padding": "front"}, "mosei")
    with pytest.raises(
        ParamsError,
        match=r"mosei\.alined: .* permitted for mmsa_pickle: aligned, padding, lengths, not_finite",
    ):
        sources.check_settings("mmsa_pickle", {"alined": True}, "mosei")
    with pytest.raises(ParamsError, match="mosei: aligned: 'yes'"):
        sources.check_settings("mmsa_pickle", {"aligned": "yes"}, "mosei")
    with pytest.raises(ParamsError, match=r"mosei\.padding: .* permitted for label_csv: none"):
        sources.check_settings("label_csv", {"padding": "end"}, "mosei")


HEADER = "video_id,clip_id,text,label,annotation,mode,label_T,label_A,label_V\n"
ROWS = (
    'v1,0,"good, very ""good""",1.5,Positive,train,,,\n'
    'v1,12,"two\nlines",-0.3333333,Negative,test,,,\n'
    "v2,1,très,0,Neutral,valid,,,\n"
    "v3,1,,-3,Negative,train,,,\n"
)


def read_csv(folder: Path, text: str | bytes) -> dict[str, Utterances]:
    path = folder / "label.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return sources.read("label_csv", path, {})


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_label_csv(tmp_path: Path, mark: str) -> None:
    splits = read_csv(tmp_path, mark + HEADER + ROWS)
    check_splits(splits, (-3.0, 3.0))
    train = splits["train"]
    assert train.ids == ["v1$_$0", "v3$_$1"]
    assert train.texts == ['good, very "good"', ""]
    assert train.labels.dtype == np.float32
    assert train.labels.tolist() == [1.5, -3]
    assert splits["test"].texts == ["two\nlines"]
    assert splits["test"].labels.tolist() == [np.float32(-0.3333333)]
    assert all(not split.sequences and not split.unimodal_labels for split in splits.values())


def test_label_csv_keeps_unimodal_labels_that_are_complete(tmp_path: Path) -> None:
    rows = ROWS.replace(",,,\n", ",0.5,,-1\n")
    for split in read_csv(tmp_path, HEADER + rows).values():
        assert list(split.unimodal_labels) == ["text", "vision"]
        assert set(split.unimodal_labels["vision"].tolist()) == {-1.0}
    rows = ROWS.replace(",,,\n", ",0.5,,-1\n", 3)  # the last row is not filled
    assert not any(split.unimodal_labels for split in read_csv(tmp_path, HEADER + rows).values())
    splits = read_csv(tmp_path, HEADER)
    assert [len(split) for split in splits.values()] == [0, 0, 0]


BROKEN_CSV: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "no column video_id, clip_id, text, label, mode; found: "),
    "no mode": (HEADER.replace("mode", "split"), r"no column mode; found: \['video_id'"),
    "no number": (HEADER + ROWS.replace("1.5", "high"), "line 2: label 'high'; a finite number"),
    "no label": (HEADER + ROWS.replace("1.5", ""), "line 2: label ''; a finite number"),
    "not finite": (HEADER + ROWS.replace("-3", "nan"), "line 6: label 'nan'; a finite number"),
    "unimodal": (HEADER + ROWS.replace("in,,,", "in,,x,"), "line 2: label_A 'x'; a finite"),
    "unknown mode": (
        HEADER + ROWS.replace("valid", "dev"),
        "line 5: mode 'dev'; permitted: train,",
    ),
    "short row": (HEADER + "v1,0,good,1\n", "line 2: the row does not have 9 fields"),
    "long row": (HEADER + "v1,0,good,1,Positive,train,,,,\n", "line 2: the row does not have 9"),
    "not UTF-8": (HEADER.encode() + b"v1,0,\xe9,1,,train,,,\n", "is not UTF-8"),
    "open quotation": (HEADER + 'v1,0,"good,1\n', "after line 1: unexpected end"),
}


@pytest.mark.parametrize("name", BROKEN_CSV)
def test_broken_label_csv_is_named(tmp_path: Path, name: str) -> None:
    text, words = BROKEN_CSV[name]
    with pytest.raises(DataError, match=words):
        read_csv(tmp_path, text)


def test_label_csv_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"label\.csv: No such file"):
        label_csv.read(tmp_path / "label.csv")


@pytest.mark.skipif("MOSEI_LABELS" not in os.environ, reason="MOSEI_LABELS names no label.csv")
def test_the_labels_of_mosei() -> None:
    path = Path(os.environ["MOSEI_LABELS"])
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest == "52d885bd1e8b29a4c06a69e2b1dd67dd02f7bcbdfa38ad918144fd5673a83521"
    splits = label_csv.read(path)
    check_splits(splits, (-3.0, 3.0))
    assert [len(split) for split in splits.values()] == [16326, 1871, 4659]
    assert not any(split.unimodal_labels for split in splits.values())
