"""Training that expects missing data: every epoch meets utterances of which parts are missing.

The corruptions are those of the robustness test, `msabench.corruption`, as in TFR-Net (Yuan et al.,
ACM MM 2021), which trains on them too; here the share varies from utterance to utterance. Whole
modalities may be absent: modality dropout (ModDrop, Neverova et al., TPAMI 2016). Validation and
prediction read the data as they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer

from msabench.corruption import mask_of
from msabench.networks.batches import Batch, moved
from msabench.training.schedule import Missing
from msabench.utterances import MODALITIES, Ragged, Utterances, mean_frames


def cached_copies(config: Mapping[str, Any], array: str) -> dict[str, Any]:
    """Name, as `missing`, the corrupted copies of an array that a run reads: networks.corrupted.

    config: of the plan. Without `missing`, or without text, there are none, and no such key.
    """
    settings = config.get("schedule", {}).get("missing")
    if settings is None or "text" not in config["modalities"]:
        return {}
    missing = Missing(**settings)
    shares = enumerate(missing.shares)
    arrays = {f"{array}-missing-{share:g}-{n}": share for n, share in shares if n > 0}
    empty = f"{array}-empty" if missing.absent else None
    return {"missing": {"arrays": arrays, "empty": empty}}


class TrainingData:
    """The training split as each epoch reads it.

    Each modality of an utterance has a level of its own, drawn uniformly from 0, which is intact,
    to `copies`. Missing frames are zeros, before any standardization, and drawn in each epoch.
    Missing tokens are those of the cached copy of that level. A modality that is absent as a whole
    is read as in prediction: the mean frame, or a text without a token. At least one of those that
    the utterance has stays.
    What is missing is a function of seed, epoch and the row of the utterance alone: not of batches,
    phases, processes, or where a training was resumed.
    """

    def __init__(self, train: Utterances, missing: Missing | None, seed: int) -> None:
        """missing: None to read the split as it is. Raises ValueError for texts without copies."""
        self.train = train
        self.missing = missing
        self.seed = seed
        if missing is None:
            return
        if missing.absent:
            read = {name: of for name, of in train.sequences.items() if of.mean_frame is None}
            self.train = train.imputed(mean_frames(train.select(read)))
        text = train.sequences.get("text")
        if text is not None and (
            len(text.copies) != missing.copies or (missing.absent and text.empty is None)
        ):
            raise ValueError(
                f"missing: {missing}; the texts have {len(text.copies)} corrupted copies, and "
                f"{'no' if text.empty is None else 'an'} empty text"
            )
        self._has = _has(train)

    def batch(self, rows: Integer[np.ndarray, " b"], epoch: int, device: torch.device) -> Batch:
        """Return the utterances of these rows of the split as an epoch reads them."""
        if self.missing is None:
            return Batch.of(self.train, rows, device)
        batch = Batch.of(self.of(rows, epoch), np.arange(len(rows)), device)
        return replace(batch, index=moved(rows, device))

    def of(self, rows: Integer[np.ndarray, " b"], epoch: int) -> Utterances:
        """Return the same as utterances, as a copy; an absent modality has no frames."""
        if self.missing is None:
            return self.train.take(rows)
        rngs = [self._rng(int(row), epoch) for row in rows]
        drawn = np.stack([rng.random(7) for rng in rngs])
        levels = (drawn[:, :3] * (self.missing.copies + 1)).astype(np.int64)
        absent = _all_but_one(drawn[:, 3:6] < self.missing.absent, self._has[rows], drawn[:, 6])
        sequences = {}
        for name, ragged in self.train.sequences.items():
            column = MODALITIES.index(name)
            own_levels, own_absent = levels[:, column], absent[:, column]
            if name == "text":
                sequences[name] = _text(ragged, rows, own_levels, own_absent)
            else:
                shares = np.array(self.missing.shares)[own_levels]
                sequences[name] = _frames(ragged.take(rows), shares, own_absent, rngs)
        return replace(self.train.select([]).take(rows), sequences=sequences)

    def _rng(self, row: int, epoch: int) -> np.random.Generator:
        # Of [seed, epoch, row], row 0 would have the RNG state that shuffles the batches.
        return np.random.default_rng(np.random.SeedSequence([self.seed, epoch], spawn_key=(row,)))


def _has(train: Utterances) -> Bool[np.ndarray, "n 3"]:
    """Return which modalities each utterance has, in the order of MODALITIES."""
    has = np.zeros((len(train), len(MODALITIES)), bool)
    for column, name in enumerate(MODALITIES):
        if name in train.sequences:
            has[:, column] = train.sequences[name].stored_lengths > 0
    has[:, 0] &= [bool(text.strip()) for text in train.texts]
    return has


def _all_but_one(
    absent: Bool[np.ndarray, "b 3"], has: Bool[np.ndarray, "b 3"], draws: Float[np.ndarray, " b"]
) -> Bool[np.ndarray, "b 3"]:
    """Return which modalities are absent, of those that utterances have: never all of them.

    draws: in 0..1; they choose the one that stays where all were to be absent.
    """
    absent = absent & has
    for i in np.flatnonzero(has.any(axis=1) & (absent == has).all(axis=1)):
        own = np.flatnonzero(has[i])
        absent[i, own[int(draws[i] * len(own))]] = False
    return absent


def _text(
    text: Ragged,
    rows: Integer[np.ndarray, " b"],
    levels: Integer[np.ndarray, " b"],
    absent: Bool[np.ndarray, " b"],
) -> Ragged:
    """Return of each text the copy of its level, or the empty text."""
    copies = [text, *text.copies]
    return Ragged.of(
        [
            text.empty if is_absent and text.empty is not None else copies[level][row]
            for row, level, is_absent in zip(rows, levels, absent, strict=True)
        ]
    )


def _frames(
    frames: Ragged,
    shares: Float[np.ndarray, " b"],
    absent: Bool[np.ndarray, " b"],
    rngs: Sequence[np.random.Generator],
) -> Ragged:
    """Return the frames, a share of each utterance's replaced by zeros; none of those absent.

    frames: a copy, which is changed. rngs: of each utterance, which draw those that are missing.
    """
    lengths = frames.stored_lengths
    drawn = [rng.random(length + 1) for rng, length in zip(rngs, lengths, strict=True)]
    order = np.concatenate([of_one[:-1] for of_one in drawn])
    rounding = np.array([of_one[-1] for of_one in drawn])
    frames.values[mask_of(lengths, shares, order, rounding)] = 0
    if not absent.any():
        return frames
    offsets = np.concatenate([[0], np.cumsum(np.where(absent, 0, lengths))])
    return replace(frames, values=frames.values[np.repeat(~absent, lengths)], offsets=offsets)
