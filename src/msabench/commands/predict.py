"""Predict the sentiment of texts, with their audio and vision where you have them.

A run is the folder of one seed, runs/ours-1, or runs/ours for the mean of all its seeds; `spread`
is then their standard deviation. A sentiment has the range of the labels that the run learned
(MOSEI: -3 to 3); its class is the side of their neutral point (MOSEI: 0) that it is on, `-` where
they have none. Frames are .npy files with an array (frames, features).
Without audio or vision, the mean frame of the training data stands in for them.

examples:
  python -m msabench predict --run runs/ours "I loved it" "what a waste of time"
  python -m msabench predict --run runs/ours --text "fine" --audio a.npy --vision v.npy
  python -m msabench predict --run runs/svm-1 --csv clips.csv --json
  cat lines.txt | python -m msabench predict --run runs/ours -

A csv (UTF-8) has the columns text, and if you have them id, audio and vision: paths from the csv's
folder, or nothing.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msabench.errors import DataError

SECTION = "Use a model"  # of the README
FRAMES = ("audio", "vision")
COLUMNS = ("id", "text", *FRAMES)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--run", required=True, type=Path, help="runs/ours-1, or runs/ours")
    parser.add_argument("texts", nargs="*", metavar="text", help="`-`: one per line of the input")
    parser.add_argument("--text", help="of one utterance that has audio or vision too")
    for name in FRAMES:
        parser.add_argument(f"--{name}", type=Path, metavar="NPY", help=f"its {name}")
    parser.add_argument("--csv", type=Path, help="one utterance per row")
    parser.add_argument("--json", action="store_true", help="one json object per line")
    parser.set_defaults(usage_error=parser.error)


def main(options: argparse.Namespace) -> None:
    """Print a table of predictions, or json lines."""
    utterances = _given(options)
    from msabench import inference, training
    from msabench.commands._table import note_no_class, polarity, signed, table
    from msabench.statistics import mean_and_std

    predictor = inference.load(options.run)
    training.settle(predictor.config["threads"])
    by_seed = predictor.predict_each([one for _, one in utterances])
    found = [mean_and_std(seeds) for seeds in by_seed.T.tolist()]
    classes = [polarity(mean, predictor.scale) for mean, _ in found]
    note_no_class(predictor.scale)
    if options.json:
        for (shown, _), (mean, std), side in zip(utterances, found, classes, strict=True):
            row = {**shown, "prediction": mean, "class": side}
            print(json.dumps(row if std is None else row | {"spread": std}))
        return
    ids = [shown.get("id") for shown, _ in utterances]
    header = ["prediction", "class", *(["id"] if any(ids) else []), "text"]
    rows = [
        [signed(*value), side or "-", *([id or ""] if any(ids) else []), shown["text"]]
        for (shown, _), value, side, id in zip(utterances, found, classes, ids, strict=True)
    ]
    print(table(header, rows))


# What is shown of an utterance (text and id), and what the run reads of it.
Row = tuple[dict[str, str], dict[str, Any]]


def _given(options: argparse.Namespace) -> list[Row]:
    """Return the utterances. Exits with status 2 unless they are given in just one way."""
    of_one = {name: getattr(options, name) for name in ("text", *FRAMES)}
    of_one = {name: value for name, value in of_one.items() if value is not None}
    ways = [bool(options.texts), options.csv is not None, bool(of_one)]
    if sum(ways) != 1:
        options.usage_error("give texts, or --text, --audio and --vision, or --csv; one of these")
    if options.csv is not None:
        return _from_csv(options.csv)
    if of_one:
        return [({"text": options.text or ""}, of_one)]
    if options.texts == ["-"]:
        return [_of_text(f"line {i} of the input", text) for i, text in enumerate(_lines(), 1)]
    return [_of_text(f"text {i}", text) for i, text in enumerate(options.texts, 1)]


def _of_text(place: str, text: str) -> Row:
    return {"text": text}, {"id": place, "text": text}


def _lines() -> list[str]:
    try:
        return [line.decode("utf-8-sig").rstrip("\r\n") for line in sys.stdin.buffer]
    except UnicodeDecodeError as error:
        raise DataError(f"the input is not UTF-8: {error.reason}") from None


def _from_csv(file: Path) -> list[Row]:
    from msabench.sources._csv import rows_of

    rows = list(rows_of(file, ["text"]))
    if not rows:
        raise DataError(f"{file}: no row after the first line; at least 1 is needed")
    if unread := [column for column in rows[0][1] if column not in COLUMNS]:
        known = ", ".join(COLUMNS)
        print(f"note: {file}: not read: {', '.join(unread)}; read: {known}", file=sys.stderr)
    return [_of_row(file, line, row) for line, row in rows]


def _of_row(file: Path, line: int, row: Mapping[str, str]) -> Row:
    frames = {name: file.parent / row[name] for name in FRAMES if row.get(name, "").strip()}
    shown = {name: row[name] for name in ("id", "text") if name in row}
    return shown, {"id": f"{file}: line {line}", "text": row["text"], **frames}
