"""PyTorch's global settings: device, threads, kernels, determinism."""

import os
from collections.abc import Mapping
from typing import Any, Literal

import torch
from threadpoolctl import threadpool_limits

from msabench import arithmetic, errors
from msabench.errors import DeviceError
from msabench.networks import kernels, parallel

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["float32", "bfloat16"]

precision: Precision = "float32"  # of products in training; set by `configure`


@errors.see("docs/systems.md")
def choose_device(device: Device) -> torch.device:
    """Return the device; auto selects CUDA, else Apple's MPS, else the CPU.

    Each of several processes has a GPU of its own. Raises DeviceError for a device that this
    machine, or this build of PyTorch, does not have.
    """
    return parallel.init(_kind(device))


def _kind(device: Device) -> str:
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if device == "auto":
        return next(name for name, is_available in available.items() if is_available)
    if not available[device]:
        permitted = ", ".join(name for name in available if available[name])
        raise DeviceError(f"device: {device!r} is not available here; permitted: auto, {permitted}")
    return device


def identity(device: Device) -> str:
    """Return what of this machine decides a run's numbers, for the identity of a checkpoint.

    In portable arithmetic nothing does; this is tested for one thread only.
    """
    if arithmetic.in_use == "portable" and torch.get_num_threads() == 1:
        return "portable"
    return f"{machine(device)}, {arithmetic.in_use}"


def machine(device: Device) -> str:
    """Return the device and its model name."""
    kind = choose_device(device).type
    names = {"cuda": torch.cuda.get_device_name, "cpu": _processor}
    return f"{kind} {names.get(kind, str)()}"


def _processor() -> str:
    """Return the CPU's name, if known, and the instruction set that ATen uses."""
    name = torch.cpu.get_capabilities().get("cpu_name", "")
    return f"{name} {torch.backends.cpu.get_cpu_capability()}".strip()


@errors.see("docs/systems.md")
def configure(config: Mapping[str, Any], device: Device | None = None) -> None:
    """Make PyTorch deterministic in this process and limit its threads.

    Call it before PyTorch computes anything. config: its `arithmetic`, `precision` (float32 where
    it has none), `threads` and `device` are used. device: overrides that of config for inference,
    which may run on another machine than the training; there portable arithmetic becomes native
    where this machine does not support it.
    Raises DeviceError for a device or an arithmetic that this machine does not have.
    """
    global precision
    before, setting = arithmetic.in_use, config["arithmetic"]
    precision = config.get("precision", "float32")
    if device is not None and setting == "portable":
        setting = "auto"
    kind = _kind(device or config["device"])
    on_cpu = kind == "cpu"
    arithmetic.in_use = arithmetic.choose(setting, kind)
    if before == "portable" != arithmetic.in_use:
        raise RuntimeError("this process computes portably, which cannot be undone")
    threads = config["threads"]
    torch.set_num_threads(threads)
    threadpool_limits(threads, user_api="blas")
    # LSTM states decay into denormal numbers, which make a CPU several times slower.
    torch.set_flush_denormal(True)
    kernels.replace_dropout()
    torch.backends.cuda.matmul.fp32_precision = "tf32"  # matrix products on tensor cores
    if arithmetic.in_use == "portable":
        _compute_portably()
    elif _prefers_onednn():
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"  # type: ignore[attr-defined]
        # A oneDNN call costs microseconds, and flash attention makes two for each head of each
        # text.
        torch.backends.cuda.enable_flash_sdp(not on_cpu)
    if precision == "bfloat16":
        torch.backends.mha.set_fastpath_enabled(False)  # it rounds the sums of a layer, too
        if on_cpu and not _has_bfloat16():
            kernels.replace_bfloat16_products()
            torch.backends.cuda.enable_flash_sdp(False)  # its products are not those
    # oneDNN caches compiled code per shape, and nearly every batch has new shapes.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic with it
    # The same as use_deterministic_algorithms(True), which imports torch's compiler: two seconds.
    torch.set_deterministic_debug_mode("error")
    # Nothing here reads uninitialized memory; filling it costs a tenth of the time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False


def _compute_portably() -> None:
    os.environ.update(arithmetic.PYTORCH)
    if torch.backends.cpu.get_cpu_capability() != "AVX2" or _mkl_uses_fma():
        raise RuntimeError(
            "configure was called too late: PyTorch has already computed, with other kernels"
        )
    kernels.replace_products()
    # Both call MKL's products directly, not the replaced kernels.
    torch.backends.cuda.enable_flash_sdp(False)
    torch.backends.mha.set_fastpath_enabled(False)


def _mkl_uses_fma() -> bool:
    """Return whether MKL's matrix product uses FMA (one rounding): MKL_CBWR then came too late.

    A vector function would not show it: on AMD, MKL's are those of compatible mode in any case.
    """
    x, y = 1 + 2**-12, 1 + 2**-11  # x * x is y + 2**-24, which is y in single precision
    left, right = torch.tensor([[-1.0, -1.0, x, x]] * 16), torch.tensor([[y], [y], [x], [x]])
    out = torch.empty(16, 16)  # with `out`, MKL multiplies even after `kernels.replace_products`
    return bool(torch.mm(left, right.expand(4, 16).contiguous(), out=out).any())


def _prefers_onednn() -> bool:
    """Return whether oneDNN, instead of MKL, should multiply float32 matrices on this CPU.

    On AMD's AVX-512 it is twice as fast and as exact; on Intel MKL is a sixth faster in training.
    With AMX oneDNN would round them to bfloat16.
    """
    features = torch.cpu.get_capabilities()
    amd = str(features.get("cpu_name", "")).startswith("AMD ")
    return amd and bool(features.get("avx512_f")) and not features.get("amx_tile")


def _has_bfloat16() -> bool:
    """Return whether this CPU multiplies bfloat16; those that are not x86 are left to PyTorch."""
    features = torch.cpu.get_capabilities()
    units = ("avx512_bf16", "amx_bf16")
    return features.get("architecture") != "x86_64" or any(features.get(unit) for unit in units)
