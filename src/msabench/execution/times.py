"""How long trainings took: files beside the outputs, as no two runs take the same time."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


@contextmanager
def counted(
    path: Path, training: str, machine: str, *, kept: bool = True
) -> Iterator[dict[str, Any]]:
    """Add the seconds that what runs inside takes to those of the parts before.

    training: names what decides its numbers; parts of another training do not count, nor do those
    of one that has ended. Yields the record: a training that has ended enters its weights' SHA-256
    as `weights`. A part that was killed is not counted. A disk that cannot be written stops
    nothing. kept: whether it is written, as by the first of several processes.
    """
    before = read(path)
    goes_on = before.get("training") == training and "weights" not in before
    record: dict[str, Any] = {
        "training": training,
        "machine": machine,
        "parts": before["parts"] if goes_on else 0,
        "seconds": before["seconds"] if goes_on else 0.0,
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
    """Return a record; an empty one where there is none that can be read."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError):
        return {}
