"""MMSA's processed pickles: a dict of splits, each a dict of arrays padded to one length.

The keys are those of MMSA and Self-MM: id, raw_text, regression_labels (with _T, _A and _V where
a data set has unimodal labels), audio, vision, audio_lengths, vision_lengths and text_bert.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Float32, Integer, Shaped

from msabench.data import pickle_reader
from msabench.data.sources._frames import Frames, NotFinite
from msabench.errors import DataError
from msabench.utterances import SPLITS, Ragged, Utterances, check_ids, suggest_splits

FRAMES = ("audio", "vision")
UNIMODAL = {"text": "T", "audio": "A", "vision": "V"}
CHUNK = 1 << 22  # values copied at once of an array that is not in C order

LengthRule = Literal["repair", "file", "padding"]


def read(
    path: Path,
    *,
    aligned: bool = False,
    padding: Literal["auto", "end", "front"] = "auto",
    lengths: LengthRule = "repair",
    not_finite: NotFinite = "zero",
) -> dict[str, Utterances]:
    """Read the three splits as float32, without padding.

    aligned: all modalities have one step per word piece, and the mask in text_bert gives their
        lengths. Otherwise <modality>_lengths of the file give them, if it has them.
    padding: the side on which frames are padded with zeros, which no file states. "auto" selects,
        for each modality of the file, the side on which more utterances are zero beyond their
        length, and at a tie the side with more zeros.
    lengths: treatment of a length that contradicts the padding. "repair" extends one that is too
        short or impossible to the outermost nonzero frame; zeros within it (no face or voice was
        detected) stay. "file" uses it, and refuses an impossible one. "padding" always uses the
        outermost nonzero frame, as for a file without lengths. Values that are not finite count as
        zeros here.
    not_finite: see Frames.

    A modality that the file lacks is absent. So are unimodal labels that are missing or all zero,
    as in MOSEI. Besides those of Frames, repairs counts the utterances of <modality>_lengths,
    repaired, and <modality>_front, padded at the front. Raises DataError naming split and key.
    """
    content = pickle_reader.read(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: a {type(content).__name__}; expected a dict of {SPLITS}")
    missing = [split for split in SPLITS if not isinstance(content.get(split), dict)]
    if missing:
        names = _names(content) + suggest_splits(list(content)[:10])
        raise DataError(f"{path}: no dict of {', '.join(missing)}; found: {names}")
    splits = {name: _Split(path, name, content[name]) for name in SPLITS}
    utterances = {name: _without_frames(split) for name, split in splits.items()}
    for modality in FRAMES:
        padded = {
            name: _Padded.of(split, modality, utterances[name].ids, aligned, lengths)
            for name, split in splits.items()
            if split.content.get(modality) is not None
        }
        front = padding == "front" or (padding == "auto" and _padded_in_front(padded.values()))
        for name, part in padded.items():
            with Frames(modality, part.width, path.parent, not_finite=not_finite) as frames:
                part.cut(front, lengths, frames)
                utterances[name] = frames.added_to(utterances[name])
    return utterances


@dataclass(frozen=True)
class _Split:
    """The content of one split in the file, with checks of types and shapes."""

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
        """Return one value per utterance as a list, from any type of sequence."""
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
                raise self.error(key, f"value {i} holds a lone surrogate (half a character)")
        return [str(value) for value in values]

    def numbers(self, key: str, n: int) -> Float[np.ndarray, " n"]:
        """Return float64; None becomes NaN."""
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
            raise self.error(key, f"shape {value.shape}; expected ({n}, t, d), t and d at least 1")
        return value


def _without_frames(split: _Split) -> Utterances:
    ids = split.strings("id")
    check_ids(f"{split.path}: {split.name}", ids)
    n = len(ids)
    unimodal = {
        modality: labels
        for modality, letter in UNIMODAL.items()
        if (labels := _unimodal_labels(split, f"regression_labels_{letter}", n)) is not None
    }
    return Utterances(
        ids=ids,
        texts=split.strings("raw_text", n),
        labels=_float32(split.numbers("regression_labels", n)),
        unimodal_labels=unimodal,
        given_tokens=_given_tokens(split, n),
    )


def _unimodal_labels(split: _Split, key: str, n: int) -> Float32[np.ndarray, " n"] | None:
    """Return unimodal labels, or None where they are missing or all NaN, None or 0."""
    if split.content.get(key) is None:
        return None
    labels = _float32(split.numbers(key, n))
    return labels if np.nan_to_num(labels).any() else None


def _given_tokens(split: _Split, n: int) -> Ragged | None:
    """Return the token ids in text_bert, or None where they are missing or invalid."""
    if split.content.get("text_bert") is None:
        return None
    tokens = _word_pieces(split, n)
    real = tokens[:, 1] == 1
    if not real.any():
        return None
    real[~real.any(axis=1), 0] = True  # not even [CLS]: at least one token each
    with np.errstate(invalid="ignore"):
        ids = tokens[:, 0][real].astype(np.float64)  # float16 cannot represent 2**31
        valid = (ids >= 0) & (ids < 2**31) & (ids % 1 == 0)  # false for NaN and infinity
    if not valid.all():
        return None
    return Ragged(ids.astype(np.int32), np.concatenate([[0], np.cumsum(real.sum(axis=1))]))


def _word_pieces(split: _Split, n: int) -> Shaped[np.ndarray, "n 3 pieces"]:
    """Return token ids, mask and segment ids of each utterance."""
    tokens = split.array("text_bert", n)
    if tokens.shape[1] != 3:
        raise split.error("text_bert", f"shape {tokens.shape}; expected (n, 3, pieces)")
    return tokens


def _rows(padded: Shaped[np.ndarray, "n t d"]) -> Iterator[Shaped[np.ndarray, "t d"]]:
    """Yield the frames of each utterance in C order; Fortran order is copied in chunks."""
    step = max(1, CHUNK // (padded.shape[1] * padded.shape[2]))
    for start in range(0, len(padded), step):
        yield from np.ascontiguousarray(padded[start : start + step])


def _needed(padded: Shaped[np.ndarray, "n t d"]) -> Integer[np.ndarray, "n 2"]:
    """Return the lengths up to the last nonzero frame, and from the first nonzero frame on."""
    needed = np.zeros((len(padded), 2), np.int64)
    for counts, frames in zip(needed, _rows(padded), strict=True):
        real = ((frames != 0) & np.isfinite(frames)).any(axis=1)
        if real.any():
            counts[:] = len(real) - real[::-1].argmax(), len(real) - real.argmax()
    return needed


def _declared(
    split: _Split, modality: str, ids: list[str], steps: int, aligned: bool, rule: LengthRule
) -> Integer[np.ndarray, " n"] | None:
    """Return the lengths in the file, 0 for an impossible one; None if they are not used.

    Raises DataError for an impossible one that the rule does not repair.
    """
    key = "text_bert" if aligned else f"{modality}_lengths"
    if rule == "padding" or not (aligned or split.content.get(key) is not None):
        return None
    lengths: Shaped[np.ndarray, " n"]
    if aligned:
        lengths = (_word_pieces(split, len(ids))[:, 1] == 1).sum(axis=1)
    else:
        lengths = split.numbers(key, len(ids))
    with np.errstate(invalid="ignore"):
        integral = lengths % 1 == 0  # false for NaN and infinity
    possible = integral & (lengths >= 1) & (lengths <= steps)
    wrong = ~(possible if rule == "file" else integral)
    if wrong.any():
        i = int(wrong.argmax())
        problem = f"{lengths[i]:g} frames of {modality} for {ids[i]!r}"
        raise split.error(key, f"{problem}; permitted: 1 to {steps}")
    return np.where(possible, lengths, 0).astype(np.int64)


@dataclass(frozen=True)
class _Padded:
    """One modality of one split, with the evidence for its lengths.

    declared: lengths in the file, 0 where impossible. needed: lengths that contain all nonzero
    frames, for padding at the end and in front.
    """

    modality: str
    ids: list[str]
    array: Shaped[np.ndarray, "n t d"]
    declared: Integer[np.ndarray, " n"] | None
    needed: Integer[np.ndarray, "n 2"]

    @classmethod
    def of(
        cls, split: _Split, modality: str, ids: list[str], aligned: bool, rule: LengthRule
    ) -> "_Padded":
        array = split.array(modality, len(ids))
        declared = _declared(split, modality, ids, array.shape[1], aligned, rule)
        return cls(modality, ids, array, declared, _needed(array))

    @property
    def width(self) -> int:
        return self.array.shape[2]

    def sides(self) -> Integer[np.ndarray, "2 2"]:
        """Count the evidence for padding at the end and in front: consistent lengths, zeros."""
        steps = self.array.shape[1]
        consistent = np.zeros(2, np.int64)
        if self.declared is not None:
            short = (self.declared > 0) & (self.declared < steps)
            consistent = (self.needed[short] <= self.declared[short, None]).sum(axis=0)
        return np.stack([consistent, (steps - self.needed).sum(axis=0)])

    def cut(self, front: bool, rule: LengthRule, frames: Frames) -> None:
        """Add the frames without padding, and count the repairs."""
        real = needed = np.maximum(self.needed[:, int(front)], 1)
        repaired = 0
        if self.declared is not None:
            real = self.declared if rule == "file" else np.maximum(self.declared, needed)
            repaired = int((real != self.declared).sum())
        for id, row, length in zip(self.ids, _rows(self.array), real.tolist(), strict=True):
            frames.add(id, row[len(row) - length :] if front else row[:length])
        frames.repairs[f"{self.modality}_lengths"] = repaired
        frames.repairs[f"{self.modality}_front"] = len(real) if front else 0


def _padded_in_front(parts: Iterable[_Padded]) -> bool:
    """Return whether the padding is in front; a wrong answer keeps padding, but loses no frame."""
    consistent, zeros = sum((part.sides() for part in parts), np.zeros((2, 2), np.int64))
    end, front = zeros if consistent[0] == consistent[1] else consistent
    return bool(front > end)


def _float32(values: Shaped[np.ndarray, "*n"]) -> Float32[np.ndarray, "*n"]:
    # Overflow gives infinity, which is checked later; a signalling NaN warns too.
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(np.float32)


def _names(content: dict) -> str:
    shown = [ascii(n[:20] if isinstance(n, (str, bytes)) else n)[:30] for n in list(content)[:10]]
    return ", ".join(shown) or "nothing"


def _kind(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} with shape {value.shape}"
    return f"a {type(value).__name__}"
