"""Every network, trained by two real processes: they end with what one ends with."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from msabench import models
from msabench.training import checkpoints
from msabench.utterances import Ragged
from tests.conftest import broken_off
from tests.test_devices import ends, needs_accelerate, started
from tests.test_every_model import BLOCKS, NETWORKS, TEST, TRAIN, VALID, build, with_text

# The others are refused: tests/test_training.py.
DIVISIBLE = [name for name in NETWORKS if not models._model(name).couples_utterances]

pytestmark = [needs_accelerate, pytest.mark.slow]


def exact(data):
    """The data in double precision, with states that a trained layer of a BERT reads as text.

    And a corrupted copy of these: all networks train with missing data here.
    """
    data = with_text(data, 1)
    sequences = {
        name: Ragged(ragged.values.astype(np.float64), ragged.offsets)
        for name, ragged in data.sequences.items()
    }
    text = sequences["text"]
    sequences["text"] = replace(text, copies=[Ragged(-text.values, text.offsets)])
    return replace(data, labels=data.labels.astype(np.float64), sequences=sequences)


# Four batches of five and one of a single utterance; the last step of an epoch is of one batch.
DATA, HELD_OUT, UNSEEN = exact(TRAIN.take(np.arange(21))), exact(VALID), exact(TEST)


def train(name, bert, folder, dropout=0.0):
    """Train for three epochs of five batches; return all that training changes, and more."""
    rates = {
        key: dict.fromkeys(rate, dropout) if isinstance(rate, dict) else dropout
        for key, rate in BLOCKS[name].items()
        if "dropout" in key
    }
    loop = {"trainable_layers": 1, "batch_size": 5, "accumulate": 2, "decay": "linear"}
    loop["missing"] = {"share": 0.5, "copies": 1}
    regressor = build(name, DATA, str(bert), **loop, **rates)
    of_float32 = regressor.build
    regressor.build = lambda: of_float32().double()
    history = regressor.fit(DATA, HELD_OUT, seed=1, scratch=folder)
    predictions = torch.from_numpy(regressor.predict(UNSEEN))
    return {**checkpoints._trained_state(regressor.network), "predictions": predictions}, history


def train_everything(folder, bert, dropping_bert):
    """What each of the two processes does: see `together`."""
    folder = Path(folder)

    def save(what, trained):
        tensors, history = trained
        place = folder / f"{what}-{os.environ['RANK']}"
        checkpoints.write(place.with_suffix(".safetensors"), tensors)
        place.with_suffix(".json").write_text(json.dumps(history))

    for name in DIVISIBLE:
        save(f"{name}-whole", train(name, bert, folder / name / "whole"))
        save(f"{name}-from-one", train(name, bert, folder / name / "one"))
        with broken_off(7):
            train(name, bert, folder / name / "two")
        for again in ("first", "second"):
            place = folder / name / again
            if again == "second":
                with broken_off(8):
                    train(name, dropping_bert, place, dropout=0.3)
            save(f"{name}-{again}", train(name, dropping_bert, place, dropout=0.3))


@pytest.fixture(scope="module")
def bert(tiny_bert, tmp_path_factory):
    """The small BERT without dropout."""
    folder = Path(shutil.copytree(tiny_bert, tmp_path_factory.mktemp("calm") / "bert"))
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def alone(bert, tmp_path_factory):
    """What each network has after its training by one process."""
    folder = tmp_path_factory.mktemp("alone")
    return {name: train(name, bert, folder / name) for name in DIVISIBLE}


@pytest.fixture(scope="module")
def together(bert, tiny_bert, tmp_path_factory):
    """The folder of what two processes have trained: see train_everything."""
    folder = tmp_path_factory.mktemp("together")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(checkpoints.SECONDS, "0")
        for name in DIVISIBLE:
            with broken_off(8):
                train(name, bert, folder / name / "one")
    with started(train_everything, folder, bert, tiny_bert) as processes:
        actual = ends(processes)
    assert [status for status, _ in actual] == [0, 0], actual
    return folder


def trained(folder, what, rank):
    place = folder / f"{what}-{rank}"
    tensors = checkpoints.load_file(place.with_suffix(".safetensors"))
    return tensors, json.loads(place.with_suffix(".json").read_text())


def assert_close(actual, expected, atol=1e-6):
    (tensors, history), (other, expected_history) = actual, expected
    for row, other_row in zip(history, expected_history, strict=True):
        assert row == pytest.approx(other_row, rel=0, abs=atol)
    if atol > 0:
        tensors, other = map(without_rounding, (tensors, other))
    torch.testing.assert_close(tensors, other, rtol=0, atol=atol)


def without_rounding(tensors):
    """All but the biases of attention keys, which shift the scores of a query alike.

    Their gradient is rounding alone, of which Adam with coupled weight decay makes steps.
    """
    kept = dict(tensors)
    for name, values in tensors.items():
        if name.endswith("attention.projection.bias"):
            queries, _, of_values = values.chunk(3)
            kept[name] = torch.cat([queries, of_values])
    return kept


network = pytest.mark.parametrize("name", DIVISIBLE)


@network
@pytest.mark.parametrize("rank", [0, 1])
def test_two_end_with_what_one_ends_with(name, rank, alone, together):
    """Weights, tables, predictions and history."""
    assert_close(trained(together, f"{name}-whole", rank), alone[name])


@network
@pytest.mark.parametrize("rank", [0, 1])
def test_two_go_on_where_one_was_broken_off(name, rank, alone, together):
    assert_close(trained(together, f"{name}-from-one", rank), alone[name])


@network
def test_one_goes_on_where_two_were_broken_off(name, alone, together, bert, capsys):
    actual = train(name, bert, together / name / "two")
    assert "epoch 2, after 2 batches" in capsys.readouterr().err
    assert_close(actual, alone[name])


def test_the_generated_labels_have_moved(alone):
    """So that it means something that they are the same."""
    tensors, _ = alone["self_mm"]
    for modality in ("text", "audio", "vision"):
        moved = tensors[f"unimodal.label_{modality}"] - torch.from_numpy(DATA.labels)
        assert (moved.abs() > 0.01).sum() > 15


@network
def test_chance_is_the_same_again(name, together, alone):
    """Bit for bit, also where the training was broken off between; and the same in both."""
    first = trained(together, f"{name}-first", 0)
    for what, rank in (("first", 1), ("second", 0), ("second", 1)):
        assert_close(trained(together, f"{name}-{what}", rank), first, atol=0)
    with pytest.raises(AssertionError):  # weights, as ALMT's predictions hardly change
        assert_close(first, alone[name], atol=1e-5)
