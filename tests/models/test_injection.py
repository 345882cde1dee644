"""Frames that enter a text encoder: what golden files of whole encoders do not show."""

from dataclasses import replace
from shutil import copytree
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from msabench import models
from msabench.models.bert_mag import Gate
from msabench.models.cenet import FrameAttention
from msabench.networks import injection, text, torch_settings
from msabench.networks.batches import Batch, Padded
from msabench.networks.layers import aligned
from msabench.networks.text import TextEncoder
from msabench.training.loop import NetworkRegressor
from tests.test_every_model import TRAIN, config_of, with_text

INJECTED = ("bert_mag", "cenet")


def padded(lengths, width, seed=0):
    """Random sequences, with noise where they are padded."""
    torch.manual_seed(seed)
    return Padded(torch.randn(len(lengths), max(lengths), width), torch.tensor(lengths))


def regressor_of(name, encoder, data, **changes):
    regressor = models.build(config_of(name, encoder, **changes), data.widths)
    assert isinstance(regressor, NetworkRegressor)
    return regressor


def network_of(name, encoder, trainable_layers, **changes):
    """An untrained network, and data that it reads."""
    data = with_text(TRAIN, trainable_layers)
    regressor = regressor_of(name, encoder, data, trainable_layers=trainable_layers, **changes)
    return regressor.build().eval(), data


def first_four(data):
    """A batch of the first utterances."""
    return Batch.of(data, np.arange(4), torch.device("cpu"))


def injected_at(network, data):
    """The states that the injection is given of some utterances, and how many layers follow."""
    seen = []
    calls = []
    network.text.injection.register_forward_hook(lambda *call: seen.append(call[1][0]))
    for number, layer in enumerate(network.encoder.layers):
        layer.register_forward_hook(lambda *_, number=number: calls.append((number, len(seen))))
    batch = first_four(data)
    network(batch)
    (states,) = seen
    return states, [number for number, before in calls if before == 0], batch


@pytest.mark.parametrize(
    ("name", "trainable_layers", "changes", "layers_before"),
    [
        ("bert_mag", "all", {}, []),
        ("cenet", "all", {}, [0]),
        ("cenet", "all", {"inject_before": 0}, []),
        ("cenet", "all", {"inject_before": 2}, [0, 1]),
        ("bert_mag", 2, {}, []),
        ("cenet", 2, {}, []),
    ],
)
def test_acts_before_its_layer(name, trainable_layers, changes, layers_before, tiny_bert):
    """Of the whole encoder, or before the first layer that is trained, on what that one reads."""
    network, data = network_of(name, tiny_bert, trainable_layers, **changes)
    states, before, batch = injected_at(network, data)
    assert before == layers_before
    if trainable_layers == 2:
        torch.testing.assert_close(states, batch.sequences["text"].values)


def test_refuses_a_layer_that_the_encoder_lacks(tiny_bert):
    with pytest.raises(ValueError, match=r"^inject_before: 3; permitted: 0 to 2"):
        network_of("cenet", tiny_bert, "all", inject_before=3)


@pytest.mark.parametrize("name", INJECTED)
def test_without_audio_and_vision_it_is_the_encoder(name, tiny_bert):
    data = with_text(TRAIN, 2).select(["text"])
    alone: Any = regressor_of(name, tiny_bert, data, trainable_layers=2).build().eval()
    assert alone.text.injection is None
    batch = first_four(data)
    vector = alone.text(batch.sequences, alone.encoder)
    torch.testing.assert_close(vector, alone.encoder(batch.sequences["text"]))


@pytest.mark.parametrize("modalities", [["audio"], ["text", "vision"], ["audio", "vision"]])
@pytest.mark.parametrize("name", INJECTED)
def test_padded_as_published_it_works_without_a_modality(name, modalities, tiny_bert):
    """And whatever the numbers of steps; longer frames and texts are cut."""
    data = with_text(TRAIN, "all").select(modalities)
    changes = {"pad_to": {"text": 5, "audio": 9, "vision": 3}, "trainable_layers": "all"}
    network = regressor_of(name, tiny_bert, data, **changes).build().eval()
    batch = Batch.of(data, torch.arange(6).numpy(), torch.device("cpu"))
    assert network(batch).isfinite().all()


@pytest.mark.parametrize("name", INJECTED)
def test_an_injection_has_full_precision(name, tiny_bert, monkeypatch):
    """In mixed precision too, which is that of all other products."""
    monkeypatch.setattr(torch_settings, "precision", "bfloat16")
    network, data = network_of(name, tiny_bert, "all")
    seen = []
    network.text.injection.register_forward_hook(lambda *call: seen.append((call[1][0], call[2])))
    network(first_four(data))
    ((states, injected),) = seen
    assert states.dtype == injected.dtype == torch.float32
    expected = network.text.injection(states, *network_inputs(network, data))
    torch.testing.assert_close(injected, expected, rtol=0, atol=0)


def network_inputs(network, data):
    """What the injection reads of the first utterances beside the states."""
    batch = first_four(data)
    read = network.text.standardize(batch.sequences)
    return read.pop("text"), read


def test_embeddings_that_are_not_trained_are_in_no_group(tiny_bert):
    """As published; the layers are, and dropout still acts on what the embeddings return."""
    counts = {}
    for trained in (True, False):
        data = with_text(TRAIN, "all")
        changes = {"trainable_layers": "all", "train_embeddings": trained}
        regressor = regressor_of("cenet", tiny_bert, data, **changes)
        network = regressor.build()
        members = {
            id(weight)
            for group in network.parameter_groups(regressor.optimizer)
            for weight in group["params"]
        }
        embeddings = [id(weight) for weight in network.encoder.embeddings.parameters()]
        assert embeddings
        assert [weight in members for weight in embeddings] == [trained] * len(embeddings)
        regressor.network = network
        counts[trained] = regressor.size()["parameters of the text encoder"]
    of_embeddings = sum(w.numel() for w in network.encoder.embeddings.parameters())
    assert counts[True] - counts[False] == of_embeddings
    batch = first_four(data)
    embedded = [network.train().encoder.embeddings(batch.sequences["text"].values) for _ in "ab"]
    assert not torch.equal(*embedded)


def test_attention_in_another_order_of_products():
    """Equal to keys and values of every frame, whatever lies behind the real ones."""
    torch.manual_seed(1)
    attend = FrameAttention(3, 5, scale=0.7).double()
    for bias in (attend.inner, attend.outer, attend.query, attend.key, attend.value):
        torch.nn.init.normal_(bias.bias)
    states, frames = padded([4, 2], 5).values.double(), padded([6, 3], 3, seed=2)
    frames = replace(frames, values=frames.values.double())
    z = attend.outer(torch.relu(attend.inner(frames.values)))
    scores = 0.7 * attend.query(states) @ attend.key(z).transpose(1, 2)
    scores = scores.masked_fill(~frames.mask[:, None], -torch.inf)
    expected = scores.softmax(dim=2) @ attend.value(z)
    torch.testing.assert_close(attend(states, frames), expected)


def test_the_scale_of_attention(tiny_bert):
    """By default that of dot products of vectors as wide as the text."""
    for setting, scale in ((8.0, 8.0), (None, 8**-0.5)):
        network, _ = network_of("cenet", tiny_bert, 2, score_scale=setting)
        scales = [attend.scale for attend in network.text.injection.attention.values()]
        assert scales == [pytest.approx(scale)] * 2


def test_aligned_frames():
    """Means of equal segments of the real frames; aligned ones stay; zeros behind the text."""
    frames = padded([6, 3, 2], 2)
    result = aligned(frames, padded([3, 3, 4], 1)).values
    of = frames.values
    halves = of[0].unflatten(0, (3, 2)).mean(dim=1)
    torch.testing.assert_close(result[0, :3], halves)
    torch.testing.assert_close(result[1, :3], of[1, :3])
    torch.testing.assert_close(result[2], of[2, [0, 0, 1, 1]])
    assert not result[:2, 3].any()


def test_a_shift_of_zero_leaves_the_token():
    """Gates that are closed shift nothing, and give no gradient that is not a number."""
    gate = Gate({"audio": 3}, 4, beta=1.0, dropout=0.0, masked=True)
    torch.nn.init.constant_(gate.get_parameter("gates.audio.bias"), -1e3)
    states = torch.randn(2, 3, 4, requires_grad=True)
    lengths = torch.tensor([3, 2])
    shifted = gate(states, Padded(states, lengths), {"audio": padded([5, 2], 3)})
    torch.testing.assert_close(shifted, torch.nn.functional.layer_norm(states, [4]))
    shifted.square().sum().backward()
    for tensor in (states, *gate.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()


@pytest.mark.parametrize("name", INJECTED)
def test_new_layers_start_by_the_rule_of_bert(name, tiny_bert):
    """As their biases tell: at this width PyTorch's own rule draws weights of about this size."""
    network, _ = network_of(name, tiny_bert, 2)
    new = [
        module
        for place, module in network.named_modules()
        if isinstance(module, torch.nn.Linear) and not place.startswith("encoder.")
    ]
    assert len(new) > 5
    for layer in new:
        assert not layer.bias.any()


@pytest.mark.parametrize(("width", "std"), [(768, 0.02), (192, 0.04)])
def test_the_rule_of_bert(width, std):
    torch.manual_seed(1)
    layer = torch.nn.Linear(width, 500)
    injection.start_as_bert(layer)
    assert float(layer.weight.detach().std()) == pytest.approx(std, rel=0.01)
    assert not layer.bias.any()


def test_a_rate_of_the_gate_acts_on_the_shifted_token():
    """After LayerNorm, whose bias it would leave before."""
    gate = Gate({"audio": 3}, 4, beta=1.0, dropout=0.999999, masked=True)
    torch.nn.init.ones_(gate.norm.bias)
    states, lengths = torch.randn(2, 3, 4), torch.tensor([3, 2])
    shifted = gate(states, Padded(states, lengths), {"audio": padded([5, 2], 3)})
    assert not shifted.any()


@pytest.mark.parametrize("name", INJECTED)
def test_a_rate_acts_before_the_last_layer(name, tiny_bert):
    network, data = network_of(name, tiny_bert, 2)
    batch = first_four(data)
    before, last = (
        (network.dropout, network.out) if name == "bert_mag" else (network.head[3], network.head[4])
    )
    torch.nn.init.ones_(last.bias)
    before.train().p = 0.999999
    torch.testing.assert_close(network(batch), (network.label_offset + 1).expand(4))


def test_a_rate_of_cenet_acts_on_the_vector_of_the_text(tiny_bert):
    network, data = network_of("cenet", tiny_bert, 2)
    batch = first_four(data)
    network.head[0].train().p = 0.999999
    torch.nn.init.normal_(network.head[1].bias)
    constant = network.head(torch.zeros(4, network.head[1].in_features))
    torch.testing.assert_close(network(batch), network.label_offset + constant)


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_starts_with_the_pooler_of_the_checkpoint(prefix, tiny_bert, tmp_path):
    """Where it reads the first token; without one, or with the mean of all, the layer is new."""
    folder = copytree(tiny_bert, tmp_path / "encoder")
    weights = load_file(folder / "model.safetensors")
    pooler = {"weight": torch.randn(8, 8), "bias": torch.randn(8)}
    weights = {prefix + name: weight for name, weight in weights.items()}
    weights |= {f"{prefix}pooler.dense.{name}": value for name, value in pooler.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    for encoder, pooling, expected in (
        (str(folder), "cls", True),
        (str(folder), "mean", False),
        (tiny_bert, "cls", False),
    ):
        network, _ = network_of("bert_mag", encoder, "all", pooling=pooling)
        assert torch.equal(network.pooler.weight, pooler["weight"]) == expected
        assert torch.equal(network.pooler.bias, pooler["bias"]) == expected
    assert text.load_pooler(tiny_bert) is None


def test_a_frozen_text_is_shifted_as_it_is():
    """One vector, which audio's mean shifts: no layer of an encoder follows."""
    encoder = TextEncoder(4)
    vector = padded([1, 1], 4)
    states = encoder.states(vector, inject=lambda states: states + 1)
    torch.testing.assert_close(states.values, vector.values + 1)
