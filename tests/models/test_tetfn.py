"""TETFN: what the numbers of the published code, in test_published.py, cannot show: dropout, own
kernels, subsets of modalities, frames that are averaged, and what is seen of padding."""

from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import conv1d

from msabench.models.tetfn import TETFN, TextEnhanced, maximum
from msabench.networks.attention import Transformer, ends, pairs
from msabench.networks.batches import Batch, Padded
from msabench.networks.sequences import Sequences, averaged
from msabench.networks.text import TextEncoder, build_encoder
from msabench.training.unimodal import FUSION, AdamByGroup
from msabench.utterances import MODALITIES, Utterances

WIDTHS = {"text": 8, "audio": 5, "vision": 4}
LENGTHS = {"text": [5, 2, 3, 1], "audio": [4, 7, 1, 3], "vision": [1, 2, 6, 4]}
SUBSETS = [names for size in (1, 2, 3) for names in combinations(MODALITIES, size)]
POST: Any = {"fusion": 6, "text": 5, "audio": 3, "vision": 4}


def tetfn(names=MODALITIES, encoder=None, **changes):
    torch.manual_seed(0)
    settings: dict[str, Any] = {"dim": 6, "heads": 2, "layers": 2, "post_dim": POST}
    settings |= {"kernel": {"text": 3, "audio": 1, "vision": 2}}
    settings |= {"lstm_dim": {"audio": 3, "vision": 5}}
    settings |= {"attention_dropout": {"text": 0.1, "audio": 0.2, "vision": 0.3}}
    settings |= {"embedding_dropout": 0.4, "relu_dropout": 0.5, "residual_dropout": 0.6}
    settings |= {"dropout": {"fusion": 0.15, "text": 0.25, "audio": 0.35, "vision": 0.45}}
    if "text" in names:
        encoder = encoder or TextEncoder(WIDTHS["text"])
    widths = {name: WIDTHS[name] for name in names}
    return TETFN(encoder, widths, **settings | changes).double().eval()


def padded(lengths, width):
    """Random sequences, with noise behind their true lengths."""
    values = torch.randn(len(lengths), max(lengths), width, dtype=torch.float64)
    of = Padded(values, torch.tensor(lengths))
    return Padded(torch.where(of.mask[..., None], values, 100 * values), of.lengths)


def batch_of(names=MODALITIES):
    torch.manual_seed(1)
    sequences = {name: padded(LENGTHS[name], WIDTHS[name]) for name in names}
    labels = torch.tensor([1.0, -2.0, 0.0, 3.0], dtype=torch.float64)
    return Batch(torch.arange(4), labels, sequences)


def alone(batch, row):
    """One utterance without its padding."""
    sequences = {
        name: Padded(of.values[[row], : of.lengths[row]], of.lengths[[row]])
        for name, of in batch.sequences.items()
    }
    return replace(batch, sequences=sequences)


def test_every_task_of_an_utterance_alone_is_predicted_as_in_its_batch():
    """Whatever its padding holds; the shortest are shorter than a window of the convolution."""
    network, batch = tetfn(), batch_of()
    together = network.outputs(batch)
    for row in range(4):
        one = network.outputs(alone(batch, row))
        for task, values in together.features.items():
            torch.testing.assert_close(one.features[task], values[[row]], rtol=0, atol=1e-12)
            actual, expected = one.predictions[task], together.predictions[task][[row]]
            torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


def test_published_padding_is_seen():
    pad_to: Any = {"text": 5, "audio": 7, "vision": 9}
    network, batch = tetfn(pad_to=pad_to), batch_of()
    same = {n: replace(of.extended(12), lengths=of.lengths) for n, of in batch.sequences.items()}
    assert torch.equal(network(replace(batch, sequences=same)), network(batch))
    assert not torch.allclose(network(batch), tetfn()(batch))
    for task in MODALITIES:  # in the maxima too
        padded_too = network.outputs(batch).features[task]
        assert not torch.allclose(padded_too, tetfn().outputs(batch).features[task])


def test_the_maximum_by_hand():
    values = torch.tensor([[[-1.0, -5.0], [-2.0, -4.0], [9.0, 9.0]]])
    assert maximum(Padded(values, torch.tensor([2]))).tolist() == [[-1.0, -4.0]]


def test_vision_has_its_own_kernel_but_as_published():
    assert kernels(tetfn()) == {"text": 3, "audio": 1, "vision": 2}
    assert kernels(tetfn(vision_kernel_of_audio=True)) == {"text": 3, "audio": 1, "vision": 1}


def kernels(network):
    return {"text": network.convolutions.text.kernel} | {
        name: part.windows.kernel for name, part in network.frames.items()
    }


def test_frames_are_read_by_an_lstm_and_then_a_convolution():
    """Of the states at real frames; a shorter sequence is filled with zeros behind the LSTM."""
    part, of = tetfn().frames.vision, batch_of().sequences["vision"]
    windows = part(of)
    assert windows.lengths.tolist() == [1, 1, 5, 3]
    for row, length in enumerate(of.lengths):
        states, _ = part.lstm.forwards(of.values[[row], :length])
        filled = torch.cat([states, states.new_zeros(1, max(2 - int(length), 0), 5)], dim=1)
        by_hand = conv1d(filled.transpose(1, 2), part.windows.convolution.weight)
        actual = windows.values[row, : windows.lengths[row]]
        torch.testing.assert_close(actual, by_hand[0].T)


def test_text_stands_between_audio_and_vision():
    """Each pair of the two reads what the source has read of the text, with positions."""
    network, batch = tetfn(), batch_of()
    read = {name: padded(LENGTHS[name], 6) for name in MODALITIES}
    for target, source in (("audio", "vision"), ("vision", "audio")):
        layer = network.crossmodal[f"{target}_with_{source}"]
        expected = layer.upper(read[target], layer.lower(read[source], read["text"]))
        actual = network._with(read, target, source)
        torch.testing.assert_close(actual.values, expected.values)
        assert len(layer.lower.layers) == 1
        assert len(layer.upper.layers) == 2
    assert network(batch).isfinite().all()


@pytest.mark.parametrize("names", [MODALITIES, ("audio", "vision")], ids="+".join)
def test_positions_are_where_text_is_on_no_side(names):
    network = tetfn(names)
    for name, layer in network.crossmodal.items():
        for part in layer.modules():
            if isinstance(part, Transformer):
                assert part.positions == ("text" not in name)
    assert not any(own.positions for own in network.self_attention.values())


@pytest.mark.parametrize("names", SUBSETS, ids="+".join)
def test_any_subset_of_the_modalities(names):
    """Without text, audio and vision read each other; one alone reads itself."""
    network = tetfn(names).train()
    predictions = network.outputs(batch_of(names)).predictions
    assert [*predictions] == [*network.heads] == [FUSION, *names]
    torch.stack([*predictions.values()]).sum().backward()
    assert all(weight.grad.isfinite().all() for weight in network.parameters())
    assert len(network.crossmodal) == len(names) * (len(names) - 1)
    assert network.heads.fusion.layer1.in_features == 6 * len(names) * max(len(names) - 1, 1)
    enhanced = [part for part in network.modules() if isinstance(part, TextEnhanced)]
    assert len(enhanced) == 2 * ({"audio", "vision"} <= {*names})
    assert all((part.lower is None) == ("text" not in names) for part in enhanced)


def test_the_order_of_the_modalities_does_not_matter():
    batch = batch_of()
    other = replace(batch, sequences=dict(reversed(batch.sequences.items())))
    assert torch.equal(tetfn()(other), tetfn()(batch))


def test_results_stand_side_by_side_in_the_order_of_the_modalities():
    """Of a target with each source; the last real steps likewise."""
    seen = []

    class Ends(torch.nn.Module):
        def end(self, sequence):
            seen.append(sequence.values[:, 0].tolist())
            return sequence.values[:, 0]

    two = torch.tensor([2])
    sequences = {name: Padded(torch.zeros(1, 2, 1), two) for name in MODALITIES}
    codes = dict(zip(pairs(MODALITIES, lambda *_: torch.nn.Identity()), range(6), strict=True))

    def read(target, source):
        return Padded(torch.full((1, 2, 1), float(codes[f"{target}_with_{source}"])), two)

    own = torch.nn.ModuleDict({name: Ends() for name in MODALITIES})
    assert ends(sequences, read, own).tolist() == [[0, 1, 2, 3, 4, 5]]
    assert list(codes)[:3] == ["text_with_audio", "text_with_vision", "audio_with_text"]
    assert seen == [[[0, 1]], [[2, 3]], [[4, 5]]]


@pytest.mark.parametrize(
    ("frames", "steps", "expected"),
    [
        ([1, 2, 3, 4, 5], 2, [2, (4 + 5 + 5) / 3]),  # three frames to a step, the last one twice
        ([1, 2, 3, 4], 2, [1.5, 3.5]),
        ([1, 2, 3], 3, [1, 2, 3]),
        ([1, 2], 4, [1, 2, 2, 2]),
        ([1, 2, 3, 4, 5, 6, 7], 5, [1.5, 3.5, 5.5, 7, 7]),
    ],
)
def test_averaged_frames_by_hand(frames, steps, expected):
    values = torch.tensor(frames, dtype=torch.float64)[None, :, None]
    of = averaged(values, steps)
    torch.testing.assert_close(of.values[0, :, 0], torch.tensor(expected, dtype=torch.float64))
    assert of.lengths.tolist() == [steps]


def test_published_frames_are_padded_and_averaged_to_the_steps_of_the_text():
    """With zeros for padding; those of a text are as they are, and none without the setting."""
    pad_to: Any = {"text": 3, "audio": 8, "vision": 3}
    network, batch = tetfn(pad_to=pad_to), batch_of()
    read = network.sequences(batch.sequences, network.encoder)
    for name, of in read.items():
        expected = batch.sequences[name].extended(pad_to[name]).values
        if name == "audio":
            last = expected[:, 7]
            thirds = [expected[:, :3], expected[:, 3:6], expected[:, 6:]]
            means = [third.sum(dim=1) / 3 for third in thirds]
            expected = torch.stack([*means[:2], means[2] + last / 3], dim=1)
        torch.testing.assert_close(of.values, expected)
        assert of.lengths.tolist() == [3] * 4
    as_they_are = tetfn().sequences(batch.sequences, None)
    assert all(as_they_are[name] is batch.sequences[name] for name in ("audio", "vision"))
    padded_alone = Sequences(None, {}, standardize=False, pad_to=pad_to)
    assert padded_alone(batch.sequences, None)["audio"].values.shape[1] == 8


def test_published_padding_of_the_text_has_states_of_the_encoder(tiny_bert):
    """Of its own tokens of id 0, which attend to real ones; these do not attend to them."""
    encoder = build_encoder(tiny_bert, "all", "cls", 1).eval()
    ids = Padded(torch.tensor([[2, 4, 3], [2, 3, 9]]), torch.tensor([3, 2]))
    pad_to: Any = {"text": 5, "audio": 1, "vision": 1}
    sequences = Sequences(encoder, {"text": 8}, standardize=False, pad_to=pad_to)
    states = sequences({"text": ids}, encoder)["text"]
    assert states.lengths.tolist() == [5, 5]
    expected = encoder.states(Padded(torch.tensor([[2, 3, 0, 0, 0]]), torch.tensor([2])))
    torch.testing.assert_close(states.values[1], expected.values[0])
    assert states.values[1, 2:].abs().min() > 0


def test_every_dropout_has_its_rate():
    network = tetfn()
    rates = {"text": 0.1, "audio": 0.2, "vision": 0.3}
    for name, layer in network.crossmodal.items():
        for part in layer.modules():
            if isinstance(part, Transformer):
                assert_rates(part, rates[name.split("_")[-1]] if "text" in name else 0.1)
    for own in network.self_attention.values():
        assert_rates(own, 0.1)
    heads = {task: head.dropout.p for task, head in network.heads.items()}
    assert heads == {"fusion": 0.15, "text": 0.25, "audio": 0.35, "vision": 0.45}


def assert_rates(transformer, of_attention):
    assert transformer.embedding_dropout.p == 0.4
    for layer in transformer.layers:
        assert layer.attention.dropout.p == of_attention
        assert layer.feedforward[2].p == 0.5
        assert layer.dropout.p == 0.6


def test_the_groups_of_the_optimizer(tiny_bert):
    """LSTM and convolution of a modality have its rate; what is of the text alone but the encoder,
    attention and heads have the other. Biases and LayerNorms of the encoder alone do not decay."""
    rates: Any = {"text": 2e-3, "audio": 5e-3, "vision": 1e-3, "other": 4e-3}
    decays: Any = {"text": 0.3, "audio": 0.1, "vision": 0.2, "other": 0.4}
    network = tetfn(encoder=build_encoder(tiny_bert, "all", "cls", 1))
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    groups = network.parameter_groups(AdamByGroup(lr=rates, weight_decay=decays))
    members = [names[id(weight)] for group in groups for weight in group["params"]]
    assert sorted(members) == sorted(names.values())
    for group in groups:
        name = group["name"].removesuffix(" without decay")
        assert group["lr"] == rates[name]
        assert group["weight_decay"] == (decays[name] if name == group["name"] else 0)
        assert not group["decoupled_weight_decay"]
        for weight in group["params"]:
            of = names[id(weight)].split(".")
            expected = {"encoder": "text", "frames": of[1]}.get(of[0], "other")
            vector = expected == "text" and weight.ndim == 1
            assert group["name"] == expected + " without decay" * vector


@pytest.mark.parametrize(
    ("changes", "clamp"),
    [
        ({}, (-3.0, 3.0)),
        ({"label_range": (-1.0, 1.0)}, (-1.0, 1.0)),
        ({"label_range": (-1.0, 1.0), "clamp": 3.0}, (-3.0, 3.0)),  # published, on SIMS
    ],
)
def test_generated_labels_stay_in_the_range_but_as_published(changes, clamp):
    network = tetfn(**changes)
    names = [str(i) for i in range(4)]
    labels = np.linspace(-1, 1, 4, dtype=np.float32)
    network.fit_statistics(Utterances(names, names, labels))
    assert network.unimodal.clamp == clamp
    torch.manual_seed(0)
    for _ in range(50):
        features = {task: torch.rand(4, POST[task], dtype=torch.float64) for task in network.heads}
        network.unimodal.update(torch.arange(4), features, 2)
    low, high = clamp
    assert high / 2 < network.unimodal.labels["audio"].abs().max() <= high
    assert low <= network.unimodal.labels["text"].min()


def test_label_tables_have_the_precision_of_the_network():
    """Not of the labels, which are float32 in every data set."""
    network = tetfn()
    network.fit_statistics(Utterances(["a"], ["a"], np.ones(1, dtype=np.float32)))
    tables = [*network.unimodal.labels.values(), *network.unimodal.features.values()]
    assert {table.dtype for table in tables} == {torch.float64}


@pytest.mark.parametrize(("dim", "expected"), [(7, "multiple of heads, 2"), (2, "at least 4")])
@pytest.mark.parametrize("names", [MODALITIES, ("audio", "vision")], ids="+".join)
def test_a_width_that_does_not_fit_is_named(names, dim, expected):
    """Without text too, with which settings are checked."""
    with pytest.raises(ValueError, match=rf"^dim: {dim}; it should be .*{expected}") as raised:
        tetfn(names, dim=dim)
    assert "\n" not in str(raised.value)
