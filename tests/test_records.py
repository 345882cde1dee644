"""What DVC finds out of date, records and locks for runs that it does not start itself."""

import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from msabench import errors
from msabench.execution import records
from tests.conftest import until

TRAINING, ROBUSTNESS = records.ROUNDS
# Of a library of DVC's.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value will soon:DeprecationWarning")


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A pipeline of two trainings and what follows each; what is before them has run."""

    def each(command, dep, out):
        of_run = {"cmd": f"python -m {command} ${{item.run}}", "deps": [dep], "outs": [out]}
        return {"matrix": {"run": ["a", "b"]}, **of_run}

    data = {"cmd": "python -m stages.features", "deps": ["code"], "outs": ["data"]}
    stages = {
        "features": data,
        "train": each("stages.train", "data", "runs/${item.run}"),
        "robustness": each("stages.robustness", "runs/${item.run}", "corrupted/${item.run}"),
    }
    monkeypatch.chdir(tmp_path)
    YAML().dump({"stages": stages}, tmp_path / "dvc.yaml")
    for name in ("code", "data"):
        (tmp_path / name).write_text(name)
    for name in ("runs", "corrupted"):
        (tmp_path / name).mkdir()
    Repo.init(no_scm=True).close()
    with Repo() as repo:
        repo.commit("features", force=True)
    return tmp_path


def test_a_run_whose_training_failed_waits_for_it_and_the_others_go(tree):
    a, b = records.out_of_date(TRAINING)
    assert (a.name, a.command, a.after) == ("train@a", ["stages.train", "a"], "")
    assert (a.deps, a.outs, a.cached) == (["data"], ["runs/a"], False)
    (tree / "runs/a").write_text("weights")
    assert records.record([a]) == []
    assert records.out_of_date(TRAINING) == [b]
    of_a, of_b = records.out_of_date(ROBUSTNESS)
    assert (of_a.name, of_a.after) == ("robustness@a", "")
    assert (of_b.name, of_b.after) == ("robustness@b", "train@b")


def test_without_what_is_before_all_runs_none_begins(tree):
    (tree / "code").write_text("changed")
    with pytest.raises(errors.ProcessError, match="features is out of date; dvc repro features"):
        records.out_of_date(TRAINING)


def test_a_run_that_was_recorded_once_is_restored(tree, capsys):
    runs = records.out_of_date(TRAINING)
    for run in runs:
        (tree / run.outs[0]).write_text(run.name)
    records.record(runs)
    assert records.out_of_date(TRAINING) == []
    (tree / "runs/a").unlink()
    (tree / "dvc.lock").unlink()
    with Repo() as repo:
        repo.commit("features", force=True)
    cached = records.out_of_date(TRAINING)
    assert [run.cached for run in cached] == [True, True]
    assert records.record(cached) == []
    assert (tree / "runs/a").read_text() == "train@a"
    assert "train@a: restored from DVC's run cache" in capsys.readouterr().out


def test_what_cannot_be_recorded_costs_no_other_run(tree, capsys):
    """An output that is absent, and a run that params.yaml names no more."""
    a, b = records.out_of_date(TRAINING)
    (tree / "runs/b").write_text("weights")
    gone = replace(a, name="train@c")
    assert records.record([a, gone, b]) == ["train@a", "train@c"]
    said = capsys.readouterr().err
    assert "error: train@a: not recorded: " in said
    assert "runs/a" in said
    assert "error: train@c: not recorded: params.yaml no longer names it\n" in said
    assert records.out_of_date(TRAINING) == [a]


def test_no_other_dvc_touches_a_run_that_goes_on(tree):
    runs = records.out_of_date(TRAINING)
    repro = [sys.executable, "-m", "dvc", "repro", "--single-item", "train@a"]
    with records.locked(runs):
        refused = subprocess.run(repro, cwd=tree, capture_output=True, text=True, check=False)
        (tree / "runs/a").write_text("weights")
        assert records.record(runs[:1]) == []  # by the process that has them locked
    assert refused.returncode
    assert "is busy, it is being blocked by" in refused.stderr
    with Repo() as repo:
        assert repo.status(["train@a"]) == {}


def test_the_locks_of_a_process_that_was_killed_are_none(tree):
    program = """
import time
from msabench.execution import records
with records.locked(records.out_of_date(["train"])):
    open("locked", "w").close()
    time.sleep(600)
"""
    runs = records.out_of_date(TRAINING)
    process = subprocess.Popen([sys.executable, "-c", program], cwd=tree)
    until((tree / "locked").exists)
    busy = rf"^dvc: '.*' is busy, it is being blocked by:( \(PID {process.pid}\): -c)+$"
    with pytest.raises(errors.ProcessError, match=busy):
        records.out_of_date(TRAINING)
    with pytest.raises(errors.ProcessError, match=busy), records.locked(runs):
        raise AssertionError
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with records.locked(runs):
        pass
