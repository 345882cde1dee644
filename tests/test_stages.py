"""How stages fail, and runs side by side: how many, where, and what happens when some fail."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import stages
from msabench import interruption
from stages import __main__ as side_by_side

ROOT = Path(__file__).resolve().parents[1]
NAMES = ["plan", "features", "robustness@svm-1", "train@ours-1", "train@svm-1", "sweep@a-1"]
NAMES += ["ablation@svm", "tables"]
FIRST = ["train@ours-1", "train@svm-1", "sweep@a-1", "ablation@svm"]


@pytest.fixture
def ran(monkeypatch):
    """Replace DVC; return what is run: stage -> its GPU, in the order of their starts."""
    monkeypatch.chdir(ROOT)
    ran: dict[str, str] = {}
    busy: list[str] = []

    def dvc(*arguments, place=None, **_):
        if arguments[0] == "stage":
            return subprocess.CompletedProcess(arguments, 0, stdout="\n".join(NAMES))
        gpu = place.get("CUDA_VISIBLE_DEVICES", "")
        assert gpu == "" or gpu not in busy
        ran[arguments[-1]] = gpu
        busy.append(gpu)
        assert len(busy) <= 2
        time.sleep(0.02)
        busy.remove(gpu)
        return subprocess.CompletedProcess(arguments, int(arguments[-1] == "sweep@a-1"))

    monkeypatch.setattr(side_by_side, "_dvc", dvc)
    return ran


def test_each_gpu_has_one_run_at_a_time_and_a_failure_stops_no_other(ran, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-7f")
    with pytest.raises(SystemExit, match="error: 1 of 5 failed: sweep@a-1"):
        side_by_side.main()
    assert list(ran) == [*FIRST, "robustness@svm-1"]  # which needs a training
    assert set(ran.values()) == {"3", "GPU-7f"}


def test_without_a_gpu_there_is_one_for_each_core(ran, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    monkeypatch.setattr(side_by_side.joblib, "cpu_count", lambda: 2)
    with pytest.raises(SystemExit):
        side_by_side.main()
    assert len(ran) == 5
    assert set(ran.values()) == {""}


@pytest.mark.parametrize("jobs", ["0", "-2", "many"])
def test_an_impossible_number_of_jobs_is_refused(ran, jobs, capsys):
    with pytest.raises(SystemExit) as stopped:
        side_by_side.main(f"--jobs={jobs}")
    assert stopped.value.code == 2
    assert jobs in capsys.readouterr().err
    assert ran == {}


@pytest.mark.parametrize(
    ("visible", "expected"), [("0,2", ["0", "2"]), ("", []), ("-1", []), ("NoDevFiles", [])]
)
def test_the_user_says_which_gpus_may_be_used(visible, expected, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert side_by_side.visible_gpus() == expected


@pytest.mark.parametrize(
    ("script", "expected"), [("echo 0; echo 1", ["0", "1"]), ("echo broken; exit 9", [])]
)
def test_the_driver_tells_the_gpus(script, expected, monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    assert side_by_side.visible_gpus() == expected
    program.unlink()
    assert side_by_side.visible_gpus() == []


@pytest.mark.parametrize("error", [FloatingPointError, MemoryError, OSError])
def test_an_error_names_the_run(error):
    def main(*_):
        raise error("what\nis wrong")

    with pytest.raises(SystemExit) as stopped:
        stages.run(main, "ours", "3")
    assert stopped.value.code == "error: ours-3: what is wrong"


def test_ctrl_c_is_one_line_and_the_status_of_a_shell(capsys):
    def main():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stopped:
        stages.run(main)
    assert stopped.value.code == interruption.STATUS
    assert capsys.readouterr().err == f"{interruption.MESSAGE}\n"


def python(*arguments, **variables):
    environment = os.environ | {"PYTHONPATH": ""} | variables
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_a_missing_package_is_one_line(tmp_path):
    (tmp_path / "torch.py").write_text("import no_such_package\n")
    made = python("-m", "stages.features", PYTHONPATH=str(tmp_path))
    assert made.returncode == 1
    assert made.stderr == (
        "error: No module named 'no_such_package'; `make repro` installs what is needed\n"
    )


@pytest.mark.parametrize("version", ["(3, 10, 14)", "(3, 13, 0)"])
def test_another_python_is_one_line(version):
    made = python("-c", f"import sys; sys.version_info = {version}; import stages")
    assert made.returncode == 1
    number = ".".join(version.strip("()").split(", ")[:2])
    assert made.stderr == f"error: Python {number}; 3.11 or 3.12 is needed\n"
