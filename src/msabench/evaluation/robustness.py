"""Corrupted inputs: frames and tokens that are missing or wrong, to some level and by chance.

A missing frame is a vector of zeros, a missing token is [UNK], and every length stays (TFR-Net,
Yuan et al., ACM MM 2021). With chance in the same state, a higher level corrupts what a lower one
does, and more.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float, Integer

from msabench.utterances import Ragged

SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # of the frames or tokens of each utterance
DEVIATIONS = (0.0, 0.5, 1.0, 2.0, 4.0)  # standard deviations of a feature

# What is corrupted, `<modality>_<how>`, and how much.
LEVELS: Mapping[str, tuple[float, ...]] = {
    "text_missing": SHARES,
    "audio_missing": SHARES,
    "vision_missing": SHARES,
    "text_noise": SHARES,
    "audio_noise": DEVIATIONS,
    "vision_noise": DEVIATIONS,
}


def lose_frames(frames: Ragged, share: float, rng: np.random.Generator) -> Ragged:
    """Return the frames, a share of each utterance's replaced by zeros."""
    lost = choose(frames.lengths, share, rng)
    return Ragged(np.where(lost[:, None], np.float32(0), frames.values), frames.offsets)


def add_noise(
    frames: Ragged, std: Float[np.ndarray, " d"], deviations: float, rng: np.random.Generator
) -> Ragged:
    """Return the frames with Gaussian noise of so many standard deviations of each feature."""
    noise = rng.standard_normal(frames.values.shape, dtype=np.float32)
    noise *= (deviations * std).astype(np.float32)
    noise += frames.values
    return Ragged(noise, frames.offsets)


def lose_tokens(tokens: Ragged, share: float, rng: np.random.Generator, unknown: int) -> Ragged:
    """Return the tokens, a share of each text's replaced by the unknown one.

    The first and the last, [CLS] and [SEP], are no words and stay.
    """
    values, inner = np.array(tokens.values), _inner(tokens)
    lost = choose(tokens.lengths - 2, share, rng)
    values[inner] = np.where(lost, np.int32(unknown), values[inner])
    return Ragged(values, tokens.offsets)


def replace_tokens(tokens: Ragged, share: float, rng: np.random.Generator) -> Ragged:
    """Return the tokens, a share of each text's replaced by random ones of all these texts.

    The first and the last, [CLS] and [SEP], are no words and stay.
    """
    values, inner = np.array(tokens.values), _inner(tokens)
    wrong = choose(tokens.lengths - 2, share, rng)
    values[inner] = np.where(wrong, rng.permutation(values[inner]), values[inner])
    return Ragged(values, tokens.offsets)


def choose(
    lengths: Integer[np.ndarray, " n"], share: float, rng: np.random.Generator
) -> Bool[np.ndarray, " total"]:
    """Choose a share of each sequence by chance, rounded to whole elements; they lie end to end."""
    sequence = np.repeat(np.arange(len(lengths)), lengths)
    order = np.lexsort((rng.random(len(sequence)), sequence))
    rank = np.empty(len(sequence), dtype=np.int64)  # of each element in its sequence
    rank[order] = np.arange(len(sequence)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return rank < np.rint(share * lengths)[sequence]


def _inner(tokens: Ragged) -> Bool[np.ndarray, " total"]:
    """Tell the tokens that are neither first nor last of their text."""
    inner = np.ones(len(tokens.values), dtype=bool)
    inner[tokens.offsets[:-1]] = inner[tokens.offsets[1:] - 1] = False
    return inner
