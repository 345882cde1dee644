"""Runs on a cluster, of worker processes on this machine: what comes back, and what goes wrong."""

import os
import shutil
import signal
import sys

import psutil
import pytest
from ruamel.yaml import YAML

from msabench import interruption
from stages import cluster
from tests.test_pipeline import SMALL, environment, make_clone, run, settings, start, trainings

# One run of each model, of some steps, and the one of Table 2; the ablation is switched off.
CHANGES = [
    *SMALL,
    "ablation.enabled=false",
    "sweep_seeds=[]",
    "batch_size=8",
    "models.ours.epochs=2",
]
PROGRAM = (sys.executable, "-m", "stages.cluster")


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """A clone in which all is ready for the trainings."""
    folder = tmp_path_factory.mktemp("cluster") / "planned"
    make_clone(folder)
    (folder / "dvc.lock").unlink()  # so that the order of its stages is made anew too
    run(folder, "dvc", "exp", "run", *settings(CHANGES), "features")
    return folder


@pytest.fixture(scope="module")
def serial(planned):
    """The same after `dvc repro`, which runs one stage after the other."""
    folder = planned.with_name("serial")
    shutil.copytree(planned, folder, symlinks=True)
    run(folder, "dvc", "repro", "tables")
    return folder


@pytest.fixture
def tree(planned, tmp_path):
    """A clone of one test, ready for the trainings."""
    return shutil.copytree(planned, tmp_path / "tree", symlinks=True)


@pytest.fixture
def trained(serial, tmp_path):
    """A clone of one test, in which all has run."""
    return shutil.copytree(serial, tmp_path / "tree", symlinks=True)


def assert_is(tree, serial):
    """What the runs of a tree led to, and what DVC holds of them, is that of the serial run."""
    run(tree, "dvc", "repro", "tables")
    for made in sorted((serial / "metrics").glob("*.*")):
        assert (tree / "metrics" / made.name).read_bytes() == made.read_bytes()
    assert (tree / "dvc.lock").read_bytes() == (serial / "dvc.lock").read_bytes()


def forget(tree, *stages):
    """Let DVC know nothing of some stages, nor keep their outputs."""
    yaml = YAML()
    lock = yaml.load(tree / "dvc.lock")
    for name in stages:
        for out in lock["stages"].pop(name)["outs"]:
            shutil.rmtree(tree / out["path"])
    yaml.dump(lock, tree / "dvc.lock")
    shutil.rmtree(tree / ".dvc/cache/runs")


def test_a_cluster_makes_what_a_serial_run_makes(tree, serial):
    told = run(tree, *PROGRAM, "local:3").stdout
    assert "train@ours-1: done on " in told
    assert "9 done, 0 running, 0 failed of 9" in told
    made = run(tree, "dvc", "status", "train", "ablation", "modalities")
    assert "up to date" in made.stdout
    assert_is(tree, serial)
    assert run(tree, *PROGRAM, "local:3").stdout == ""  # nothing is left to do


def test_a_killed_worker_loses_nothing(tree, serial):
    process = start(tree, *PROGRAM, "local:3")
    killed = trainings(process)[0].parent()
    killed.kill()
    told, _ = process.communicate(timeout=300)
    assert process.returncode == 0, told
    assert "0 failed of 9" in told
    assert_is(tree, serial)


def test_a_run_that_fails_stops_no_other(trained, serial):
    changes = ("models.cnn.lr=1e30", "models.svm.C=2")
    run(trained, "dvc", "exp", "run", *settings(changes), "plan")
    before = (trained / "predictions/cnn-1/test.csv").read_bytes()
    made = run(trained, *PROGRAM, "local:2", check=False)
    assert made.returncode == 1
    assert "train@cnn-1: failed: error: cnn-1: " in made.stdout
    assert made.stderr.splitlines()[-1] == "error: 1 of 3 failed: train@cnn-1"
    assert (trained / "predictions/cnn-1/test.csv").read_bytes() == before
    assert "up to date" in run(trained, "dvc", "status", "train@svm-1", "modalities").stdout
    files = [folder / "predictions/svm-1/test.csv" for folder in (trained, serial)]
    assert files[0].read_bytes() != files[1].read_bytes()


def test_what_the_run_cache_has_is_not_run_again(trained, planned, serial):
    """As if the settings had been others for a while."""
    shutil.copy(planned / "dvc.lock", trained)
    told = run(trained, *PROGRAM, "tcp://127.0.0.1:1").stdout  # where nobody is
    assert "Stage 'train@ours-1' is cached" in told
    assert_is(trained, serial)


def test_ctrl_c_ends_the_runs(tree, planned):
    process = start(tree, *PROGRAM, "local:2")
    running = trainings(process)
    os.killpg(process.pid, signal.SIGINT)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == interruption.STATUS, told
    assert interruption.MESSAGE in told
    assert psutil.wait_procs(running, timeout=8)[1] == []
    assert any((tree / "runs/scratch").glob("*/checkpoint.json"))
    assert "train@ours-1" not in YAML(typ="safe").load(tree / "dvc.lock")["stages"]


def test_workers_get_data_from_a_remote(trained, serial, tmp_path):
    run(trained, "dvc", "remote", "add", "store", str(tmp_path / "store"))
    forget(trained, "train@svm-1", "modalities")
    run(trained, *PROGRAM, "local:1", "--remote", "store")
    assert any((tmp_path / "store").rglob("*"))
    locks = [YAML(typ="safe").load(side / "dvc.lock") for side in (trained, serial)]
    assert locks[0] == locks[1]


def test_other_data_is_refused(trained, tmp_path):
    """A worker's tree is another one, or none."""
    forget(trained, "train@svm-1")
    other = tmp_path / "other"
    shutil.copytree(trained / "data", other / "data")
    (other / "data/prepared/sha256.json").write_text("{}")
    for shared, why in (
        (other, "data/prepared/sha256.json is of other data than the caller's"),
        (tmp_path / "nowhere", "nowhere is not there; give SHARED or REMOTE"),
    ):
        made = run(trained, *PROGRAM, "local:1", "--shared", str(shared), check=False)
        assert made.returncode == 1
        assert why in made.stdout


@pytest.mark.parametrize("name", ["../elsewhere", "/etc/passwd", "predictions/other-1/test.csv"])
def test_nothing_but_outputs_comes_back(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = cluster.Run("train@ours-1", [], ["runs/ours-1", "predictions/ours-1"], cached=False)
    record = cluster.Record([asked], ({}, {}))
    with pytest.raises(OSError, match="none of its outputs"):
        record.place(asked, {"runs/ours-1/run.json": b"{}", name: b""})
    assert not (tmp_path / "runs/ours-1").exists()


def test_runs_of_changed_code_are_not_recorded(monkeypatch):
    asked = cluster.Run("train@ours-1", [], [], cached=False)
    record = cluster.Record([asked], ({"stages/train.py": "before"}, {}), here={asked.name})
    monkeypatch.setattr(cluster, "decisive_files", lambda: ({"stages/train.py": "after"}, {}))
    monkeypatch.setattr(cluster.subprocess, "run", lambda *_, **__: pytest.fail("recorded"))
    with pytest.raises(OSError, match="changed while the runs were away"):
        record.write(rest=True)


@pytest.mark.parametrize("address", ["local:0", "local:", "somewhere", "host:8786"])
def test_an_address_of_no_scheduler_is_refused(address, capsys):
    with pytest.raises(SystemExit) as stopped:
        cluster.main(address)
    assert stopped.value.code == 2
    assert repr(address) in capsys.readouterr().err


def test_without_the_extra_it_says_what_to_install(planned, tmp_path, monkeypatch):
    missing = "raise ModuleNotFoundError(\"No module named 'distributed'\")"
    (tmp_path / "distributed.py").write_text(missing)
    path = environment() | {"PYTHONPATH": str(tmp_path)}
    monkeypatch.setattr("tests.test_pipeline.environment", lambda: path)
    made = run(planned, *PROGRAM, "local:3", check=False)
    assert made.returncode == 1
    assert len(made.stderr.splitlines()) == 1
    assert "pip install -r requirements-cluster.txt" in made.stderr
