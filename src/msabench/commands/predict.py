"""Predict the sentiment of texts, with their audio and vision where you have them.

A run is the folder of one seed, runs/ours-1, or runs/ours for the mean of all its seeds; `spread`
is then their standard deviation. A sentiment has the range of the labels that the run learned
(MOSEI: -3 to 3); its class is positive, negative or neutral by their neutral point (MOSEI: 0), `-`
where they have none. Frames are .npy files with an array (frames, features).
Absent audio or vision is imputed by the mean frame of the training data, absent text by an empty
one; a note on stderr says so where no utterance has the modality.

examples:
  msabench predict --run runs/ours "I loved it" "what a waste of time"
  msabench predict --run runs/ours --text "fine" --audio a.npy --vision v.npy
  msabench predict --run runs/svm-1 --csv clips.csv --json
  cat lines.txt | msabench predict --run runs/ours -
  msabench predict --run runs/ours -- "-meh" "-hmm"

Write `--` before texts of which one begins with `-`; as a value such a text is `--text=-meh`.
A csv (UTF-8) has some of the columns text, audio and vision, and optionally id; audio and vision
are paths relative to the csv's folder, or empty.

Defects that are repaired in training data are repaired here too; notes on stderr, and `notes` in
json, count them and the tokens that are not read. An utterance that cannot be read does not stop
the others: it is named on stderr, and the exit status is 1.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msabench.errors import DataError

if TYPE_CHECKING:  # it imports NumPy
    from msabench.labels import LabelScale

PAGE = "docs/use.md"
FRAMES = ("audio", "vision")
COLUMNS = ("id", "text", *FRAMES)

Shown = dict[str, str]  # text and id of an utterance, as printed
Row = tuple[Shown, dict[str, Any] | DataError]  # and the input of the run, or why it is invalid
MeanAndSpread = tuple[float, float | None]


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
    utterances = _utterances(options)
    from msabench import inference
    from msabench.commands._notes import first_few, notable, note_absent, print_notes
    from msabench.commands._table import note_no_class
    from msabench.evaluation.statistics import mean_and_std
    from msabench.networks import torch_settings

    torch_settings.configure(inference.config(options.run), "auto")
    predictor = inference.load(options.run)
    readable = [one for _, one in utterances if not isinstance(one, DataError)]
    attempts = iter(predictor.attempt(readable))
    outcomes = [one if isinstance(one, DataError) else next(attempts) for _, one in utterances]
    refused = [outcome for outcome in outcomes if isinstance(outcome, DataError)]
    if len(refused) == len(outcomes):
        raise refused[0] if refused else DataError(inference.NOTHING)
    predicted = [
        (shown, one["id"], outcome)
        for (shown, one), outcome in zip(utterances, outcomes, strict=True)
        if not isinstance(one, DataError) and not isinstance(outcome, DataError)
    ]
    shown, names, predictions = zip(*predicted, strict=True)
    sentiments = [mean_and_std(prediction.seeds.tolist()) for prediction in predictions]
    losses = notable([prediction.losses for prediction in predictions])
    scale = predictor.scale
    if options.json:
        print(_as_json(shown, sentiments, losses, scale), flush=True)
    else:
        print(_as_text(shown, sentiments, scale), flush=True)
    note_no_class(scale)
    note_absent([prediction.losses for prediction in predictions], predictor.config)
    print_notes(names, losses, predictor.config["text"]["max_tokens"])
    if refused:
        reasons = first_few([str(error) for error in refused], "; ")
        raise DataError(f"{len(refused)} of {len(outcomes)} utterances not predicted: {reasons}")


def _as_json(
    shown: Sequence[Shown],
    sentiments: list[MeanAndSpread],
    losses: list[dict[str, int]],
    scale: "LabelScale",
) -> str:
    from msabench.commands._table import polarity

    lines = []
    for what, (mean, std), notes in zip(shown, sentiments, losses, strict=True):
        row: dict[str, Any] = {**what, "prediction": mean, "class": polarity(mean, scale)}
        row |= {} if std is None else {"spread": std}
        lines.append(json.dumps(row | ({"notes": notes} if notes else {})))
    return "\n".join(lines)


def _as_text(shown: Sequence[Shown], sentiments: list[MeanAndSpread], scale: "LabelScale") -> str:
    from msabench.commands._table import polarity, sentiment, table

    ids = [what.get("id") for what in shown]
    header = ["prediction", "class", *(["id"] if any(ids) else []), "text"]
    rows = [
        [
            *(sentiment(*value, scale=scale), polarity(value[0], scale) or "-"),
            *([id or ""] if any(ids) else []),
            what["text"],
        ]
        for what, value, id in zip(shown, sentiments, ids, strict=True)
    ]
    return table(header, rows)


def _utterances(options: argparse.Namespace) -> list[Row]:
    """Return the utterances. Exits with status 2 unless exactly one source of them is given."""
    of_one = {name: getattr(options, name) for name in ("text", *FRAMES)}
    of_one = {name: value for name, value in of_one.items() if value is not None}
    sources = [bool(options.texts), options.csv is not None, bool(of_one)]
    if sum(sources) != 1:
        options.usage_error("give texts, or --text, --audio and --vision, or --csv; one of these")
    if options.csv is not None:
        return _from_csv(options.csv)
    if of_one:
        return [({"text": options.text or ""}, {"id": "the utterance", **of_one})]
    if options.texts == ["-"]:
        return [_of_line(i, line) for i, line in enumerate(sys.stdin.buffer, start=1)]
    return [_of_text(f"text {i}", text) for i, text in enumerate(options.texts, 1)]


def _of_text(place: str, text: str) -> Row:
    return {"text": text}, {"id": place, "text": text}


def _of_line(number: int, line: bytes) -> Row:
    try:
        text = line.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        byte = f"byte {error.start + 1} of it is 0x{line[error.start]:02x}"
        problem = f"line {number} of the input is not UTF-8: {byte}"
        return {}, DataError(f"{problem}; `iconv` converts other encodings")
    return _of_text(f"line {number} of the input", text)


def _from_csv(file: Path) -> list[Row]:
    from msabench.data.sources._csv import each_row

    rows = list(each_row(file, [], any_of=("text", *FRAMES)))
    if not rows:
        raise DataError(f"{file}: no row after the first line; at least 1 is needed")
    columns = next((row for _, row in rows if not isinstance(row, DataError)), {})
    if unread := [column for column in columns if column not in COLUMNS]:
        known = ", ".join(COLUMNS)
        print(f"note: {file}: not read: {', '.join(unread)}; read: {known}", file=sys.stderr)
    return [_of_row(file, line, row) for line, row in rows]


def _of_row(file: Path, line: int, row: Mapping[str, str] | DataError) -> Row:
    if isinstance(row, DataError):
        return {}, row
    frames = {name: file.parent / row[name] for name in FRAMES if row.get(name, "").strip()}
    text = row.get("text", "")
    shown = {"id": row["id"], "text": text} if "id" in row else {"text": text}
    return shown, {"id": f"{file}: line {line}", "text": text, **frames}
