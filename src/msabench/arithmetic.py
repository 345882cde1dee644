"""Portable arithmetic, the same bytes on every x86-64 processor with AVX2, or native, the fastest.

NumPy, PyTorch and their libraries choose kernels by the processor's vendor and instruction set.
Kernels differ in the order of their additions, and training amplifies the rounding differences.
`portable` limits each library to kernels that are the same on every processor with AVX2 and FMA;
`native` leaves PyTorch the choice. `torch_settings.configure` applies the settings of this module.

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

in_use: Arithmetic = "native"  # in this process; set by `torch_settings.configure`

NUMPY = {
    # Matrix products and decompositions, else chosen by vendor and by AVX-512.
    "OPENBLAS_CORETYPE": "Haswell",
    # The order of additions depends on it. `torch_settings.configure` changes the number later.
    "OPENBLAS_NUM_THREADS": "1",
    # exp, log, power and others have separate AVX-512 kernels. These are the names of NumPy 2.4;
    # features that the processor lacks are permitted.
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
}
# Read at the first operation that needs them, after the import.
PYTORCH = {
    # Softmax and its gradient, SiLU, ELU, sigmoid: ATen's own kernels, for AVX2 or AVX-512.
    "ATEN_CPU_CAPABILITY": "avx2",
    # LSTM, GRU, convolutions, GELU: oneDNN compiles them for the instructions.
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    # exp, log, erf, and products that `kernels` does not replace. MKL has no other mode that is
    # the same for all vendors: on AMD, any other means AUTO.
    "MKL_CBWR": "COMPATIBLE",
}

# NumPy's X86_V3 in the names of Linux: AVX2, FMA, and the extensions introduced with them.
X86_V3 = {"avx2", "fma", "f16c", "bmi1", "bmi2", "abm", "movbe"}


def set_numpy() -> None:
    """Set the variables that NumPy reads at its import; warn where that came first."""
    if not is_supported():
        return
    os.environ.update(NUMPY)
    os.environ.pop("NPY_ENABLE_CPU_FEATURES", None)  # NumPy rejects both together
    if "numpy" in sys.modules and not numpy_is_portable():
        warnings.warn(
            "NumPy was imported before msabench, so that its last digits are those of this kind of "
            "processor; import msabench first",
            RuntimeWarning,
            stacklevel=3,
        )


@cache
def is_supported() -> bool:
    """Return whether this machine supports portable arithmetic: Linux, x86-64, AVX2 and FMA."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return False
    try:
        info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    flags = next((line.split() for line in info.splitlines() if line.startswith("flags")), [])
    return set(flags) >= X86_V3


def numpy_is_portable() -> bool:
    """Return whether NumPy, as imported, uses only the portable kernels."""
    import numpy as np
    from threadpoolctl import threadpool_info

    extensions = np.show_config(mode="dicts")["SIMD Extensions"].get("found")
    cores = {one.get("architecture") for one in threadpool_info() if one["user_api"] == "blas"}
    return extensions == ["X86_V3"] and cores <= {"Haswell"}


@errors.see("docs/systems.md")
def choose(setting: Setting, kind: str) -> Arithmetic:
    """Resolve the setting for a device type (`cpu`, `cuda`, `mps`).

    auto: portable on a CPU that supports it, else native. Raises DeviceError for portable where it
    is not supported.
    """
    if setting == "native":
        return "native"
    reason = None
    if kind != "cpu":
        reason = f"is for a CPU, not for the device {kind}"
    elif not is_supported():
        reason = "needs Linux on x86-64 with AVX2 and FMA"
    elif not numpy_is_portable():
        reason = "needs NumPy imported after msabench"
    if reason and setting == "portable":
        raise DeviceError(f"arithmetic: 'portable' {reason}; permitted here: auto, native")
    return "native" if reason else "portable"
