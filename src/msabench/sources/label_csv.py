"""MMSA's label.csv: ids, transcripts and labels of a data set, without audio and vision."""

import csv
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from msabench.utterances import SPLITS, DataError, Utterances

UNIMODAL = {"text": "label_T", "audio": "label_A", "vision": "label_V"}
COLUMNS = ("video_id", "clip_id", "text", "label", "mode")


def read(path: Path) -> dict[str, Utterances]:
    """Read the three splits, told apart by the column mode.

    Unimodal labels are kept where their column is filled in every row of the file.
    Raises DataError naming the line of what is missing, unknown or no number.
    """
    rows: dict[str, list[dict[str, str]]] = {split: [] for split in SPLITS}
    labels: dict[str, list[list[float]]] = {split: [] for split in SPLITS}
    columns = ("label", *UNIMODAL.values())
    for line, row in _rows(path):
        split = row["mode"]
        if split not in SPLITS:
            raise DataError(f"{path}: line {line}: mode {split!r}; permitted: {', '.join(SPLITS)}")
        rows[split].append(row)
        labels[split].append([_label(path, line, column, row) for column in columns])
    tables = {split: np.array(labels[split], np.float32).reshape(-1, 4) for split in SPLITS}
    filled = ~np.isnan(np.concatenate(list(tables.values()))).any(axis=0)
    return {
        split: Utterances(
            ids=[f"{row['video_id']}$_${row['clip_id']}" for row in rows[split]],
            texts=[row["text"] for row in rows[split]],
            labels=table[:, 0],
            unimodal_labels={
                name: table[:, i] for i, name in enumerate(UNIMODAL, start=1) if filled[i]
            },
        )
        for split, table in tables.items()
    }


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield each row with the number of the line on which it ends."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            names = reader.fieldnames or []
            missing = [column for column in COLUMNS if column not in names]
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


def _label(path: Path, line: int, column: str, row: dict[str, str]) -> float:
    """Return a finite number, or NaN for an empty unimodal label."""
    text = row.get(column, "")
    if not text.strip() and column != "label":
        return math.nan
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{path}: line {line}: {column} {text!r}; a finite number is needed")
    return value
