"""Portable arithmetic: the recorded bytes on this machine, whatever its processor."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from msabench import arithmetic
from msabench.errors import DeviceError
from msabench.networks import torch_settings
from msabench.training.checkpoints import SECONDS

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests/golden"
# What a user may have exported; portable arithmetic sets its own.
EXPORTED = {
    "OMP_NUM_THREADS": "2",
    "OPENBLAS_NUM_THREADS": "2",
    "OPENBLAS_CORETYPE": "Nehalem",
    "NPY_DISABLE_CPU_FEATURES": "",
    "NPY_ENABLE_CPU_FEATURES": "X86_V3",
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_CBWR": "AUTO",
}
LEAST_QEMU = 10  # 7.2 computes oneDNN's LSTM for AVX2 wrongly; 8 and 9 have not been tried

needs_avx2 = pytest.mark.skipif(
    not arithmetic.is_supported(), reason="portable arithmetic needs Linux on x86-64 with AVX2"
)


def assert_recorded(what, *emulator):
    """Compare line by line, so that what fails names the first kernel, or model and step."""
    command = [*emulator, sys.executable, "-W", "error::RuntimeWarning", "-m", "tests.same_bytes"]
    completed = subprocess.run(
        [*command, what], cwd=ROOT, env=os.environ | EXPORTED, capture_output=True, text=True
    )
    assert completed.returncode == 0, completed.stderr
    expected = (GOLDEN / f"same_bytes_{what}.txt").read_text(encoding="utf-8").splitlines()
    lines = completed.stdout.splitlines()
    assert [line.rpartition(": ")[0] for line in lines] == [
        line.rpartition(": ")[0] for line in expected
    ]
    for line, recorded in zip(lines, expected, strict=True):
        assert line == recorded


@needs_avx2
@pytest.mark.parametrize("what", ["kernels", pytest.param("pipeline", marks=pytest.mark.slow)])
def test_this_processor_gives_the_recorded_bytes(what):
    assert_recorded(what)


def emulator():
    """Return the path of qemu's emulator of x86-64, if there is one that is new enough."""
    for name in ("qemu-x86_64", "qemu-x86_64-static"):
        if path := shutil.which(name):
            printed = subprocess.run([path, "--version"], capture_output=True, text=True).stdout
            actual = re.search(r"version (\d+)", printed)
            if actual and int(actual[1]) >= LEAST_QEMU:
                return path
    return None


@pytest.mark.slow
@needs_avx2
@pytest.mark.skipif(emulator() is None, reason=f"needs qemu-user {LEAST_QEMU} or newer")
@pytest.mark.parametrize("processor", ["Haswell", "EPYC-Milan"])
@pytest.mark.parametrize("what", ["kernels", "pipeline"])
def test_an_emulated_processor_gives_the_recorded_bytes(what, processor):
    """Its arithmetic is exact also where AMD and Intel approximate, each in its own way."""
    assert_recorded(what, emulator(), "-cpu", processor)


@pytest.fixture
def elsewhere(monkeypatch):
    monkeypatch.setattr(arithmetic, "is_supported", lambda: False)


@pytest.fixture
def here(monkeypatch):
    monkeypatch.setattr(arithmetic, "is_supported", lambda: True)
    monkeypatch.setattr(arithmetic, "numpy_is_portable", lambda: True)


@pytest.mark.usefixtures("here")
def test_auto_is_portable_on_a_cpu_and_native_on_a_gpu():
    assert arithmetic.choose("auto", "cpu") == arithmetic.choose("portable", "cpu") == "portable"
    assert arithmetic.choose("native", "cpu") == "native"
    for kind in ("cuda", "mps"):
        assert arithmetic.choose("auto", kind) == arithmetic.choose("native", kind) == "native"


@pytest.mark.usefixtures("here")
def test_portable_arithmetic_is_refused_on_a_gpu():
    with pytest.raises(DeviceError, match="'portable' is for a CPU, not for the device cuda; perm"):
        arithmetic.choose("portable", "cuda")


@pytest.mark.usefixtures("elsewhere")
def test_without_avx2_auto_is_native_and_portable_is_refused():
    assert arithmetic.choose("auto", "cpu") == "native"
    with pytest.raises(DeviceError, match="needs Linux on x86-64 with AVX2 and FMA; perm"):
        arithmetic.choose("portable", "cpu")


SHOWN = """
from threadpoolctl import threadpool_info
blas = [one for one in threadpool_info() if one["user_api"] == "blas"]
print({f"{one['architecture']} x {one['num_threads']}" for one in blas})
"""


@needs_avx2
def test_data_and_statistics_have_numpys_settings_without_those_of_training():
    completed = python(f"import msabench, numpy{SHOWN}", **EXPORTED)
    assert completed.stdout == "{'Haswell x 1'}\n"


@needs_avx2
def test_products_have_as_many_threads_as_the_params_say():
    completed = python(
        f"from msabench.networks import torch_settings; {SETTLE.replace('1}', '2}')}{SHOWN}",
        **EXPORTED,
    )
    assert completed.stdout == "{'Haswell x 2'}\n"


def python(program, **environment):
    """Run a program without the settings that this process has made for its own."""
    own = arithmetic.NUMPY.keys() | arithmetic.PYTORCH.keys()
    kept = {name: value for name, value in os.environ.items() if name not in own}
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", program]
    variables = kept | {"PYTHONPATH": "src"} | environment
    return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)


FIRST = "import numpy; import msabench; from msabench import arithmetic"


@needs_avx2
def test_numpy_imported_before_the_package_is_warned_of():
    """By the core type, which some Intel processors have of themselves: here none has."""
    completed = python(FIRST, OPENBLAS_CORETYPE="Nehalem")
    assert "RuntimeWarning: NumPy was imported before msabench" in completed.stderr
    quiet = f"import warnings; warnings.simplefilter('ignore'); {FIRST}"
    completed = python(
        f"{quiet}; print(arithmetic.choose('auto', 'cpu'))", OPENBLAS_CORETYPE="Nehalem"
    )
    assert completed.stdout == "native\n"
    completed = python(
        f"{quiet}; arithmetic.choose('portable', 'cpu')", OPENBLAS_CORETYPE="Nehalem"
    )
    assert "'portable' needs NumPy imported after msabench" in completed.stderr


@needs_avx2
def test_a_numpy_without_the_kernels_of_avx2_is_warned_of_too():
    """It names nothing that it found where it uses the baseline alone."""
    completed = python(FIRST, NPY_DISABLE_CPU_FEATURES="X86_V3 X86_V4 AVX512_ICL AVX512_SPR")
    assert "RuntimeWarning: NumPy was imported before msabench" in completed.stderr


@needs_avx2
def test_numpy_imported_before_with_the_same_kernels_is_not_warned_of():
    completed = python(f"{FIRST}; print(arithmetic.choose('auto', 'cpu'))", **arithmetic.NUMPY)
    assert (completed.stdout, completed.stderr) == ("portable\n", "")


IMPORT = "from msabench.networks import torch_settings"
SETTLE = "torch_settings.configure({'arithmetic': 'portable', 'device': 'cpu', 'threads': 1})"


@needs_avx2
@pytest.mark.parametrize(
    ("computed", "capability"),
    [("torch.ones(9).softmax(0)", "default"), ("torch.ones(9).dot(torch.ones(9))", "avx2")],
)
def test_what_pytorch_has_computed_before_is_noticed(computed, capability):
    """ATen and MKL choose their kernels once in a process."""
    program = f"{IMPORT}; import torch; {computed}; {SETTLE}"
    completed = python(program, ATEN_CPU_CAPABILITY=capability)
    assert "RuntimeError: configure was called too late" in completed.stderr


@needs_avx2
def test_a_process_that_computes_portably_is_not_settled_otherwise():
    completed = python(f"{IMPORT}; {SETTLE}; {SETTLE}; {SETTLE.replace('portable', 'native')}")
    assert "RuntimeError: this process computes portably" in completed.stderr


def test_a_prediction_is_native_where_portable_cannot_be():
    """The run may have been trained on another machine."""
    config = "{'arithmetic': 'portable', 'device': 'cpu', 'threads': 1}"
    completed = python(f"""
from msabench import arithmetic
from msabench.networks import torch_settings
arithmetic.is_supported = lambda: False
torch_settings.configure({config}, "cpu")
print(arithmetic.in_use)
torch_settings.configure({config})
""")
    assert completed.stdout == "native\n"
    assert "DeviceError: arithmetic: 'portable' needs Linux" in completed.stderr


@needs_avx2
def test_what_is_not_replaced_is_pytorchs():
    """Other types of numbers, errors of shapes; and what no product shows: NaN, a beta of 0."""
    completed = python(f"""
{IMPORT}; import torch; {SETTLE}
assert torch.equal(torch.ones(2, 3).long() @ torch.ones(3, 2).long(), torch.full((2, 2), 3))
half = torch.ones(2, 3).bfloat16() @ torch.ones(3, 2).bfloat16()
assert torch.equal(half, torch.full((2, 2), 3).bfloat16())
assert torch.equal(torch.mm(torch.ones(2, 0), torch.ones(0, 3)), torch.zeros(2, 3))
assert torch.sqrt(torch.tensor([4, 9])).tolist() == [2.0, 3.0]
assert torch.sqrt(torch.tensor(-1 + 0j)) == 1j
assert torch.sqrt(torch.tensor([4.0, -1.0])).isnan().tolist() == [False, True]
assert torch.sqrt(torch.tensor([4.0, -0.0]).half()).tolist() == [2.0, -0.0]
large = torch.full((2, 2), 1e30)
assert (large @ large).isinf().all()
nan = torch.full((2, 2), torch.nan)
assert torch.equal(torch.addmm(nan, torch.eye(2), torch.eye(2), beta=0), torch.eye(2))
for wrong in (
    lambda: torch.mm(torch.ones(3, 4), torch.ones(5, 4)),
    lambda: torch.bmm(torch.ones(1, 3, 4), torch.ones(5, 4, 3)),
    lambda: torch.mm(torch.ones(3, 4), torch.ones(4, 3).double()),
    lambda: torch.mm(torch.ones(2, 3, 4), torch.ones(2, 4, 3)),
    lambda: torch.mm(torch.ones(3, 4), torch.tensor(1.0)),
    lambda: torch.bmm(torch.ones(3, 4), torch.ones(4, 3)),
    lambda: torch.addmm(torch.ones(3).double(), torch.ones(3, 4), torch.ones(4, 3)),
    lambda: torch.addmm(torch.ones(7), torch.ones(3, 4), torch.ones(4, 3), beta=0),
    lambda: torch.baddbmm(torch.ones(7), torch.ones(2, 3, 4), torch.ones(2, 4, 3)),
):
    try:
        wrong()
    except RuntimeError:
        continue
    raise AssertionError("no error")
""")
    assert completed.returncode == 0, completed.stderr


TRAIN = """
import sys

from stages import train
import torch
from msabench.execution import interruption

processor, interrupted = sys.argv[1:]
torch.cpu.get_capabilities = lambda: {"cpu_name": processor}
if interrupted == "yes":
    interruption.stop_requested = lambda: True
train.main("ours", 1)
"""


@pytest.fixture(scope="module")
def tree(trained_with):
    return trained_with(1)


def train(tree, processor, interrupted="no"):
    """Train ours in the tree as on that processor, or its first step; return what it says."""
    command = [sys.executable, "-c", TRAIN, processor, interrupted]
    environment = os.environ | {SECONDS: "0", "PYTHONPATH": str(ROOT)}
    completed = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    assert ("KeyboardInterrupt" in completed.stderr) == (interrupted == "yes"), completed.stderr
    assert (completed.returncode == 0) == (interrupted == "no"), completed.stderr
    return completed.stderr


def result(tree):
    folders = (tree / "runs/ours-1", tree / "predictions/ours-1")
    return {file.name: file.read_bytes() for folder in folders for file in folder.iterdir()}


@pytest.mark.slow
@needs_avx2
@pytest.mark.parametrize("setting", ["auto", "native"])
def test_a_checkpoint_of_another_processor_goes_on_if_it_is_portable(tree, setting):
    plan = tree / "runs/plan/ours.json"
    plan.write_text(json.dumps(json.loads(plan.read_text()) | {"arithmetic": setting}))
    train(tree, "Intel Xeon")
    expected = result(tree)
    used = json.loads(expected["run.json"])["arithmetic_in_use"]
    assert used == {"auto": "portable", "native": "native"}[setting]
    train(tree, "AMD EPYC 9R14", interrupted="yes")
    printed = train(tree, "Intel Xeon")
    assert ("resumed from " in printed) == (setting == "auto")
    assert ("not resumed" in printed) == (setting == "native")
    assert result(tree) == expected


def test_the_machine_is_no_part_of_portable_numbers_of_one_thread(monkeypatch):
    monkeypatch.setattr(arithmetic, "in_use", "portable")
    assert torch_settings.identity("cpu") == "portable"
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert torch_settings.identity("cpu") == f"{torch_settings.machine('cpu')}, portable"
