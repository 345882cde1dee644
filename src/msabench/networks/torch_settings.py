"""How PyTorch computes in this process: its device, threads, kernels, and determinism."""

import os
from collections.abc import Mapping
from typing import Any, Literal

import torch
from threadpoolctl import threadpool_limits

from msabench import arithmetic, errors
from msabench.errors import DeviceError
from msabench.networks import kernels, parallel

Device = Literal["auto", "cpu", "cuda", "mps"]


@errors.section("Systems")
def choose_device(device: Device) -> torch.device:
    """Return the device asked for; auto takes CUDA, then Apple's MPS, then the CPU.

    Each of several processes has a GPU of its own. Raises DeviceError for one that this machine, or
    this build of PyTorch, does not have.
    """
    return parallel.init(_kind(device))


def _kind(device: Device) -> str:
    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if device == "auto":
        return next(name for name, there in present.items() if there)
    if not present[device]:
        there = ", ".join(name for name in present if present[name])
        raise DeviceError(f"device: {device!r} is not available here; there are: auto, {there}")
    return device


def identity(device: Device) -> str:
    """Return what of this machine decides a run's numbers, for what is to be continued on it.

    In portable arithmetic nothing does; that is shown for one thread alone.
    """
    if arithmetic.in_use == "portable" and torch.get_num_threads() == 1:
        return "portable"
    return f"{machine(device)}, {arithmetic.in_use}"


def machine(device: Device) -> str:
    """Return in words what computes."""
    kind = choose_device(device).type
    names = {"cuda": torch.cuda.get_device_name, "cpu": _processor}
    return f"{kind} {names.get(kind, str)()}"


def _processor() -> str:
    """Return its name, if known, and the instructions that ATen uses."""
    name = torch.cpu.get_capabilities().get("cpu_name", "")
    return f"{name} {torch.backends.cpu.get_cpu_capability()}".strip()


@errors.section("Systems")
def configure(config: Mapping[str, Any], device: Device | None = None) -> None:
    """Make this process deterministic and keep it to its share of the machine.

    Call it before PyTorch computes anything. config: its `arithmetic`, `threads` and `device` are
    used. device: instead of that of config, for a prediction: it may be on another machine than the
    training, so where this one cannot compute portably, it is native.
    Raises DeviceError for a device or an arithmetic that this machine does not have.
    """
    before, setting = arithmetic.in_use, config["arithmetic"]
    if device is not None and setting == "portable":
        setting = "auto"
    arithmetic.in_use = arithmetic.choose(setting, _kind(device or config["device"]))
    if before == "portable" != arithmetic.in_use:
        raise RuntimeError("this process computes portably, which cannot be undone")
    threads = config["threads"]
    torch.set_num_threads(threads)
    threadpool_limits(threads, user_api="blas")
    # LSTM states decay into denormal numbers, with which a CPU is several times slower.
    torch.set_flush_denormal(True)
    torch.backends.cuda.matmul.fp32_precision = "tf32"  # products by the tensor cores
    if arithmetic.in_use == "portable":
        _compute_portably()
    elif _onednn_multiplies():
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"  # type: ignore[attr-defined]
        # oneDNN takes microseconds to begin a product, and flash attention makes two for each head
        # of each text. (On CUDA nothing changes: with a mask, as here, it is not flash anyway.)
        torch.backends.cuda.enable_flash_sdp(False)
    # oneDNN keeps compiled code for each shape it has met; every batch has shapes of its own.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic with it
    # The same as use_deterministic_algorithms(True), which imports torch's compiler: two seconds.
    torch.set_deterministic_debug_mode("error")
    # Nothing here reads memory before writing it; to fill it first costs a tenth of the time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False


def _compute_portably() -> None:
    os.environ.update(arithmetic.PYTORCH)
    if torch.backends.cpu.get_cpu_capability() != "AVX2" or _mkl_fuses():
        raise RuntimeError("configure comes too late: PyTorch has computed, with other kernels")
    kernels.replace()
    # Both call MKL's products past those that are replaced.
    torch.backends.cuda.enable_flash_sdp(False)
    torch.backends.mha.set_fastpath_enabled(False)


def _mkl_fuses() -> bool:
    """Tell whether MKL rounds a product and a sum once, which its compatible mode never does.

    By a product of matrices: on AMD, MKL's vector functions are those of that mode in any case.
    """
    x, y = 1 + 2**-12, 1 + 2**-11  # x * x is y + 2**-24, which is y in single precision
    left, right = torch.tensor([[-1.0, -1.0, x, x]] * 16), torch.tensor([[y], [y], [x], [x]])
    out = torch.empty(16, 16)  # given, it is MKL that multiplies, also after `kernels.replace`
    return bool(torch.mm(left, right.expand(4, 16).contiguous(), out=out).any())


def _onednn_multiplies() -> bool:
    """Tell whether oneDNN is to multiply float32 matrices on the CPU, not MKL.

    On AMD's AVX-512 it is twice as fast and as exact; on Intel MKL is a sixth faster in training.
    With AMX oneDNN would round them to bfloat16.
    """
    able = torch.cpu.get_capabilities()
    amd = str(able.get("cpu_name", "")).startswith("AMD ")
    return amd and bool(able.get("avx512_f")) and not able.get("amx_tile")
