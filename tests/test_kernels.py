"""The mask of dropout, drawn by a kernel of our own."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import dropout, scaled_dot_product_attention

from msabench.networks import kernels


@pytest.fixture(autouse=True)
def replaced():
    kernels.replace_dropout()
    torch.manual_seed(1)


def test_an_element_is_kept_with_its_probability_and_scaled():
    """Also at odd numbers of elements, and apart from its neighbours."""
    mask = dropout(torch.ones(999, 1001), 0.3)
    assert mask.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
    kept = (mask > 0).double()
    assert kept.mean() == pytest.approx(0.7, abs=0.002)  # four standard deviations
    flat = kept.flatten()
    for distance in range(1, 9):  # four elements share a draw
        both = (flat[distance:] * flat[:-distance]).mean()
        assert both == pytest.approx(0.49, abs=0.003)


@pytest.mark.parametrize(("p", "kept"), [(0.0, 0), (1.0, 100), (2**-16, 0)])
def test_the_ends_of_its_range(p, kept):
    drawn = torch.full((100,), 7.0).bernoulli_(p)
    assert abs(int(drawn.sum()) - kept) <= (p == 2**-16)


def test_a_rate_is_rounded_to_16_bits():
    """Of 2^24 elements each of which is kept with 1.4 / 2^16, about 256 are kept: one in 2^16."""
    kept = torch.empty(2**24).bernoulli_(1.4 / 2**16).sum()
    assert kept == pytest.approx(256, abs=64)  # four standard deviations


def test_it_is_drawn_from_the_generator_and_its_state():
    states = [torch.get_rng_state()]
    first = torch.empty(10).bernoulli_(0.5)
    states.append(torch.get_rng_state())
    assert not torch.equal(*states)
    for again in (Tensor.bernoulli_, kernels._bernoulli):
        torch.set_rng_state(states[0])
        assert torch.equal(again(torch.empty(10), 0.5), first)
    own = [torch.Generator().manual_seed(seed) for seed in (3, 3, 4)]
    a, b, c = (torch.empty(64).bernoulli_(0.5, generator=each) for each in own)
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16, torch.int64])
def test_any_type_and_layout_is_filled(kind):
    values = torch.full((30, 20), 7, dtype=kind).T[::2]
    values.bernoulli_(0.5)
    assert set(values.unique().tolist()) == {0, 1}
    assert torch.empty(0, dtype=kind).bernoulli_(0.5).shape == (0,)


def test_gradients_pass_where_an_element_was_kept():
    values = torch.ones(1000, requires_grad=True)
    kept = dropout(values, 0.5)
    kept.sum().backward()
    assert values.grad is not None
    assert torch.equal(values.grad, kept.detach())


def test_the_weights_of_attention_are_dropped_by_it_too():
    query = torch.randn(1, 1, 40, 8, requires_grad=True)
    before = torch.get_rng_state()
    dropped = scaled_dot_product_attention(query, query, query, dropout_p=0.5)
    assert not torch.equal(torch.get_rng_state(), before)
    torch.set_rng_state(before)
    shares = torch.softmax(query @ query.mT / 8**0.5, dim=3)
    torch.testing.assert_close(dropped, dropout(shares, 0.5) @ query)
