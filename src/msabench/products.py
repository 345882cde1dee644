"""Products of matrices by NumPy's OpenBLAS in the place of PyTorch's MKL, on the CPU.

MKL has one mode that gives the same bytes on processors of all vendors, and it takes twice the
time. OpenBLAS has kernels for AVX2 that all of them run, as fast as MKL's. What is not replaced is
the same everywhere by `arithmetic.PYTORCH` alone: the replacement is for speed.
"""

import warnings
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.library import Library


@cache
def replace() -> Library:
    """Let OpenBLAS multiply float32 and float64 from here on; gradients come by the same products.

    Returns what holds the replacement, which ends with it.
    """
    library = Library("aten", "IMPL")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Warning only once for all operators")
        for name, product in REPLACED.items():
            library.impl(name, product, "CPU", allow_override=True)
    return library


def _product(own: Callable[..., Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the product of (*b, m, k) and (*b, k, n); own: PyTorch's, for all else, and errors."""

    def product(left: Tensor, right: Tensor) -> Tensor:
        out = left.new_empty((*left.shape[:-1], right.shape[-1]))
        fit = left.shape[:-2] + left.shape[-1:] == right.shape[:-1]
        if not fit or left.dtype != right.dtype or left.dtype not in (torch.float32, torch.float64):
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


mm, bmm = _product(torch.mm), _product(torch.bmm)
REPLACED = {"mm": mm, "bmm": bmm, "addmm": _sum(mm), "baddbmm": _sum(bmm)}
