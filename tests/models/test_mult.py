"""MulT: what it sees, and where; its numbers are compared with the published ones in
test_published.py, but for positions and dropout."""

import math
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
import torch

from msabench.models.mult import MulT
from msabench.networks.attention import Transformer, sinusoids, visible
from msabench.networks.batches import Batch, Padded
from msabench.networks.layers import Convolution, last_state
from msabench.networks.text import TextEncoder
from msabench.utterances import MODALITIES

WIDTHS = {"text": 8, "audio": 5, "vision": 4}
LENGTHS = {"text": [5, 2, 3, 1], "audio": [4, 7, 1, 3], "vision": [1, 2, 6, 4]}
SUBSETS = [names for size in (1, 2, 3) for names in combinations(MODALITIES, size)]


def mult(names=MODALITIES, **changes):
    torch.manual_seed(0)
    settings: dict[str, Any] = {"dim": 6, "heads": 2, "layers": 1}
    settings |= {"kernel": {"text": 3, "audio": 1, "vision": 2}}
    settings |= {"attention_dropout": {"text": 0.1, "audio": 0.2, "vision": 0.3}}
    settings |= {"text_dropout": 0.4, "embedding_dropout": 0.5, "relu_dropout": 0.6}
    settings |= {"residual_dropout": 0.7, "output_dropout": 0.8}
    encoder = TextEncoder(8) if "text" in names else None
    widths = {name: WIDTHS[name] for name in names}
    return MulT(encoder, widths, **settings | changes).double().eval()


def transformer_of(dim, *, causal=True, positions=True, embedding_dropout=0.0) -> Any:
    torch.manual_seed(0)
    return Transformer(
        dim,
        heads=2,
        layers=2,
        attention_dropout=0.0,
        embedding_dropout=embedding_dropout,
        relu_dropout=0.0,
        residual_dropout=0.0,
        causal=causal,
        positions=positions,
    ).double()


def padded(lengths, width, longest=None):
    """Random sequences, with noise behind their true lengths."""
    values = torch.randn(len(lengths), longest or max(lengths), width, dtype=torch.float64)
    of = Padded(values, torch.tensor(lengths))
    return Padded(torch.where(of.mask[..., None], values, 100 * values), of.lengths)


def batch_of(names=MODALITIES):
    torch.manual_seed(1)
    sequences = {name: padded(LENGTHS[name], WIDTHS[name]) for name in names}
    return Batch(torch.arange(4), torch.zeros(4, dtype=torch.float64), sequences)


@pytest.mark.parametrize("dim", [6, 4])
def test_an_utterance_alone_is_predicted_as_in_its_batch(dim):
    """Whatever its padding holds; the shortest are shorter than a window of the convolution.

    dim: 4 is vision's width, which then has no convolution.
    """
    network, batch = mult(dim=dim), batch_of()
    together = network(batch)
    for row in range(4):
        alone = {
            name: Padded(of.values[[row], : of.lengths[row]], of.lengths[[row]])
            for name, of in batch.sequences.items()
        }
        prediction = network(replace(batch, sequences=alone))
        torch.testing.assert_close(prediction, together[[row]], rtol=0, atol=1e-12)


@pytest.mark.parametrize("causal", [True, False])
def test_every_real_frame_is_seen_and_no_other(causal):
    network, batch = mult(causal=causal), batch_of()
    for of in batch.sequences.values():
        of.values.requires_grad_()
    network(batch).sum().backward()
    for of in batch.sequences.values():
        assert torch.equal((of.values.grad != 0).any(dim=2), of.mask)


def test_published_padding_is_seen():
    network = mult(pad_to={"text": 5, "audio": 7, "vision": 9})
    batch = batch_of()
    longer = {name: of.extended(9).unmasked() for name, of in batch.sequences.items()}
    same = {name: Padded(of.values, batch.sequences[name].lengths) for name, of in longer.items()}
    prediction = network(replace(batch, sequences=same))
    assert torch.equal(prediction, network(batch))
    assert not torch.allclose(prediction, mult()(batch))


def test_the_mask_by_hand():
    """Step i of the target sees step j <= i + |t - s| of the source, of the true lengths."""
    target = Padded(torch.zeros(3, 4, 1), torch.tensor([2, 4, 3]))
    source = Padded(torch.zeros(3, 4, 1), torch.tensor([3, 2, 3]))
    expected = [
        ["1100", "1110", "1110", "1110"],  # two steps see three; then padding
        ["1100", "1100", "1100", "1100"],  # four see two
        ["1000", "1100", "1110", "1110"],  # of equal lengths: none sees a later one
    ]
    by_hand = torch.tensor([[[c == "1" for c in row] for row in rows] for rows in expected])
    assert torch.equal(visible(target, source, causal=True), by_hand)
    real = source.mask[:, None].expand(-1, 4, -1)
    assert torch.equal(visible(target, source, causal=False), real)


@pytest.mark.parametrize("width", [4, 5, 12])
def test_positions_by_hand(width):
    half = width // 2
    expected = [
        [math.sin(p * 10000 ** (-k / (half - 1))) for k in range(half)]
        + [math.cos(p * 10000 ** (-k / (half - 1))) for k in range(half)]
        + [0.0] * (width % 2)
        for p in range(1, 8)
    ]
    actual = sinusoids(torch.zeros(2, 7, width, dtype=torch.float64))
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("positions", [True, False])
def test_positions_are_added_to_the_scaled_sequences(positions):
    transformer = transformer_of(6, positions=positions)
    seen = []
    transformer.embedding_dropout.register_forward_hook(lambda *hooked: seen.append(hooked[2]))
    target, source = padded([3, 2], 6), padded([5, 4], 6)
    transformer(target, source)
    transformer.end(target)
    for of, actual in zip((target, source, source, target), seen, strict=True):
        expected = 6**0.5 * of.values + (sinusoids(of.values) if positions else 0)
        torch.testing.assert_close(actual, expected)


def test_positions_are_on_but_where_a_setting_says_more():
    assert all(part.positions for part in mult().modules() if isinstance(part, Transformer))
    without = mult(positions=False).modules()
    assert not any(part.positions for part in without if isinstance(part, Transformer))


@pytest.mark.parametrize("positions", [True, False])
def test_without_positions_the_order_of_frames_is_unknown(positions):
    """But for the last frame, which is read, and where the mask is not causal."""
    network = mult(("audio", "vision"), positions=positions, causal=False, dim=4)
    batch = batch_of(("audio", "vision"))
    audio = batch.sequences["audio"]
    values = audio.values.clone()
    values[:2, [0, 1]] = values[:2, [1, 0]]
    swapped = network(
        replace(batch, sequences=batch.sequences | {"audio": replace(audio, values=values)})
    )
    assert torch.allclose(swapped[:2], network(batch)[:2], rtol=0, atol=1e-9) != positions


@pytest.mark.parametrize("names", SUBSETS, ids="+".join)
def test_any_subset_of_the_modalities(names):
    network = mult(names).train()
    predictions = network(batch_of(names))
    assert predictions.shape == (4,)
    assert torch.isfinite(predictions).all()
    predictions.sum().backward()
    assert all(weight.grad.isfinite().all() for weight in network.parameters())
    assert len(network.crossmodal) == len(names) * (len(names) - 1)
    assert network.out.in_features == 6 * len(names) * max(len(names) - 1, 1)


def test_a_modality_of_the_common_width_has_no_convolution():
    network = mult(dim=4, heads=2)
    assert list(network.convolutions) == ["text", "audio"]
    assert network(batch_of()).isfinite().all()


def test_a_convolution_has_windows_of_real_frames():
    convolution = Convolution(3, 2, 3).double()
    of = padded([5, 3, 1], 3, longest=6)
    windows = convolution(of)
    assert windows.lengths.tolist() == [3, 1, 1]
    for row, length in enumerate([5, 3, 1]):
        frames = torch.zeros(max(length, 3), 3, dtype=torch.float64)
        frames[:length] = of.values[row, :length]
        by_hand = torch.stack(
            [
                torch.einsum("oik,ki->o", convolution.convolution.weight, frames[i : i + 3])
                for i in range(len(frames) - 2)
            ]
        )
        torch.testing.assert_close(windows.values[row, : len(by_hand)], by_hand)


def test_padding_has_finite_states():
    transformer = transformer_of(6)
    for target, source in [([1, 7], [7, 1]), ([7, 7], [1, 1])]:
        states = transformer(padded(target, 6), padded(source, 6)).values
        assert states.isfinite().all()


@pytest.mark.parametrize("causal", [True, False])
def test_the_end_is_the_last_state_of_all_layers(causal):
    transformer = transformer_of(6, causal=causal)
    sequence = padded([4, 1, 6], 6)
    seen = visible(sequence, sequence, causal=causal)[:, None]
    mask = torch.zeros_like(seen, dtype=torch.float64).masked_fill(~seen, -torch.inf)
    states = transformer._scaled(sequence)
    for layer in transformer.layers:
        states = layer(states, None, mask)
    expected = last_state(transformer.norm(states), sequence)
    torch.testing.assert_close(transformer.end(sequence), expected, rtol=0, atol=1e-12)


def test_every_dropout_has_its_rate():
    network = mult()
    assert network.text_dropout.p == 0.4
    assert network.residual[2].p == 0.8
    rates = {"text": 0.1, "audio": 0.2, "vision": 0.3}
    pairs = [(part, rates[name.split("_")[-1]]) for name, part in network.crossmodal.items()]
    for transformer, rate in [*pairs, *((own, 0.1) for own in network.self_attention.values())]:
        assert transformer.embedding_dropout.p == 0.5
        for layer in transformer.layers:
            assert layer.attention.dropout.p == rate
            assert layer.feedforward[2].p == 0.6
            assert layer.dropout.p == 0.7


def test_keys_and_values_are_dropped_apart():
    transformer = transformer_of(6, embedding_dropout=0.5)
    seen = []
    transformer.embedding_dropout.register_forward_hook(lambda *hooked: seen.append(hooked[2]))
    source = padded([40], 6)
    transformer(padded([3], 6), source)
    _, keys, values = seen
    assert not torch.equal(keys == 0, values == 0)


def test_the_start_of_the_weights():
    """The projection is drawn as one matrix, (3 e, e), which is smaller than three would be."""
    layer = transformer_of(60).layers[0]
    fans = {layer.attention.projection: 240, layer.attention.out: 120}
    fans |= {layer.feedforward[0]: 300, layer.feedforward[3]: 300}
    for linear, fan in fans.items():
        assert linear.weight.abs().max().item() == pytest.approx((6 / fan) ** 0.5, rel=0.01)
        assert not linear.bias.any()


@pytest.mark.parametrize(("dim", "expected"), [(7, "multiple of heads, 2"), (2, "at least 4")])
def test_a_width_that_does_not_fit_is_named(dim, expected):
    with pytest.raises(ValueError, match=rf"^dim: {dim}; it should be .*{expected}") as raised:
        mult(dim=dim)
    assert "\n" not in str(raised.value)
    assert mult(dim=2, positions=False)(batch_of()).isfinite().all()
