"""A csv with one row per utterance: ids, transcripts, labels and splits, but no frames."""

import codecs
import csv
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from msabench.errors import DataError
from msabench.utterances import SPLITS, Utterances, suggest_splits

# The byte order mark of UTF-32 begins with that of UTF-16.
MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
# What a column of splits may be called; one of these is no sign that there are none.
COLUMNS_OF_SPLITS = ("split", "splits", "set", "subset", "partition", "mode", "fold")
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}


def read(path: Path, *, split: str, **columns: Any) -> dict[str, Utterances]:
    """Read the three splits. split: the column with the name of the split. Others: see `table`."""
    utterances, names = table(path, split=split, split_required=True, **columns)
    assert names is not None
    return {name: utterances.take(rows) for name, rows in rows_by_split(names).items()}


def table(
    path: Path,
    *,
    id: Sequence[str],
    split: str,
    unimodal: Mapping[str, str],
    video: str | None = None,
    text_required: bool = True,
    split_required: bool = False,
) -> tuple[Utterances, list[str] | None]:
    """Read all rows, and the name of each one's split, None without that column.

    Columns label and text are required besides those named here.
    id: the columns of the id, joined by $_$. split: the column with the name of the split.
    unimodal: the column of each modality's own labels, kept if every row of the file has a value.
    video: the optional column of each utterance's video, where the ids do not name it; if present,
        no row may be empty. text_required: whether the column text is; without it all texts are "".
    Raises DataError naming the line of a value that is missing, unknown or not a number.
    """
    rows: list[dict[str, str]] = []
    labels: list[list[float]] = []
    required = [*id, *(["text"] if text_required else []), "label"]
    for line, row in rows_of(path, [*required, *([split] if split_required else [])]):
        _check_split(path, line, split, row)
        rows.append(row)
        single = [_number(path, line, column, row, optional=True) for column in unimodal.values()]
        labels.append([_number(path, line, "label", row), *single])
        if video is not None and not row.get(video, "-").strip():
            raise DataError(f"{path}: line {line}: {video} is empty; every row needs a name")
    with np.errstate(over="ignore"):  # overflow gives infinity, which is out of every range
        columns = np.array(labels, np.float32).reshape(-1, 1 + len(unimodal)).T
    first = rows[0] if rows else {split: ""}
    utterances = Utterances(
        ids=["$_$".join(row[column] for column in id) for row in rows],
        texts=[row.get("text", "") for row in rows],
        labels=columns[0],
        unimodal_labels={
            modality: own
            for modality, own in zip(unimodal, columns[1:], strict=True)
            if not np.isnan(own).any()
        },
        video_names=[row[video].strip() for row in rows] if video in first else None,
    )
    return utterances, [row[split] for row in rows] if split in first else None


def rows_by_split(names: Sequence[str]) -> dict[str, list[int]]:
    """Return which rows each split has. names: the split of each row."""
    rows: dict[str, list[int]] = {split: [] for split in SPLITS}
    for row, name in enumerate(names):
        rows[name].append(row)
    return rows


def _check_split(path: Path, line: int, split: str, row: Mapping[str, str]) -> None:
    """Raise DataError for an unknown split, and for its column under another name."""
    if split not in row:
        others = [name for name in row if name.strip().lower() in COLUMNS_OF_SPLITS]
        if others:
            raise DataError(
                f"{path}: no column {split}, but {others[0]!r}: rename it to {split}, or remove it "
                "to have the split drawn"
            )
    elif row[split] not in SPLITS:
        raise DataError(
            f"{path}: line {line}: {split} {row[split]!r}; permitted: {', '.join(SPLITS)}"
            + suggest_splits([row[split]])
        )


def has_column(path: Path, name: str) -> bool:
    """Return whether the file has rows, and this column."""
    return any(name in row for _, row in islice(rows_of(path, []), 1))


def rows_of(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield each row with the number of its last line; the columns are required.

    Raises DataError for a file that cannot be read, is not UTF-8 text or not such a table.
    """
    for line, row in each_row(path, columns):
        if isinstance(row, DataError):
            raise row
        yield line, row


def each_row(
    path: Path, columns: Sequence[str], any_of: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, str] | DataError]]:
    """Yield as rows_of does, but the error of a row that does not match the header in its place.

    any_of: columns of which at least one is required too.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(_text_lines(file), strict=True)
            names = reader.fieldnames or []
            missing = [column for column in columns if column not in names]
            if any_of and not {*any_of} & {*names}:
                missing.append(" or ".join(any_of))
            if missing:
                _check_separator(path, names)
                raise DataError(f"{path}: no column {', '.join(missing)}; found: {names}")
            for row in reader:
                line, fits = reader.line_num, None not in row and None not in row.values()
                misfit = f"the row does not have {len(names)} fields like the first line"
                yield line, row if fits else DataError(f"{path}: line {line}: {misfit}")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except UnicodeError:
        raise not_utf8(path, path.read_bytes()) from None
    except csv.Error as error:
        raise DataError(f"{path}: after line {reader.line_num}: {error}") from None


def _text_lines(file: Iterable[str]) -> Iterator[str]:
    """Yield lines; raises UnicodeError at a NUL, which the csv module would take for text."""
    for line in file:
        if "\0" in line:
            raise UnicodeError
        yield line


def _check_separator(path: Path, names: Sequence[str]) -> None:
    """Raise DataError for a header with another separator than the comma."""
    for separator, words in SEPARATORS.items():
        if len(names) == 1 and separator in names[0]:
            raise DataError(
                f"{path}: the separators are {words}; save it with commas: {names[0][:80]!r}"
            )


def not_utf8(name: object, content: bytes) -> DataError:
    """Return the error for content that is not UTF-8 text: line, byte and likely encoding.

    name: of the file, for the message.
    """
    try:
        content.decode()
        start = max(content.find(0), 0)
    except UnicodeDecodeError as error:
        start = error.start
    line = len((content[:start] + b"x").splitlines())
    problem = "not UTF-8" if content[start] else "no text"
    place = f"{name}: line {line}: byte 0x{content[start]:02x} is {problem}"
    likely = _likely_encoding(content)
    if likely == "UTF-8":
        return DataError(f"{place}, as the rest of the file is: correct this line")
    looks = f"the file looks like {likely}: " if likely else ""
    return DataError(f"{place}; {looks}save it as UTF-8")


def _likely_encoding(content: bytes) -> str:
    """Guess the encoding of text that is not valid UTF-8; "" for no guess."""
    for mark, name in MARKS.items():
        if content.startswith(mark):
            return name
    if content.count(0) > len(content) / 4:  # every other byte of mostly ASCII text
        return "UTF-16"
    characters = content.decode("utf-8", "replace")
    if len(re.findall(r"[^\0-\x7f\ufffd]", characters)) >= characters.count("\ufffd"):
        return "UTF-8"
    for codec, name in (("gb2312", "GBK"), ("big5", "Big5"), ("gbk", "GBK")):
        if _is_chinese(content, codec):
            return f"{name} or another encoding of East Asia"
    if re.search(rb"[\x81\x8d\x8f\x90\x9d]|[\xc0-\xff]{4}", content):
        return ""  # another alphabet, or not text
    return "Windows-1252"


def _is_chinese(content: bytes, codec: str) -> bool:
    """Return whether content can be decoded to runs that are mostly not next to ASCII letters.

    An accented letter and its successor can also be decoded so, but within a word.
    """
    try:
        runs = re.findall(r"[A-Za-z]?[^\0-\x7f]+[A-Za-z]?", content.decode(codec))
    except UnicodeDecodeError:
        return False
    within = sum(run[0].isascii() or run[-1].isascii() for run in runs)
    return within < len(runs) / 2


def _number(
    path: Path, line: int, column: str, row: Mapping[str, str], *, optional: bool = False
) -> float:
    """Return a finite number; NaN for an optional one that is empty or has no column."""
    text = row.get(column, "")
    if optional and not text.strip():
        return math.nan
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{path}: line {line}: {column} {text!r}; a finite number is needed")
    return value
