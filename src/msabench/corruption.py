"""Corrupted inputs: random frames and tokens that are missing or wrong, to some level.

A missing frame is a vector of zeros, a missing token is [UNK], and every length stays (TFR-Net,
Yuan et al., ACM MM 2021). Where an utterance lacks the modality, what is imputed stays. With an RNG
in the same state, a higher level corrupts a superset of what a lower one does.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, Integer

from msabench.utterances import Ragged


def drop_frames(frames: Ragged, share: float, rng: np.random.Generator) -> Ragged:
    """Return the frames, a share of each utterance's replaced by zeros."""
    dropped = random_mask(frames.stored_lengths, share, rng)
    return replace(frames, values=np.where(dropped[:, None], np.float32(0), frames.values))


def add_noise(
    frames: Ragged, std: Float[np.ndarray, " d"], deviations: float, rng: np.random.Generator
) -> Ragged:
    """Return the frames with Gaussian noise of so many standard deviations of each feature."""
    noise = rng.standard_normal(frames.values.shape, dtype=np.float32)
    noise *= (deviations * std).astype(np.float32)
    noise += frames.values
    return replace(frames, values=noise)


def drop_tokens(tokens: Ragged, share: float, rng: np.random.Generator, unknown: int) -> Ragged:
    """Return the tokens, a share of each text's, without [CLS] and [SEP], set to `unknown`."""
    values, inner = np.array(tokens.values), _inner(tokens)
    dropped = random_mask(tokens.lengths - 2, share, rng)
    values[inner] = np.where(dropped, np.int32(unknown), values[inner])
    return Ragged(values, tokens.offsets)


def replace_tokens(tokens: Ragged, share: float, rng: np.random.Generator) -> Ragged:
    """Return the tokens, a share of each text's, without [CLS] and [SEP], taken from any text."""
    values, inner = np.array(tokens.values), _inner(tokens)
    replaced = random_mask(tokens.lengths - 2, share, rng)
    values[inner] = np.where(replaced, rng.permutation(values[inner]), values[inner])
    return Ragged(values, tokens.offsets)


def random_mask(
    lengths: Integer[np.ndarray, " n"], share: float, rng: np.random.Generator
) -> Bool[np.ndarray, " total"]:
    """Return a random mask of a share of each sequence, end to end.

    The share is rounded to whole elements, up or down by chance, so that it is met on average: of
    sequences of one element it is the share that is masked.
    """
    return mask_of(lengths, share, rng.random(lengths.sum()), rng.random(len(lengths)))


def mask_of(
    lengths: Integer[np.ndarray, " n"],
    share: float | Float[np.ndarray, " n"],
    order: Float[np.ndarray, " total"],
    rounding: Float[np.ndarray, " n"],
) -> Bool[np.ndarray, " total"]:
    """Return random_mask of numbers in 0..1 that were drawn before; share: one, or of each.

    order: the elements of a sequence with the lowest are masked. rounding: what is added to the
    share in elements, before it is rounded down.
    """
    sequence = np.repeat(np.arange(len(lengths)), lengths)
    rank = np.empty(len(sequence), dtype=np.int64)  # of each element in its sequence
    first = np.repeat(np.cumsum(lengths) - lengths, lengths)
    rank[np.lexsort((order, sequence))] = np.arange(len(sequence)) - first
    return rank < np.floor(share * lengths + rounding)[sequence]


def _inner(tokens: Ragged) -> Bool[np.ndarray, " total"]:
    """Return the mask of the tokens that are neither first nor last of their text."""
    inner = np.ones(len(tokens.values), dtype=bool)
    inner[tokens.offsets[:-1]] = inner[tokens.offsets[1:] - 1] = False
    return inner
