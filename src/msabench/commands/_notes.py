"""Notes on stderr: input that a run truncated, ignored, repaired or imputed."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

NAMED = 3  # utterances named in one line

MEANINGS = {
    "tokens_cut": "tokens beyond the first {most}, not read",
    "tokens_unknown": "tokens that the text encoder does not know",
    "text_missing": "text without a token",
    "text_unread": "text, not read by this run",
    "not_finite": "values of {modality} that are not finite, set to 0",
    "missing": "{modality} without frames, or of zeros alone, replaced as if not given",
    "imputed": "{modality} not given, replaced by the mean frame of the training data",
}
COUNTED = ("tokens_cut", "tokens_unknown", "not_finite")  # the others are 1 or absent


def absent(losses: Sequence[Mapping[str, int]]) -> list[str]:
    """Return the kinds of loss that say of a modality that no utterance has it."""
    kinds = ["text_missing", *(kind for kind in losses[0] if kind.endswith("_imputed"))]
    return [kind for kind in kinds if all(kind in own for own in losses)]


def notable(losses: Sequence[Mapping[str, int]]) -> list[dict[str, int]]:
    """Return the losses without a modality that no utterance has: its absence is intended."""
    intended = absent(losses)
    return [{kind: n for kind, n in own.items() if kind not in intended} for own in losses]


def note_absent(losses: Sequence[Mapping[str, int]], config: Mapping[str, Any]) -> None:
    """Print what is read of modalities that no utterance has, and whether the model expects it.

    config: run.json.
    """
    kinds = absent(losses)
    frames = [f"no {kind.removesuffix('_imputed')}" for kind in kinds if kind != "text_missing"]
    read = ["no text given: an empty text is read"] if "text_missing" in kinds else []
    if frames:
        read += [f"{' and '.join(frames)} given: the mean frame of the training data is read"]
    if read:
        missing = config.get("schedule", {}).get("missing") or {}
        trained = "with" if missing.get("absent") else "without"
        about = f"the model was trained {trained} modality dropout"
        print(f"note: {'; '.join(read)}; {about}", file=sys.stderr)


def print_notes(names: Sequence[str], losses: Sequence[Mapping[str, int]], most: int) -> None:
    """Print a line for each kind of loss: its meaning, how many utterances, and the first ones.

    names: of the utterances. losses: see inference.Prediction. most: the run's max_tokens.
    """
    for kind in dict.fromkeys(kind for own in losses for kind in own):
        modality, _, rest = kind.partition("_")
        key = kind if kind in MEANINGS else rest
        meaning = MEANINGS[key].format(most=most, modality=modality)
        lossy = [
            f"{name} ({own[kind]:,})" if key in COUNTED else name
            for name, own in zip(names, losses, strict=True)
            if kind in own
        ]
        share = f"{len(lossy)} of {len(names)} utterances: " if len(names) > 1 else ""
        print(f"note: {meaning}: {share}{first_few(lossy, ', ')}", file=sys.stderr)


def first_few(listed: Sequence[str], separator: str) -> str:
    """Join the first few, with an ellipsis for the rest."""
    return separator.join([*listed[:NAMED], *(["..."] if len(listed) > NAMED else [])])
