"""The data report: what a data set holds, and what is wrong with it (Table 1, columns)."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from msabench.labels import Classes
from msabench.utterances import Ragged, Utterances

LENGTHS = ("tokens", "audio_frames", "vision_frames")
CHUNK = 4_000_000  # values that are looked through at once


def describe(
    data: Mapping[str, Utterances], features: Path, classes: Classes
) -> dict[str, dict[str, Any]]:
    """Describe each split, or fold, and the whole (`all`).

    tokens, <modality>_frames: the mean per utterance that has any, and <length>_median and
    <length>_max of it; tokens include the special ones that the tokenizer adds. label_std divides
    by n. labels: utterances by class of the label. repeated_texts: texts of several utterances, in
    total repeated_utterances; a blank text is none. shared_texts, shared_videos: those in more than
    one split. All other counts come from the source (sources/_frames.py and its `read`) and
    `text.count_differences`.
    """
    lengths = {split: _lengths(data[split], features / split) for split in data}
    counted = {split: _counted(data[split], features / split) for split in data}
    kinds = list(dict.fromkeys(kind for split in data for kind in counted[split]))
    said = {split: [text for text in data[split].texts if text.strip()] for split in data}
    shared_texts = _in_several(said.values())
    shared_videos = _in_several(data[split].videos for split in data)
    rows = {}
    for name, splits in {**{split: [split] for split in data}, "all": [*data]}.items():
        labels = np.concatenate([data[split].labels for split in splits]).astype(np.float64)
        texts = Counter(text for split in splits for text in said[split])
        videos = {video for split in splits for video in data[split].videos}
        joined = {
            key: np.concatenate([lengths[split][key] for split in splits])
            for key in LENGTHS
            if all(key in lengths[split] for split in splits)
        }
        repeated = [times for times in texts.values() if times > 1]
        row: dict[str, Any] = {"utterances": len(labels), "videos": len(videos)}
        row |= {key: _over(np.mean, joined.get(key)) for key in LENGTHS}
        row |= {"label_mean": _over(np.mean, labels), "label_std": _over(np.std, labels)}
        row["labels"] = _histogram(labels, classes)
        row |= {f"{key}_median": _over(np.median, joined.get(key)) for key in LENGTHS}
        row |= {f"{key}_max": _over(np.max, joined.get(key)) for key in LENGTHS}
        row |= {"repeated_texts": len(repeated), "repeated_utterances": sum(repeated)}
        row["shared_texts"] = len(shared_texts & texts.keys())
        row["shared_videos"] = len(shared_videos & videos)
        row |= {kind: sum(counted[split].get(kind, 0) for split in splits) for kind in kinds}
        rows[name] = row
    return rows


def columns(
    data: Mapping[str, Utterances], named: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Name the columns of each modality that say little, over all frames of all splits.

    never_finite: all values were set to 0, because they were not finite; not_finite: how many
    were, of the others where any was; zero: 0 throughout; constant: another value throughout.
    names: of these columns, where they are known. named: data/prepared/columns.json.
    """
    report = {}
    for modality, width in next(iter(data.values())).widths.items():
        splits = [data[split].sequences[modality] for split in data]
        low, high = _extremes(splits, width)
        frames = sum(len(split.values) for split in splits)
        repaired = np.zeros(width, np.int64)
        for split in data:
            for column, count in data[split].not_finite.get(modality, {}).items():
                repaired[column] += count
        zero, constant = (low == 0) & (high == 0), low == high
        never = zero & (repaired > 0) & (repaired >= frames)
        kinds = {"never_finite": never, "zero": zero & ~never, "constant": constant & ~zero}
        row: dict[str, Any] = {kind: np.flatnonzero(kinds[kind]).tolist() for kind in kinds}
        some = np.flatnonzero((repaired > 0) & ~never).tolist()
        row["not_finite"] = {str(column): int(repaired[column]) for column in some}
        about = named.get(modality, {"names": {}, "tool": None, "certainty": None})
        listed = {str(column) for kind in kinds for column in row[kind]} | row["not_finite"].keys()
        names = {column: name for column, name in about["names"].items() if column in listed}
        report[modality] = {"width": width, **about, "names": names, **row}
    return report


def _extremes(
    splits: Sequence[Ragged], width: int
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]]:
    """Return the least and the greatest value of each column."""
    low, high = np.full(width, np.inf), np.full(width, -np.inf)
    rows = max(1, CHUNK // width)
    for values in (split.values for split in splits):
        for start in range(0, len(values), rows):
            chunk = values[start : start + rows]
            low, high = np.minimum(low, chunk.min(axis=0)), np.maximum(high, chunk.max(axis=0))
    return low, high


def _lengths(split: Utterances, features: Path) -> dict[str, np.ndarray]:
    stored = {f"{name}_frames": each.stored_lengths for name, each in split.sequences.items()}
    lengths = {name: own[own > 0] for name, own in stored.items()}
    tokens = features / "tokens.offsets.npy"
    if tokens.exists():
        lengths["tokens"] = np.diff(np.load(tokens, allow_pickle=False))
    return lengths


def _counted(split: Utterances, features: Path) -> dict[str, int]:
    tokens = features / "tokens.json"
    of_tokens = json.loads(tokens.read_text(encoding="utf-8")) if tokens.exists() else {}
    return {**of_tokens, **split.repairs}


def _in_several(values: Iterable[Sequence[str]]) -> set[str]:
    """Return the values that occur in more than one split."""
    splits = Counter(value for split in values for value in set(split))
    return {value for value, times in splits.items() if times > 1}


def _over(statistic: Any, values: np.ndarray | None) -> float | None:
    return None if values is None else round(float(statistic(values)), 4) + 0.0


def _histogram(labels: np.ndarray, classes: Classes) -> dict[str, int]:
    counts = np.bincount(classes.of(labels), minlength=len(classes.names))
    return dict(zip(classes.names, counts.tolist(), strict=True))
