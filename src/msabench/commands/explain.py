"""Explain a prediction: what each modality contributes, and the nearest training utterances.

Explains an utterance of the test split, by default the one with the largest error. The contribution
of a modality is the prediction minus the prediction without it. The nearest training utterances
have the highest cosine similarity of the means over frames of each modality that the run reads,
each feature standardized, averaged over modalities; no model is involved. Notes on stderr, and
`notes` in json, count the tokens that are not read.

examples:
  msabench explain --run runs/ours
  msabench explain --run runs/ours --list | head
  msabench explain --run runs/ours-1 'test00062$_$4' --json
  msabench explain --run runs/ours-1 --json -- '-3g5yACwYnA$_$0'

Write `--` before an id that begins with `-`.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # only its types: it imports PyTorch
    from msabench.inference.explanation import Explanation
    from msabench.labels import LabelScale
    from msabench.predictions import Predictions

PAGE = "docs/use.md"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--run", required=True, type=Path, help="runs/ours-1, or runs/ours")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("id", nargs="?", help="of the test split")
    which.add_argument("--worst", action="store_true", help="the largest error (default)")
    which.add_argument("--best", action="store_true", help="the smallest error")
    which.add_argument("--list", action="store_true", help="all ids, from the largest error")
    parser.add_argument("--json", action="store_true", help="one json object per line")


def main(options: argparse.Namespace) -> None:
    """Print the explanation of one utterance, or the list of all."""
    from msabench import inference
    from msabench.commands._notes import print_notes
    from msabench.commands._table import note_no_class
    from msabench.inference import explanation
    from msabench.networks import torch_settings

    folders = inference.folders(options.run)
    if options.list:
        _print_list(explanation.read_predictions(folders), options.json)
        return
    id = options.id
    if id is None:
        ids = explanation.read_predictions(folders).by_error().ids
        id = ids[-1 if options.best else 0]
    torch_settings.configure(inference.config(options.run), "auto")
    predictor = inference.load(options.run)
    splits = explanation.read_splits(folders[0], predictor.config)
    explained = explanation.explain(predictor, splits, id)
    scale = predictor.scale
    text = json.dumps(_as_json(explained, scale)) if options.json else _as_text(explained, scale)
    print(text, flush=True)
    note_no_class(scale)
    print_notes([id], [explained.losses], predictor.config["text"]["max_tokens"])


def _print_list(predictions: "Predictions", as_json: bool) -> None:
    from msabench.commands._table import signed, table

    worst_first = predictions.by_error()
    rows = list(zip(worst_first.ids, worst_first.labels, worst_first.predictions, strict=True))
    if as_json:
        for id, label, prediction in rows:
            print(json.dumps({"id": id, "label": label, "prediction": prediction}))
        return
    cells = [
        (signed(label), signed(prediction), signed(prediction - label), id)
        for id, label, prediction in rows
    ]
    print(table(["label", "prediction", "error", "id"], cells))


def _as_text(explained: "Explanation", scale: "LabelScale") -> str:
    from msabench.commands._table import one_line, polarity, sentiment, signed, table
    from msabench.evaluation.statistics import mean_and_std

    values = {
        "label": (explained.label, None),
        "prediction": mean_and_std(explained.predictions.tolist()),
    }
    facts = [
        (name, f"{sentiment(*value, scale=scale)} ({polarity(value[0], scale) or '-'})")
        for name, value in values.items()
    ]
    contributions = [
        (signed(*mean_and_std(differences.tolist()), scale=scale), name)
        for name, differences in explained.contributions.items()
    ]
    nearest = [
        (f"{one.similarity:.2f}", sentiment(one.label, scale=scale), one.id, one.text)
        for one in explained.nearest
    ]
    return "\n\n".join(
        [
            *([one_line(explained.text)] if explained.text.strip() else []),
            table(["id", explained.id], facts),
            table(["contribution", "of (prediction minus that without it)"], contributions),
            "Nearest training utterances, by the cosine of standardized means over frames of "
            f"{', '.join(explained.contributions)}:\n"
            + table(["similarity", "label", "id", "text"], nearest),
        ]
    )


def _as_json(explained: "Explanation", scale: "LabelScale") -> dict[str, Any]:
    from msabench.commands._table import polarity
    from msabench.evaluation.statistics import mean_and_std

    def over_seeds(values: list[float]) -> dict[str, float | None]:
        return dict(zip(("mean", "spread"), mean_and_std(values), strict=True))

    return {
        "id": explained.id,
        "text": explained.text,
        "label": explained.label,
        "prediction": over_seeds(explained.predictions.tolist()),
        "class": polarity(float(explained.predictions.mean()), scale),
        "contributions": {
            name: over_seeds(values.tolist()) for name, values in explained.contributions.items()
        },
        "nearest": [asdict(one) for one in explained.nearest],
        **({"notes": explained.losses} if explained.losses else {}),
    }
