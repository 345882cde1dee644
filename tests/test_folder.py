"""Source `folder`: the example of docs/data.md, a round trip, and everything malformed."""

import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from ruamel.yaml import YAML

from msabench import hashes
from msabench.data import sources
from msabench.data.sources import folder, mmsa_pickle, simulated
from msabench.errors import DataError, ParamsError
from msabench.utterances import SPLITS, Utterances, check_splits
from stages import download, plan, prepare
from tests.conftest import assert_same

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/data.md").read_text(encoding="utf-8")
Splits = dict[str, Utterances]


def write(path: Path, splits: Splits, per_utterance: bool, order: list[int]) -> None:
    """Write utterances as a folder; the rows of the csv in that order, which mixes the splits."""
    path.mkdir()
    header = "id,split,text,label,label_text,label_audio,label_vision\n"
    rows = [
        ",".join(
            [utterances.ids[i], split, f'"{utterances.texts[i]}"']
            + [repr(float(labels[i])) for labels in (utterances.labels, *unimodal)]
        )
        for split, utterances in splits.items()
        if (unimodal := utterances.unimodal_labels.values())
        for i in range(len(utterances))
    ]
    table = header + "\n".join(rows[i] for i in order) + "\n"
    (path / "utterances.csv").write_text(table, encoding="utf-8")
    for split, utterances in splits.items():
        for modality, ragged in utterances.sequences.items():
            if not per_utterance:
                np.save(path / f"{modality}.{split}.npy", ragged.values)
                np.save(path / f"{modality}.{split}.lengths.npy", ragged.lengths)
                continue
            (path / modality).mkdir(exist_ok=True)
            for i, id in enumerate(utterances.ids):
                np.save(path / modality / f"{id}.npy", ragged[i])


@pytest.mark.parametrize("per_utterance", [True, False])
def test_round_trip(tmp_path, per_utterance):
    sizes = {"train": 12, "valid": 5, "test": 7}
    simulated.write(tmp_path / "data.pkl", seed=3, audio_frames=9, vision_frames=6, **sizes)
    splits = mmsa_pickle.read(tmp_path / "data.pkl")
    assert all(len(split.unimodal_labels) == 3 for split in splits.values())
    # each split's rows in its own order, those of other splits between them
    splits_of_rows = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [12, 5, 7]))
    order = np.argsort(np.argsort(splits_of_rows, kind="stable")).tolist()
    write(tmp_path / "mine", splits, per_utterance, order)
    actual = sources.read("folder", tmp_path / "mine", {})
    assert list(actual) == list(splits)
    for name, split in splits.items():
        assert_same(actual[name], split)
        missing = {key: count for key, count in split.repairs.items() if "missing" in key}
        finite = {"audio_not_finite": 0, "vision_not_finite": 0}
        assert actual[name].repairs == missing | finite


def blocks(language: str) -> list[str]:
    section = PAGE.split("\n## Your own recordings\n")[1].split("\n## ")[0]
    assert section.count("\n") <= 48
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


@pytest.mark.slow
def test_the_example_of_the_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    [script], [entry] = blocks("python"), blocks("yaml")
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)
    path = tmp_path / "mine"
    yaml = YAML()
    params = yaml.load(ROOT / "params.yaml")
    assert entry.count("what make hash printed") == entry.count("/absolute/path/mine") == 1
    entry = entry.replace("what make hash printed", hashes.of_data(path))
    entry = entry.replace("/absolute/path/mine", str(path))
    params["datasets"] |= yaml.load(entry)["datasets"]
    params["dataset"] = "mine"
    yaml.dump(params, tmp_path / "params.yaml")
    for stage in (plan, download, prepare):
        stage.main()
    splits = {split: Utterances.load(Path("data/prepared", split)) for split in SPLITS}
    check_splits(splits, (-3.0, 3.0))
    assert [len(split) for split in splits.values()] == [24, 12, 12]
    train = splits["train"]
    assert train.widths == {"audio": 6, "vision": 4}
    assert train.videos[2:4] == ["train0", "train1"]
    assert (train.texts[5], train.labels[5]) == ("I give it 2 points", 2)
    np.testing.assert_array_equal(
        train.sequences["vision"][7],
        np.load(path / "vision" / "train2$_$1.npy").astype(np.float32),
    )
    assert not any(sum(split.repairs.values()) for split in splits.values())


ROWS = """id,split,text,label
a$_$0,train,good,1
b$_$0,valid,bad,-1.5
a$_$1,train,"very
good",2
c,test,fine,0
"""
LENGTHS = {"train": [2, 3], "valid": [1], "test": [4]}
IDS = {"train": ["a$_$0", "a$_$1"], "valid": ["b$_$0"], "test": ["c"]}


@pytest.fixture
def each(tmp_path: Path) -> Path:
    """A folder with audio in one file per utterance."""
    (tmp_path / "audio").mkdir()
    (tmp_path / "utterances.csv").write_text(ROWS)
    for split, ids in IDS.items():
        for id, length in zip(ids, LENGTHS[split], strict=True):
            np.save(tmp_path / "audio" / f"{id}.npy", np.full((length, 2), length, np.float16))
    return tmp_path


@pytest.fixture
def joined(tmp_path: Path) -> Path:
    """A folder with vision in one pair of files per split."""
    (tmp_path / "utterances.csv").write_text(ROWS)
    for split, lengths in LENGTHS.items():
        frames = np.repeat(lengths, lengths)[:, None] * [1, 1, 1]
        np.save(tmp_path / f"vision.{split}.npy", np.asfortranarray(frames))
        np.save(tmp_path / f"vision.{split}.lengths.npy", np.array(lengths, np.uint8))
    return tmp_path


def lengths_and_values(splits: Splits, modality: str) -> dict[str, list[tuple[int, float]]]:
    return {
        name: [(len(ragged[i]), float(ragged[i].mean())) for i in range(len(ragged))]
        for name, split in splits.items()
        for ragged in [split.sequences[modality]]
    }


def test_both_forms_give_the_frames_of_each_utterance(each, joined):
    assert each == joined
    splits = folder.read(each)
    check_splits(splits, (-3.0, 3.0))
    expected = {split: [(t, float(t)) for t in lengths] for split, lengths in LENGTHS.items()}
    assert lengths_and_values(splits, "audio") == expected
    assert lengths_and_values(splits, "vision") == expected
    assert splits["train"].widths == {"audio": 2, "vision": 3}
    assert splits["train"].texts == ["good", "very\ngood"]
    assert not any(split.unimodal_labels for split in splits.values())


@pytest.fixture
def unsplit(tmp_path: Path) -> Path:
    """20 videos of two clips, without a column split: audio by clip, vision of all in one file.

    The frames of clip i are i + 1 times the number i + 1.
    """
    ids = [f"v{i // 2}$_${i % 2}" for i in range(40)]
    rows = [f"{id},x,{i % 7 - 3}\n" for i, id in enumerate(ids)]
    (tmp_path / "utterances.csv").write_text("id,text,label\n" + "".join(rows))
    frames = [np.full((i + 1, 2), i + 1) for i in range(40)]
    (tmp_path / "audio").mkdir()
    for id, own in zip(ids, frames, strict=True):
        np.save(tmp_path / "audio" / f"{id}.npy", own)
    np.save(tmp_path / "vision.npy", np.concatenate(frames))
    np.save(tmp_path / "vision.lengths.npy", np.arange(1, 41))
    return tmp_path


def test_a_split_is_drawn_where_the_csv_has_none(unsplit):
    splits = sources.read("folder", unsplit, {})
    check_splits(splits, (-3.0, 3.0))
    assert [len(split) for split in splits.values()] == [28, 4, 8]
    assert [len(set(split.videos)) for split in splits.values()] == [14, 2, 4]
    for split in splits.values():
        numbers = [2 * int(id[1:-4]) + int(id[-1]) for id in split.ids]
        assert numbers == sorted(numbers)
        assert [split.labels[row] for row in range(len(split))] == [i % 7 - 3 for i in numbers]
        for row, i in enumerate(numbers):
            for modality in ("audio", "vision"):
                frames = split.sequences[modality][row]
                np.testing.assert_array_equal(frames, np.full((i + 1, 2), i + 1))
    drawn = "The split was drawn: whole videos, seed 1, 70/10/20"
    assert sources.drawn("folder", unsplit, {}) == drawn
    other = sources.read("folder", unsplit, {"split_seed": 2})
    assert other["test"].ids != splits["test"].ids


def test_frames_of_all_utterances_in_one_file(joined):
    """In the order of the csv, which mixes the splits."""
    expected = folder.read(joined)
    order = [("train", 0), ("valid", 0), ("train", 1), ("test", 0)]
    frames = [expected[split].sequences["vision"][i] for split, i in order]
    for file in joined.glob("vision.*"):
        file.unlink()
    np.save(joined / "vision.npy", np.concatenate(frames))
    np.save(joined / "vision.lengths.npy", [len(own) for own in frames])
    for split, utterances in folder.read(joined).items():
        assert_same(utterances, expected[split])
    assert sources.drawn("folder", joined, {}) == ""


UNSPLIT: dict[str, tuple[Callable[[Path], object], str]] = {
    "too few videos": (
        lambda path: (path / "utterances.csv").write_text("id,text,label\na,x,0\nb,x,1\n"),
        "utterances.csv: no column split, and 2 videos; permitted: 10 or more, to draw a split",
    ),
    "frames of a split": (
        lambda path: shutil.copy(path / "vision.npy", path / "vision.train.npy"),
        r"/vision\.npy and vision\.train\.npy: vision in both forms; one is enough",
    ),
    "frames by split": (
        lambda path: [
            (path / f"vision{end}.npy").rename(path / f"vision.test{end}.npy")
            for end in ("", ".lengths")
        ],
        "vision.test.lengths.npy: frames of a split, but utterances.csv has no column split; perm",
    ),
    "a column by another name": (
        lambda path: (path / "utterances.csv").write_text("id,Split,text,label\na,train,x,0\n"),
        "utterances.csv: no column split, but 'Split': rename it to split, or remove it to have",
    ),
    "no file": (
        lambda path: [file.rename(f"{file}.bak") for file in path.glob("audio/*.npy")],
        r"audio/.*\.npy\.bak: not an \.npy file",
    ),
    "no frame": (
        lambda path: [file.write_bytes(saved(np.zeros((0, 2)))) for file in path.glob("audio/*")],
        r"audio: no frame of any utterance of utterances\.csv; remove all files",
    ),
    "lengths alone": (lambda path: (path / "vision.npy").unlink(), r"vision\.npy: missing"),
    "a length too few": (
        lambda path: np.save(path / "vision.lengths.npy", np.arange(1, 40)),
        r"vision\.lengths\.npy: int64 of shape \(39,\); expected integers, \(40,\)",
    ),
}


def test_folds_are_drawn_where_they_are_asked_for(unsplit):
    parts = sources.read("folder", unsplit, {"folds": 4})
    check_splits(parts, (-3.0, 3.0))
    assert list(parts) == ["fold1", "fold2", "fold3", "fold4"]
    assert [len(part) for part in parts.values()] == [10, 10, 10, 10]
    assert sources.drawn("folder", unsplit, {"folds": 4}) == (
        "4 folds were drawn: whole videos, seed 1"
    )
    (unsplit / "utterances.csv").write_text(ROWS)
    with pytest.raises(DataError, match="folds: 4, but it has a column split; permitted: one of"):
        folder.read(unsplit, folds=4)
    for wrong in (2, 11, 2.5, "many"):
        with pytest.raises(ParamsError, match=rf"settings: folds: {wrong!r}; "):
            sources.check_settings("folder", {"folds": wrong}, "settings")


@pytest.mark.parametrize("name", UNSPLIT)
def test_what_is_wrong_without_a_split_is_named(unsplit, name):
    change, words = UNSPLIT[name]
    change(unsplit)
    with pytest.raises(DataError, match=words) as caught:
        folder.read(unsplit)
    assert "\n" not in str(caught.value)


def test_clips_without_a_file_are_counted_in_every_drawn_split(unsplit):
    """One without any clip with a file is refused, as it is where the csv names the splits."""
    for file in sorted((unsplit / "audio").iterdir())[1:]:
        file.unlink()
    splits = folder.read(unsplit)
    assert sum(split.repairs["audio_missing"] for split in splits.values()) == 39
    with pytest.raises(DataError, match="audio: no utterance has a frame that is not zero"):
        check_splits(splits, (-3.0, 3.0))


def test_text_alone(tmp_path):
    (tmp_path / "utterances.csv").write_text(ROWS)
    assert all(
        not split.sequences and not split.repairs for split in folder.read(tmp_path).values()
    )


@pytest.mark.parametrize("change", ["no file", "no frames", "zeros"])
def test_a_clip_without_a_file_or_frames_is_counted(each, change):
    file = each / "audio" / "a$_$0.npy"
    file.unlink()
    if change != "no file":
        np.save(file, np.zeros((int(change == "zeros"), 2)))
    splits = folder.read(each)
    check_splits(splits, (-3.0, 3.0))
    audio = splits["train"].sequences["audio"]
    assert (audio.lengths.tolist(), audio[1].tolist()) == ([0, 3], [[3, 3]] * 3)
    assert splits["train"].repairs == {"audio_not_finite": 0, "audio_missing": 1}
    assert splits["test"].repairs == {"audio_not_finite": 0, "audio_missing": 0}


@pytest.mark.parametrize("left", [[], [".DS_Store", "._c.npy"]])
def test_a_folder_without_files_is_no_absent_modality(each, left):
    """Nothing came out of an extraction: to read on would drop the modality in silence."""
    for file in (each / "audio").iterdir():
        file.unlink()
    for name in left:
        (each / "audio" / name).touch()
    with pytest.raises(DataError, match=r"audio: no file; remove all .* of audio if the data have"):
        folder.read(each)
    shutil.rmtree(each / "audio")
    assert not folder.read(each)["train"].sequences


def test_a_description_is_no_file_of_frames(each):
    for name in ("README.md", "audio/README.md", "vision.md"):
        (each / name).write_text("what the data are")
    assert list(folder.read(each)["train"].sequences) == ["audio"]


def nested(path: Path) -> None:
    """A folder for each video."""
    for file in [*(path / "audio").iterdir()]:
        (path / "audio" / file.stem[0]).mkdir(exist_ok=True)
        file.rename(path / "audio" / file.stem[0] / f"{file.stem[-1]}.npy")


def renamed(old: str, new: str) -> "Break":
    def change(path: Path) -> None:
        (path / new).parent.mkdir(exist_ok=True)
        (path / old).rename(path / new)

    return change


def test_values_that_are_not_finite(joined):
    np.save(joined / "vision.valid.npy", [[np.inf, 1e300, 2.0]])
    valid = folder.read(joined)["valid"]
    assert valid.sequences["vision"].values.tolist() == [[0, 0, 2]]
    assert valid.repairs == {"vision_not_finite": 2, "vision_missing": 0}
    with pytest.raises(DataError, match=r"vision: 'b\$_\$0': frame 0, feature 0 is inf; permitted"):
        folder.read(joined, not_finite="refuse")


def test_the_example_of_own_videos_makes_a_folder(tmp_path, monkeypatch):
    """With a stand-in for openSMILE, and tables as OpenFace writes them."""
    page = (ROOT / "docs/features.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    smile = MagicMock(feature_names=["Loudness_sma3", "F0"])
    smile.process_file = lambda path: MagicMock(
        to_numpy=lambda dtype: np.full((Path(path).stat().st_size, 2), 0.5, dtype)
    )
    monkeypatch.setitem(sys.modules, "opensmile", MagicMock(Smile=lambda **_: smile))
    monkeypatch.chdir(tmp_path)
    for name in ("clips", "openface", "mine"):
        Path(name).mkdir()
    for i, split in enumerate(SPLITS):
        Path(f"clips/{split}.wav").write_bytes(b"x" * (i + 1))
        frames = "1, 0, 0.0, 0.9, 1, 2.50, 1.0\n2, 0, 0.1, 0.2, 0, 0.00, 0.0\n"
        header = "frame, face_id, timestamp, confidence, success, AU01_r, AU45_c\n"
        Path(f"openface/{split}.csv").write_text(header + frames)
    Path("openface/none.csv").write_text(header + "1, 0, 0.0, 0.2, 0, 0.00, 0.0\n")
    Path("clips/none.wav").write_bytes(b"x")
    exec(compile(example, "docs/features.md", "exec"), {})
    rows = "".join(f"{split},{split},x,0\n" for split in SPLITS) + "none,test,x,0\n"
    Path("mine/utterances.csv").write_text("id,split,text,label\n" + rows)
    splits = sources.read("folder", Path("mine"), {})
    check_splits(splits, (-3.0, 3.0))
    assert splits["test"].sequences["audio"].lengths.tolist() == [3, 1]
    assert splits["test"].sequences["vision"].values.tolist() == [[2.5, 1.0]]
    assert sources.names("folder", Path("mine"), splits["test"].widths) == {
        "audio": {0: "Loudness_sma3", 1: "F0"},
        "vision": {0: "AU01_r", 1: "AU45_c"},
    }


def test_a_column_names_the_videos_whatever_the_ids_say(tmp_path):
    """Its position is free, and what stands around a name is no part of it."""
    rows = "id,split,text,video,label\na_0,train,x,v1,0\na_1,train,x, v1,0\na_2,valid,x,v2,0\n"
    (tmp_path / "utterances.csv").write_text(rows + "b$_$0,test,x,v1,0\nb$_$1,test,x,v3,0\n")
    splits = folder.read(tmp_path)
    check_splits(splits, (-3.0, 3.0))
    assert [split.videos for split in splits.values()] == [["v1", "v1"], ["v2"], ["v1", "v3"]]
    (tmp_path / "utterances.csv").write_text(ROWS)
    assert all(split.video_names is None for split in folder.read(tmp_path).values())


def prepared(
    path: Path, id: Callable[[str, int], str], column: str | None, size: str | None = "few"
) -> None:
    """Run stage `prepare` on texts alone; column: of a video for every two of them."""
    rows = [["id", "split", "text", "label", *([column] if column else [])]]
    for split, n in {"train": 24, "valid": 12, "test": 80}.items():
        for i in range(n):
            rows.append([id(split, i), split, "x", "0", *([f"{split}{i // 2}"] if column else [])])
    (path / "data/raw/mine").mkdir(parents=True)
    (path / "data/raw/mine/utterances.csv").write_text("\n".join(map(",".join, rows)) + "\n")
    run_prepare(path, {}, size)


def run_prepare(path: Path, settings: dict, size: str | None = "few") -> None:
    """Run stage `prepare` in a folder with data/raw/mine."""
    config: dict[str, Any] = {
        "source": "folder",
        "file": "mine",
        "settings": settings,
        "corpus": None,
    }
    config |= {"label_range": [-3.0, 3.0], "size": size, "dataset": "mine"}
    (path / "runs/plan/stages").mkdir(parents=True)
    (path / "runs/plan/stages/prepare.json").write_text(json.dumps(config))
    prepare.main()


def marked(split: str, i: int) -> str:
    return f"{split}{i // 2}$_${i % 2}"


def underscored(split: str, i: int) -> str:
    return f"{split}{i // 2}_{i % 2}"


def of_one_interview(split: str, i: int) -> str:
    return f"interview$_${i}" if split == "test" else marked(split, i)


PREPARED: dict[str, tuple[Callable[[str, int], str], str | None, str]] = {
    "ids that name no recording": (
        *(underscored, None),
        "(train: 24 videos in 24 utterances; valid: 12 videos in 12 utterances; "
        "test: 80 videos in 80 utterances)",
    ),
    "such ids, and a column": (underscored, "video", ""),
    "such ids, and a column of another name": (underscored, "recording", "a column `video`"),
    "ids that name the recording": (marked, None, ""),
    "one recording": (of_one_interview, None, "1 test video: "),
}


@pytest.mark.parametrize("name", PREPARED)
def test_preparing_notes_what_videos_there_are(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    ids, column, words = PREPARED[name]
    prepared(tmp_path, ids, column)
    printed = capsys.readouterr().err
    assert words in printed
    assert printed.count("note: ") == printed.count("\n") == bool(words)


def test_preparing_notes_that_settings_for_few_suit(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    prepared(tmp_path, marked, None, size=None)
    assert (
        "note: the data have 116 utterances; `size: few` in datasets.mine"
        in capsys.readouterr().err
    )


def test_preparing_says_how_a_split_was_drawn(unsplit, tmp_path_factory, monkeypatch, capsys):
    tree = tmp_path_factory.mktemp("tree")
    monkeypatch.chdir(tree)
    shutil.copytree(unsplit, tree / "data/raw/mine")
    run_prepare(tree, {"split_seed": 3})
    drawn = "The split was drawn: whole videos, seed 3, 70/10/20"
    counts = (
        "train: 28 utterances of 14 videos; valid: 4 utterances of 2 videos; test: 8 utterances"
    )
    assert f"note: {drawn} ({counts} of 4 videos).\n" in capsys.readouterr().err
    prepared = tree / "data/prepared"
    assert json.loads((prepared / "split.json").read_text()) == {"drawn": drawn}
    assert "split.json" not in json.loads((prepared / "sha256.json").read_text())


def test_links(each, tmp_path_factory):
    """What is read is what the hash of the data tells of."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    file = each / "audio" / "c.npy"
    shutil.move(file, elsewhere)
    file.symlink_to(elsewhere / "c.npy")
    before = hashes.of_data(each)
    assert lengths_and_values(folder.read(each), "audio")["test"] == [(4, 4.0)]
    np.save(elsewhere / "c.npy", np.ones((1, 2)))
    assert hashes.of_data(each) != before
    (elsewhere / "c.npy").unlink()
    with pytest.raises(DataError, match=r"audio/c\.npy: missing"):
        folder.read(each)
    np.save(elsewhere / "c.npy", np.ones((1, 2)))
    shutil.move(each / "audio", elsewhere)
    (each / "audio").symlink_to(elsewhere / "audio")
    with pytest.raises(DataError, match="audio: a link; it must be a folder"):
        folder.read(each)


def header(shape: tuple[int, ...], descr: str = "<f4") -> bytes:
    """An .npy that declares a shape and holds nothing."""
    file = io.BytesIO()
    content = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, content)
    return file.getvalue()


def raw_header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def npz() -> bytes:
    file = io.BytesIO()
    np.savez(file, a=np.zeros(2))
    return file.getvalue()


def saved(array: object) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(array), allow_pickle=True)
    return file.getvalue()


UNREADABLE = {
    "empty": b"",
    "text": b"1 2 3\n4 5 6\n",
    "npz": npz(),
    "objects": saved(np.array([None, {}], object)),
    "no magic version": b"\x93NUMPY\x09\x00" + b"0" * 50,
    "truncated": saved(np.zeros((2, 2)))[:-1],
    "header cut": raw_header("{'descr': ('<f4',"),
    "header nested": raw_header("(" * 5000),
    "header long": raw_header(" " * 20000),
    "huge": header((10**12, 2)),
    "size wraps around": header((2**62, 4)),
    "size no machine has": header((10**30, 2)),
    "empty but huge": header((0, 2**62, 2**62)),
    "negative": header((-1, 2)) + bytes(64),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_damaged_arrays_are_named(each, name):
    (each / "audio" / "c.npy").write_bytes(UNREADABLE[name])
    with pytest.raises(DataError, match=r"audio/c\.npy: no array can be read: ") as caught:
        folder.read(each)
    assert "\n" not in str(caught.value)


NO_FRAMES = {
    "one axis": np.zeros(3),
    "three axes": np.zeros((1, 2, 3)),
    "no features": np.zeros((3, 0)),
    "strings": np.array([["1", "2"]]),
    "truths": np.ones((2, 2), bool),
    "complex": np.ones((2, 2), complex),
    "records": np.zeros((2, 2), [("x", "f4")]),
}


@pytest.mark.parametrize("name", NO_FRAMES)
def test_other_arrays_are_named(each, name):
    np.save(each / "audio" / "c.npy", NO_FRAMES[name])
    with pytest.raises(DataError, match=r"audio/c\.npy: .* expected numbers, \(frames, features\)"):
        folder.read(each)


Break = Callable[[Path], object]


def table(old: str, new: str) -> Break:
    return lambda path: (path / "utterances.csv").write_text(ROWS.replace(old, new))


def array(name: str, value: object) -> Break:
    return lambda path: np.save(path / name, np.asarray(value))


def gone(name: str) -> Break:
    return lambda path: (path / name).unlink()


def folder_instead(name: str) -> Break:
    def change(path: Path) -> None:
        (path / name).unlink()
        (path / name).mkdir()

    return change


def file_instead(name: str) -> Break:
    def change(path: Path) -> None:
        shutil.rmtree(path / name)
        (path / name).touch()

    return change


BROKEN: dict[str, tuple[Break, str]] = {
    "no csv": (gone("utterances.csv"), r"utterances\.csv: No such file"),
    "no column": (
        table("label", "y"),
        r"csv: no column label; found: \['id', 'split', 'text', 'y'",
    ),
    "semicolons": (table(",", ";"), "csv: the separators are semicolons; save it with commas"),
    "not UTF-8": (
        lambda path: (path / "utterances.csv").write_bytes(ROWS.encode() + b"caf\xe9,test,,1\n"),
        "csv: line 7: byte 0xe9 is not UTF-8; the file looks like Windows-1252",
    ),
    "unknown split": (table("valid", "dev"), "csv: line 3: split 'dev'; permitted: train, valid"),
    "a split by another name": (table("valid", "dev"), "train, valid, test .write 'valid' for"),
    "a split in capitals": (table("valid", "Val"), r"test \(write 'valid' for 'Val'\)$"),
    "no number": (table("-1.5", "high"), "line 3: label 'high'; a finite number is needed"),
    "not finite": (table("-1.5", "inf"), "line 3: label 'inf'; a finite number is needed"),
    "no name of a video": (
        table(ROWS, "id,split,text,label,video\na,train,x,0,v\nb,valid,x,0, \nc,test,x,0,w\n"),
        "csv: line 3: video is empty; every row needs a name",
    ),
    "short row": (table(",0\n", "\n"), "csv: line 6: the row does not have 4 fields"),
    "id twice": (table("a$_$1", "a$_$0"), r"csv: id 'a\$_\$0' in 2 rows"),
    "id in two splits": (table("b$_$0", "a$_$0"), r"csv: id 'a\$_\$0' in 2 rows"),
    "a split of no rows": (table("test", "valid"), "csv: no row of split test"),
    "both forms": (array("audio.test.npy", np.ones((4, 2))), "audio/ and audio.test.npy: audio in"),
    "misspelt": (array("visual.test.npy", [[1]]), r"visual\.test\.npy: no file of this name"),
    "misspelt split": (array("audio.dev.npy", [[1]]), r"dev\.npy: no file of .*'valid' for 'dev'"),
    "misspelt id": (array("audio/d.npy", [[1.0, 1]]), r"audio/d\.npy: no id in utterances\.csv"),
    "another kind": (
        lambda path: (path / "audio" / "c.wav").touch(),
        r"audio/c\.wav: not an \.npy file; .* in audio/<id>\.npy, an array \(frames, features\)",
    ),
    "nested": (nested, r"audio/a: a folder; the frames of an utterance belong in audio/<id>\.npy"),
    "nested in another": (
        renamed("audio", "frames/audio"),
        "frames: no folder of this name is read; permitted: audio and vision, with a file <id>",
    ),
    "another name": (renamed("audio", "acoustic"), "acoustic: no folder of this name is read"),
    "a file instead": (
        file_instead("audio"),
        "audio: a file; it must be a folder, with audio/<id>",
    ),
    "no file in a split": (gone("audio/c.npy"), "audio: no file of any utterance of test"),
    "no frame in a split": (
        array("audio/c.npy", np.zeros((0, 2))),
        "audio: no frame of any utterance of test; remove all files and folders of audio if",
    ),
    "a folder": (folder_instead("audio/c.npy"), r"audio/c\.npy: a folder; the frames of an"),
    "another width": (array("audio/c.npy", [[1, 2, 3]]), r"audio/c\.npy: 3 features; .* has 2"),
    "no frames of a split": (gone("vision.test.npy"), r"vision\.test\.npy: missing"),
    "nothing in a split": (
        array("vision.train.npy", np.zeros((0, 3))),
        r"vision\.train\.npy: no frame; remove all files and folders of vision if",
    ),
    "no lengths": (gone("vision.valid.lengths.npy"), r"vision\.valid\.lengths\.npy: missing"),
    "another width in a split": (array("vision.test.npy", np.ones((4, 2))), "test.npy: 2 features"),
    "a frame more": (
        array("vision.test.npy", np.ones((5, 3))),
        r"vision\.test\.lengths\.npy: 4 frames; vision\.test\.npy has 5",
    ),
    "a length too small": (
        array("vision.train.lengths.npy", [5, 0]),
        r"vision\.train\.lengths\.npy: 0 frames for 'a\$_\$1'; at least 1",
    ),
    "a length more": (
        array("vision.train.lengths.npy", [2, 2, 1]),
        r"lengths\.npy: int64 of shape \(3,\); expected integers, \(2,\)",
    ),
    "negative": (array("vision.train.lengths.npy", [6, -1]), r"-1 frames for 'a\$_\$1'"),
    "a sum that wraps": (
        array("vision.train.lengths.npy", np.array([2**64 - 1, 6], np.uint64)),
        f"lengths.npy: {2**64 + 5} frames; vision.train.npy has 5",
    ),
    "fractions": (
        array("vision.train.lengths.npy", [2.0, 3.0]),
        r"float64 of shape \(2,\); expected",
    ),
}


@pytest.mark.parametrize("name", ["vision.train.npz", "vision.train.csv", "vision.pkl"])
def test_files_of_another_type_are_no_absent_modality(each, name):
    """With arrays that are read beside them, they are only left-overs."""
    (each / name).touch()
    with pytest.raises(DataError, match=rf"{name}: not read; the frames belong in vision/<id>"):
        folder.read(each)
    (each / name).rename(each / name.replace("vision", "audio"))
    assert list(folder.read(each)["train"].sequences) == ["audio"]


@pytest.mark.parametrize("name", BROKEN)
def test_everything_malformed_is_named(each, joined, name):
    assert each == joined
    change, words = BROKEN[name]
    change(each)
    with pytest.raises(DataError, match=words) as caught:
        folder.read(each)
    assert "\n" not in str(caught.value)
    assert str(each) in str(caught.value)


@pytest.mark.parametrize(
    "id", ["../secret", "/etc/passwd", ".c", "", "d/c", "d\\c", "ç", "c\n", "c d"]
)
def test_an_id_that_is_no_file_name(each, id):
    """Only where ids name files; and no such file is ever looked for."""
    (each / "utterances.csv").write_text(ROWS.replace("\nc,", f'\n"{id}",'))
    with pytest.raises(DataError, match=r"audio: id .* is no file name; permitted: letters"):
        folder.read(each)
    shutil.rmtree(each / "audio")
    assert folder.read(each)["test"].ids == [id]


def test_no_folder(tmp_path):
    with pytest.raises(DataError, match=r"utterances\.csv: No such file"):
        folder.read(tmp_path / "mine")
    (tmp_path / "mine").touch()
    with pytest.raises(DataError, match=r"utterances\.csv: Not a directory"):
        folder.read(tmp_path / "mine")
