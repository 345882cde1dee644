"""Runs on a cluster, of worker processes on this machine: what comes back, and what goes wrong."""

import json
import os
import shutil
import signal
import sys
import zlib
from contextlib import suppress
from types import SimpleNamespace

import dask
import psutil
import pytest
from ruamel.yaml import YAML

from msabench import errors
from msabench.execution import records
from stages import cluster
from tests import clones
from tests.clones import SMALL, environment, run, start
from tests.conftest import until

# One run of each model, of some steps; no more.
CHANGES = [
    *SMALL,
    "batch_size=4",  # 36 steps of ours: none is to end while a signal is on its way
    "models.ours.epochs=3",
]
PROGRAM = (sys.executable, "-m", "stages.cluster")
slow = pytest.mark.slow  # starts clusters of real processes


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """A clone in which all is ready for the trainings."""
    folder = tmp_path_factory.mktemp("cluster") / "planned"
    clones.clone(folder)
    (folder / "dvc.lock").unlink()  # so that the order of its stages is made anew too
    run(folder, "dvc", "exp", "run", *clones.options(CHANGES), "features")
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
    printed = run(tree, "dvc", "repro", "tables").stdout
    assert [line for line in printed.splitlines() if line.startswith("Running")] == [
        "Running stage 'tables':"
    ]
    for result in sorted((serial / "metrics").glob("*.*")):
        assert (tree / "metrics" / result.name).read_bytes() == result.read_bytes()
    assert (tree / "dvc.lock").read_bytes() == (serial / "dvc.lock").read_bytes()


def lock_of(tree):
    return YAML(typ="safe").load(tree / "dvc.lock")["stages"]


def forget(tree, first, *, last=None, run_cache=False):
    """Let DVC know nothing of the stages from one on, or of some, nor keep their outputs."""
    yaml = YAML()
    lock = yaml.load(tree / "dvc.lock")
    names = list(lock["stages"])
    for name in names[names.index(first) : names.index(last or names[-1]) + 1]:
        for out in lock["stages"].pop(name)["outs"]:
            path = tree / out["path"]
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    yaml.dump(lock, tree / "dvc.lock")
    if not run_cache:
        shutil.rmtree(tree / ".dvc/cache/runs")


def training(tree, process):
    """Return a process that trains below another one and has written a checkpoint."""

    def child_with_checkpoint():
        for checkpoint in (tree / "runs/scratch").glob("*/checkpoint.json"):
            model, seed, _ = checkpoint.parent.name.rsplit("-", 2)
            with suppress(psutil.NoSuchProcess):  # one has ended meanwhile
                for child in psutil.Process(process.pid).children(recursive=True):
                    if child.cmdline()[-3:] == ["stages.train", model, seed]:
                        return child
        return None

    return until(child_with_checkpoint)


@slow
def test_a_cluster_makes_what_a_serial_run_makes(tree, serial):
    printed = run(tree, *PROGRAM, "local:3").stdout
    assert "train@ours-1: done on " in printed
    assert "4 done, 0 running, 0 failed of 4" in printed
    assert_is(tree, serial)


@slow
def test_a_killed_worker_loses_nothing(trained, serial):
    """Killed while it trains; the run ends on another one."""
    forget(trained, "train@ours-1")
    process = start(trained, *PROGRAM, "local:3")
    training(trained, process).parent().kill()
    printed, _ = process.communicate(timeout=900)
    assert process.returncode == 0, printed
    assert "0 failed of 1" in printed
    assert_is(trained, serial)


@slow
def test_a_run_that_fails_stops_no_other(trained, serial):
    run(trained, "dvc", "exp", "run", *clones.options(["models.cnn.lr=1e30"]), "plan")
    forget(trained, "train@svm-1", last="train@svm-1")
    result = run(trained, *PROGRAM, "local:1", check=False)
    assert result.returncode == 1
    assert "train@cnn-1: failed: error: cnn-1: " in result.stdout
    assert result.stderr.splitlines()[-1] == "error: 1 of 2 failed: train@cnn-1"
    names = ("train@svm-1", "train@cnn-1")  # the latter as it was before
    assert [lock_of(trained)[name] for name in names] == [lock_of(serial)[name] for name in names]
    assert (trained / "predictions/cnn-1/test.csv").exists()


@slow
def test_what_the_run_cache_has_is_not_run_again(trained, serial):
    forget(trained, "train@svm-1", last="train@svm-1", run_cache=True)
    printed = run(trained, *PROGRAM, "tcp://127.0.0.1:1").stdout  # where nobody is
    assert "train@svm-1: restored from DVC's run cache" in printed
    assert lock_of(trained) == lock_of(serial)


@slow
def test_a_changed_run_is_not_taken_for_a_cached_one(trained):
    """The run cache has that of the settings before, which dvc.lock still names."""
    run(trained, "dvc", "exp", "run", *clones.options(["models.cnn.lr=2e-3"]), "plan")
    forget(trained, "train@svm-1", last="train@svm-1", run_cache=True)
    program = (
        "from msabench.execution.records import ROUNDS, out_of_date as o; "
        "print([(r.name, r.cached) for r in o(ROUNDS[0])])"
    )
    printed = run(trained, sys.executable, "-c", program).stdout
    assert printed.splitlines()[-1] == "[('train@svm-1', True), ('train@cnn-1', False)]"


@slow
def test_ctrl_c_ends_the_runs(trained):
    forget(trained, "train@ours-1")
    process = start(trained, *PROGRAM, "local:2")
    running = training(trained, process)
    os.killpg(process.pid, signal.SIGINT)
    printed, _ = process.communicate(timeout=900)
    assert process.returncode == errors.INTERRUPTED_STATUS, printed
    assert errors.INTERRUPTED in printed
    assert psutil.wait_procs([running], timeout=900)[1] == []
    assert any((trained / "runs/scratch").glob("ours-1-*/checkpoint.json"))
    assert "train@ours-1" not in lock_of(trained)


@slow
def test_workers_get_data_from_a_remote(trained, serial, tmp_path):
    run(trained, "dvc", "remote", "add", "store", str(tmp_path / "store"))
    forget(trained, "train@svm-1", last="train@svm-1")
    run(trained, *PROGRAM, "local:1", "--remote", "store")
    assert any((tmp_path / "store").rglob("*"))
    assert lock_of(trained) == lock_of(serial)


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A job that writes one file, on a worker that is this process."""
    worker = SimpleNamespace(
        address="tcp://here:1",
        local_directory=str(tmp_path),
        status=SimpleNamespace(name="running"),
        state=SimpleNamespace(tasks={"key": SimpleNamespace(state="executing")}),
        get_current_task=lambda: "key",
    )
    monkeypatch.setattr(cluster, "get_worker", lambda: worker)
    code = """
import os, pathlib, sys, time
pathlib.Path("predictions/ours-1").mkdir(parents=True)
pathlib.Path("predictions/ours-1/test.csv").write_text(os.environ["OMP_NUM_THREADS"])
pathlib.Path("predictions/other").write_text("none of its outputs")
print(*range(30), sep="\\n")
"""
    data = tmp_path / "data/prepared/sha256.json"
    data.parent.mkdir(parents=True)
    data.write_text("{}")
    content = {
        "files": {"stages/train.py": code, "runs/plan/ours.json": "{}"},
        "data": {"data/prepared/sha256.json": "{}"},
    }
    return {
        "content": content,
        "versions": {},
        "environment": {"OMP_NUM_THREADS": "7"},
        "shared": str(tmp_path),
        "remote": None,
        "command": ["stages/train.py"],
        "outs": ["runs/ours-1", "predictions/ours-1"],
    }


def trained_as(job):
    return cluster.train(job | {"content": zlib.compress(json.dumps(job["content"]).encode())})


def test_a_task_brings_back_its_outputs_and_leaves_nothing(job, tmp_path):
    result = trained_as(job)
    assert result["files"] == {"predictions/ours-1/test.csv": b"7"}
    assert result["status"] == 0
    assert len(result["message"].splitlines()) == cluster.LINES
    assert list(tmp_path.glob("run-*")) == []
    assert (tmp_path / "data/prepared/sha256.json").exists()


def test_a_stage_that_fails_is_told_and_one_that_is_killed_is_tried_again(job):
    program = job["content"]["files"]
    start, program["stages/train.py"] = program["stages/train.py"], "exit('error: why')"
    result = trained_as(job)
    assert (result["status"], result["message"]) == (1, "error: why")
    program["stages/train.py"] = f"{start}\nos.kill(os.getpid(), 9)"
    with pytest.raises(OSError, match="killed by signal 9"):
        trained_as(job)


def test_other_data_or_packages_are_refused(job, tmp_path):
    with pytest.raises(OSError, match=r"has torch \S+; this run needs 0.1"):
        trained_as(job | {"versions": {"torch": "0.1"}})
    (tmp_path / "data/prepared/sha256.json").write_text('{"other": 1}')
    with pytest.raises(OSError, match=r"sha256.json is of other data than the caller's"):
        trained_as(job)
    with pytest.raises(OSError, match="is not there; give SHARED or REMOTE"):
        trained_as(job | {"shared": str(tmp_path / "elsewhere")})


@pytest.mark.parametrize("answer", ["SIG_DFL", "SIG_IGN"])
def test_a_cancelled_task_ends_its_stage(job, answer, tmp_path, monkeypatch):
    """Whether it hears SIGTERM or not."""
    monkeypatch.setattr(cluster, "GRACE", 0.5)
    job["content"]["files"]["stages/train.py"] += f"""
import signal
signal.signal(signal.SIGTERM, signal.{answer})
pathlib.Path("process").write_text(str(os.getpid()))
time.sleep(3600)
"""
    processes: list[psutil.Process] = []

    class Status:
        @property
        def name(self):
            """The worker runs until its stage does."""
            printed = [file.read_text() for file in tmp_path.glob("run-*/process")]
            processes.extend(psutil.Process(int(number)) for number in printed if number)
            return "closing" if processes else "running"

    cluster.get_worker().status = Status()
    with pytest.raises(OSError, match="cancelled"):
        trained_as(job)
    assert not processes[0].is_running()


@pytest.mark.parametrize("name", ["../elsewhere", "/etc/passwd", "predictions/other-1/test.csv"])
def test_nothing_but_outputs_comes_back(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outs = ["runs/ours-1", "predictions/ours-1"]
    requested = cluster.Run("train@ours-1", [], [], outs, cached=False)
    record = cluster.Record([requested], ({}, {}))
    with pytest.raises(errors.ProcessError, match="none of its outputs"):
        record.place(requested, {"runs/ours-1/run.json": b"{}", name: b""})
    assert not (tmp_path / "runs/ours-1").exists()


def test_outputs_that_are_here_stay_where_not_all_come_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outs = ["runs/ours-1", "predictions/ours-1"]
    for out in outs:
        (tmp_path / out).mkdir(parents=True)
        (tmp_path / out / "before").touch()
    requested = cluster.Run("train@ours-1", [], [], outs, cached=False)
    with pytest.raises(errors.ProcessError, match="predictions/ours-1 did not come back"):
        cluster.Record([requested], ({}, {})).place(requested, {"runs/ours-1/run.json": b"{}"})
    assert all((tmp_path / out / "before").exists() for out in outs)


@pytest.mark.parametrize("device", ["cuda", "auto"])
def test_processes_of_this_machine_are_refused_where_gpus_are_asked_for(device, monkeypatch):
    monkeypatch.setattr(cluster, "visible_gpus", lambda: ["0"])
    monkeypatch.setattr(cluster.params, "load", lambda _: SimpleNamespace(device=device))
    with pytest.raises(errors.DeviceError, match=f"device: {device}, and local:2 is for CPUs"):
        cluster.main("local:2")


@pytest.mark.parametrize(
    ("device", "offered", "needed"),
    [
        ("cpu", 1, {}),
        ("auto", 0, {}),
        ("auto", 1, {"GPU": 1}),
        ("cuda", 0, {"GPU": 1}),
    ],
)
def test_a_run_needs_a_gpu_where_settings_or_workers_say_so(device, offered, needed, capsys):
    workers = {"tcp://a:1": {"resources": {"GPU": 1} if offered else {}}}
    client = SimpleNamespace(scheduler_info=lambda: {"workers": workers})
    assert cluster.resources(client, device) == needed  # type: ignore[arg-type]
    waits = bool(needed) and not offered
    assert ("waiting for a worker that offers a GPU" in capsys.readouterr().err) == waits


def test_runs_of_changed_code_are_not_recorded(monkeypatch):
    requested = cluster.Run("train@ours-1", [], ["stages/train.py"], [], cached=False)
    record = cluster.Record([requested], ({"stages/train.py": "before"}, {}), here={requested.name})
    monkeypatch.setattr(records, "decisive_files", lambda: ({"stages/train.py": "after"}, {}))
    monkeypatch.setattr(records, "record", lambda _: pytest.fail("recorded"))
    with pytest.raises(errors.DataError, match=r"stages/train\.py: changed while"):
        record.write(rest=True)


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:1", "nowhere://127.0.0.1:1", "tls://127.0.0.1:1"]
)
def test_a_scheduler_that_does_not_answer_is_told(address):
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "0.2s"}),
        pytest.raises(errors.ProcessError, match=f"^{address}: "),
        cluster.connected(address),
    ):
        pass


@pytest.mark.parametrize("address", ["local:0", "local:", "somewhere", "host:8786"])
def test_an_address_of_no_scheduler_is_refused(address, capsys):
    with pytest.raises(SystemExit) as stopped:
        cluster.main(address)
    assert stopped.value.code == 2
    assert repr(address) in capsys.readouterr().err


@slow
def test_without_the_extra_it_says_what_to_install(planned, tmp_path, monkeypatch):
    missing = "raise ModuleNotFoundError(\"No module named 'distributed'\")"
    (tmp_path / "distributed.py").write_text(missing)
    path = environment() | {"PYTHONPATH": str(tmp_path)}
    monkeypatch.setattr("tests.clones.environment", lambda: path)
    result = run(planned, *PROGRAM, "local:3", check=False)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "pip install -r requirements-cluster.txt" in result.stderr
