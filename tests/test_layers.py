"""Each layer must see the real frames and nothing else."""

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from msabench.networks.batches import Padded
from msabench.networks.layers import (
    BatchNorm,
    FinalHiddenState,
    Standardize,
    pool,
    segment_means,
)
from msabench.utterances import Ragged


def noisy_padding(lengths, width, longest):
    """Random sequences whose padding is full of large noise."""
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(len(lengths), longest, width, generator=generator, dtype=torch.float64)
    for row, length in zip(values, lengths, strict=True):
        row[length:] *= 1e3
    return Padded(values, torch.tensor(lengths))


def in_packed(layer):
    """The parameters of a FinalHiddenState by the names that PyTorch's LSTM gives them."""
    return {
        name.partition(".")[2] + ("_reverse" if name.startswith("backwards.") else ""): parameter
        for name, parameter in layer.named_parameters()
    }


def packed_like(layer):
    """PyTorch's LSTM with the weights of a FinalHiddenState of width 4 and hidden size 6."""
    bidirectional = layer.backwards is not None
    packed = torch.nn.LSTM(4, 6, batch_first=True, bidirectional=bidirectional).double()
    packed.load_state_dict({name: own.detach() for name, own in in_packed(layer).items()})
    return packed


@pytest.mark.parametrize("bidirectional", [False, True])
def test_final_hidden_state_equals_packed_sequences(bidirectional):
    """Values and gradients equal those of a packed LSTM, whatever the padding holds."""
    torch.manual_seed(0)
    sequence = noisy_padding([5, 1, 9, 3], width=4, longest=11)
    layer = FinalHiddenState(4, 6, bidirectional=bidirectional).double()
    packed = packed_like(layer)
    _, (end, _) = packed(
        pack_padded_sequence(
            sequence.values, sequence.lengths, batch_first=True, enforce_sorted=False
        )
    )
    expected = end.transpose(0, 1).flatten(1)
    actual = layer(sequence)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
    actual.square().sum().backward()
    expected.square().sum().backward()
    for name, own in in_packed(layer).items():
        parameter = packed.get_parameter(name)
        torch.testing.assert_close(own.grad, parameter.grad, rtol=1e-10, atol=1e-10)


def test_states_of_both_directions_equal_packed_sequences():
    torch.manual_seed(0)
    sequence = noisy_padding([5, 1, 9], width=4, longest=11)
    layer = FinalHiddenState(4, 6, bidirectional=True).double()
    packed = packed_like(layer)
    lengths = sequence.lengths
    output, (end, _) = packed(
        pack_padded_sequence(sequence.values, lengths, batch_first=True, enforce_sorted=False)
    )
    expected, _ = pad_packed_sequence(output, batch_first=True, total_length=11)
    states, ends = layer.states_and_ends(sequence)
    torch.testing.assert_close(states.values[states.mask], expected[states.mask])
    torch.testing.assert_close(torch.stack(ends), end)


def test_batch_norm_of_one_utterance_is_by_the_running_statistics():
    """Which stay as they are; larger batches are those of PyTorch."""
    layer, theirs = BatchNorm(3), torch.nn.BatchNorm1d(3)
    batch, one = torch.randn(2, 5, 3)[0], torch.randn(1, 3)
    torch.testing.assert_close(layer(batch), theirs(batch))
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    torch.testing.assert_close(layer(one), theirs.eval()(one))
    torch.testing.assert_close(layer.state_dict(), before, rtol=0, atol=0)


def test_pool():
    sequence = noisy_padding([2, 3], width=2, longest=5)
    by_hand = torch.stack([sequence.values[0, :2].mean(0), sequence.values[1, :3].mean(0)])
    torch.testing.assert_close(pool(sequence.values, sequence, "mean"), by_hand)
    torch.testing.assert_close(pool(sequence.values, sequence, "cls"), sequence.values[:, 0])


@pytest.mark.parametrize("length", [1, 2, 3, 4, 7, 20])
def test_segment_means_equal_adaptive_average_pooling(length):
    """PyTorch's adaptive pooling over the real frames alone has the same segments."""
    sequence = noisy_padding([length], width=3, longest=length + 4)
    real = sequence.values[:, :length].transpose(1, 2)
    expected = torch.nn.functional.adaptive_avg_pool1d(real, 4)
    torch.testing.assert_close(segment_means(sequence, 4), expected)


def test_standardize():
    """Frames get zero mean and unit variance; a constant feature becomes zero, not infinite."""
    rng = np.random.default_rng(0)
    values = rng.normal([0.0, 300.0, 7.0], [1.0, 1e4, 0.0], size=(500, 3)).astype(np.float32)
    layer = Standardize(3)
    layer.fit_statistics(Ragged(values, np.array([0, 200, 500])))
    actual = layer(Padded(torch.from_numpy(values)[None], torch.tensor([500]))).values[0]
    np.testing.assert_allclose(actual.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(actual.std(0), [1, 1, 0], atol=2e-3)
