"""TFN, LMF, MISA and MMIM where the golden files say nothing: dropout, initialization, ranges."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from msabench.errors import ParamsError
from msabench.models.lmf import LMF
from msabench.models.misa import MISA
from msabench.models.mmim import MMIM
from msabench.models.tfn import TFN
from msabench.networks.batches import Batch, Padded
from msabench.networks.layers import FinalStateEncoder
from msabench.networks.text import TextEncoder
from tests.conftest import random_utterances

WIDTHS = {"text": 8, "audio": 5, "vision": 4}
SIZES = {"text": 6, "audio": 4, "vision": 3}
RATES = {"text": 0.1, "audio": 0.2, "vision": 0.3}
FRAMES = {"audio": 4, "vision": 8}
WEIGHTS = {"difference": 0.3, "similarity": 0.8, "reconstruction": 1.0}


def tfn(**changes):
    settings: dict[str, Any] = {"hidden": SIZES, "text_out": 3, "fusion_dim": 5, "dropout": RATES}
    return TFN(TextEncoder(8), WIDTHS, **settings | {"fusion_dropout": 0.4} | changes)


def lmf(**changes):
    settings: dict[str, Any] = {"hidden": SIZES, "rank": 2, "dropout": RATES}
    return LMF(TextEncoder(8), WIDTHS, **settings | changes)


def misa(**changes):
    settings: dict[str, Any] = {
        "dim": 4,
        "heads": 2,
        "feedforward": 8,
        "weights": WEIGHTS,
        "dropout": 0.5,
    }
    return MISA(TextEncoder(8), WIDTHS, **settings | {"fusion_dropout": 0.6} | changes)


def mmim(encoder=None, **changes):
    settings: dict[str, Any] = {
        "lstm_dim": FRAMES,
        "out_dim": FRAMES,
        "fusion_dim": 7,
        "dropout": 0.7,
    }
    settings |= {"contrast": 0.1, "information": 0.1, "memory": 1, "estimator_share": 0.5}
    return MMIM(encoder or TextEncoder(8), WIDTHS, **settings | changes)


@pytest.mark.parametrize(
    ("network", "rates"),
    [
        (tfn(), {"subnetworks.audio": 0.2, "subnetworks.vision": 0.3, "subnetworks.text": 0.1}),
        (tfn(), {"head.0": 0.4}),
        (lmf(), {"subnetworks.audio": 0.2, "subnetworks.vision": 0.3, "subnetworks.text": 0.1}),
        (misa(), {"transformer.dropout": 0.5, "transformer.dropout1": 0.5, "head.1": 0.6}),
        (mmim(), {"fusion.0": 0.7}),
    ],
)
def test_every_dropout_has_its_rate(network, rates):
    for place, rate in rates.items():
        module = network.get_submodule(place)
        assert getattr(module, "dropout", module).p == rate


def test_a_rate_acts_on_the_final_state():
    """Of the text of TFN and LMF too, on which published rates act on nothing."""
    layer = FinalStateEncoder(3, 4, 2, dropout=0.999999)
    torch.testing.assert_close(
        layer(Padded(torch.randn(5, 2, 3), torch.tensor([2] * 5))), layer.linear.bias.expand(5, 2)
    )


@pytest.mark.parametrize(
    ("label_range", "middle", "half"), [((-1.0, 1.0), 0, 1), ((1.0, 7.0), 4, 3)]
)
def test_tfn_predicts_within_the_range_of_the_labels(label_range, middle, half):
    data = random_utterances(n=6, text_tokens=4)
    batch = Batch.of(data, np.arange(6), torch.device("cpu"))
    network = tfn(label_range=label_range).eval()
    network.fit_statistics(data)
    nn.init.zeros_(network.head[-1].weight)
    for bias, end in ((-1e3, -1), (0.0, 0), (1e3, 1)):
        nn.init.constant_(network.head[-1].bias, bias)
        torch.testing.assert_close(network(batch), torch.full((6,), float(middle + end * half)))


def spread(weight):
    return float(weight.detach().square().mean().sqrt())


def test_lmf_begins_with_factors_by_xavier():
    torch.manual_seed(0)
    network = lmf(hidden=dict.fromkeys(WIDTHS, 400), rank=300)
    for name, width in {"text": 200, "audio": 400, "vision": 400}.items():
        assert spread(network.factors[name]) == pytest.approx((2 / (width + 301)) ** 0.5, rel=0.02)
    assert spread(network.fusion.weight) == pytest.approx((2 / 301) ** 0.5, rel=0.15)
    assert not network.fusion.bias.any()


def test_mmim_redraws_its_matrices_and_leaves_biases_and_the_text_encoder():
    table = nn.Embedding(11, 8)
    before = table.weight.clone()
    torch.manual_seed(0)
    network = mmim(TextEncoder(8, embeddings=table), lstm_dim=dict.fromkeys(FRAMES, 100))
    assert torch.equal(network.encoder.embeddings.weight, before)
    lstm = network.frames["audio"].end.backwards
    for weight in (lstm.weight_ih_l0, lstm.weight_hh_l0):
        assert spread(weight) == pytest.approx((2 / sum(weight.shape)) ** 0.5, rel=0.06)
    assert lstm.bias_ih_l0.abs().max() <= 0.1  # 1 / sqrt(100), as PyTorch draws them


def test_frames_of_a_frozen_text_are_refused():
    """It is one vector: audio and vision would be cut to their first frame."""
    with pytest.raises(ParamsError, match=r"^frames_of_text: true; permitted: false where"):
        misa(frames_of_text=True)
