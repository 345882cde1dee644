"""CMU's computational sequences: the .csd files of the CMU Multimodal SDK, which are HDF5.

A file holds one group, of any name, with data/<video>/features: one row per frame, word or label;
and data/<video>/intervals: start and end of each row in the video, in seconds. Rows need not be in
temporal order (labels of MOSEI are not), and segments may overlap or start below 0.
"""

import ast
import json
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import h5py
import numpy as np
from jaxtyping import Float64, Shaped
from pydantic import AfterValidator

from msabench.data.sources._csv import not_utf8
from msabench.data.sources._frames import Frames, NotFinite
from msabench.errors import DataError
from msabench.utterances import SPLITS, Utterances, suggest_splits

FOLDER = True

# Sentiment, alone or before six emotions; a file of the emotions alone, (n, 6), is refused.
WIDTHS = {"labels": (1, 7), "words": (1,)}
SILENCE = "sp"
SHORTEST = 1e-5  # seconds, as in the SDK: withdrawn segments have length 0
LARGEST = 1 << 30  # bytes of one array of a video; an hour of COVAREP has 0.2 GB
_NO_ROWS = (
    "no row is in any of the {} labelled segments; are the intervals in seconds, and the videos "
    "the same? (for an absent modality, set its file name to null)"
)
DAMAGE = (OSError, LookupError, MemoryError, RuntimeError, SyntaxError, TypeError, ValueError)


def _plain(name: str | None) -> str | None:
    if name is not None and (name in ("", "..") or name != Path(name).name):
        raise DataError(f"{name!r} is not the name of a file in the folder")
    return name


File = Annotated[str, AfterValidator(_plain)]
FileOrNone = Annotated[str | None, AfterValidator(_plain)]


def read(
    path: Path,
    *,
    labels: File = "CMU_MOSEI_Labels.csd",
    words: File = "CMU_MOSEI_TimestampedWords.csd",
    audio: FileOrNone = "CMU_MOSEI_COVAREP.csd",
    vision: FileOrNone = "CMU_MOSEI_VisualFacet42.csd",
    folds: File = "folds.json",
    not_finite: NotFinite = "zero",
) -> dict[str, Utterances]:
    """Read the videos of each fold from the files of a folder, cut into the labelled segments.

    labels: the first of its 1 or 7 columns is the sentiment, -3..3. words: "sp" is silence.
    audio, vision: None for an absent modality.
    folds: the videos of each split: JSON, {"train": [...], "valid": [...], "test": [...]}, or the
        SDK's own Python file, whose name ends in .py and which is parsed, never run.
    not_finite: see Frames.

    A word or frame belongs to a segment if its midpoint is in [start, end). The id of a segment is
    video$_$i, where i counts the label rows of the video by their start, not by their order in the
    file. MMSA's clips have the same order, but often higher numbers, which also count sentences
    without labels.

    Besides those of Frames, repairs counts what is left out: segments_empty (no length),
    labels_not_finite, videos_without_labels, and videos_without_fold (in train, as they have no
    split).
    Raises DataError naming file and video, and for a file without a row for any segment of a split.
    """
    names = {"labels": labels, "words": words, "audio": audio, "vision": vision}
    for name in (*names.values(), folds):
        _plain(name)
    videos = _folds(path / folds)
    with ExitStack() as stack:
        files = {
            key: _open(stack, path / name, key) for key, name in names.items() if name is not None
        }
        splits = {
            split: _split(files, split, videos[split], path.parent, not_finite) for split in SPLITS
        }
    left_out = len(files["labels"].videos.difference(*videos.values()))
    for split, utterances in splits.items():
        counts = {"videos_without_fold": left_out if split == "train" else 0}
        splits[split] = replace(utterances, repairs={**utterances.repairs, **counts})
    return splits


@contextmanager
def _named(place: object) -> Iterator[None]:
    """Prefix every error with the place, in one line; h5py raises many types for a damaged file."""
    try:
        yield
    except DAMAGE as error:
        raise DataError(f"{place}: {' '.join(str(error).split())}") from None


@dataclass(frozen=True)
class _Track:
    """The words or frames of one video, sorted by their midpoints, in seconds."""

    features: Shaped[np.ndarray, "n d"]
    midpoints: Float64[np.ndarray, " n"]

    def cut(self, start: float, end: float) -> Shaped[np.ndarray, "_ d"]:
        first, last = np.searchsorted(self.midpoints, (start, end))
        return self.features[first:last]


@dataclass(frozen=True)
class _Sequence:
    """One .csd file, of which one video at a time is read."""

    path: Path
    data: h5py.Group
    videos: frozenset[str]
    width: int
    is_text: bool

    def rows(self, video: str) -> tuple[Shaped[np.ndarray, "n d"], Float64[np.ndarray, "n 2"]]:
        """Return features and intervals, in seconds; no rows for a video that the file lacks."""
        if video not in self.videos:
            return np.empty((0, self.width)), np.empty((0, 2))
        with _named(f"{self.path}: video {video!r}"):
            group = _member(self.data, video, h5py.Group)
            features = _values(_array(group, "features", self.width), self.is_text)
            with np.errstate(over="ignore", invalid="ignore"):  # not finite: refused below
                intervals = _values(_array(group, "intervals", 2)).astype(np.float64)
            if len(features) != len(intervals):
                raise DataError(f"{len(features)} rows of features, {len(intervals)} intervals")
            wrong = ~(np.isfinite(intervals).all(axis=1) & (intervals[:, 0] <= intervals[:, 1]))
            if wrong.any():
                i = int(wrong.argmax())
                raise DataError(
                    f"interval {i} is {intervals[i].tolist()}; needed: finite seconds, start <= end"
                )
        return features, intervals

    def track(self, video: str) -> _Track:
        features, intervals = self.rows(video)
        midpoints = (intervals / 2).sum(axis=1)
        if (midpoints[1:] < midpoints[:-1]).any():
            order = np.argsort(midpoints, kind="stable")
            features, midpoints = features[order], midpoints[order]
        return _Track(features, midpoints)

    def segments(self, video: str) -> list[list[float]]:
        """Return [start, end, sentiment] of each label row, by start, in seconds."""
        features, intervals = self.rows(video)
        order = np.lexsort((intervals[:, 1], intervals[:, 0]))
        with np.errstate(over="ignore", invalid="ignore"):  # checked later
            sentiment = features[:, :1].astype(np.float64)
        return np.hstack([intervals, sentiment])[order].tolist()


def _open(stack: ExitStack, path: Path, key: str) -> _Sequence:
    with _named(path):
        file = stack.enter_context(h5py.File(path, "r"))
        roots = _names(file)
        if len(roots) != 1:
            raise DataError(f"{len(roots)} groups at the root; needed: 1, the sequence")
        data = _member(_member(file, roots[0], h5py.Group), "data", h5py.Group)
        videos = _names(data)
        if not videos:
            raise DataError("data: no videos")
    with _named(f"{path}: video {videos[0]!r}"):
        width = _array(_member(data, videos[0], h5py.Group), "features").shape[1]
        if width not in WIDTHS.get(key, (width,)):
            raise DataError(f"features: {width} columns; {key} have: {WIDTHS[key]}")
    return _Sequence(path, data, frozenset(videos), width, is_text=key == "words")


def _names(group: h5py.Group) -> list[str]:
    return [name.decode("utf-8", "surrogateescape") for name in group.id]


def _member(group: h5py.Group, name: str, kind: type) -> Any:
    """Return a member of the group that is stored in the same file.

    h5py's `in` and `get` would open the target of a link in another file, and so would a name with
    a slash, which HDF5 takes for a path.
    """
    key = name.encode("utf-8", "surrogateescape")
    if "/" in name or not group.id.links.exists(key):
        raise DataError(f"{name}: missing")
    if group.id.links.get_info(key).type != h5py.h5l.TYPE_HARD:
        raise DataError(f"{name}: a link to elsewhere: refused")
    member = group[key]
    if not isinstance(member, kind):
        raise DataError(f"{name}: a {type(member).__name__}; needed: a {kind.__name__}")
    return member


def _array(group: h5py.Group, name: str, width: int | None = None) -> h5py.Dataset:
    """Return the array (n, width), without reading its values."""
    array = _member(group, name, h5py.Dataset)
    if (
        array.is_virtual or array.external
    ):  # before the shape, which may be stored elsewhere as well
        raise DataError(f"{name}: kept in other files: refused")
    if array.ndim != 2 or array.shape[1] < 1 or width not in (None, array.shape[1]):
        raise DataError(f"{name}: shape {array.shape}; needed: (n, {width or 'at least 1'})")
    if math.prod(array.shape) * array.dtype.itemsize > LARGEST:
        raise DataError(f"{name}: shape {array.shape}; permitted: {LARGEST} bytes")
    return array


def _values(array: h5py.Dataset, is_text: bool = False) -> Shaped[np.ndarray, "n d"]:
    """Read numbers, or text as str.

    Strings of variable length are refused: HDF5 may read a damaged heap of them endlessly.
    """
    if array.dtype.kind not in ("S" if is_text else "fiu"):
        needed = "strings of a fixed length" if is_text else "numbers"
        raise DataError(f"type {array.dtype}; needed: {needed}")
    return array.asstr("utf-8")[()] if is_text else array[()]


def _split(
    files: dict[str, _Sequence],
    split: str,
    videos: list[str],
    folder: Path,
    not_finite: NotFinite,
) -> Utterances:
    ids, texts, labels = [], [], []
    rows_used: Counter[str] = Counter()  # words and frames in segments
    kinds = ("segments_empty", "labels_not_finite", "videos_without_labels")
    repairs = dict.fromkeys(kinds, 0)
    with ExitStack() as stack:
        frames: dict[str, Frames] = {
            modality: stack.enter_context(
                Frames(modality, files[modality].width, folder, not_finite=not_finite)
            )
            for modality in ("audio", "vision")
            if modality in files
        }
        for video in videos:
            if video not in files["labels"].videos:
                repairs["videos_without_labels"] += 1
                continue
            tracks = {key: files[key].track(video) for key in ("words", *frames)}
            for i, (start, end, label) in enumerate(files["labels"].segments(video)):
                if end - start < SHORTEST:
                    repairs["segments_empty"] += 1
                    continue
                if not np.isfinite(label):
                    repairs["labels_not_finite"] += 1
                    continue
                ids.append(f"{video}$_${i}")
                labels.append(label)
                rows = {key: track.cut(start, end) for key, track in tracks.items()}
                rows_used.update({key: len(part) for key, part in rows.items()})
                texts.append(_text(rows["words"]))
                for modality in frames:
                    frames[modality].add(ids[-1], rows[modality])
        for key in ("words", *frames):
            if ids and not rows_used[key]:
                raise DataError(f"{files[key].path}: {split}: {_NO_ROWS.format(len(ids))}")
        with np.errstate(over="ignore"):  # overflow gives infinity, which check refuses
            sentiment = np.array(labels, np.float64).astype(np.float32)
        utterances = Utterances(ids, texts, sentiment, repairs=repairs)
        for each in frames.values():
            utterances = each.added_to(utterances)
    return utterances


def _text(rows: Shaped[np.ndarray, "n 1"]) -> str:
    return " ".join(word for word in " ".join(rows[:, 0]).split() if word != SILENCE)


def _folds(path: Path) -> dict[str, list[str]]:
    """Return the videos of each split, each once."""
    with _named(path):
        content = path.read_bytes()
        try:
            text = content.decode()
        except UnicodeDecodeError:
            raise not_utf8("folds", content) from None
        folds = _parse_folds(text) if path.suffix == ".py" else json.loads(text)
        if not isinstance(folds, dict) or set(folds) != set(SPLITS):
            names = list(folds) if isinstance(folds, dict) else []
            listed = ", ".join(map(repr, names)) or (
                "none" if folds == {} else type(folds).__name__
            )
            needed = f"{', '.join(SPLITS)}{suggest_splits(names)}"
            raise DataError(f"folds: {listed}; needed: {needed}")
        split_of: dict[str, str] = {}
        for split in SPLITS:
            videos = folds[split]
            if not isinstance(videos, list) or not all(isinstance(video, str) for video in videos):
                raise DataError(f"{split}: not a list of video ids")
            for video in videos:
                video.encode()  # a lone surrogate could not be saved
                if split_of.setdefault(video, split) != split:
                    raise DataError(f"video {video!r} is in {split_of[video]} and in {split}")
    return {split: [video for video in split_of if split_of[video] == split] for split in SPLITS}


def _parse_folds(text: str) -> dict[str, Any]:
    """Return the lists of the SDK's Python file, standard_<split>_fold = [...], by split."""
    lists = {}
    for statement in ast.parse(text).body:
        match statement:
            case ast.Assign(targets=[ast.Name(name)], value=value):
                split = name.removeprefix("standard_").removesuffix("_fold")
                lists[split] = ast.literal_eval(value)
            case _:
                raise DataError(f"line {statement.lineno}: permitted: `name = [...]`")
    return lists
