"""Learning-rate schedules are functions of the epochs and of the validation losses before."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from msabench.training.schedule import Plateau, Schedule


def schedule(**changes):
    return Schedule(**{"batch_size": 4, "epochs": 4, "patience": 9} | changes)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(990, 1010).map(lambda loss: loss / 1000), max_size=40),
    st.integers(0, 3),
    st.sampled_from([0.1, 0.5]),
    st.sampled_from([0.0, 1e-4, 1e-2]),
)
def test_plateau_equals_that_of_pytorch(losses, patience, factor, threshold):
    """After every epoch, down to rates that no longer fall."""
    initial = 0.01
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=initial)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=factor, patience=patience, threshold=threshold
    )
    ours = Plateau(factor=factor, patience=patience, threshold=threshold)
    for epoch, loss in enumerate(losses, start=1):
        theirs.step(loss)
        assert ours.rate(initial, losses[:epoch]) == pytest.approx(optimizer.param_groups[0]["lr"])


def test_rates_rise_linearly_to_those_of_the_schedule():
    """Over the epochs of the warm-up, from the first batch on; four batches to an epoch."""
    after = [0.0, 0.25, 1.0, 1.75, 3.0]  # of four
    expected_rates = {"none": [0.125, 0.25, 0.625, 1, 1]}
    expected_rates["linear"] = [0.125, 0.234375, 0.46875, 0.5625, 0.25]
    expected_rates["cosine"] = [0.125, 0.25, 0.625, 1, 0.5]
    for decay, expected in expected_rates.items():
        rates = [schedule(decay=decay, warmup=2.0).rate(1.0, epochs, [], 4) for epochs in after]
        assert rates == pytest.approx(expected)


def test_cosine_ends_at_zero_after_the_last_epoch():
    rates = [schedule(decay="cosine").rate(2.0, epochs, [], 4) for epochs in (0.0, 1.0, 2.0, 4.0)]
    assert rates == pytest.approx([2.0, 1 + math.sqrt(0.5), 1.0, 0.0])
    warm = schedule(decay="cosine", warmup=4.0)  # as long as the training
    assert [warm.rate(1.0, epochs, [], 4) for epochs in (0.0, 3.75)] == pytest.approx([0.0625, 1])


def test_cosine_by_epochs_as_published():
    """Rate 0 first, the full one after the warm-up and an epoch later; batches change nothing."""
    cosine = schedule(decay={"warmup": 2.0, "cosine": 4.0})
    rates = [cosine.rate(1.0, float(epochs), [], 4) for epochs in range(8)]
    half = math.sqrt(0.5)
    expected = [0.0, 0.5, 1.0, 1.0, (1 + half) / 2, 0.5, (1 - half) / 2, 0.0]
    assert rates == pytest.approx(expected)
    assert cosine.rate(1.0, 1.75, [], 4) == rates[1]


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        ({"decay": "sine"}, "decay"),
        ({"decay": {"warmup": 2.0}}, "cosine"),
        ({"decay": {"factor": 1.0, "patience": 2}}, "factor"),
        ({"decay": {"factor": 0.5}}, "patience"),
        ({"clip": {"kind": "norm", "limit": 0.0}}, "limit"),
        ({"clip": {"kind": "size", "limit": 1.0}}, "kind"),
        ({"warmup": -1.0}, "warmup"),
    ],
)
def test_wrong_settings(wrong, place):
    with pytest.raises(ValueError, match=place):
        schedule(**wrong)
