"""Print the card of a trained model, and how long its training took.

The cards themselves are runs/cards/<run>-<seed>.md, and data.md for the data set; `dvc repro cards`
makes them.

examples:
  msabench card runs/ours-1
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msabench.errors import DataError
from msabench.execution import times

PAGE = "docs/cards.md"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("run", type=Path, help="the folder of a trained run, as runs/ours-1")


def main(options: argparse.Namespace) -> None:
    """Print the card."""
    print(with_time(options.run), end="")


def with_time(run: Path) -> str:
    """Return the card of a saved run, and at its end how long the training took.

    Raises DataError where the run has no card, or has been trained again since.
    """
    alias = run / "same_as.json"
    if alias.is_file():  # a row of the sweep that trained nothing
        seed = run.name.rpartition("-")[2]
        run = run.with_name(f"{json.loads(alias.read_text())['same_as']}-{seed}")
    try:
        weights = json.loads((run / "run.json").read_text(encoding="utf-8"))["weights"]
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"{run}: no trained run; permitted: one of a seed, as runs/ours-1"
        ) from None
    except (KeyError, ValueError) as error:
        raise DataError(f"{run}/run.json: damaged, or of another version") from error
    card = run.parent / "cards" / f"{run.name}.md"
    if not card.is_file():
        raise DataError(f"{card}: no card of this run; `dvc repro cards` makes those of all runs")
    text = card.read_text(encoding="utf-8")
    if weights not in text:
        raise DataError(f"{card}: of other weights than {run} has; `dvc repro cards` mends it")
    record = times.read(run.parent / "times" / f"{run.name}.json")
    return f"{text}\n## Time\n\n{_time(record, weights)}\n"


def _time(record: Mapping[str, Any], weights: str) -> str:
    if record.get("weights") != weights:
        return "Not known: these weights were not trained here, but fetched from a cache."
    parts = record["parts"]
    once = "in one go" if parts == 1 else f"in {parts} parts; what was killed is not counted"
    return (
        f"{record['seconds']:.1f} s for training, the predictions and all that is written "
        f"({once}), on {record['machine']}."
    )
