"""Kernels of NumPy in the place of PyTorch's, on the CPU: products of matrices, and square roots.

Of PyTorch's both are MKL's. Its one mode that gives the same bytes on processors of all vendors
takes twice the time for products; OpenBLAS, which NumPy calls, has kernels for AVX2 that all of
them run, as fast as MKL's. In that mode roots begin with an instruction that approximates, of each
vendor in its own way; NumPy's are rounded correctly. What else the models use is the same by
`arithmetic.PYTORCH` alone (tests/golden/same_bytes_kernels.txt). MKL's other roots, sqrt_ and
pow(0.5), and atan are not: no model should use them.
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
    """Compute by NumPy from here on; gradients come by the same kernels.

    Returns what holds the replacement, which ends with it.
    """
    library = Library("aten", "IMPL")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Warning only once for all operators")
        for name, kernel in REPLACED.items():
            library.impl(name, kernel, "CPU", allow_override=True)
    return library


def _alike(*tensors: Tensor) -> bool:
    """Tell whether all are of single, or all of double precision. PyTorch computes all else."""
    kind = tensors[0].dtype
    return kind in (torch.float32, torch.float64) and all(one.dtype == kind for one in tensors)


def _fit(left: Tensor, right: Tensor, axes: int) -> bool:
    """Tell whether (*b, m, k) and (*b, k, n) have so many axes, and a product."""
    return left.dim() == right.dim() == axes and (
        left.shape[:-2] + left.shape[-1:] == right.shape[:-1]
    )


def _product(left: Tensor, right: Tensor) -> Tensor:
    out = left.new_empty((*left.shape[:-1], right.shape[-1]))
    with np.errstate(all="ignore"):  # the loop finds what is not finite, and names its cause
        np.matmul(left.detach().numpy(), right.detach().numpy(), out=out.numpy())
    return out


def _replaced_product(own: Callable[..., Tensor], axes: int) -> Callable[..., Tensor]:
    """Return the product of matrices, or of as many as a first axis has.

    own: PyTorch's, which computes what NumPy does not, and tells of shapes that do not fit.
    """

    def product(left: Tensor, right: Tensor) -> Tensor:
        if _alike(left, right) and _fit(left, right, axes):
            return _product(left, right)
        return own(left, right, out=left.new_empty(0))

    return product


def _replaced_sum(own: Callable[..., Tensor], axes: int) -> Callable[..., Tensor]:
    """Return beta * given + alpha * product. own, axes: as of the product."""

    def added(
        given: Tensor, left: Tensor, right: Tensor, *, beta: float = 1, alpha: float = 1
    ) -> Tensor:
        if beta == 0 or not (_alike(given, left, right) and _fit(left, right, axes)):
            return own(given, left, right, beta=beta, alpha=alpha, out=left.new_empty(0))
        out = _product(left, right)
        if alpha != 1:
            out.mul_(alpha)
        return out.add_(given, alpha=beta)

    return added


def _sqrt(values: Tensor) -> Tensor:
    if not _alike(values):
        kind = values.dtype if values.is_floating_point() or values.is_complex() else None
        return torch.sqrt(values, out=torch.empty(0, dtype=kind))
    out = torch.empty_like(values)
    with np.errstate(invalid="ignore"):
        np.sqrt(values.detach().numpy(), out=out.numpy())
    return out


REPLACED = {
    "mm": _replaced_product(torch.mm, axes=2),
    "bmm": _replaced_product(torch.bmm, axes=3),
    "addmm": _replaced_sum(torch.addmm, axes=2),
    "baddbmm": _replaced_sum(torch.baddbmm, axes=3),
    "sqrt": _sqrt,
}
