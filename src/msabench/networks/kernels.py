"""Kernels in place of PyTorch's own on a CPU.

In every arithmetic the mask of dropout, of which PyTorch draws each element as a number of its own:
that took a twentieth of a training. In portable arithmetic NumPy's matrix product and square root:
PyTorch's own are MKL's. MKL's only mode that returns the same bytes on the processors of all
vendors takes twice the time for matrix products; OpenBLAS, which NumPy calls, has AVX2 kernels that
run on all of them as fast as MKL's. MKL's square root in that mode starts from an approximate
instruction, which differs between vendors; NumPy's is correctly rounded. For the other kernels that
the models use, `arithmetic.PYTORCH` is enough (tests/golden/same_bytes_kernels.txt), but not for
sqrt_, pow(0.5) and atan: no model should use those.

In mixed precision, on a processor without instructions for bfloat16, its matrix products: PyTorch's
own add one product at a time there, and take forty times as long as those of float32.
"""

import warnings
from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.library import Library


@cache
def replace_dropout() -> Library:
    """Register the kernel of dropout masks; returns the library, with which it ends."""
    return _registered({"bernoulli_.float": _bernoulli})


@cache
def replace_products() -> Library:
    """Register the kernels of portable arithmetic; autograd uses them too. See replace_dropout."""
    return _registered(PORTABLE)


@cache
def replace_bfloat16_products() -> Library:
    """Register products of bfloat16 matrices by way of float32; see replace_dropout.

    They are as exact as those of a processor that has the instructions: it too adds in float32, and
    rounds the sum.
    """
    return _registered(BFLOAT16)


def _registered(kernels: Mapping[str, Callable[..., Tensor]]) -> Library:
    library = Library("aten", "IMPL")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Warning only once for all operators")
        for name, kernel in kernels.items():
            library.impl(name, kernel, "CPU", allow_override=True)
    return library


def _bernoulli(
    values: Tensor, p: float = 0.5, *, generator: torch.Generator | None = None
) -> Tensor:
    """Fill with 1 where a random number of 16 bits is below p, rounded to 2^-16, else with 0.

    Four such numbers are one draw of the generator.
    """
    limit = round(p * 2**16) - 2**15
    if limit == 2**15:  # p = 1
        return values.fill_(1)
    draws = torch.empty(-(-values.numel() // 4), dtype=torch.int64)
    draws.random_(-(2**63), None, generator=generator)
    numbers = draws.view(torch.int16)[: values.numel()].view(values.shape)
    return torch.lt(numbers, limit, out=values)


def _same_float(*tensors: Tensor) -> bool:
    """Return whether all are float32, or all float64. PyTorch computes everything else."""
    dtype = tensors[0].dtype
    return dtype in (torch.float32, torch.float64) and all(t.dtype == dtype for t in tensors)


def _shapes_match(left: Tensor, right: Tensor, axes: int) -> bool:
    """Return whether (*b, m, k) and (*b, k, n) have that many axes, and a product."""
    return left.dim() == right.dim() == axes and (
        left.shape[:-2] + left.shape[-1:] == right.shape[:-1]
    )


def _product(left: Tensor, right: Tensor) -> Tensor:
    out = left.new_empty((*left.shape[:-1], right.shape[-1]))
    with np.errstate(all="ignore"):  # the training loop reports what is not finite
        np.matmul(left.detach().numpy(), right.detach().numpy(), out=out.numpy())
    return out


def _replaced_product(original: Callable[..., Tensor], axes: int) -> Callable[..., Tensor]:
    """Return the kernel of a matrix product; axes: 2, or 3 for a batched one.

    original: PyTorch's, for other types, and to raise for shapes that do not match.
    """

    def product(left: Tensor, right: Tensor) -> Tensor:
        if _same_float(left, right) and _shapes_match(left, right, axes):
            return _product(left, right)
        return original(left, right, out=left.new_empty(0))

    return product


def _replaced_sum(original: Callable[..., Tensor], axes: int) -> Callable[..., Tensor]:
    """Return the kernel of beta * addend + alpha * product; see _replaced_product."""

    def addmm(
        addend: Tensor, left: Tensor, right: Tensor, *, beta: float = 1, alpha: float = 1
    ) -> Tensor:
        if beta == 0 or not (_same_float(addend, left, right) and _shapes_match(left, right, axes)):
            return original(addend, left, right, beta=beta, alpha=alpha, out=left.new_empty(0))
        out = _product(left, right)
        if alpha != 1:
            out.mul_(alpha)
        return out.add_(addend, alpha=beta)

    return addmm


def _sqrt(values: Tensor) -> Tensor:
    if not _same_float(values):
        dtype = values.dtype if values.is_floating_point() or values.is_complex() else None
        return torch.sqrt(values, out=torch.empty(0, dtype=dtype))
    out = torch.empty_like(values)
    with np.errstate(invalid="ignore"):
        np.sqrt(values.detach().numpy(), out=out.numpy())
    return out


PORTABLE = {
    "mm": _replaced_product(torch.mm, axes=2),
    "bmm": _replaced_product(torch.bmm, axes=3),
    "addmm": _replaced_sum(torch.addmm, axes=2),
    "baddbmm": _replaced_sum(torch.baddbmm, axes=3),
    "sqrt": _sqrt,
}


def _through_float32(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the kernel of a product or a sum with one; original: PyTorch's, for other types."""

    def product(*tensors: Tensor, **factors: float) -> Tensor:
        if any(tensor.dtype != torch.bfloat16 for tensor in tensors):
            return original(*tensors, **factors, out=tensors[-1].new_empty(0))
        exact = [tensor.float() for tensor in tensors]
        return original(*exact, **factors, out=exact[-1].new_empty(0)).bfloat16()

    return product


BFLOAT16 = {
    "mm": _through_float32(torch.mm),
    "bmm": _through_float32(torch.bmm),
    "addmm": _through_float32(torch.addmm),
    "baddbmm": _through_float32(torch.baddbmm),
}
