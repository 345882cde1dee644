"""Kernels of NumPy in the place of PyTorch's, on the CPU: products of matrices, and square roots.

Of PyTorch's both are MKL's. Its one mode that gives the same bytes on processors of all vendors
takes twice the time for products; OpenBLAS, which NumPy calls, has kernels for AVX2 that all of
them run, as fast as MKL's. In that mode roots begin with an instruction that approximates, of each
vendor in its own way; NumPy's are rounded correctly. All else is the same everywhere by
`arithmetic.PYTORCH` alone, but for MKL's other roots, sqrt_ and pow(0.5), and atan: models should
not use them.
"""

import warnings
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.library import Library

KINDS = (torch.float32, torch.float64)  # PyTorch's own kernels are for all others


@cache
def replace() -> Library:
    """Compute by NumPy from here on; gradients come by the same kernels.

    Returns what holds the replacement, which ends with it.
    """
    library = Library("aten", "IMPL")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Warning only once for all operators")
        for name, kernel in REPLACED.items():
            library.impl(name, kernel, "CPU", allow_override=True)
    return library


def _product(own: Callable[..., Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the product of (*b, m, k) and (*b, k, n); own: PyTorch's, which tells of errors."""

    def product(left: Tensor, right: Tensor) -> Tensor:
        out = left.new_empty((*left.shape[:-1], right.shape[-1]))
        fit = left.shape[:-2] + left.shape[-1:] == right.shape[:-1]
        if not fit or left.dtype != right.dtype or left.dtype not in KINDS:
            return own(left, right, out=out)
        np.matmul(left.detach().numpy(), right.detach().numpy(), out=out.numpy())
        return out

    return product


def _sum(product: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """Return beta * given + alpha * product; with a beta of 0 what is given does not count."""

    def added(
        given: Tensor, left: Tensor, right: Tensor, *, beta: float = 1, alpha: float = 1
    ) -> Tensor:
        out = product(left, right)
        if alpha != 1:
            out.mul_(alpha)
        return out.add_(given, alpha=beta) if beta else out

    return added


def sqrt(values: Tensor) -> Tensor:
    """Return the square roots, NaN of what is negative."""
    if values.dtype not in KINDS:
        return values.pow(0.5)
    out = torch.empty_like(values)
    with np.errstate(invalid="ignore"):
        np.sqrt(values.detach().numpy(), out=out.numpy())
    return out


mm, bmm = _product(torch.mm), _product(torch.bmm)
REPLACED = {"mm": mm, "bmm": bmm, "addmm": _sum(mm), "baddbmm": _sum(bmm), "sqrt": sqrt}
