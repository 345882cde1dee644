"""The data report: what a data set holds, and what is wrong with it (Table 1)."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from msabench.labels import Classes
from msabench.utterances import SPLITS, Utterances

LENGTHS = ("tokens", "audio_frames", "vision_frames")


def describe(
    data: Mapping[str, Utterances], features: Path, classes: Classes
) -> dict[str, dict[str, Any]]:
    """Describe each split and the whole (`all`).

    tokens, <modality>_frames: the mean per utterance, and <length>_median and <length>_max of it;
    tokens include the special ones that the tokenizer adds. label_std divides by n. labels:
    utterances by class of the label. repeated_texts: texts of several utterances, in total
    repeated_utterances. shared_texts, shared_videos: those in more than one split. All other counts
    come from the source (sources/_frames.py and its `read`) and `text.count_differences`.
    """
    lengths = {split: _lengths(data[split], features / split) for split in SPLITS}
    counted = {split: _counted(data[split], features / split) for split in SPLITS}
    kinds = list(dict.fromkeys(kind for split in SPLITS for kind in counted[split]))
    shared_texts = _in_several(data[split].texts for split in SPLITS)
    shared_videos = _in_several(data[split].videos for split in SPLITS)
    rows = {}
    for name, splits in {**{split: [split] for split in SPLITS}, "all": SPLITS}.items():
        labels = np.concatenate([data[split].labels for split in splits]).astype(np.float64)
        texts = Counter(text for split in splits for text in data[split].texts)
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


def _lengths(split: Utterances, features: Path) -> dict[str, np.ndarray]:
    lengths = {f"{name}_frames": ragged.lengths for name, ragged in split.sequences.items()}
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
