"""The two-stage fusion: which branches there are, and what each of them sees."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from msabench.models.ours import Ours
from msabench.networks.batches import Batch
from msabench.networks.text import TextEncoder
from tests.conftest import random_utterances

DATA = random_utterances(n=6)


def ours(data, **changes):
    torch.manual_seed(0)
    settings = {
        "transformer_dim": 8,
        "heads": 2,
        "layers": 1,
        "feedforward": 2,
        "lstm_dim": 4,
        "dropout": 0.1,
        "standardize": True,
    }
    encoder = TextEncoder(8) if "text" in data.widths else None
    return Ours(encoder, data.widths, **settings | changes).eval()


def batch_of(data):
    return Batch.of(data, np.arange(len(data)), torch.device("cpu"))


@pytest.mark.parametrize(
    ("modalities", "branches", "vectors"),
    [
        (["text"], [], 1),
        (["audio"], [], 1),
        (["audio", "vision"], [], 2),
        (["text", "audio"], ["audio"], 2),
        (["text", "vision"], ["vision"], 2),
        (["text", "audio", "vision"], ["audio", "vision"], 4),
    ],
)
def test_branches_of_each_subset(modalities, branches, vectors):
    """Stage 1 fuses text with each other modality; stage 2 sees two vectors of each branch."""
    data = DATA.select(modalities)
    network = ours(data)
    network.fit_statistics(data)
    seen = []
    network.stage2.register_forward_hook(lambda *hooked: seen.append(hooked[2].shape))
    assert network(batch_of(data)).shape == (6,)
    assert list(network.stage1) == branches
    assert seen == [(6, vectors, 8)]


def stage1_outputs(network, data):
    """What each branch of stage 1 makes of the data, and the prediction."""
    outputs = {}
    hooks = [
        branch.register_forward_hook(lambda *hooked, name=name: outputs.update({name: hooked[2]}))
        for name, branch in network.stage1.items()
    ]
    with torch.no_grad():
        outputs["prediction"] = network(batch_of(data))
    for hook in hooks:
        hook.remove()
    return outputs


@pytest.mark.parametrize(
    ("changed", "seen_by"),
    [("vision", {"vision"}), ("audio", {"audio"}), ("text", {"audio", "vision"})],
)
def test_a_branch_of_stage_1_sees_text_and_its_own_modality(changed, seen_by):
    network = ours(DATA)
    ragged = DATA.sequences[changed]
    values = ragged.values + np.random.default_rng(0).normal(size=ragged.values.shape)
    other = replace(ragged, values=values.astype(np.float32))
    before = stage1_outputs(network, DATA)
    after = stage1_outputs(network, replace(DATA, sequences={**DATA.sequences, changed: other}))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == seen_by | {"prediction"}


def test_branches_do_not_share_weights():
    network = ours(DATA)
    members = [{id(p) for p in branch.parameters()} for branch in network.stage1.values()]
    assert not members[0] & members[1]


def test_gradient_reaches_every_modality():
    """And every real frame of it, but no padding."""
    network = ours(DATA)
    batch = batch_of(DATA)
    for sequence in batch.sequences.values():
        sequence.values.requires_grad_()
    network(batch).square().sum().backward()
    for sequence in batch.sequences.values():
        reached = sequence.values.grad.abs().sum(dim=2) > 0
        assert torch.equal(reached, sequence.mask)


def test_dimension_must_be_a_multiple_of_heads():
    with pytest.raises(ValueError, match="transformer_dim: 8; it should be a multiple of heads, 3"):
        ours(DATA, heads=3)
