"""What is multiplied in bfloat16, and what is not."""

import pytest
import torch
from torch import nn

from msabench.networks import precision, torch_settings
from msabench.networks.batches import Padded
from msabench.networks.layers import FinalHiddenState, Output
from msabench.training.unimodal import UnimodalLabels


@pytest.fixture(autouse=True)
def mixed(monkeypatch):
    monkeypatch.setattr(torch_settings, "precision", "bfloat16")


class Fuser(nn.Module):
    """What a model is to a method of its own."""

    label_offset = torch.zeros(())

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)

    @precision.in_mixed_precision
    def forward(self, x):
        """Say what it is."""
        self.seen = self.linear(x)
        return {"a": self.seen, "b": (x, None)}


def test_a_method_multiplies_in_bfloat16_and_returns_float32(monkeypatch):
    fuser, x = Fuser(), torch.randn(4, 3)
    result = fuser(x)
    assert fuser.seen.dtype == torch.bfloat16
    assert result["a"].dtype == torch.float32
    assert result["b"] == (x, None)
    assert fuser.linear.weight.dtype == torch.float32
    assert Fuser.forward.__doc__ == "Say what it is."
    monkeypatch.setattr(torch_settings, "precision", "float32")
    fuser(x)
    assert fuser.seen.dtype == torch.float32


def test_an_lstm_and_a_last_layer_have_full_precision():
    frames = Padded(torch.randn(3, 5, 4).bfloat16(), torch.tensor([5, 2, 4]))
    encoder, last = FinalHiddenState(4, 6, bidirectional=True), Output(12)
    expected = encoder(Padded(frames.values.float(), frames.lengths))
    with precision.mixed(torch.device("cpu")):
        ends = encoder(frames)
        predicted = last(ends)
    assert ends.dtype == predicted.dtype == torch.float32
    assert torch.equal(ends, expected)
    torch.testing.assert_close(predicted, ends @ last.weight[0] + last.bias)
    assert predicted.shape == (3,)


def test_doubles_stay_as_they_are():
    values = torch.randn(3, dtype=torch.float64)
    assert precision.exact(values) is values


def test_centres_are_computed_without_tf32(monkeypatch):
    """With ten bits a centre would differ from the CPU's, and labels are made from its distance."""
    matmul, seen = torch.backends.cuda.matmul, []
    before = matmul.fp32_precision
    monkeypatch.setattr(
        UnimodalLabels, "_move_centers", lambda *_: seen.append(matmul.fp32_precision)
    )
    labels = UnimodalLabels(torch.zeros(3), {"fusion": 2, "text": 2})
    features = {task: torch.zeros(1, 2) for task in ("fusion", "text")}
    labels.update(torch.tensor([0]), features, epoch=1)
    assert seen == ["ieee", "ieee"]
    assert matmul.fp32_precision == before
