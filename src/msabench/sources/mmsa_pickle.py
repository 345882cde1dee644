"""MMSA's processed pickles: a dict of splits, each a dict of arrays padded to one length.

The keys are those of MMSA and Self-MM: id, raw_text, regression_labels (with _T, _A and _V where
a data set has unimodal labels), audio, vision, audio_lengths, vision_lengths and text_bert.
"""

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Integer, Shaped

from msabench import pickle_reader
from msabench.utterances import SPLITS, DataError, Ragged, Utterances

FRAMES = ("audio", "vision")
UNIMODAL = {"text": "T", "audio": "A", "vision": "V"}
PADDINGS = ("end", "front")
CHUNK = 1 << 22  # values converted at once: an array has gigabytes


def read(path: Path, *, aligned: bool = False, padding: str = "end") -> dict[str, Utterances]:
    """Read the three splits, cut to their real frames, as float32.

    aligned: all modalities have one step per word piece; the mask in text_bert tells how many
        are real. Otherwise the lengths stand in the file; where they do not, what follows
        the last frame that is not all zero (padded at the front: precedes the first) is padding.
    padding: "end" or "front", the side on which the file is padded. Nothing in a file says it.

    A value that is not finite becomes 0; Self-MM does so for -inf in audio. A modality that the
    file lacks is absent. So are unimodal labels that are missing or all zero, as MOSEI has them.
    Raises DataError naming split and key.
    """
    if padding not in PADDINGS:
        raise DataError(f"padding {padding!r}; permitted: {', '.join(PADDINGS)}")
    content = pickle_reader.read(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: a {type(content).__name__}; expected a dict of {SPLITS}")
    missing = [split for split in SPLITS if not isinstance(content.get(split), dict)]
    if missing:
        raise DataError(f"{path}: no dict of {', '.join(missing)}; found: {_names(content)}")
    return {
        name: _utterances(_Split(path, name, content[name]), aligned, padding == "front")
        for name in SPLITS
    }


@dataclass(frozen=True)
class _Split:
    """What the file holds of one split, and the checks of its types and shapes."""

    path: Path
    name: str
    content: dict

    def error(self, key: str, problem: str) -> DataError:
        return DataError(f"{self.path}: {self.name}: {key}: {problem}")

    def get(self, key: str) -> Any:
        value = self.content.get(key)
        if value is None:
            raise self.error(key, f"missing; found: {_names(self.content)}")
        return value

    def column(self, key: str, n: int | None) -> list:
        """Return one value per utterance as a list, whatever kind of sequence it is."""
        value = self.get(key)
        if isinstance(value, np.ndarray) and value.ndim == 1:
            value = value.tolist()
        if not isinstance(value, (list, tuple)):
            raise self.error(key, f"{_kind(value)}; expected a list or array of one axis")
        if n is not None and len(value) != n:
            raise self.error(key, f"{len(value)} values; expected {n}, one for each id")
        return list(value)

    def strings(self, key: str, n: int | None = None) -> list[str]:
        values = self.column(key, n)
        for i, value in enumerate(values):
            if not isinstance(value, str):
                raise self.error(key, f"value {i} is a {type(value).__name__}; expected text")
            if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
                raise self.error(key, f"value {i} holds half a character (a lone surrogate)")
        return [str(value) for value in values]

    def numbers(self, key: str, n: int) -> Float[np.ndarray, " n"]:
        """Return float64; None, where a list holds it, becomes NaN."""
        values = self.column(key, n)
        for i, value in enumerate(values):
            if value is not None and not isinstance(value, (int, float, np.integer, np.floating)):
                raise self.error(key, f"value {i} is a {type(value).__name__}; expected a number")
        try:
            return np.array([np.nan if value is None else float(value) for value in values], float)
        except OverflowError:
            raise self.error(key, "an integer too large for a number of 64 bits") from None

    def array(self, key: str, n: int) -> Shaped[np.ndarray, "n t d"]:
        value = self.get(key)
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu" or value.ndim != 3:
            raise self.error(key, f"{_kind(value)}; expected an array of numbers with three axes")
        if len(value) != n or 0 in value.shape[1:]:
            raise self.error(key, f"shape {value.shape}; expected {n} along the first axis, no 0")
        return value


def _utterances(split: _Split, aligned: bool, front: bool) -> Utterances:
    ids = split.strings("id")
    n = len(ids)
    unimodal = {
        modality: labels
        for modality, letter in UNIMODAL.items()
        if (labels := _unimodal_labels(split, f"regression_labels_{letter}", n)) is not None
    }
    sequences = {}
    for modality in FRAMES:
        if split.content.get(modality) is None:
            continue
        padded = split.array(modality, n)
        if aligned:
            key, lengths = "text_bert", _unmasked(split, n)
        elif split.content.get(f"{modality}_lengths") is not None:
            key, lengths = f"{modality}_lengths", split.numbers(f"{modality}_lengths", n)
        else:
            key, lengths = modality, _lengths_of(padded, front)
        wrong = ~((lengths >= 1) & (lengths <= padded.shape[1]) & (lengths % 1 == 0))
        if wrong.any():
            i = int(wrong.argmax())
            problem = f"{lengths[i]:g} frames of {modality} for {ids[i]!r}"
            raise split.error(key, f"{problem}; permitted: 1 to {padded.shape[1]}")
        sequences[modality] = _cut(split, modality, padded, lengths.astype(np.int64), front)
    return Utterances(
        ids=ids,
        texts=split.strings("raw_text", n),
        labels=_float32(split.numbers("regression_labels", n)),
        sequences=sequences,
        unimodal_labels=unimodal,
    )


def _unimodal_labels(split: _Split, key: str, n: int) -> Float32[np.ndarray, " n"] | None:
    """Return unimodal labels, or None for dummies: missing, or nothing but NaN, None and 0."""
    if split.content.get(key) is None:
        return None
    labels = _float32(split.numbers(key, n))
    return labels if np.nan_to_num(labels).any() else None


def _unmasked(split: _Split, n: int) -> Integer[np.ndarray, " n"]:
    """Return the number of word pieces, [CLS] and [SEP] included."""
    tokens = split.array("text_bert", n)
    if tokens.shape[1] != 3:
        raise split.error("text_bert", f"shape {tokens.shape}; expected (n, 3, pieces)")
    return (tokens[:, 1] == 1).sum(axis=1)


def _chunks(padded: Shaped[np.ndarray, "n t d"]) -> Iterator[slice]:
    """Yield slices of utterances with at most CHUNK values each, and at least one utterance."""
    step = max(1, CHUNK // (padded.shape[1] * padded.shape[2]))
    for start in range(0, len(padded), step):
        yield slice(start, start + step)


def _lengths_of(padded: Shaped[np.ndarray, "n t d"], front: bool) -> Integer[np.ndarray, " n"]:
    """Return the frames up to the outermost that is not all zero; 1 where all are."""
    steps = padded.shape[1]
    lengths = np.ones(len(padded), np.int64)
    counts = np.arange(steps, 0, -1) if front else np.arange(1, steps + 1)
    for chunk in _chunks(padded):
        real = (padded[chunk] != 0).any(axis=2)
        lengths[chunk] = np.where(real, counts, 1).max(axis=1)
    return lengths


def _real(lengths: Integer[np.ndarray, " n"], steps: int, front: bool) -> Bool[np.ndarray, "n t"]:
    """Return which frames of the padded array are real."""
    frames = np.arange(steps)
    return frames >= steps - lengths[:, None] if front else frames < lengths[:, None]


def _cut(
    split: _Split,
    modality: str,
    padded: Shaped[np.ndarray, "n t d"],
    lengths: Integer[np.ndarray, " n"],
    front: bool,
) -> Ragged:
    """Return the real frames alone, finite, in an unnamed temporary file that is mapped."""
    steps, width = padded.shape[1:]
    replaced = 0
    with tempfile.TemporaryFile() as file:
        for chunk in _chunks(padded):
            frames = padded[chunk][_real(lengths[chunk], steps, front)]
            frames = _float32(frames)
            wrong = ~np.isfinite(frames)
            replaced += int(wrong.sum())
            frames[wrong] = 0
            frames.tofile(file)
        file.flush()
        total = int(lengths.sum())
        values = (
            np.memmap(file, np.float32, "r", shape=(total, width))
            if total
            else np.zeros((0, width), np.float32)
        )
    if replaced:
        print(f"{split.name}: {modality}: {replaced} values not finite, set to 0", file=sys.stderr)
    return Ragged(values, np.concatenate([[0], np.cumsum(lengths)]))


def _float32(values: Shaped[np.ndarray, "*n"]) -> Float32[np.ndarray, "*n"]:
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is seen as such
        return values.astype(np.float32)


def _names(content: dict) -> str:
    return ", ".join(ascii(name)[:40] for name in list(content)[:20]) or "nothing"


def _kind(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} with shape {value.shape}"
    return f"a {type(value).__name__}"
