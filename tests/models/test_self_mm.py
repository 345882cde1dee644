"""Self-MM against the published method: label generation, loss, groups."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from msabench.models.self_mm import SelfMM
from msabench.networks.batches import Batch, Padded
from msabench.networks.text import TextEncoder, build_encoder
from msabench.training import missing
from msabench.training.checkpoints import Checkpoints, Progress
from msabench.training.loop import NetworkRegressor
from msabench.training.missing import TrainingData
from msabench.training.schedule import Schedule
from msabench.training.unimodal import AdamByGroup, Outputs, UnimodalLabels
from msabench.utterances import Utterances
from tests.conftest import random_utterances
from tests.models.published_self_mm import TASKS, Published

GOLDEN = Path(__file__).parents[1] / "golden" / "b1_ulgm_excludezero_true.npz"


def test_label_generation_equals_the_reference():
    """Labels, features and centres of twelve recorded steps of the published code."""
    golden = np.load(GOLDEN)
    tasks = ("fusion", "text", "audio", "vision")
    widths = {task: golden[f"step00/in_feature/{task}"].shape[1] for task in tasks}
    generated = UnimodalLabels(torch.tensor(golden["y"]), widths, clamp=3.0, exclude_zero=True)
    for step in range(12):
        key = f"step{step:02d}"
        features = {task: torch.tensor(golden[f"{key}/in_feature/{task}"]) for task in tasks}
        index = torch.tensor(golden[f"{key}/index"])
        generated.update(index, features, int(golden[f"{key}/epoch"]))
        for task in tasks:
            for actual, name in (
                (generated.labels[task], f"label/{task}"),
                (generated.features[task], f"feature/{task}"),
                (generated.centers[task]["pos"], f"center/{task}/pos"),
                (generated.centers[task]["neg"], f"center/{task}/neg"),
            ):
                expected = golden[f"{key}/{name}"]
                np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-9, err_msg=name)


def test_a_class_without_members_keeps_its_centre():
    """The published code divides by zero there; no label may become NaN."""
    generated = UnimodalLabels(torch.ones(4), {"fusion": 2, "text": 2})
    for epoch in (1, 2, 3):
        features = {task: torch.rand(4, 2) for task in ("fusion", "text")}
        generated.update(torch.arange(4), features, epoch)
    assert torch.isfinite(generated.labels["text"]).all()
    assert (generated.centers["fusion"]["neg"] == 0).all()  # its labels never change


def test_an_emptied_class_keeps_its_centre():
    generated = UnimodalLabels(torch.tensor([1.0, -1.0]), {"fusion": 1, "text": 1})
    feature = torch.tensor([[4.0], [9.0]])
    generated.update(torch.arange(2), {"fusion": feature, "text": feature}, 1)
    generated.labels["text"][1] = 1.0
    generated.update(torch.arange(2), {"fusion": feature + 1, "text": feature + 1}, 1)
    assert generated.centers["text"]["neg"].item() == 9.0


def test_zero_is_excluded_by_default():
    assert UnimodalLabels(torch.ones(1), {"fusion": 1}).exclude_zero is True


@pytest.mark.parametrize(("exclude_zero", "expected"), [(True, 4.0), (False, 2.0)])
def test_zero_labels_and_the_positive_centre(exclude_zero, expected):
    generated = UnimodalLabels(
        torch.tensor([1.0, 0.0, -1.0]), {"fusion": 1, "text": 1}, exclude_zero=exclude_zero
    )
    feature = torch.tensor([[4.0], [0.0], [9.0]])
    generated.update(torch.arange(3), {"fusion": feature, "text": feature}, 1)
    assert generated.centers["text"]["pos"].item() == expected
    assert generated.centers["text"]["neg"].item() == 9.0


class SmallLayer(nn.Module):
    """A trained layer of the text encoder, with the names that decide about weight decay."""

    def __init__(self, width):
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.LayerNorm = nn.LayerNorm(width)

    def forward(self, states, attention_mask):
        return self.LayerNorm(states + self.dense(states))


RATES: Any = {"text": 2e-3, "audio": 5e-3, "vision": 1e-3, "other": 4e-3}
DECAYS: Any = {"text": 0.3, "audio": 0.0, "vision": 0.2, "other": 0.1}
OPTIMIZER = AdamByGroup(lr=RATES, weight_decay=DECAYS)
NO_DROPOUT: Any = {"fusion": 0.0, "text": 0.0, "audio": 0.0, "vision": 0.0}
WIDTHS = {"text": 4, "audio": 3, "vision": 2}
LABELS = np.array([1.0, -2.5, 0.0, 3.0, -1.0, 2.0, -0.5, 0.0, -3.0, 1.5, 0.5])
# Fixed batches of eleven utterances for three epochs; one batch has one utterance.
EPOCHS = [
    [[3, 0, 7], [1, 9], [5], [2, 10, 4], [8, 6]],
    [[8, 2], [6, 4, 9], [0, 10, 1], [7], [3, 5]],
    [[10], [5, 6], [9, 3], [1, 0, 2], [4, 7, 8]],
]


def self_mm(encoder, exclude_zero=True):
    return SelfMM(
        encoder,
        {**WIDTHS, "text": encoder.width},
        lstm_dim={"audio": 3, "vision": 4},
        lstm_dropout=0.0,
        out_dim={"audio": 2, "vision": 3},
        post_dim={"fusion": 6, "text": 5, "audio": 3, "vision": 4},
        dropout=NO_DROPOUT,
        clamp=1.5,
        exclude_zero=exclude_zero,
    )


def group_of(name):
    """The group of a weight, from its name."""
    for prefix, group in (("encoder", "text"), ("frames.audio", "audio"), ("frames.vis", "vision")):
        if name.startswith(prefix):
            return group
    return "other"


def decay_of(name):
    without = name.startswith("encoder") and (name.endswith("bias") or "LayerNorm" in name)
    return 0.0 if without else DECAYS[group_of(name)]


def random_sequences(rng):
    """Real frames of each utterance and modality, (t, d) each."""
    return [
        {
            name: torch.from_numpy(rng.normal(size=(rng.integers(1, 6), width)))
            for name, width in WIDTHS.items()
        }
        for _ in LABELS
    ]


def noisy_batch(utterances, labels, index, rng):
    """A batch whose padding is full of noise and longer than its longest sequence."""
    sequences = {}
    for name, width in WIDTHS.items():
        frames = [utterances[i][name] for i in index]
        longest = max(map(len, frames)) + 2
        values = torch.from_numpy(100 * rng.normal(size=(len(index), longest, width)))
        for row, real in zip(values, frames, strict=True):
            row[: len(real)] = real
        sequences[name] = Padded(values, torch.tensor([len(real) for real in frames]))
    return Batch(torch.from_numpy(index), torch.from_numpy(labels[index]), sequences)


def recorded(function, record):
    """The function, which adds what it returns to the record."""

    def call(*arguments):
        record.append(function(*arguments))
        return record[-1]

    return call


@pytest.mark.parametrize(
    ("accumulate", "drop_incomplete", "exclude_zero", "labels"),
    [
        (1, False, True, LABELS),
        (2, False, True, LABELS),
        (2, True, True, LABELS),
        (4, True, False, LABELS),
        (2, False, True, np.abs(LABELS) + 0.5),  # no negative utterance: a class without members
    ],
)
def test_training_equals_the_published_method(
    accumulate, drop_incomplete, exclude_zero, labels, monkeypatch, tmp_path
):
    """Losses, outputs, gradients, labels, features, centres and weights over three epochs."""
    torch.manual_seed(0)
    rng = np.random.default_rng(3)
    encoder = TextEncoder(WIDTHS["text"], layers=[SmallLayer(WIDTHS["text"])], pooling="cls")
    network = self_mm(encoder, exclude_zero).double()
    published = Published(
        dict(network.named_parameters()),
        labels,
        lambda name: RATES[group_of(name)],
        decay_of,
        clamp=1.5,
        exclude_zero=exclude_zero,
    )
    utterances = random_sequences(rng)
    names = [f"video$_${i}" for i in range(len(labels))]
    data = Utterances(names, names, labels)
    network.fit_statistics(data)
    settings = {"accumulate": accumulate, "drop_incomplete": drop_incomplete}
    schedule = Schedule(batch_size=3, epochs=3, patience=3, **settings)
    regressor = NetworkRegressor(lambda: network, OPTIMIZER, schedule)
    regressor.network = network
    monkeypatch.setattr(
        missing,
        "Batch",
        SimpleNamespace(of=lambda data, index, device: noisy_batch(utterances, labels, index, rng)),  # noqa: ARG005
    )
    optimizer = regressor._optimizer(network)
    kept = Checkpoints(tmp_path, network, optimizer)
    losses: list[torch.Tensor] = []
    outputs: list[Outputs] = []
    gradients: list[dict[str, torch.Tensor]] = []
    monkeypatch.setattr(network, "outputs", recorded(network.outputs, outputs))
    monkeypatch.setattr(network, "training_loss", recorded(network.training_loss, losses))
    optimizer.register_step_pre_hook(
        lambda *_: gradients.append({n: p.grad.clone() for n, p in network.named_parameters()})
    )

    def close(actual, expected):
        expected = torch.as_tensor(expected, dtype=torch.float64)
        torch.testing.assert_close(actual.detach(), expected, rtol=1e-9, atol=1e-9)

    for epoch, order in enumerate(EPOCHS, start=1):
        for record in (losses, outputs, gradients):
            record.clear()
        progress = Progress(history=[{"valid_loss": 0.0}] * (epoch - 1))
        rows, train = list(map(np.array, order)), TrainingData(data, None, seed=0)
        regressor._train_epoch(train, rows, progress, optimizer, kept)
        batches = [(index, [utterances[i] for i in index]) for index in order]
        expected = list(published.train_epoch(epoch, batches, accumulate, drop_incomplete))
        for batch, record in enumerate(expected):
            close(losses[batch], record["loss"])
            for task in TASKS:
                rows = [one[task] for one in record["outputs"]]
                close(outputs[batch].predictions[task], torch.stack([y for y, _ in rows]))
                close(outputs[batch].features[task], torch.stack([f for _, f in rows]))
        steps = [record["gradients"] for record in expected if record["gradients"] is not None]
        assert len(gradients) == len(steps)
        for actual, step in zip(gradients, steps, strict=True):
            for name, gradient in step.items():
                close(actual[name], gradient)
        for task in TASKS:
            close(network.unimodal.labels[task], published.labels[task])
            close(network.unimodal.features[task], published.features[task])
            for side in ("pos", "neg"):
                close(network.unimodal.centers[task][side], published.centers[task, side])
        for name, weight in network.named_parameters():
            close(weight, published.weights[name].detach())


def test_biases_and_norms_of_the_text_encoder_do_not_decay(tiny_bert):
    network = self_mm(build_encoder(tiny_bert, "all", "cls", 1))
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    actual = {
        names[id(parameter)]: (group["lr"], group["weight_decay"], group["decoupled_weight_decay"])
        for group in network.parameter_groups(OPTIMIZER)
        for parameter in group["params"]
    }
    assert actual == {
        name: (RATES[group_of(name)], decay_of(name), False) for name in names.values()
    }
    assert sum(decay == 0.0 for name, (_, decay, _) in actual.items() if "encoder" in name) > 20


def with_true_labels(labels):
    """Eight utterances of audio and vision whose true audio labels are given."""
    data = random_utterances(n=8).select(["audio", "vision"])
    return replace(data, unimodal_labels={"audio": np.asarray(labels, dtype=np.float32)})


def of_frames(scale=1, lstm_dropout=0.0, dropout=NO_DROPOUT, **labels):
    """A network without text for what random_utterances gives; scale: of its layers' widths."""
    return SelfMM(
        None,
        {"audio": 5, "vision": 4},
        lstm_dim={"audio": 3 * scale, "vision": 4 * scale},
        lstm_dropout=lstm_dropout,
        out_dim={"audio": 2 * scale, "vision": 3 * scale},
        post_dim={"fusion": 6, "text": 5, "audio": 3, "vision": 4},
        dropout=dropout,
        exclude_zero=True,
        **{"clamp": 3.0, **labels},
    )


def test_each_dropout_has_its_own_rate_and_place():
    """Before a head's first layer, and on an LSTM's final hidden state."""
    torch.manual_seed(0)
    rates: Any = {"fusion": 0.5, "text": 0.0, "audio": 0.0, "vision": 0.9}
    network = of_frames(scale=10, lstm_dropout=0.2, dropout=rates).train()
    layers = {task: (head.layer1, rates[task]) for task, head in network.heads.items()}
    layers |= {f"{name} frames": (part.linear, 0.2) for name, part in network.frames.items()}
    seen: dict[str, torch.Tensor] = {}
    for name, (layer, _) in layers.items():
        layer.register_forward_pre_hook(lambda _, x, name=name: seen.update({name: x[0]}))
    data = random_utterances(n=48).select(["audio", "vision"])
    outputs = network.outputs(Batch.of(data, np.arange(48), torch.device("cpu")))
    for name, (layer, rate) in layers.items():
        assert (seen[name] == 0).float().mean().item() == pytest.approx(rate, abs=0.05)
        if name in outputs.features:
            torch.testing.assert_close(outputs.features[name], torch.relu(layer(seen[name])))


def test_the_order_of_the_modalities_in_a_batch_does_not_matter():
    data = random_utterances(n=8).select(["audio", "vision"])
    batch = Batch.of(data, np.arange(8), torch.device("cpu"))
    other = Batch(batch.index, batch.labels, dict(reversed(list(batch.sequences.items()))))
    network = of_frames().eval()
    torch.testing.assert_close(network(other), network(batch), rtol=0, atol=0)


def test_the_history_has_the_fit_of_generated_to_true_labels():
    """Half of what was missing was added, then it is as if nothing had been."""
    multimodal = random_utterances(n=8).labels
    missing = np.array([1, -1, 0.5, 0, 2, -0.5, 0.25, -2], dtype=np.float32)
    data = with_true_labels(multimodal + missing)
    network = of_frames()
    network.fit_statistics(data)
    before = network.epoch_metrics()
    assert before["label_corr_audio"] == pytest.approx(
        np.corrcoef(multimodal, multimodal + missing)[0, 1], abs=1e-6
    )
    assert before["shift_corr_audio"] == 0.0 == before["shift_ratio_audio"]
    network.unimodal.labels["audio"] += torch.from_numpy(missing) / 2
    columns = network.epoch_metrics()
    assert set(columns) == {"label_corr_audio", "shift_corr_audio", "shift_ratio_audio"}
    assert columns["label_corr_audio"] > before["label_corr_audio"]
    assert columns["shift_corr_audio"] == pytest.approx(1)
    assert columns["shift_ratio_audio"] == pytest.approx(0.5)


def test_true_unimodal_labels_change_no_weight(tmp_path):
    fitted: list[np.ndarray] = []
    for labels in (np.arange(8) - 4, np.zeros(8)):
        schedule = Schedule(batch_size=4, epochs=3, patience=3)
        regressor = NetworkRegressor(of_frames, OPTIMIZER, schedule)
        data = with_true_labels(labels)
        history = regressor.fit(data, data, seed=1, scratch=tmp_path / str(len(fitted)))
        assert np.isfinite([row["label_corr_audio"] for row in history]).all()
        fitted.append(regressor.predict(data))
    np.testing.assert_array_equal(fitted[0], fitted[1])


@pytest.mark.parametrize("start", ["neutral", "median"])
def test_labels_about_4_train_as_the_same_labels_about_0(start):
    """Their generated labels are distances from the neutral point, with its centres and clamp."""
    data = random_utterances(n=12).select(["audio", "vision"])
    data.labels[:] = np.rint(data.labels)
    moved = replace(data, labels=data.labels + 4)
    trainings = []
    for labels, scale in ((data, {}), (moved, {"label_range": (1.0, 7.0), "neutral": 4.0})):
        torch.manual_seed(0)
        network = of_frames(clamp=None, start=start, **scale)
        network.fit_statistics(labels)
        batch = Batch.of(labels, np.arange(12), torch.device("cpu"))
        losses = [network.training_loss(batch, epoch).item() for epoch in (1, 2, 3)]
        trainings.append((losses, network.unimodal))
    (expected, about_0), (losses, about_4) = trainings
    assert losses == pytest.approx(expected, abs=1e-5)
    for task, table in about_0.labels.items():
        torch.testing.assert_close(about_4.labels[task], table)
    assert about_4.clamp == about_0.clamp == (-3.0, 3.0)
    torch.testing.assert_close(about_4.centers["audio"]["neg"], about_0.centers["audio"]["neg"])


@pytest.mark.parametrize(
    ("scale", "origin", "clamp"),
    [
        ({}, 0.0, (-3.0, 3.0)),
        ({"label_range": (-1.0, 1.0)}, 0.0, (-1.0, 1.0)),
        ({"label_range": (-1.0, 5.0)}, 0.0, (-1.0, 5.0)),
        ({"label_range": (0.0, 1.0)}, 0.5, (-0.5, 0.5)),
        ({"label_range": (0.0, 100.0), "neutral": 20.0}, 20.0, (-20.0, 80.0)),
        ({"label_range": (0.0, 1.0), "clamp": 0.25}, 0.5, (-0.25, 0.25)),
    ],
)
def test_generated_labels_stay_in_the_range_of_the_labels(scale, origin, clamp):
    """Update after update; by_ratio, one of the two estimates, can be of any size."""
    network = of_frames(**{"clamp": None, **scale})
    data = random_utterances(n=8).select(["audio", "vision"])
    low, high = (bound + origin for bound in clamp)
    data.labels[:] = np.linspace(low, high, 8)
    network.fit_statistics(data)
    assert (network.origin, network.unimodal.clamp) == (origin, clamp)
    torch.manual_seed(0)
    for _ in range(50):
        features = {task: torch.rand(8, network.post_dim[task]) for task in network.heads}
        network.unimodal.update(torch.arange(8), features, 2)
    table = network.unimodal.labels["audio"] + origin
    assert low - 1e-4 <= table.min() < table.max() <= high + 1e-4


def test_a_spread_over_none_is_not_defined():
    """The true labels lie beside the multimodal ones by the same amount everywhere."""
    network = of_frames()
    network.fit_statistics(with_true_labels(random_utterances(n=8).labels + np.float32(0.5)))
    columns = network.epoch_metrics()
    assert np.isnan(columns["shift_ratio_audio"])
    assert columns["label_corr_audio"] == pytest.approx(1)
