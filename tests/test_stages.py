"""Runs side by side: how many, where, and what happens when some fail."""

import subprocess
import time
from pathlib import Path

import pytest

from stages import __main__ as side_by_side

ROOT = Path(__file__).resolve().parents[1]
STAGES = ["plan", "features", "train@ours-1", "train@svm-1", "sweep@a-1", "ablation@svm", "tables"]


@pytest.fixture
def ran(monkeypatch):
    """Replace DVC; return what is run: stage -> its GPU, in the order of their starts."""
    monkeypatch.chdir(ROOT)
    ran: dict[str, str] = {}
    busy: list[str] = []

    def dvc(*arguments, place=None, **_):
        if arguments[0] == "stage":
            return subprocess.CompletedProcess(arguments, 0, stdout="\n".join(STAGES))
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
    with pytest.raises(SystemExit, match="error: 1 of 4 failed: sweep@a-1"):
        side_by_side.main()
    assert list(ran) == ["train@ours-1", "train@svm-1", "sweep@a-1", "ablation@svm"]
    assert set(ran.values()) == {"3", "GPU-7f"}


def test_without_a_gpu_there_is_one_for_each_core(ran, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    monkeypatch.setattr(side_by_side.joblib, "cpu_count", lambda: 2)
    with pytest.raises(SystemExit):
        side_by_side.main()
    assert len(ran) == 4
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
