"""Batches: every utterance once, neighbours of similar length, padding by hand."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from msabench.networks.batches import (
    POOL,
    Batch,
    Padded,
    cost,
    length_bucketed,
    loaded,
    sorted_by_length,
)
from msabench.utterances import Ragged, Utterances
from tests.conftest import random_utterances, until

lengths_of = arrays(np.int64, st.integers(0, 200), elements=st.integers(1, 500))


@given(lengths_of, st.integers(1, 20), st.integers(0, 5))
def test_shuffled_has_every_utterance_once(lengths, batch_size, seed):
    batches = length_bucketed(lengths, batch_size, np.random.default_rng(seed))
    rows = [i for batch in batches for i in batch.tolist()]
    assert sorted(rows) == list(range(len(lengths)))
    sizes = sorted(len(batch) for batch in batches)
    assert all(size == batch_size for size in sizes[1:])
    assert not sizes or 0 < sizes[0] <= batch_size


@given(lengths_of, st.integers(1, 20))
def test_sorted_by_length(lengths, batch_size):
    batches = list(sorted_by_length(lengths, batch_size))
    rows = [i for batch in batches for i in batch.tolist()]
    assert sorted(rows) == list(range(len(lengths)))
    assert (np.diff(lengths[rows]) <= 0).all()
    assert all(len(batch) == batch_size for batch in batches[:-1])


def test_shuffled_is_a_function_of_the_generator():
    lengths = np.arange(1, 101)
    first, same, other = (length_bucketed(lengths, 8, np.random.default_rng(i)) for i in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(first, same, strict=True))
    assert any(set(a.tolist()) != set(b.tolist()) for a, b in zip(first, other, strict=True))


def padding_share(lengths, batches):
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    return 1 - lengths.sum() / padded


def test_shuffled_pads_little_and_in_no_order_of_length():
    rng = np.random.default_rng(0)
    lengths = np.ceil(rng.lognormal(4, 0.6, size=4000)).astype(np.int64)
    order = rng.permutation(len(lengths))
    random = [order[start : start + 32] for start in range(0, len(order), 32)]
    batches = length_bucketed(lengths, 32, rng)
    assert padding_share(lengths, batches) < padding_share(lengths, random) / 3
    # The batches themselves are in random order: an epoch does not go from short to long.
    first = np.array([lengths[batch].mean() for batch in batches[: 2 * POOL]])
    assert not (np.diff(first[:POOL]) > 0).all()
    assert abs(np.corrcoef(first, np.arange(2 * POOL))[0, 1]) < 0.6


def test_batch_equals_the_one_made_by_hand():
    data = Utterances(
        ids=["a", "b", "c"],
        texts=["", "", ""],
        labels=np.array([1.0, -2.0, 0.5], dtype=np.float32),
        sequences={
            "text": Ragged.of([np.array(ids, dtype=np.int32) for ids in ([5], [6, 7], [8])]),
            "audio": Ragged.of(
                [np.array(v, dtype=np.float32) for v in ([[1, 2]], [[3, 4]], [[5, 6], [7, 8]])]
            ),
        },
    )
    batch = Batch.of(data, np.array([2, 1]), torch.device("cpu"))
    assert batch.index.tolist() == [2, 1]
    assert batch.labels.tolist() == [0.5, -2.0]
    text, audio = batch.sequences["text"], batch.sequences["audio"]
    assert text.values.tolist() == [[8, 0], [6, 7]]
    assert text.lengths.tolist() == [1, 2]
    assert audio.values.tolist() == [[[5, 6], [7, 8]], [[3, 4], [0, 0]]]
    assert audio.lengths.tolist() == [2, 1]


def test_extended_and_unmasked():
    """Zeros behind the real frames, whatever lay there; cut sequences are all real."""
    values = torch.arange(12.0).reshape(2, 3, 2) + 1
    padded = Padded(values, torch.tensor([1, 3]))
    longer = padded.extended(5)
    assert longer.values.shape == (2, 5, 2)
    torch.testing.assert_close(longer.values[longer.mask], values[padded.mask])
    assert not longer.values[~longer.mask].any()
    assert longer.lengths.tolist() == [1, 3]
    assert longer.unmasked().lengths.tolist() == [5, 5]
    assert longer.unmasked().values is longer.values
    cut = padded.extended(2)
    assert cut.lengths.tolist() == [1, 2]
    torch.testing.assert_close(cut.values, values[:, :2] * cut.mask[..., None])
    ids = Padded(torch.tensor([[5, 6], [7, 9]]), torch.tensor([2, 1])).extended(3)
    assert ids.values.tolist() == [[5, 6, 0], [7, 0, 0]]


def test_mask():
    padded = Padded(torch.zeros(3, 4, 2), torch.tensor([1, 4, 2]))
    assert padded.mask.int().tolist() == [[1, 0, 0, 0], [1, 1, 1, 1], [1, 1, 0, 0]]


@pytest.mark.parametrize("modalities", [["audio"], ["audio", "vision"], []])
def test_cost_without_text_counts_the_frames(modalities):
    data = random_utterances(n=5).select(modalities)
    for i, frames in enumerate(cost(data)):
        assert frames == sum(len(ragged[i]) for ragged in data.sequences.values())


def test_cost_orders_by_tokens_and_equals_by_frames():
    data = random_utterances(n=60, text_tokens=8)
    text = data.sequences["text"].lengths
    frames = data.sequences["audio"].lengths + data.sequences["vision"].lengths
    order = np.argsort(cost(data), kind="stable")
    np.testing.assert_array_equal(order, np.lexsort((frames, text)))


@pytest.mark.parametrize("parts", [[], [1], [1, 2, 3, 4]])
def test_for_a_gpu_the_next_batch_is_made_while_one_is_used(parts):
    begun: list[int] = []

    def load(part):
        begun.append(part)
        return 10 * part

    batches: list[Any] = []
    for batch in loaded(load, parts, torch.device("cuda")):
        until(lambda: len(begun) == min(len(batches) + 2, len(parts)))
        batches.append(batch)
    assert batches == [10 * part for part in parts]
    assert begun == parts


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_a_batch_that_cannot_be_made_is_told_when_it_is_due(kind):
    def load(part):
        if part == 2:
            raise MemoryError("of part 2")
        return part

    batches = loaded(load, [1, 2, 3], torch.device(kind))
    assert next(batches) == 1
    with pytest.raises(MemoryError, match="of part 2"):
        next(batches)
