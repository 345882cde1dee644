"""A csv with one row per utterance: ids, transcripts, labels and splits, but no frames."""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from msabench.errors import DataError
from msabench.utterances import SPLITS, Utterances


def read(
    path: Path,
    *,
    id: Sequence[str],
    split: str,
    unimodal: Mapping[str, str],
    video: str | None = None,
) -> dict[str, Utterances]:
    """Read the three splits; beside the columns named here there must be text and label.

    id: the columns that make the id, joined by $_$. split: the column that tells the splits apart.
    unimodal: the column of each modality's own labels; they are kept where it is filled in every
        row of the file.
    video: the column of each utterance's video, where the ids do not name it; it may be absent,
        but not empty in a row.
    Raises DataError naming the line of what is missing, unknown or no number.
    """
    rows: dict[str, list[dict[str, str]]] = {name: [] for name in SPLITS}
    labels: dict[str, list[list[float]]] = {name: [] for name in SPLITS}
    videos: dict[str, list[str]] = {name: [] for name in SPLITS}
    for line, row in rows_of(path, [*id, "text", "label", split]):
        name = row[split]
        if name not in SPLITS:
            raise DataError(
                f"{path}: line {line}: {split} {name!r}; permitted: {', '.join(SPLITS)}"
            )
        rows[name].append(row)
        own = [_number(path, line, column, row, optional=True) for column in unimodal.values()]
        labels[name].append([_number(path, line, "label", row), *own])
        if video is not None and video in row:
            if not row[video].strip():
                raise DataError(f"{path}: line {line}: {video} is empty; every row needs a name")
            videos[name].append(row[video].strip())
    with np.errstate(over="ignore"):  # what is too large becomes infinite, out of every range
        shape = (-1, 1 + len(unimodal))
        tables = {name: np.array(labels[name], np.float32).reshape(shape) for name in SPLITS}
    filled = ~np.isnan(np.concatenate(list(tables.values()))).any(axis=0)
    return {
        name: Utterances(
            ids=["$_$".join(row[column] for column in id) for row in rows[name]],
            texts=[row["text"] for row in rows[name]],
            labels=table[:, 0],
            unimodal_labels={
                modality: table[:, i] for i, modality in enumerate(unimodal, start=1) if filled[i]
            },
            video_names=videos[name] or None,
        )
        for name, table in tables.items()
    }


def rows_of(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield each row with the number of the line on which it ends; the columns must be there.

    Raises DataError for a file that cannot be read, is not UTF-8 or no such table.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            names = reader.fieldnames or []
            missing = [column for column in columns if column not in names]
            if missing:
                raise DataError(f"{path}: no column {', '.join(missing)}; found: {names}")
            for row in reader:
                if None in row or None in row.values():
                    raise DataError(
                        f"{path}: line {reader.line_num}: the row does not have "
                        f"{len(names)} fields like the first line"
                    )
                yield reader.line_num, row
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: the file is not UTF-8: {error.reason}") from None
    except csv.Error as error:
        raise DataError(f"{path}: after line {reader.line_num}: {error}") from None


def _number(
    path: Path, line: int, column: str, row: Mapping[str, str], *, optional: bool = False
) -> float:
    """Return a finite number; NaN for one that is optional and empty, or without a column."""
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
