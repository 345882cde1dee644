"""Published models equal their references: numbers that the published code itself produced.

Every .npz in the folder MSABENCH_GOLDEN is tested, by default those in tests/golden/models, made by
thuiar/MMSA at a94e65d in float64. A file names the model and its settings in `about`, and holds
inputs, and what the reference made of them: predictions, loss terms and gradients with the starting
weights, and a whole training, which is repeated here by the loop itself.
"""

import json
import math
import os
import re
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from transformers import BertConfig, BertModel

from msabench import models, params
from msabench.networks.batches import Batch, Padded
from msabench.networks.text import TextEncoder
from msabench.training import loop, missing
from msabench.training.checkpoints import Checkpoints
from msabench.training.loop import NetworkRegressor
from msabench.training.schedule import Schedule
from msabench.utterances import MODALITIES, Ragged, Utterances
from tests.models.reference_names import GROUPS, STATES, TERMS, WEIGHTS

GOLDEN = os.environ.get("MSABENCH_GOLDEN") or Path(__file__).parents[1] / "golden/models"
FILES = sorted(Path(GOLDEN).glob("*.npz"))
PRESETS = params.load(Path(__file__).parents[2] / "params.yaml").presets
TOLERANCE, OF_END = 1e-9, 1e-8  # absolute; the latter of the weights after training


class Golden:
    """One file, and the model that it is of, with the starting weights of the reference."""

    def __init__(self, path):
        self.arrays = dict(np.load(path))
        self.about = json.loads(str(self.arrays.pop("about")))
        self.model = self.about["model"]
        models.is_network(self.model)  # raises ParamsError with the names of those there are
        for kind in ("step/gradient", "run/end") if "packed" in self.about else ():
            names, shapes = zip(*self.about["packed"], strict=True)
            ends = np.cumsum([math.prod(shape) for shape in shapes])
            parts = np.split(self.arrays.pop(kind), ends[:-1])
            for name, shape, values in zip(names, shapes, parts, strict=True):
                self.arrays[f"{kind}/{name}"] = values.reshape(shape)

    def below(self, prefix):
        """The arrays whose name begins so, by the rest of their name."""
        size = len(prefix)
        return {name[size:]: a for name, a in self.arrays.items() if name.startswith(prefix)}

    def split(self, kind):
        """All batches of a split as utterances, and the rows of each batch."""
        count = sum(name.startswith(kind) and name.endswith("/labels") for name in self.arrays)
        batches = [self.below(f"{kind}{number}/") for number in range(count)]
        ends = np.cumsum([len(batch["labels"]) for batch in batches])
        n, sequences = int(ends[-1]), {}
        for name in MODALITIES:
            rows = [
                padded[: int(length)]
                for batch in batches
                for padded, length in zip(batch[name], batch[f"{name}_lengths"], strict=True)
            ]
            kept = np.int32 if rows[0].ndim == 1 else np.float32  # in which the inputs are exact
            sequences[name] = Ragged.of([row.astype(kept) for row in rows])
        labels = np.concatenate([batch["labels"] for batch in batches]).astype(np.float32)
        ids = [f"video{i}$_$0" for i in range(n)]
        data = Utterances(ids=ids, texts=ids, labels=labels, sequences=sequences)
        return data, np.split(np.arange(n), ends[:-1])

    def settings(self, **changes):
        """The published settings of the model under those of the file, in groups; no dropout."""
        loop_settings = dict(self.about["loop"])
        if isinstance(decay := loop_settings.get("decay"), dict):
            # The model says which groups it spares, and a Cosine counts in epochs.
            loop_settings["decay"] = {k: v for k, v in decay.items() if k not in ("groups", "unit")}
        flat = PRESETS[f"{self.model}_mmsa_mosei"] | self.about["settings"] | loop_settings
        flat |= {"epochs": 1000, "batch_size": 1, "trainable_layers": 0} | changes
        if isinstance(flat["lr"], float):
            flat["bert_lr"] = self.about["settings"].get("bert_lr", flat["lr"])
        flat = {key: _zero(value) if "dropout" in key else value for key, value in flat.items()}
        shared = {"neutral": 0.0, "pooling": "cls"}  # as BERT is read, unless the preset says more
        return models.check_settings(self.model, flat, self.model, shared)

    def regressor(self, **changes):
        groups = self.settings(**changes)
        widths, about = self.about["widths"], self.about
        model = models._model(self.model)

        def build():
            encoder = text_encoder(about, groups["encoder"]["pooling"])
            network = model(encoder, widths, **groups["network"]).double()
            self.start(network)
            return network

        optimizer = model.optimizer_settings(**groups["optimizer"])
        return NetworkRegressor(build, optimizer, Schedule(**groups["schedule"]))

    def named(self, named):
        """By the reference's name what a network has by its own."""
        renamed = {}
        for name, value in named:
            for ours, reference in WEIGHTS[self.model].items():
                name = re.sub(ours, reference, name)
            renamed[name] = value
        return renamed

    @torch.no_grad()
    def start(self, network):
        """Give a network the starting weights; each of the reference's has its place.

        A weight of which the file has no array has the same shape in both.
        """
        arrays = self.below("step/gradient/") | self.below("run/end/")
        weights = self.named(network.named_parameters())
        dead = {*self.about.get("no_gradient", ()), "output_range", "output_shift"}
        buffers = self.named(network.named_buffers())
        assert set(arrays) - set(weights) - set(buffers) <= dead
        for name, weight in weights.items():
            salt, shape = self.about.get("salt", ""), arrays.get(name, weight).shape
            phase = zlib.crc32((salt + name).encode()) % 1000
            size = 0.2 if len(shape) == 1 else 1.5 / math.sqrt(shape[-1])
            values = size * np.sin(phase + 1.7 * np.arange(math.prod(shape)))
            if len(shape) == 1 and "norm" in name.lower() and name.endswith("weight"):
                values += 1
            weight.copy_(torch.from_numpy(values).reshape(weight.shape))


def text_encoder(about, pooling):
    """A BERT, all of it trained, or a table of token states in its place; neither for states."""
    width = about["widths"]["text"]
    parts: dict[str, Any] = {}
    if "bert" in about:
        dropouts = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        config = BertConfig.from_dict(about["bert"] | dropouts)
        bert = BertModel(config, add_pooling_layer=False)
        parts = {"embeddings": bert.embeddings, "layers": bert.encoder.layer}
    elif "vocabulary" in about:
        parts = {"embeddings": nn.Embedding(about["vocabulary"], width)}
    return TextEncoder(width, pooling=pooling, **parts)


def _zero(value):
    return dict.fromkeys(value, 0.0) if isinstance(value, dict) else 0.0


class Double(Batch):
    """A batch in float64."""

    @classmethod
    def of(cls, data, index, device):
        batch = Batch.of(data, index, device)
        sequences = {
            name: Padded(of.values.double(), of.lengths) if of.values.is_floating_point() else of
            for name, of in batch.sequences.items()
        }
        return replace(batch, labels=batch.labels.double(), sequences=sequences)


@pytest.fixture
def golden(request):
    return Golden(request.param)


def of_files(*needed):
    """Give a test each of the files that has these arrays."""
    files = []
    for path in FILES:
        with np.load(path) as arrays:
            files += [path] if {*needed} <= {*arrays} else []
    return pytest.mark.parametrize("golden", files, ids=lambda path: path.stem, indirect=True)


@pytest.fixture(autouse=True)
def float64(monkeypatch):
    for module in (loop, missing):
        monkeypatch.setattr(module, "Batch", Double)


def assert_close(actual, expected, atol=TOLERANCE):
    actual = actual.detach().numpy() if isinstance(actual, torch.Tensor) else np.asarray(actual)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


def assert_weights(actual, expected, atol=TOLERANCE):
    """Of one weight, or its gradient; NaN in a file is nothing to compare."""
    compared = ~np.isnan(expected)
    values = actual.detach().numpy().reshape(expected.shape)
    assert_close(values[compared], expected[compared], atol)


def first_batches(golden, regressor):
    """A network with the statistics of the training split, and its batches."""
    train, batches = golden.split("train")
    network = regressor.build()
    network.fit_statistics(train)
    for task, labels in golden.below("step/labels/").items():
        network.unimodal.labels[task][batches[0]] = torch.from_numpy(labels)
    return network, [Double.of(train, index, torch.device("cpu")) for index in batches]


def recorded_terms(network):
    """A list that receives the terms of each loss that a network computes of several."""
    terms: list = []
    if hasattr(network, "terms"):
        original = network.terms

        def recorded(*arguments):
            terms.append(original(*arguments))
            return terms[-1]

        network.terms = recorded
    return terms


def assert_terms(terms, losses, expected):
    """Terms of losses, or the one loss that is its only term."""
    if len(expected) == 1 and not terms:
        assert_close(losses, *expected.values())
        return
    for name, values in expected.items():
        assert_close([float(of[TERMS.get(name, name)].detach()) for of in terms], values)


@of_files()
def test_predictions(golden):
    network, batches = first_batches(golden, golden.regressor())
    assert_close(network.eval()(batches[0]), golden.arrays["eval/predictions"])
    assert_close(network.train()(batches[0]), golden.arrays["step/predictions"])


@of_files()
def test_states_on_the_way(golden):
    """Of the first batch, with the starting weights."""
    network, batches = first_batches(golden, golden.regressor())
    states = {}
    for state, (name, side, axes) in STATES.get(golden.model, {}).items():

        def keep(_, inputs, output, state=state, side=side, axes=axes):
            of = inputs[0] if side == "input" else output
            values = of.values if isinstance(of, Padded) else of
            if values.ndim > len(axes):  # one step
                values = values.squeeze(1)
            states[state] = torch.einsum(f"{'btd' if 't' in axes else 'bd'}->{axes}", values)

        module = network.get_submodule(name)
        module = module[-1] if isinstance(module, nn.ModuleList) else module
        module.register_forward_hook(keep)
    network.eval()(batches[0])
    assert states.keys() == STATES.get(golden.model, {}).keys()
    for state, values in states.items():
        assert_close(values, golden.arrays[f"eval/{state}"])


@of_files()
def test_loss_and_gradients(golden):
    """Of the first batch; the last phase of an epoch is the one in which labels are read."""
    network, batches = first_batches(golden, golden.regressor())
    terms = recorded_terms(network.train())
    network.begin_epoch()
    loss = network.phases()[-1].loss(batches[0], 1)
    expected = {name: [value] for name, value in golden.below("step/term/").items()}
    assert_terms(terms, [loss.item()], expected)
    assert_gradients(golden, "step", network, loss)
    for task, features in golden.below("step/feature/").items():
        assert_close(network.unimodal.features[task][batches[0].index], features)


@of_files("estimators/loss")
def test_gradients_of_the_estimators(golden):
    """Of the first batch, in the first phase of an epoch."""
    network, batches = first_batches(golden, golden.regressor())
    loss = network.train().phases()[0].loss(batches[0], 1)
    assert_close(-loss, golden.arrays["estimators/term/lld"])
    assert_gradients(golden, "estimators", network, loss)


def assert_gradients(golden, kind, network, loss):
    """And the loss; a weight of which the file has no gradient has none."""
    assert_close(loss, golden.arrays[f"{kind}/loss"])
    loss.backward()
    expected = golden.below(f"{kind}/gradient/")
    assert expected
    for name, weight in golden.named(network.named_parameters()).items():
        if name in expected and not np.isnan(expected[name]).all():
            assert_weights(weight.grad, expected[name])
        else:
            assert weight.grad is None or not weight.grad.any(), name


class Training:
    """A training by the loop, on the batches of a file in their order, and what it did."""

    def __init__(self, golden, regressor, folder, patch, batches=None):
        train, rows = golden.split("train")
        valid, valid_rows = golden.split("valid")
        rows = rows[:batches]
        self.losses: list = []
        self.rates: list = []
        self.valid_predictions: list = []
        self.terms: list = []
        self.labels: list = []
        self.end: dict = {}
        build = regressor.build

        def recorded_build():
            network = build()
            self.terms = recorded_terms(network)
            phases = network.phases
            network.phases = lambda: [
                replace(phase, loss=self._recorded(phase.loss)) for phase in phases()
            ]
            return network

        def predict(data):
            predictions = NetworkRegressor._predict(regressor, data)
            self.valid_predictions.append(predictions)
            if hasattr(regressor.network, "unimodal"):
                tables = regressor.network.unimodal.labels
                self.labels.append({task: table.clone() for task, table in tables.items()})
            return predictions

        def end(kept):
            state = golden.named(kept.network.state_dict().items())
            self.end.update({name: value.clone() for name, value in state.items()})

        patch.setattr(regressor, "build", recorded_build)
        patch.setattr(regressor, "_predict", predict)
        patch.setattr(Checkpoints, "restore_best", end)
        patch.setattr(loop, "length_bucketed", lambda *_: rows)
        patch.setattr(loop, "shuffled", lambda *_: valid_rows)
        handle = register_optimizer_step_pre_hook(lambda optimizer, *_: self._step(optimizer))
        try:
            self.history = regressor.fit(train, valid, seed=1, scratch=folder)
        finally:
            handle.remove()

    def _recorded(self, loss):
        def recorded(batch, epoch):
            value = loss(batch, epoch)
            self.losses.append(value.item())
            return value

        return recorded

    def _step(self, optimizer):
        """The rate of each group that moves."""
        self.rates.append(
            {
                group["name"]: group["lr"]
                for group in optimizer.param_groups
                if any(weight.grad is not None for weight in group["params"])
            }
        )

    def assert_rates(self, columns, expected):
        """columns: the groups of the reference; "all" are those of the project together."""
        assert len(self.rates) == len(expected)
        assert all(self.rates)  # some group moves in every step
        for column, values in zip(columns, expected.T, strict=True):
            for rates, value in zip(self.rates, values, strict=True):
                if column == "all":
                    assert_close([*rates.values()], value)
                else:
                    name = column if column in rates else GROUPS.get(column, column)
                    assert_close(rates.get(name, np.nan), value)


@of_files()
def test_training(golden, tmp_path, monkeypatch):
    """Every loss, rate and validation loss, where it stops, and the weights at its end."""
    arrays, about = golden.arrays, golden.about
    regressor = golden.regressor()
    training = Training(golden, regressor, tmp_path, monkeypatch)
    assert_close(training.losses, arrays["run/losses"])
    assert_terms(training.terms, training.losses, golden.below("run/term/"))
    training.assert_rates(about["rates"], arrays["run/rates"])
    assert_close(training.valid_predictions, arrays["run/valid_predictions"])
    assert_close([row["valid_loss"] for row in training.history], arrays["run/valid"])
    for task, tables in golden.below("run/labels/").items():
        assert_close(torch.stack([labels[task] for labels in training.labels]), tables)
    assert len(training.history) == about["epochs"]
    assert regressor._best_epoch(training.history) == about["best_epoch"]
    for name, expected in golden.below("run/end/").items():
        if name in training.end:
            assert_weights(training.end[name], expected, OF_END)


@of_files("corrected/losses")
def test_corrected_training(golden, tmp_path, monkeypatch):
    """Without the defects that the settings correct."""
    corrected = golden.about["corrected"]
    changes = corrected["settings"] | {"drop_incomplete": False}
    changes |= {"epochs": corrected["epochs"], "patience": 1000}
    regressor = golden.regressor(**changes)
    network, batches = first_batches(golden, regressor)
    assert_close(network.eval()(batches[0]), golden.arrays["corrected/predictions"])
    training = Training(golden, regressor, tmp_path, monkeypatch, corrected["batches"])
    assert_close(training.losses, golden.arrays["corrected/losses"])
    assert_close(training.valid_predictions, golden.arrays["corrected/valid_predictions"])


@of_files("corrected/lld")
def test_corrected_terms(golden):
    """Of the first batch; the entropy of the second one, with the first in memory."""
    expected = golden.below("corrected/")
    regressor = golden.regressor(**golden.about["corrected"]["settings"], memory=1)
    network, batches = first_batches(golden, regressor)
    network.train().begin_epoch()
    first, second = (network.terms(batch) for batch in batches[:2])
    assert_close(first["likelihood"], expected["lld"])
    assert_close(second["entropy"], expected["entropy"])


def test_there_are_files():
    assert FILES, f"no *.npz in {GOLDEN}"
