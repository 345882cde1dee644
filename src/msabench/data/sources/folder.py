"""A plain folder of own recordings: one csv, and arrays of frames, per clip or concatenated.

utterances.csv, UTF-8, has one row per utterance and the columns

    id       video$_$clip; intervals are over videos, and an id without $_$ is a video of its own,
             where no column names it
    split    optional: train, valid or test. Without it the split is drawn: see read
    label    a finite number
    text     optional: the transcript. Where all are blank, the data have no text; one that is blank
             among others is read as the empty text
    video    optional: the recording that the utterance was cut from, whatever its id; no row may
             be empty. The clips of one recording depend on each other, in all splits
    label_text, label_audio, label_vision    optional: the true label of each modality alone

The frames of audio, and likewise of vision, are either one file per utterance

    audio/<id>.npy               (frames, features); ids of letters, digits and _ $ . + - alone

or a pair of files with the frames of all utterances, concatenated in the csv's order; or such a
pair per split, where the csv has that column

    audio.npy, audio.<split>.npy                    (all frames, features)
    audio.lengths.npy, audio.<split>.lengths.npy    (utterances,) whole numbers, 1 or more

A modality with neither folder nor files is absent; a present one needs frames in every split that
the csv names.

features.csv, optional, names the features: columns modality, column (from 0) and name; others are
not read.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
from jaxtyping import Shaped
from pydantic import Field

from msabench import hashes
from msabench.data import splitting
from msabench.data.sources import _csv
from msabench.data.sources._frames import Frames, NotFinite, map_array, map_frames
from msabench.errors import DataError
from msabench.params import Seed
from msabench.utterances import SPLITS, Utterances, suggest_splits

FOLDER = True

FRAMES = ("audio", "vision")
TABLE = "utterances.csv"
NAMES = "features.csv"
LONGEST_NAME = 100  # characters
UNIMODAL = {"text": "label_text", "audio": "label_audio", "vision": "label_vision"}
FILE_NAME = re.compile(r"[A-Za-z0-9_$+-][A-Za-z0-9_$.+-]*")  # no separator, no dot in front

Folds = Annotated[int, Field(ge=3, le=10)]
Ids = Mapping[str, list[str]]  # by the split that the csv names; by TABLE where it names none
FramesOf = Callable[[str], Shaped[np.ndarray, "_ d"]]  # by id


def read(
    path: Path,
    *,
    not_finite: NotFinite = "zero",
    split_seed: Seed = 1,
    folds: Folds | None = None,
) -> dict[str, Utterances]:
    """Read the three splits, or the folds of a cross-validation.

    not_finite: see Frames, which also counts as missing an utterance without a file of its own,
    such as a clip without a visible face. A file of no utterance is an error, so that a misspelt
    name does not pass for such a clip; so is a folder without files and a split without any frame,
    the signs of a failed extraction.

    split_seed: where the csv has no column split, whole videos are drawn from it into train, valid
    and test, 70, 10 and 20 % of the utterances about, with the labels balanced (data/splitting.py).
    folds: draw so many folds of equal size instead, 3 to 10; see msabench.folds.

    A file may be a symbolic link. The folders audio and vision may not: the hash of the data does
    not follow them, so that changed frames would go unnoticed.
    Raises DataError naming file, and line or utterance.
    """
    table = path / TABLE
    utterances, named = _csv.table(
        table,
        id=["id"],
        split="split",
        unimodal=UNIMODAL,
        video="video",
        text_required=False,
    )
    ids = utterances.ids
    rows = {TABLE: [*range(len(ids))]} if named is None else _csv.rows_by_split(named)
    given = {split: [ids[row] for row in own] for split, own in rows.items()}
    _check_ids(table, given)
    _check_names(path)
    if named is None:
        rows = _draw(table, utterances, split_seed, folds)
    elif folds is not None:
        raise DataError(
            f"{table}: folds: {folds}, but it has a column split; permitted: one of the two"
        )
    splits = {split: utterances.take(own) for split, own in rows.items()}
    for modality in FRAMES:
        frames_of = _frames_of(path, modality, given, ids)
        if frames_of is None:
            continue
        for split, own in splits.items():
            splits[split] = _add(own, modality, frames_of, path.parent, not_finite)
    return splits


def drawn(path: Path, *, split_seed: Seed = 1, folds: int | None = None, **_: object) -> str:
    """Say how the split was drawn; nothing where the csv has it. settings: of read."""
    if folds:
        return f"{folds} folds were drawn: whole videos, seed {split_seed}"
    if _csv.has_column(path / TABLE, "split"):
        return ""
    shares = "/".join(f"{tenths}0" for tenths in splitting.TENTHS.values())
    return f"The split was drawn: whole videos, seed {split_seed}, {shares}"


def names(path: Path, widths: Mapping[str, int]) -> dict[str, dict[int, str]]:
    """Return the names in features.csv by modality and column; nothing where there is no file.

    widths: features per frame by modality. Raises DataError naming the line.
    """
    table, named = path / NAMES, dict[str, dict[int, str]]()
    if not table.exists():
        return named
    for line, row in _csv.rows_of(table, ["modality", "column", "name"]):
        place, modality, column = f"{table}: line {line}", row["modality"], row["column"].strip()
        if modality not in widths:
            known = ", ".join(widths) or "none, as the data have neither audio nor vision"
            raise DataError(f"{place}: modality {modality!r}; permitted: {known}")
        if not re.fullmatch("[0-9]{1,9}", column) or int(column) >= widths[modality]:
            last = widths[modality] - 1
            raise DataError(f"{place}: column {column!r}; permitted of {modality}: 0 to {last}")
        name = " ".join(row["name"].split())
        if not 1 <= len(name) <= LONGEST_NAME:
            raise DataError(
                f"{place}: name of {len(name)} characters; permitted: 1 to {LONGEST_NAME}"
            )
        own = named.setdefault(modality, {})
        if int(column) in own:
            raise DataError(f"{place}: column {column} of {modality} has a name already")
        own[int(column)] = name
    return named


def _draw(
    table: Path, utterances: Utterances, seed: int, folds: int | None
) -> dict[str, list[int]]:
    try:
        rows = splitting.draw(utterances.videos, utterances.labels, seed, folds)
    except DataError as error:
        raise DataError(f"{table}: no column split, and {error}") from None
    return {split: own.tolist() for split, own in rows.items()}


def _check_ids(table: Path, ids: Ids) -> None:
    for split, own in ids.items():
        if not own:
            raise DataError(f"{table}: no row of split {split}")
    id, rows = Counter(id for own in ids.values() for id in own).most_common(1)[0]
    if rows > 1:
        raise DataError(f"{table}: id {id!r} in {rows} rows; ids must be unique")


def _check_names(path: Path) -> None:
    for folder in sorted(path.glob("[!.]*/")):
        if folder.name not in FRAMES and any(folder.rglob("*.npy")):
            raise DataError(
                f"{folder}: no folder of this name is read; permitted: audio and vision, "
                "with a file <id>.npy for each utterance"
            )
    known = {
        f"{modality}{split}{end}.npy"
        for modality in FRAMES
        for split in ("", *(f".{split}" for split in SPLITS))
        for end in ("", ".lengths")
    }
    unknown = sorted({file.name for file in path.glob("[!.]*.npy")} - known)
    if unknown:
        raise DataError(
            f"{path / unknown[0]}: no file of this name is read; permitted: {{audio,vision}}.npy "
            f"or .{{train,valid,test}}.npy, and .lengths.npy{suggest_splits(unknown[0].split('.'))}"
        )


def _frames_of(path: Path, modality: str, given: Ids, ids: list[str]) -> FramesOf | None:
    """Return what reads the frames of an utterance; None where the modality is absent."""
    folder, joined = path / modality, path / f"{modality}.npy"
    if folder.is_symlink():
        raise DataError(f"{folder}: a link; it must be a folder (the files in it may be links)")
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: a file; it must be a folder, with {modality}/<id>.npy")
    files = _data_in(folder.iterdir()) if folder.is_dir() else []
    whole = [file for file in (joined, joined.with_suffix(".lengths.npy")) if file.exists()]
    by_split = sorted({*path.glob(f"{modality}.*.npy")} - {*whole})
    forms = [f"{modality}/"] if files else []
    forms += [own[0].name for own in (whole, by_split) if own]
    if len(forms) > 1:
        raise DataError(
            f"{path}/{forms[0]} and {forms[1]}: {modality} in both forms; one is enough"
        )
    if whole:
        return _from_pairs({joined: ids}, modality)
    if by_split:
        if TABLE in given:
            raise DataError(
                f"{by_split[0]}: frames of a split, but {TABLE} has no column split; permitted: "
                f"{modality}/<id>.npy, or {modality}.npy of all utterances"
            )
        pairs = {path / f"{modality}.{split}.npy": own for split, own in given.items()}
        return _from_pairs(pairs, modality)
    if folder.is_dir():
        return _one_file_each(folder, given, files)
    _check_absent(path, modality)
    return None


def _check_absent(path: Path, modality: str) -> None:
    """Raise DataError for a file whose name says that it has the frames of an absent modality."""
    others = _data_in(path.glob(f"{modality}.*"))
    if others:
        raise DataError(
            f"{others[0]}: not read; the frames belong in {modality}/<id>.npy, {modality}.npy or "
            f"{modality}.<split>.npy: move it away where the data have no {modality}"
        )


def _data_in(files: Iterable[Path]) -> list[Path]:
    """Return the files that are data, sorted: macOS leaves hidden ones, users add a README."""
    return sorted(file for file in files if hashes.is_data(file.name))


def _check_files(folder: Path, files: list[Path]) -> None:
    """Raise DataError for a file that is not one of frames, and for no file."""
    if not files:
        raise DataError(f"{folder}: {_missing('file', folder.name)}")
    belong = f"the frames of an utterance belong in {folder.name}/<id>.npy"
    for file in files:
        if file.is_dir():
            raise DataError(f"{file}: a folder; {belong}")
        if file.suffix != ".npy":
            raise DataError(f"{file}: not an .npy file; {belong}, an array (frames, features)")


def _missing(what: str, modality: str) -> str:
    """Return the message for a modality whose folder or files exist, but without content."""
    return f"no {what}; remove all files and folders of {modality} if the data have none"


def _one_file_each(folder: Path, ids: Ids, files: list[Path]) -> FramesOf:
    _check_files(folder, files)
    names = {file.name for file in files}
    every = [id for own in ids.values() for id in own]
    for id in every:
        if not FILE_NAME.fullmatch(id):
            raise DataError(
                f"{folder}: id {id!r} is no file name; "
                "permitted: letters, digits and _ $ . + -, no dot in front"
            )
    unknown = sorted(names - {f"{id}.npy" for id in every})
    if unknown:
        raise DataError(
            f"{folder / unknown[0]}: no id in {TABLE} has this file ({len(unknown)} such in all)"
        )
    for split, own in ids.items():
        present = [folder / f"{id}.npy" for id in own if f"{id}.npy" in names]
        if not any(len(_frames(file)) for file in present):
            what = f"{'frame' if present else 'file'} of any utterance of {split}"
            raise DataError(f"{folder}: {_missing(what, folder.name)}")
    width = _frames(folder / min(names)).shape[1]

    def frames_of(id: str) -> Shaped[np.ndarray, "_ d"]:
        name = f"{id}.npy"
        return _frames(folder / name, width) if name in names else np.zeros((0, width))

    return frames_of


def _from_pairs(pairs: Mapping[Path, list[str]], modality: str) -> FramesOf:
    """Read pairs of files. pairs: the ids of the utterances in each, in their order."""
    width, frames = None, dict[str, Shaped[np.ndarray, "_ d"]]()
    for file, ids in pairs.items():
        values = _frames(file, width)
        width = values.shape[1]
        if not len(values):
            raise DataError(f"{file}: {_missing('frame', modality)}")
        lengths_file = file.with_suffix(".lengths.npy")
        lengths = _lengths(lengths_file, ids)
        if sum(lengths) != len(values):
            raise DataError(f"{lengths_file}: {sum(lengths)} frames; {file.name} has {len(values)}")
        frames |= zip(ids, np.split(values, np.cumsum(lengths)[:-1]), strict=True)
    return frames.__getitem__


def _frames(file: Path, width: int | None = None) -> Shaped[np.ndarray, "t d"]:
    frames = map_frames(file)
    if width is not None and frames.shape[1] != width:
        raise DataError(f"{file}: {frames.shape[1]} features; the first file has {width}")
    return frames


def _lengths(file: Path, ids: list[str]) -> list[int]:
    """Return the number of frames of each utterance, as Python integers: no sum overflows."""
    lengths = map_array(file)
    if lengths.dtype.kind not in "iu" or lengths.shape != (len(ids),):
        raise DataError(
            f"{file}: {lengths.dtype} of shape {lengths.shape}; "
            f"expected integers, ({len(ids)},), one for each utterance"
        )
    for id, length in zip(ids, lengths, strict=True):
        if length < 1:
            raise DataError(f"{file}: {length} frames for {id!r}; at least 1 is needed")
    return lengths.tolist()


def _add(
    utterances: Utterances, modality: str, frames_of: FramesOf, folder: Path, not_finite: NotFinite
) -> Utterances:
    """Return the utterances with one more modality. folder: of the temporary file."""
    width = frames_of(utterances.ids[0]).shape[1]
    with Frames(modality, width, folder, not_finite=not_finite) as frames:
        for id in utterances.ids:
            frames.add(id, frames_of(id))
        return frames.added_to(utterances)
