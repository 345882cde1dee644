"""The real stages, end to end, on a few dozen simulated utterances in a fresh clone."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
# What makes the run short: little data, one epoch, one seed; every stage and table stays.
SMALL = [
    "seeds=[1]",
    "ablation.enabled=true",
    "datasets.simulated.settings.train=48",
    "datasets.simulated.settings.valid=24",
    "datasets.simulated.settings.test=24",
    "models.ours.epochs=1",
    "models.cnn.epochs=1",
    "models.self_mm.epochs=2",
]


FIGURES = ("learning", "predictions", "confusion", "comparison", "sweeps", "generated_labels")


def run(folder, *command, check=True):
    """Run a command in the clone with this Python's programs, one thread, no terminal."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": "",
        "HF_HUB_OFFLINE": "1",
    }
    made = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900
    )
    if check and made.returncode:
        raise AssertionError(f"{command}\n{made.stdout[-4000:]}\n{made.stderr[-4000:]}")
    return made


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """This tree as a repository of its own, run once with small settings."""
    folder = tmp_path_factory.mktemp("clone") / "msabench"
    listed = run(ROOT, "git", "ls-files", "--cached", "--others", "--exclude-standard").stdout
    for name in listed.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    run(folder, "git", "init", "--quiet")
    run(folder, "git", "config", "user.email", "test@example.org")
    run(folder, "git", "config", "user.name", "test")
    run(folder, "git", "add", "--all")
    run(folder, "git", "commit", "--quiet", "--message", "start")
    changes = [part for change in SMALL for part in ("--set-param", change)]
    run(folder, "dvc", "exp", "run", *changes)
    return folder


def test_every_table_and_figure_is_made(clone):
    rows = {
        1: ["train", "valid", "test", "all"],
        2: ["t", "a", "v", "t+a", "t+v", "a+v", "t+a+v"],
        3: ["128", "64", "32", "16"],
        4: ["1e-4/2e-5", "2e-4/2e-5", "2e-4/5e-5"],
        5: ["256", "128", "64"],
        6: ["self_mm", "svm", "cnn", "ours", "train_mean"],
    }
    for number, names in rows.items():
        table = json.loads((clone / f"metrics/table{number}.json").read_text())
        assert list(table) == names
    assert "simulated data" in (clone / "metrics/tables.md").read_text()
    for figure in FIGURES:
        assert "simulated data" in (clone / f"plots/{figure}.svg").read_text()


def test_side_by_side_is_one_after_the_other(clone, tmp_path):
    """The clone trained its runs in turn; two at once give the same bytes and the same lock."""
    folder = tmp_path / "msabench"
    run(clone, "git", "clone", "--quiet", ".", str(folder))
    shutil.copy(clone / "params.yaml", folder)
    run(folder, "dvc", "repro", "features")
    run(folder, sys.executable, "-m", "stages", "--jobs", "2")
    run(folder, "dvc", "repro")
    for made in sorted((clone / "metrics").glob("*.*")):
        assert (folder / "metrics" / made.name).read_bytes() == made.read_bytes()
    locks = [YAML(typ="safe").load(side / "dvc.lock") for side in (clone, folder)]
    assert locks[0] == locks[1]


def test_the_ablation_has_every_model_on_every_subset(clone):
    ablation = json.loads((clone / "metrics/ablation.json").read_text())
    assert list(ablation) == ["self_mm", "svm", "cnn", "ours"]
    for measured in ablation.values():
        assert list(measured["rows"]) == ["t", "a", "v", "t+a", "t+v", "a+v", "t+a+v"]
        assert all(row["mae"] > 0 for row in measured["rows"].values())
    table = json.loads((clone / "metrics/table2.json").read_text())
    assert ablation["svm"]["rows"]["t+a"]["mae"] == table["t+a"]["mae"]


def test_generated_labels_are_held_against_the_true_ones(clone):
    told = json.loads((clone / "metrics/generated_labels.json").read_text())["self_mm"]
    assert list(told) == ["text", "audio", "vision"]
    assert all(len(row["by_epoch"]) == 2 for row in told.values())
    assert all(row["generated"] != row["multimodal"] for row in told.values())


def test_the_centre_of_the_sweep_is_ours(clone):
    """Three rows are the model of Table 6 and train nothing."""
    for row in ("batch_size_64", "lr_2e-4_2e-5", "transformer_dim_128"):
        assert not (clone / f"predictions/{row}-1/test.csv").exists()
    table = json.loads((clone / "metrics/table3.json").read_text())
    assert (
        table["64"]["mae"] == json.loads((clone / "metrics/table6.json").read_text())["ours"]["mae"]
    )


def test_a_second_run_runs_nothing(clone):
    made = run(clone, "dvc", "repro")
    assert "Running stage" not in made.stdout + made.stderr
    assert "up to date" in made.stdout + made.stderr


def test_the_base_value_changes_no_byte(clone):
    before = (clone / "params.yaml").read_bytes()
    made = run(clone, "dvc", "exp", "run", "--set-param", "lr=2e-4")
    assert "Running stage 'train" not in made.stdout + made.stderr
    assert (clone / "params.yaml").read_bytes() == before


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
def test_a_change_trains_what_depends_on_it_and_nothing_else(clone, change, trained):
    """Plan anew, then ask DVC what it would run."""
    params = (clone / "params.yaml").read_bytes()
    lock = (clone / "dvc.lock").read_bytes()
    try:
        run(clone, "dvc", "exp", "run", "--set-param", change, "plan")
        made = run(clone, "dvc", "repro", "--dry")
        listed = set(re.findall(r"Running stage '([^']+)'", made.stdout + made.stderr))
        assert {name for name in listed if name.startswith(("train@", "sweep@"))} == trained
        assert listed >= {"tables", "report"}
        assert not listed & {"download", "prepare", "modalities"}
    finally:
        (clone / "params.yaml").write_bytes(params)
        (clone / "dvc.lock").write_bytes(lock)
        run(clone, "dvc", "checkout")


def test_nothing_but_what_git_keeps_is_left(clone):
    """What the pipeline writes is under git or ignored."""
    listed = run(clone, "git", "status", "--porcelain").stdout.split("\n")
    left = {line[3:].split("/")[0] for line in listed if line}
    assert left <= {"dvc.lock", "params.yaml", "metrics", "plots"}


@pytest.mark.parametrize("model", ["svm", "cnn", "self_mm", "ours"])
def test_the_test_split_changes_no_trained_weight(clone, tmp_path, model):
    """Train again on the same data but for a test split of other labels, frames and texts."""
    for name in ("src", "stages", "data/prepared", "data/features", "runs/plan"):
        shutil.copytree(clone / name, tmp_path / name)
    for file in [*tmp_path.glob("data/*/test/*.npy")]:
        if "offsets" not in file.name:
            values = np.load(file)
            np.save(file, values[::-1] + 1)
    run(tmp_path, sys.executable, "-m", "stages.train", model, "1")
    weights = f"runs/{model}-1/weights.safetensors"
    assert (tmp_path / weights).read_bytes() == (clone / weights).read_bytes()
    predictions = f"predictions/{model}-1/test.csv"
    assert (tmp_path / predictions).read_bytes() != (clone / predictions).read_bytes()


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
        made = run(clone, "dvc", "exp", "run", "--set-param", change, check=False)
    finally:
        (clone / "params.yaml").write_bytes(params)
    output = made.stdout + made.stderr
    assert made.returncode != 0
    assert [line for line in output.splitlines() if line.startswith("error: ")]
    assert message in output
    assert "Traceback" not in output
    assert {file: file.read_bytes() for file in clone.glob("metrics/*.*")} == kept
