"""Wall-clock times of trainings: files outside the outputs, as no two runs take the same time."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


@contextmanager
def recorded(
    path: Path, training: str, machine: str, *, kept: bool = True
) -> Iterator[dict[str, Any]]:
    """Add the seconds of the block to those of the earlier parts of an interrupted training.

    training: names what decides its numbers; parts of another training, or of a finished one, do
    not count, nor does a part that was killed. Yields the record, in which a finished training sets
    `weights`, their SHA-256. A disk that cannot be written is no error. kept: write the record.
    """
    before = read(path)
    resumed = before.get("training") == training and "weights" not in before
    record: dict[str, Any] = {
        "training": training,
        "machine": machine,
        "parts": before["parts"] if resumed else 0,
        "seconds": before["seconds"] if resumed else 0.0,
    }
    start = time.monotonic()
    try:
        yield record
    finally:
        record["parts"] += 1
        record["seconds"] = round(record["seconds"] + time.monotonic() - start, 1)
        if kept:
            _write(path, record)


def _write(path: Path, record: Mapping[str, Any]) -> None:
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def read(path: Path) -> dict[str, Any]:
    """Return a record; an empty one where none can be read."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError):
        return {}
