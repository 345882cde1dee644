"""Which arithmetic computes: the same bytes on every x86-64 processor, or this one's fastest.

NumPy, PyTorch and their libraries choose kernels by the processor's vendor and instructions. Each
kernel adds in an order of its own, and training amplifies the last digits in which they differ.
`portable` keeps each library to kernels that every processor with AVX2 and FMA runs alike; `native`
leaves PyTorch the choice. This module holds the settings; `torch_settings.configure` applies them.

NumPy reads its own when it is imported, so `msabench/__init__.py` sets them first, whatever is
exported, and they hold in both arithmetics: data, tables and statistics are the same in both.
"""

import os
import platform
import sys
import warnings
from functools import cache
from pathlib import Path
from typing import Literal

from msabench import errors
from msabench.errors import DeviceError

Setting = Literal["auto", "portable", "native"]
Arithmetic = Literal["portable", "native"]

in_use: Arithmetic = "native"  # in this process: what `torch_settings.configure` has chosen

NUMPY = {
    # Products and decompositions: else by the vendor and by AVX-512.
    "OPENBLAS_CORETYPE": "Haswell",
    # Several threads sum in other parts than one. `torch_settings.configure` sets the number anew.
    "OPENBLAS_NUM_THREADS": "1",
    # exp, log, power and others have kernels of their own for AVX-512. These are the names of NumPy
    # 2.4; a feature that the processor lacks may be named.
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
}
# Read at the first operation that asks for them, after the import.
PYTORCH = {
    # Softmax and its gradient, SiLU, ELU, sigmoid: ATen's own kernels, for AVX2 or AVX-512.
    "ATEN_CPU_CAPABILITY": "avx2",
    # LSTM, GRU, convolutions, GELU: oneDNN compiles them for the instructions.
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    # exp, log, erf, and products that `kernels` does not replace. MKL has no other mode that is
    # the same for all vendors: on AMD it takes any but this one for AUTO.
    "MKL_CBWR": "COMPATIBLE",
}

# What NumPy calls X86_V3, as Linux names it: AVX2, FMA, and what came with them.
X86_V3 = {"avx2", "fma", "f16c", "bmi1", "bmi2", "abm", "movbe"}


def set_numpy() -> None:
    """Set what NumPy reads when it is imported; warn where it has been, with other kernels."""
    if not able():
        return
    os.environ.update(NUMPY)
    os.environ.pop("NPY_ENABLE_CPU_FEATURES", None)  # NumPy refuses both
    if "numpy" in sys.modules and not numpy_is_portable():
        warnings.warn(
            "NumPy was imported before msabench, so that its last digits are those of this kind of "
            "processor; import msabench first",
            RuntimeWarning,
            stacklevel=3,
        )


@cache
def able() -> bool:
    """Tell whether this machine can compute portably: Linux on x86-64 with AVX2 and FMA."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return False
    try:
        info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    flags = next((line.split() for line in info.splitlines() if line.startswith("flags")), [])
    return set(flags) >= X86_V3


def numpy_is_portable() -> bool:
    """Tell whether NumPy, as imported, has the kernels that all processors share."""
    import numpy as np
    from threadpoolctl import threadpool_info

    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found")
    cores = {one.get("architecture") for one in threadpool_info() if one["user_api"] == "blas"}
    return found == ["X86_V3"] and cores <= {"Haswell"}


@errors.section("Systems")
def choose(setting: Setting, kind: str) -> Arithmetic:
    """Return what the setting means on a device of that kind (`cpu`, `cuda`, `mps`).

    auto: portable on a CPU that can, else native. Raises DeviceError where portable is asked for
    and cannot be.
    """
    if setting == "native":
        return "native"
    reason = None
    if kind != "cpu":
        reason = f"is for a CPU, not for the device {kind}"
    elif not able():
        reason = "needs Linux on x86-64 with AVX2 and FMA"
    elif not numpy_is_portable():
        reason = "needs NumPy imported after msabench"
    if reason and setting == "portable":
        raise DeviceError(f"arithmetic: 'portable' {reason}; permitted here: auto, native")
    return "native" if reason else "portable"
