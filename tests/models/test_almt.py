"""ALMT where the golden file says nothing: starting weights, cut sequences, what is read."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from msabench.models.almt import ALMT
from msabench.networks.batches import Batch
from msabench.networks.text import TextEncoder
from tests.conftest import random_utterances

DIM, TOKENS = 16, 5
WIDTHS = {"text": 8, "audio": 5, "vision": 4}
BATCH = Batch.of(random_utterances(n=6), np.arange(6), torch.device("cpu"))


def almt(**changes):
    settings: dict[str, Any] = {
        "dim": DIM,
        "tokens": TOKENS,
        "heads": {"text": 2, "audio": 2, "vision": 2, "language": 2, "hyper": 4, "fusion": 2},
        "hidden": {"embedding": 8, "language": 8, "fusion": 8},
        "layers": {"embedding": 1, "hyper": 3, "fusion": 2},
        "pad_to": {"text": 50, "audio": 60, "vision": 70},
        "head_dim": 8,
    }
    torch.manual_seed(1)
    return ALMT(TextEncoder(8), WIDTHS, **settings | changes).eval()


def test_learned_tokens_and_positions_start_as_published():
    """Tokens at 0, the hyper-modality at 1, positions as N(0, 1)."""
    network = almt()
    assert not network.token.any()
    torch.testing.assert_close(network.hyper, torch.ones(TOKENS, DIM))
    for embedding in network.embeddings.values():
        assert not embedding.tokens.any()
        assert float(embedding.positions.detach().std()) == pytest.approx(1, abs=0.1)
    for positions in ("language_positions", "source_positions", "target_positions"):
        assert float(network.get_parameter(positions).detach().std()) == pytest.approx(1, abs=0.3)


def test_every_weight_is_read():
    """The language has one layer less than the hyper-modality, as none guides after the last."""
    network = almt()
    network(BATCH).sum().backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name


@pytest.mark.parametrize("masked", [True, False])
def test_longer_sequences_are_cut(masked):
    """The same is predicted of what is left of them."""
    network = almt(pad_to={"text": 3, "audio": 4, "vision": 2}, masked=masked)
    cut = {name: of.extended(network.pad_to[name]) for name, of in BATCH.sequences.items()}
    assert cut["audio"].values.shape[1] < BATCH.sequences["audio"].values.shape[1]
    torch.testing.assert_close(network(replace(BATCH, sequences=cut)), network(BATCH))
