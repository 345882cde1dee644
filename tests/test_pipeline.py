"""The real stages, end to end, on a few dozen simulated utterances in a fresh clone."""

import getpass
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import sys
import time
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path

import numpy as np
import psutil
import pytest
from ruamel.yaml import YAML

from msabench import errors
from msabench.evaluation.robustness import LEVELS
from msabench.predictions import Predictions
from tests import clones
from tests.clones import ALL, ROOT, SHELLS, run, start
from tests.conftest import until

FIGURES = (
    *("learning", "predictions", "confusion", "comparison", "sweeps"),
    *("generated_labels", "robustness", "missing"),
)
slow = pytest.mark.slow  # starts more processes than there is time for in the first tier


@pytest.fixture(scope="module")
def clone(pipeline, tmp_path_factory):
    """This tree as a repository of its own, run once with small settings."""
    return clones.copy(pipeline, tmp_path_factory.mktemp("clone") / "msabench")


@pytest.fixture(scope="module")
def whole(pipeline, tmp_path_factory):
    """The same, with the stages that small settings leave out."""
    folder = clones.copy(pipeline, tmp_path_factory.mktemp("whole") / "msabench")
    run(folder, "dvc", "exp", "run", *clones.options(ALL))
    return folder


def test_the_readme_begins_with_what_made_the_pipeline():
    first = (ROOT / "README.md").read_text(encoding="utf-8").split("```sh\n")[1].split("```")[0]
    commands = [line.partition("#")[0].strip() for line in first.splitlines()]
    assert commands == ["make repro", "make test", "source .venv/bin/activate"]


@slow
def test_the_pipeline_leads_to_tables_and_figures(clone):
    for number, rows in ((1, 4), (2, 7), (6, 7)):
        assert len(json.loads((clone / f"metrics/table{number}.json").read_text())) == rows
    assert "simulated data" in (clone / "plots/comparison.svg").read_text()
    assert (clone / "plots/report.html").exists()
    assert (clone / "runs/cards/ours-1.md").exists()


@slow
def test_every_table_and_figure_is_made(whole):
    rows = {
        1: ["train", "valid", "test", "all"],
        2: ["t", "a", "v", "t+a", "t+v", "a+v", "t+a+v"],
        3: ["128", "64", "32", "16"],
        4: ["1e-4/2e-5", "2e-4/2e-5", "2e-4/5e-5"],
        5: ["256", "128", "64"],
        6: ["self_mm", "svm", "cnn", "ours", "train_mean", "train_median", "probe"],
    }
    for number, names in rows.items():
        table = json.loads((whole / f"metrics/table{number}.json").read_text())
        assert list(table) == names
    assert "simulated data" in (whole / "metrics/tables.md").read_text()
    for figure in FIGURES:
        assert "simulated data" in (whole / f"plots/{figure}.svg").read_text()


@slow
def test_one_after_the_other_is_side_by_side(clone, tmp_path):
    """The clone trained its runs side by side; in turn they give the same bytes and lock."""
    folder = tmp_path / "msabench"
    run(clone, "git", "clone", "--quiet", ".", str(folder))
    shutil.copy(clone / "params.yaml", folder)
    run(folder, "dvc", "repro")
    for result in sorted((clone / "metrics").glob("*.*")):
        assert (folder / "metrics" / result.name).read_bytes() == result.read_bytes()
    locks = [YAML(typ="safe").load(side / "dvc.lock") for side in (clone, folder)]
    assert locks[0] == locks[1]


@slow
def test_the_ablation_has_each_of_its_models_on_every_subset(whole):
    ablation = json.loads((whole / "metrics/ablation.json").read_text())
    assert list(ablation) == ["svm", "cnn"]
    for measured in ablation.values():
        assert list(measured["rows"]) == ["t", "a", "v", "t+a", "t+v", "a+v", "t+a+v"]
        assert all(row["mae"] > 0 for row in measured["rows"].values())
    table = json.loads((whole / "metrics/table2.json").read_text())
    assert ablation["svm"]["rows"]["t+a"]["mae"] == table["t+a"]["mae"]


@slow
def test_robustness_has_every_model_and_kind(whole):
    """Nothing corrupted, it is the run of Table 6."""
    robustness = json.loads((whole / "metrics/robustness.json").read_text())
    table = json.loads((whole / "metrics/table6.json").read_text())
    assert list(robustness) == ["self_mm", "svm", "cnn", "ours"]
    for model, measured in robustness.items():
        assert list(measured) == list(LEVELS)
        for kind, curve in measured.items():
            assert curve["0"]["mae"] == pytest.approx(table[model]["mae"], abs=1e-4)
            test = Predictions.read(whole / f"predictions/{model}-1/test.csv")
            result = Predictions.read(whole / f"predictions/robustness-{model}-1/{kind}/0.csv")
            np.testing.assert_allclose(result.predictions, test.predictions, atol=1e-5)
    missing = json.loads((whole / "metrics/missing.json").read_text())
    for model, measured in robustness.items():
        curve = [row["mae"] for row in measured["all_missing"].values()]
        assert len(curve) == 10
        area = missing["area"]["models"][model]["value"]
        assert area == pytest.approx(np.mean(curve), abs=1e-4)
    assert "Area under the curve" in (whole / "plots/report.html").read_text()


def test_generated_labels_are_held_against_the_true_ones(clone):
    printed = json.loads((clone / "metrics/generated_labels.json").read_text())["self_mm"]
    assert list(printed) == ["text", "audio", "vision"]
    assert all(len(row["by_epoch"]) == 2 for row in printed.values())
    assert all(row["generated"] != row["multimodal"] for row in printed.values())


@slow
def test_the_centre_of_the_sweep_is_ours(whole):
    """Three rows are the model of Table 6 and train nothing."""
    for row in ("batch_size_64", "lr_2e-4_2e-5", "transformer_dim_128"):
        assert not (whole / f"predictions/{row}-1/test.csv").exists()
    table = json.loads((whole / "metrics/table3.json").read_text())
    assert (
        table["64"]["mae"] == json.loads((whole / "metrics/table6.json").read_text())["ours"]["mae"]
    )


@slow
def test_one_more_model_is_trained_alone_and_one_less_leaves_its_tables_out(pipeline, tmp_path):
    """The one more is a model of the others, by another name, that reads another array."""
    tree = clones.copy(pipeline, tmp_path / "msabench")
    block = "+models.twin={model:svm,C:1.0,epsilon:0.1,pooling:cls}"
    changes = [block, "compare=[self_mm,svm,cnn,ours,twin]"]
    run(tree, "dvc", "exp", "run", *clones.options(changes), "features")
    printed = run(tree, "dvc", "repro", "--dry").stdout
    assert re.findall(r"Running stage '(\w+)@(.*)'", printed) == [("train", "twin-1")]
    # DVC expands what it finds in params.yaml, whose model is compared or not.
    changes = ["compare=[twin,svm]", "sweep_seeds=[1]", "ablation.models=[cnn]"]
    changes += ["robustness_seeds=[1]"]
    run(tree, "dvc", "exp", "run", *clones.options(changes))
    table = json.loads((tree / "metrics/table6.json").read_text())
    assert list(table) == ["twin", "svm", "train_mean", "train_median", "probe"]
    assert table["twin"]["mae"] != table["svm"]["mae"]
    assert list(json.loads((tree / "metrics/robustness.json").read_text())) == ["twin", "svm"]
    missing = json.loads((tree / "metrics/missing.json").read_text())
    assert list(missing["area"]["models"]) == ["twin", "svm"]
    assert "support vector" in (tree / "runs/cards/twin-1.md").read_text()
    for name, model in (("batch_size_32", "ours"), ("cnn-t", "cnn")):
        left = json.loads((tree / f"predictions/{name}-1/not_compared.json").read_text())
        assert left == {"not_compared": model}
    assert "not among `compare` in params.yaml: ours." in (tree / "metrics/tables.md").read_text()


def test_a_second_run_runs_nothing(clone):
    result = run(clone, "dvc", "repro")
    assert "Running stage" not in result.stdout + result.stderr
    assert "up to date" in result.stdout + result.stderr


@contextmanager
def changed(clone, *changes):
    """The clone with other params, planned, and as it was afterwards."""
    params = (clone / "params.yaml").read_bytes()
    lock = (clone / "dvc.lock").read_bytes()
    try:
        others = clones.options(["robustness_seeds=[]", *changes])
        run(clone, "dvc", "exp", "run", *others, "plan")
        yield
    finally:
        (clone / "params.yaml").write_bytes(params)
        (clone / "dvc.lock").write_bytes(lock)
        run(clone, "dvc", "checkout")


def copy_tree(clone, folder):
    """Copy what a stage that trains needs into a folder."""
    for name in ("src", "stages", "data/prepared", "data/features", "runs/plan"):
        shutil.copytree(clone / name, folder / name)
    shutil.copy(clone / "dvc.yaml", folder)


def trained_apart(clone, folder, model, seed):
    """Train a run of the clone's plan in a tree of its own, uninterrupted; return its files."""
    copy_tree(clone, folder)
    run(folder, sys.executable, "-m", "stages.train", model, str(seed))
    return outcome(folder, model, seed)


def outcome(folder, model, seed):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for out in (f"runs/{model}-{seed}", f"predictions/{model}-{seed}")
        for path in (folder / out).iterdir()
    }


def trainings(process):
    """Return the processes that train below a process, once they have written a checkpoint.

    With the one that they were forked from, which names in its command what it has imported.
    """
    begun = time.time_ns()

    def children_with_checkpoint():
        training, places = [], []
        for child in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # one has ended meanwhile
                if any("stages.train" in argument for argument in child.cmdline()):
                    places.append(Path(child.cwd()) / "runs/scratch")
                    training.append(child)
        written = [path for place in places for path in place.glob("*/checkpoint.json")]
        return training if any(path.stat().st_mtime_ns > begun for path in written) else None

    return until(children_with_checkpoint)


def kill_training(process):
    for child in trainings(process):
        child.kill()


def press_ctrl_c(process):
    trainings(process)
    os.killpg(process.pid, signal.SIGINT)


def kill_dvc(process):
    left = trainings(process)
    process.kill()
    # They end without it, in seconds where no disk is waited for, and before their last step.
    assert psutil.wait_procs(left, timeout=900)[1] == []


LONG = ("batch_size=8", "models.ours.epochs=4")  # 24 steps
LONGER = ("batch_size=2", "models.ours.epochs=4")  # 96: none must end by itself meanwhile


@slow
def test_an_interrupted_training_goes_on_with_the_next_repro(clone, tmp_path):
    """One training, interrupted in three ways, each of which leaves it some steps further."""
    command = ("dvc", "repro", "--single-item", "train@ours-7")
    with changed(clone, *LONGER, "seeds=[7]"):
        for end in (kill_training, kill_dvc, press_ctrl_c):
            process = start(clone, *command)
            end(process)
            printed, _ = process.communicate(timeout=900)
            assert process.returncode != 0
            assert (errors.INTERRUPTED in printed) == (end != kill_training)
        result = run(clone, *command)
        assert "resumed from runs/scratch/ours-7-" in result.stderr
        assert outcome(clone, "ours", 7) == trained_apart(clone, tmp_path, "ours", 7)
        assert not any((clone / "runs/scratch").glob("ours-7-*/"))


def kill_group(process):
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


# How DVC, and a training, refuse to go on while another process holds what they need.
REFUSALS = ("Unable to acquire lock", "is busy", "another process trains this run")


@slow
def test_two_at_once_do_not_mix(clone, tmp_path):
    """Two `dvc repro` of one run in the workspace, beside an experiment elsewhere of another.

    Either may be refused, as locks are waited for some seconds alone; then it has done no harm.
    """
    with changed(clone, *LONG, "seeds=[5]"):
        command = ("dvc", "repro", "--single-item", "train@ours-5")
        elsewhere = ("dvc", "exp", "run", "--temp", "--set-param", "seeds=[6]", "train@ours-6")
        processes = [start(clone, *each) for each in (command, command, elsewhere)]
        printed = [process.communicate(timeout=900)[0] for process in processes]
        for process, text in zip(processes, printed, strict=True):
            assert "Traceback" not in text
            assert process.returncode == 0 or any(reason in text for reason in REFUSALS), text
        if processes[-1].returncode:
            printed[-1] = run(clone, *elsewhere).stdout
        run(clone, *command)
        assert outcome(clone, "ours", 5) == trained_apart(clone, tmp_path / "a", "ours", 5)
        (name,) = re.findall(r"Ran experiment\(s\): (\S+)", printed[-1])
        named = run(clone, "git", "for-each-ref", "--format=%(refname)", f"refs/exps/**/{name}")
        shown = run(clone, "git", "show", f"{named.stdout.strip()}:dvc.lock")
        lock = YAML(typ="safe").load(shown.stdout)
        digests = {out["path"]: out["md5"] for out in lock["stages"]["train@ours-6"]["outs"]}
    with changed(clone, *LONG, "seeds=[6]"):
        expected = trained_apart(clone, tmp_path / "b", "ours", 6)
        for path, digest in digests.items():
            stored = clone / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
            for file in json.loads(stored.read_text()):
                content = expected[f"{path}/{file['relpath']}"]
                assert hashlib.md5(content).hexdigest() == file["md5"]


@slow
@pytest.mark.parametrize("shell", SHELLS)
def test_ctrl_c_ends_all_of_make_repro(clone, shell):
    """In whatever shell make and DVC start programs: no stage follows, and no process is left."""
    with changed(clone, *LONGER, "seeds=[7]"):
        process = start(clone, "make", "repro", "JOBS=2", f"SHELL={shell}", shell=shell)
        try:
            trainings(process)
            below = psutil.Process(process.pid).children(recursive=True)
            os.killpg(process.pid, signal.SIGINT)
            printed, _ = process.communicate(timeout=900)
        finally:
            if process.poll() is None:  # it would disturb the tests that follow
                kill_group(process)
        assert process.returncode != 0
        assert errors.INTERRUPTED in printed
        assert "Running stage 'tables'" not in printed
        assert psutil.wait_procs(below, timeout=900)[1] == []


@slow
def test_predictions_of_a_dropped_seed_are_no_results(clone):
    """The stages that read all of predictions/ find what the plan names, and are up to date."""
    params, lock = ((clone / name).read_bytes() for name in ("params.yaml", "dvc.lock"))
    run(clone, "dvc", "exp", "run", "--set-param", "seeds=[1,2]", "train@svm-2")
    assert (clone / "predictions/svm-2/test.csv").exists()
    (clone / "params.yaml").write_bytes(params)
    run(clone, "dvc", "repro", "plan")  # which has run before with these very params
    assert not (clone / "predictions/svm-2").exists()
    (clone / "dvc.lock").write_bytes(lock)
    assert "up to date" in run(clone, "dvc", "status", "tables", "report", "cards").stdout


@slow
def test_what_no_stage_wrote_is_no_result(clone):
    """Neither a file of somebody's nor a copy among the predictions makes a stage stale."""
    copy, notes = clone / "predictions/svm-1 copy", clone / "predictions/notes.txt"
    shutil.copytree(clone / "predictions/svm-1", copy)
    notes.write_text("mine")
    assert "up to date" in run(clone, "dvc", "status", "tables", "report", "cards").stdout
    run(clone, "dvc", "repro", "--force", "--single-item", "plan")
    assert copy.exists()
    assert notes.exists()
    shutil.rmtree(copy)
    notes.unlink()


@slow
@pytest.mark.parametrize(("given", "written"), [("auto", "auto"), ("2e-4", "0.0002")])
def test_a_value_of_the_preset_trains_nothing(clone, given, written):
    before = (clone / "params.yaml").read_bytes()
    result = run(clone, "dvc", "exp", "run", "--set-param", f"lr={given}")
    assert "Running stage 'train" not in result.stdout + result.stderr
    after = (clone / "params.yaml").read_bytes()
    assert after == before.replace(b"\nlr: auto\n", f"\nlr: {written}\n".encode())


@slow
@pytest.mark.parametrize(
    ("change", "trained"),
    [
        (
            "lr=1e-4",  # and two rows that change to or from another name of `ours`
            {
                *("train@ours-1", "sweep@batch_size_128-1", "sweep@batch_size_32-1"),
                *("sweep@batch_size_16-1", "sweep@lr_1e-4_2e-5-1", "sweep@lr_2e-4_2e-5-1"),
                *("sweep@transformer_dim_256-1", "sweep@transformer_dim_64-1"),
            },
        ),
        ("seeds=[1,2]", {f"train@{model}-2" for model in ("ours", "self_mm", "cnn", "svm")}),
    ],
)
def test_a_change_trains_what_depends_on_it_and_nothing_else(whole, change, trained):
    """Plan anew, then ask DVC what it would run."""
    with changed(whole, change):
        result = run(whole, "dvc", "repro", "--dry")
        listed = set(re.findall(r"Running stage '([^']+)'", result.stdout + result.stderr))
        assert {name for name in listed if name.startswith(("train@", "sweep@"))} == trained
        assert listed >= {"tables", "report"}
        assert not listed & {"download", "prepare"}


def test_nothing_but_what_git_keeps_is_left(clone):
    """What the pipeline writes is under git or ignored."""
    listed = run(clone, "git", "status", "--porcelain").stdout.split("\n")
    left = {line[3:].split("/")[0] for line in listed if line}
    assert left <= {"dvc.lock", "params.yaml", "metrics", "plots"}


def test_no_output_tells_when_or_where(clone):
    """No date, host or path, which would make other bytes of the same run."""
    words = [str(clone), platform.node(), f"{date.today()}", str(ROOT), getpass.getuser()]
    telling = [word.encode() for word in words if len(word) > 5]
    files = [
        path
        for folder in ("data", "metrics", "plots", "predictions", "runs")
        for path in (clone / folder).rglob("*")
        if path.is_file() and "scratch" not in path.parts
    ]
    assert len(files) > 100
    assert [path for path in files if any(word in path.read_bytes() for word in telling)] == []


@slow
@pytest.mark.parametrize("model", ["svm", "cnn", "self_mm", "ours"])
def test_the_test_split_changes_no_trained_weight(clone, tmp_path, model):
    """Train again on the same data but for a test split of other labels, frames and texts."""
    copy_tree(clone, tmp_path)
    for file in [*tmp_path.glob("data/*/test/*.npy")]:
        if "offsets" not in file.name:
            values = np.load(file)
            np.save(file, values[::-1] + 1)
    run(tmp_path, sys.executable, "-m", "stages.train", model, "1")
    weights = f"runs/{model}-1/weights.safetensors"
    assert (tmp_path / weights).read_bytes() == (clone / weights).read_bytes()
    predictions = f"predictions/{model}-1/test.csv"
    assert (tmp_path / predictions).read_bytes() != (clone / predictions).read_bytes()


@slow
def test_what_a_killed_run_left_in_its_outputs_is_not_kept(clone, tmp_path):
    """Under DVC it is gone before; a run that is started by hand is committed as it is."""
    copy_tree(clone, tmp_path)
    for out in ("runs/svm-1", "predictions/svm-1"):
        (tmp_path / out).mkdir(parents=True)
        (tmp_path / out / ".tmpAbCdEf").write_bytes(b"a part of a file")
    run(tmp_path, sys.executable, "-m", "stages.train", "svm", "1")
    assert outcome(tmp_path, "svm", 1) == outcome(clone, "svm", 1)


@slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("lr=abc", "lr: 'abc'"),
        ("batch_size=0", "batch_size: 0"),
        ("dataset=mosei", "get unaligned_50.pkl from MMSA's folder"),
        ("datasets.mosei.path=relative.pkl", "'relative.pkl' is relative"),
    ],
)
def test_bad_input_is_one_line_and_loses_nothing(clone, change, message):
    kept = {file: file.read_bytes() for file in clone.glob("metrics/*.*")}
    params = (clone / "params.yaml").read_bytes()
    try:
        result = run(clone, "dvc", "exp", "run", "--set-param", change, check=False)
    finally:
        (clone / "params.yaml").write_bytes(params)
    output = result.stdout + result.stderr
    assert result.returncode != 0
    assert [line for line in output.splitlines() if line.startswith("error: ")]
    assert message in output
    assert "Traceback" not in output
    assert {file: file.read_bytes() for file in clone.glob("metrics/*.*")} == kept
