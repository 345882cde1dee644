"""How stages fail, and runs side by side: how many, where, and what happens when some fail."""

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import nullcontext
from errno import ENOSPC
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

import stages
from msabench import errors
from msabench.execution import jobs, records
from stages import __main__ as side_by_side
from stages import train
from tests.conftest import until

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def side(monkeypatch, tmp_path):
    """Runs of a stub in real processes; DVC records none, `recorded` are those it would."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    monkeypatch.setattr(jobs.joblib, "cpu_count", lambda: 2)
    monkeypatch.setattr(side_by_side, "IMPORTED", [])
    side = SimpleNamespace(rounds=[[], []], recorded=[], folder=tmp_path)

    def run(name, how="ends", *, cached=False, after=""):
        command = ["tests.stub_stage", str(tmp_path), name, how]
        return records.Run(name, command, [], [], cached, after)

    def out_of_date(stages):
        return side.rounds[[*records.ROUNDS].index(tuple(stages))]

    side.run = run
    monkeypatch.setattr(records, "out_of_date", out_of_date)

    def record(runs):
        side.recorded += [run.name for run in runs]
        return []

    monkeypatch.setattr(records, "decisive_files", lambda: ({"dvc.yaml": "stages"}, {}))
    monkeypatch.setattr(records, "locked", nullcontext)
    monkeypatch.setattr(records, "record", record)
    return side


def times(side):
    """By name when each run began and ended, and its GPU, in the order of their starts."""
    ended = (path for path in side.folder.iterdir() if not path.suffix)
    read = {path.name: path.read_text().split(" ") for path in ended}
    return dict(sorted(read.items(), key=lambda item: float(item[1][0])))


def test_each_gpu_has_one_run_at_a_time_and_the_second_round_follows_the_first(side, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-7f")
    side.rounds = [[side.run(name) for name in "abcd"], [side.run("after")]]
    side_by_side.main()
    taken = times(side)
    assert [*taken][-1] == "after"
    assert side.recorded[-1] == "after"
    assert sorted(side.recorded) == sorted(taken)
    for gpu in ("3", "GPU-7f"):
        own = [(float(begin), float(end)) for begin, end, where in taken.values() if where == gpu]
        assert len(own) >= 2
        assert all(end <= begin for (_, end), (begin, _) in pairwise(own))


def test_a_failure_stops_no_other_and_is_not_recorded(side, capfd):
    side.rounds[0] = [
        *(side.run("cached", cached=True), side.run("wrong", "fails"), side.run("killed", "dies")),
        side.run("a"),
    ]
    with pytest.raises(SystemExit, match=r"^error: 2 of 4 failed: (wrong, killed|killed, wrong)$"):
        side_by_side.main()
    assert side.recorded == ["cached", "a"]
    assert [*times(side)] == ["a"]
    said = capfd.readouterr()
    assert "error: killed: killed by signal 9" in said.err
    assert "a: started, 0 to follow" in said.out


def test_without_a_gpu_there_is_one_for_each_core(side):
    side.rounds[0] = [side.run(name) for name in "abcd"]
    side_by_side.main()
    begins = [float(begin) for begin, _, _ in times(side).values()]
    ends = sorted(float(end) for _, end, _ in times(side).values())
    assert all(begin >= end for begin, end in zip(begins[2:], ends, strict=False))
    side.rounds[0] = [side.run("e")]
    side_by_side.main("--jobs", "1")
    assert side.recorded[-1] == "e"


def test_what_ran_with_code_that_has_changed_is_not_recorded(side, monkeypatch):
    side.rounds[0] = [side.run("a")]
    contents = iter(["stages", "other stages"])
    monkeypatch.setattr(records, "decisive_files", lambda: ({"dvc.yaml": next(contents)}, {}))
    with pytest.raises(errors.DataError, match=r"^dvc\.yaml: changed while .*; not recorded$"):
        side_by_side.main()
    assert side.recorded == []


def test_what_no_run_reads_may_change(monkeypatch):
    """A figure's code, the plan of another run: DVC would not run this one for it either."""
    runs = [records.Run("a", [], ["src/msabench/networks", "runs/plan/a.json"], [], cached=False)]
    names = ("src/msabench/networks/text.py", "src/msabench/networks.py", "runs/plan/b.json")
    before = (dict.fromkeys(names, ""), {"data/prepared/sha256.json": ""})
    for name in (*names, "data/prepared/sha256.json", "src/msabench/networks/new.py"):
        now = tuple({**of, name: "changed"} for of in before)
        monkeypatch.setattr(records, "decisive_files", lambda now=now: now)
        if name.startswith("src/msabench/networks/"):
            with pytest.raises(errors.DataError, match=name):
                records.check_unchanged(before, runs)
        else:
            records.check_unchanged(before, runs)


def test_without_the_run_before_it_a_run_fails_and_no_other(side, capfd):
    side.rounds = [[side.run("b", "fails")], [side.run("x"), side.run("y", after="b")]]
    with pytest.raises(SystemExit, match=r"^error: 2 of 3 failed: b, y$"):
        side_by_side.main()
    assert side.recorded == ["x"]
    assert "error: y: b is out of date\n" in capfd.readouterr().err


def test_a_run_that_has_ended_is_recorded_while_others_go_on(side, monkeypatch):
    """So that what kills all of them costs no finished one."""
    monkeypatch.setattr(side_by_side, "RECORD", 0.1)
    side.rounds[0] = [side.run("a"), side.run("b", "waits")]

    def record(runs):
        side.recorded.extend(run.name for run in runs)
        if runs:
            raise KeyboardInterrupt  # as Ctrl-C, upon which the other run ends
        return []

    monkeypatch.setattr(records, "record", record)
    with pytest.raises(KeyboardInterrupt):
        side_by_side.main()
    assert "a" in side.recorded
    assert "b" not in side.recorded
    process = int((side.folder / "b.started").read_text())
    until(lambda: not psutil.pid_exists(process))


def test_runs_end_with_the_process_that_forked_them(side):
    """Whatever ended it: here SIGKILL, of which it can tell nobody."""
    program = f"""
import sys
from stages import __main__ as side_by_side
from msabench.execution import records
side_by_side.IMPORTED, records.decisive_files = [], dict
command = ["tests.stub_stage", {str(side.folder)!r}, "a", "waits"]
side_by_side.side_by_side([records.Run("a", command, [], [], False)], [{{}}])
"""
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, env=environment)
    until((side.folder / "a.started").exists)
    process.kill()
    process.wait()
    until((side.folder / "a.alone").exists)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_costs_no_run_that_has_ended(side, number):
    program = f"""
from contextlib import nullcontext
from pathlib import Path
from stages import __main__ as side_by_side
from msabench.execution import interruption, records
side_by_side.IMPORTED, records.decisive_files = [], lambda: ({{}}, {{}})
records.locked, recorded = nullcontext, Path({str(side.folder)!r}, "recorded")
records.record = lambda runs: [] if recorded.write_text(" ".join(run.name for run in runs)) else []
interruption.by_other_signals()
command = ["tests.stub_stage", {str(side.folder)!r}]
runs = [
    records.Run("a", [*command, "a", "ends"], [], [], False),
    records.Run("b", [*command, "b", "waits"], [], [], False),
]
side_by_side.side_by_side(runs, [{{}}, {{}}])
"""
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, env=environment)
    until((side.folder / "a").exists)
    until((side.folder / "b.started").exists)
    until(lambda: not psutil.pid_exists(int((side.folder / "a.started").read_text())))
    process.send_signal(number)
    assert process.wait(30)
    assert (side.folder / "recorded").read_text() == "a"
    until(lambda: not psutil.pid_exists(int((side.folder / "b.started").read_text())))


@pytest.mark.parametrize(
    ("cores", "threads", "device", "expected"),
    [(8, 2, "cpu", 4), (2, 4, "cpu", 1), (64, 1, "cpu", jobs.MOST_ENCODERS), (64, 1, "cuda", 1)],
)
def test_texts_are_encoded_on_all_cores_of_a_cpu(monkeypatch, cores, threads, device, expected):
    monkeypatch.setattr(jobs.joblib, "cpu_count", lambda: cores)
    assert jobs.encoders(threads, device) == expected


@pytest.mark.parametrize("jobs", ["0", "-2", "many"])
def test_an_impossible_number_of_jobs_is_refused(side, jobs, capsys):
    side.rounds[0] = [side.run("a")]
    with pytest.raises(SystemExit) as stopped:
        side_by_side.main(f"--jobs={jobs}")
    assert stopped.value.code == 2
    assert jobs in capsys.readouterr().err
    assert side.recorded == []


@pytest.mark.parametrize(
    ("visible", "expected"), [("0,2", ["0", "2"]), ("", []), ("-1", []), ("NoDevFiles", [])]
)
def test_the_user_says_which_gpus_may_be_used(visible, expected, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert jobs.visible_gpus() == expected


@pytest.mark.parametrize(
    ("script", "expected"), [("echo 0; echo 1", ["0", "1"]), ("echo broken; exit 9", [])]
)
def test_the_driver_tells_the_gpus(script, expected, monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    assert jobs.visible_gpus() == expected
    program.unlink()
    assert jobs.visible_gpus() == []


@pytest.mark.parametrize(
    "error",
    [errors.ParamsError, errors.DataError, errors.ProcessError, FloatingPointError, MemoryError],
)
def test_an_error_names_the_run(error):
    def main(name, seed):
        raise error(f"{name} {seed}:\nwrong")

    with pytest.raises(SystemExit) as stopped:
        stages.run(main, "ours", "3")
    printed = str(stopped.value.code)
    assert printed.startswith("error: ours-3: ours 3: wrong")
    assert "\n" not in printed


@pytest.mark.parametrize(
    "error", [KeyError("a defect"), OSError("a defect"), ConnectionError("a defect")]
)
def test_a_defect_of_the_code_keeps_its_traceback(error):
    def main():
        raise error

    with pytest.raises(type(error)):
        stages.run(main)


def test_a_full_disk_is_one_line():
    def main():
        raise OSError(ENOSPC, "No space left on device", "runs/a")

    with pytest.raises(SystemExit, match=r"^error: .*No space left on device: 'runs/a' \(docs/"):
        stages.run(main)


def test_a_stage_names_its_own_page_where_an_error_names_none(monkeypatch):
    def main():
        raise errors.DataError("wrong")

    with pytest.raises(SystemExit, match=r"\(docs/experiments.md\)$"):
        stages.run(main)
    monkeypatch.setitem(globals(), "PAGE", "docs/cards.md")
    with pytest.raises(SystemExit, match=r"\(docs/cards.md\)$"):
        stages.run(main)


@pytest.mark.parametrize("stage", sorted(file.stem for file in (ROOT / "stages").glob("[!_]*.py")))
def test_every_stage_has_a_page(stage):
    tree = ast.parse((ROOT / "stages" / f"{stage}.py").read_text("utf-8"))
    assigned = [node for node in tree.body if isinstance(node, ast.Assign)]
    assert "PAGE" in [getattr(node.targets[0], "id", "") for node in assigned]


def test_an_output_that_is_not_there_is_one_line(tmp_path):
    """As of a stage that is run before those that it needs."""
    code = f"import sys; sys.path[:0] = [{str(ROOT)!r}]; from stages import run, train; "
    code += "run(train.main, *sys.argv[1:])"
    result = python("-c", code, "ours", "1", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr == (
        "error: ours-1: runs/plan/ours.json is missing: `dvc repro` makes it "
        "(docs/reliability.md)\n"
    )
    shown = python("-c", code, "ours", "1", "--debug", cwd=tmp_path)
    assert shown.returncode == 1
    assert "Traceback" in shown.stderr
    assert shown.stderr.splitlines()[-1].startswith("FileNotFoundError: ")
    assert "Traceback" in python("-c", code, "a", "1", cwd=tmp_path, MSABENCH_DEBUG="1").stderr


@pytest.mark.parametrize("reason", ["same_as", "not_compared"])
def test_a_run_that_is_not_trained_leaves_a_file_that_says_why(reason, tmp_path, monkeypatch):
    """DVC expands it all the same, and wants its outputs."""
    monkeypatch.chdir(tmp_path)
    write_plan("batch_size_32", {reason: "ours"})
    Path("runs/batch_size_32-1").mkdir()
    Path("runs/batch_size_32-1/weights.safetensors").touch()
    train.main("batch_size_32", 1)
    for folder in ("runs", "predictions"):
        (file,) = Path(folder, "batch_size_32-1").iterdir()
        assert (file.name, json.loads(file.read_text())) == (f"{reason}.json", {reason: "ours"})


def test_a_model_that_changed_after_the_plan_is_not_trained(tmp_path, monkeypatch):
    """Else DVC would record its outputs, and a checkpoint be resumed, as of the planned code."""
    monkeypatch.chdir(tmp_path)
    write_plan("own", {"model": "svm", "code": "0" * 64})
    with pytest.raises(
        errors.DataError, match=r"models/svm\.py has changed since .*dvc repro plan"
    ):
        train.main("own", 1)
    assert not Path("predictions").exists()


def write_plan(name, config):
    folder = Path("runs/plan")
    folder.mkdir(parents=True)
    (folder / f"{name}.json").write_text(json.dumps(config))


@pytest.mark.parametrize("module", ["stages", "stages.cluster", "stages.train", "stages.plan"])
def test_every_stage_takes_debug(module):
    result = python("-m", module, "--help")
    assert " [--debug]" in result.stdout
    assert "MSABENCH_DEBUG=1" in result.stdout


@pytest.mark.parametrize("value", ["abc", "0,x", "0;1", "GPU"])
def test_what_names_no_gpu_is_refused(value, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    with pytest.raises(errors.ParamsError, match=f"CUDA_VISIBLE_DEVICES: '{value}'; permitted: "):
        jobs.visible_gpus()


def test_ctrl_c_is_one_line_and_the_status_of_a_shell(capsys):
    def main():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stopped:
        stages.run(main)
    assert stopped.value.code == errors.INTERRUPTED_STATUS
    assert capsys.readouterr().err == f"{errors.INTERRUPTED}\n"


def python(*arguments, cwd=ROOT, **variables):
    environment = os.environ | {"PYTHONPATH": ""} | variables
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


STAGES = sorted(file.stem for file in (ROOT / "stages").glob("[!_]*.py"))


@pytest.mark.parametrize("stage", STAGES)
def test_help_tells_what_a_stage_does_and_waits_for_no_torch(stage):
    result = python("-X", "importtime", "-m", f"stages.{stage}", "--help")
    assert result.returncode == 0
    assert f"usage: python -m stages.{stage} " in result.stdout
    docstring = ast.get_docstring(ast.parse((ROOT / "stages" / f"{stage}.py").read_text("utf-8")))
    assert docstring in result.stdout
    assert re.search(r"\| +argparse$", result.stderr, re.MULTILINE)
    assert not re.search(r"\| +(torch|transformers|sklearn)$", result.stderr, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [(["ours"], "required: seed"), (["ours", "1", "2"], "arguments: 2"), (["ours", "x"], "'x'")],
)
def test_wrong_arguments_are_one_line_with_the_usage(arguments, wrong, capsys):
    def main(name: str, seed: int):
        raise AssertionError(name, seed)

    with pytest.raises(SystemExit) as stopped:
        stages.run(main, *arguments)
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert wrong in line
    assert line.endswith("; usage: python -m stages.test_stages [-h] [--debug] name seed")


def test_arguments_come_as_main_takes_them():
    came = []

    def main(name: str, seed: int):
        came.append((name, seed))

    stages.run(main, "7", "3")
    assert came == [("7", 3)]


def test_make_help_lists_every_target_and_variable():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True).stdout
    assert max(map(len, shown.splitlines())) <= 100
    targets = re.findall("^([a-z-]+):", makefile, re.MULTILINE)
    assert re.findall("^  ([a-z-]+) ", shown, re.MULTILINE) == targets
    set_here = set(re.findall("^(?:export )?([A-Z_]+) :?=", makefile, re.MULTILINE))
    asked_for = set(re.findall("^([A-Z_]+) \\?=", makefile, re.MULTILINE))
    asked_for |= set(re.findall(r"\$\(([A-Z_]+)\)", makefile)) - set_here
    asked_for.add("MOSEI_LABELS")  # of the environment, for the stage that reads a data set
    assert asked_for - {"MAKE", "MAKEFILE_LIST", "CURDIR"} == set(
        re.findall(r"\b([A-Z_]+)=", shown.partition("Variables:")[2])
    )


def test_a_missing_package_is_one_line(tmp_path):
    (tmp_path / "numpy.py").write_text("import no_such_package\n")
    result = python("-m", "stages.features", PYTHONPATH=str(tmp_path))
    assert result.returncode == 1
    assert result.stderr == (
        "error: No module named 'no_such_package'; `make repro` installs what is needed "
        "(docs/systems.md)\n"
    )


@pytest.mark.parametrize(
    ("arguments", "variables"), [(["--debug"], {}), ([], {"MSABENCH_DEBUG": "1"})]
)
def test_a_missing_package_shows_its_traceback_with_debug(tmp_path, arguments, variables):
    """Also one that a stage imports before it reads its arguments."""
    (tmp_path / "numpy.py").write_text("import no_such_package\n")
    command = ("-m", "stages.prepare")
    assert len(python(*command, PYTHONPATH=str(tmp_path)).stderr.splitlines()) == 1
    result = python(*command, *arguments, PYTHONPATH=str(tmp_path), **variables)
    assert result.returncode == 1
    assert "Traceback" in result.stderr


def test_a_missing_module_of_the_package_is_a_defect(tmp_path):
    (tmp_path / "numpy.py").write_text("import msabench.no_such_module\n")
    result = python("-m", "stages.prepare", PYTHONPATH=str(tmp_path))
    assert result.returncode == 1
    assert "Traceback" in result.stderr


def test_the_package_is_that_of_the_tree_not_an_installed_one(tmp_path):
    """A queued or --temp run has a tree of its own; make installs that of the workspace."""
    for name in ("stages", "src/msabench"):
        (tmp_path / name).mkdir(parents=True)
    shutil.copy(ROOT / "stages/__init__.py", tmp_path / "stages")
    own = tmp_path / "src/msabench/__init__.py"
    own.touch()
    command = [sys.executable, "-c", "import stages, msabench; print(msabench.__file__)"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    assert subprocess.check_output(command, cwd=tmp_path, env=environment, text=True) == f"{own}\n"


@pytest.mark.parametrize("version", ["(3, 10, 14)", "(3, 13, 0)"])
def test_another_python_is_one_line(version):
    result = python("-c", f"import sys; sys.version_info = {version}; import stages")
    assert result.returncode == 1
    number = ".".join(version.strip("()").split(", ")[:2])
    assert result.stderr == f"error: Python {number}; 3.11 or 3.12 is needed\n"
