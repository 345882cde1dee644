"""Mixed precision: matrix products, and activations of them, in bfloat16; all else in float32.

By autocast: weights, their gradients and the optimizer stay float32. Whoever multiplies in it
returns float32, so that losses, label tables and centres are computed in float32. Not part of it
are an LSTM, whose cell state would be rounded at every step, the last layer, whose predictions
would have three digits, what acts on states inside the text encoder, and the states that the
layers of a transformer add to. Products in float32 are on a GPU those of TF32, as without mixed
precision: factors of ten bits, sums of float32.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor

from msabench.networks import torch_settings

Method = TypeVar("Method", bound=Callable[..., Any])


def mixed(device: torch.device) -> torch.autocast:
    """Return the context in which matrices are multiplied in `precision`."""
    enabled = torch_settings.precision == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def full(device: torch.device) -> torch.autocast:
    """Return the context, inside `mixed`, in which they are not; its inputs should be `exact`."""
    return torch.autocast(device.type, enabled=False)


@contextmanager
def without_tf32() -> Iterator[None]:
    """Multiply float32 matrices on a GPU in float32: its TF32 has ten bits."""
    matmul = torch.backends.cuda.matmul
    before, matmul.fp32_precision = matmul.fp32_precision, "ieee"
    try:
        yield
    finally:
        matmul.fp32_precision = before


def exact(values: Any) -> Any:
    """Return tensors of bfloat16 as float32, others as they are; also of a dict or dataclass."""
    if isinstance(values, Tensor):
        return values.float() if values.dtype == torch.bfloat16 else values
    if isinstance(values, tuple):
        return tuple(map(exact, values))
    if isinstance(values, dict):
        return {name: exact(value) for name, value in values.items()}
    if is_dataclass(values) and not isinstance(values, type):
        return type(values)(*(exact(getattr(values, field.name)) for field in fields(values)))
    return values


def in_mixed_precision(method: Method) -> Method:
    """Let a network's method multiply in `precision`; the tensors that it returns are `exact`."""

    @wraps(method)
    def mixing(self: Any, *arguments: Any) -> Any:
        with mixed(self.label_offset.device):
            return exact(method(self, *arguments))

    return mixing  # type: ignore[return-value]
