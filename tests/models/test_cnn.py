"""The CNN reads the real frames alone, on a common grid."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from msabench.models.cnn import CNN
from msabench.networks.batches import Batch, Padded
from msabench.networks.text import TextEncoder
from tests.conftest import random_utterances

DATA = random_utterances(n=6)


def cnn(standardize=True):
    torch.manual_seed(0)
    return CNN(
        TextEncoder(8),
        DATA.widths,
        steps=5,
        channels=6,
        kernel_widths=[2, 3],
        dropout=0.2,
        standardize=standardize,
    ).eval()


def predict(network, batch):
    with torch.no_grad():
        return network(batch)


def batch():
    return Batch.of(DATA, np.arange(6), torch.device("cpu"))


def test_frames_beyond_the_length_are_not_seen():
    network = cnn()
    network.fit_statistics(DATA)
    expected = predict(network, batch())
    changed = {}
    for name, sequence in batch().sequences.items():
        noise = torch.randn(6, sequence.values.shape[1] + 3, sequence.values.shape[2]) * 1e3
        noise[:, : sequence.values.shape[1]][sequence.mask] = sequence.values[sequence.mask]
        changed[name] = Padded(noise, sequence.lengths)
    predictions = predict(network, replace(batch(), sequences=changed))
    torch.testing.assert_close(predictions, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("modality", ["text", "audio", "vision"])
def test_every_real_frame_is_seen(modality):
    """Of the shortest and of the longest sequence: the last real frame changes the prediction."""
    network = cnn()
    network.fit_statistics(DATA)
    expected, changed = predict(network, batch()), batch()
    sequence = changed.sequences[modality]
    sequence.values[torch.arange(6), sequence.lengths - 1] += 5.0
    assert (predict(network, changed) != expected).all()


def test_standardize_makes_units_irrelevant():
    """A feature in other units gives the same prediction after fit_statistics, and only then."""
    rescaled = replace(DATA, sequences=dict(DATA.sequences))
    audio = DATA.sequences["audio"]
    rescaled.sequences["audio"] = replace(audio, values=audio.values * np.float32(64))
    for standardize in (True, False):
        predictions = []
        for data in (DATA, rescaled):
            network = cnn(standardize)
            network.fit_statistics(data)
            predictions.append(predict(network, Batch.of(data, np.arange(6), torch.device("cpu"))))
        assert torch.allclose(predictions[0], predictions[1], rtol=0, atol=1e-4) == standardize
