"""What the Makefile does around the pipeline, with stand-ins for the programs that it starts."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from msabench import errors
from tests.clones import SHELLS
from tests.conftest import until

ROOT = Path(__file__).resolve().parents[1]
# Writes down its name and arguments, one per line, then does as `behaviour` says.
PROGRAM = f"""#!{sys.executable}
import pathlib, signal, sys, time
tree = pathlib.Path(__file__).resolve().parents[2]
with open(tree / "calls", "a") as calls:
    print(pathlib.Path(__file__).name, *sys.argv[1:], sep="|", file=calls)
behaviour = tree / f"{{'.'.join(sys.argv[1:3])}}.behaviour"
if behaviour.exists():
    exec(behaviour.read_text())
"""
WAITS = """
signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
(tree / "waits").touch()
time.sleep(600)
"""


@pytest.fixture
def tree(tmp_path):
    """A folder whose path has a space, with the Makefile and an installation of stand-ins."""
    folder = tmp_path / "only space"
    (folder / ".venv/bin").mkdir(parents=True)
    for name in ("Makefile", "requirements.txt", "requirements-cluster.txt"):
        shutil.copy(ROOT / name, folder)
    for name in ("python", "dvc", "ruff", "mypy"):
        program = folder / ".venv/bin" / name
        program.write_text(PROGRAM)
        program.chmod(0o755)
    (folder / ".venv/installed").write_text(f"{folder / '.venv'}\n")
    (folder / ".venv/installed-cluster").touch()
    return folder


def make(tree, *arguments, check=True):
    command = ["make", *arguments]
    ended = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    assert not (check and ended.returncode), ended.stderr
    return ended


def calls(tree):
    return [line.split("|") for line in (tree / "calls").read_text().splitlines()]


def test_repro_runs_all_in_order(tree):
    make(tree, "repro", "JOBS=3")
    assert calls(tree) == [
        ["dvc", "repro", "features"],
        ["python", "-m", "stages", "--jobs", "3"],
        ["dvc", "repro"],
    ]


def test_a_failed_run_leaves_the_tables_of_the_others(tree):
    (tree / "-m.stages.behaviour").write_text("sys.exit(1)")
    assert make(tree, "repro", check=False).returncode != 0
    followed = [["dvc", "repro", "--single-item", stage] for stage in ("tables", "report", "cards")]
    assert calls(tree)[2:] == followed


def test_nothing_follows_wrong_usage(tree):
    (tree / "-m.stages.behaviour").write_text("sys.exit(2)")
    assert make(tree, "repro", "JOBS=many", check=False).returncode != 0
    assert calls(tree)[1:] == [["python", "-m", "stages", "--jobs", "many"]]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("step", ["-m.stages", "repro.features", "repro.--single-item"])
def test_nothing_follows_an_interrupted_step(tree, shell, step):
    """Whatever the shell of make: bash goes on after a program that has handled SIGINT itself.

    The last of these steps makes the tables after runs that have failed.
    """
    if step == "repro.--single-item":
        (tree / "-m.stages.behaviour").write_text("sys.exit(1)")
    (tree / f"{step}.behaviour").write_text(WAITS)
    process = subprocess.Popen(
        ["make", "repro", f"SHELL={shell}"],
        cwd=tree,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    until((tree / "waits").exists)
    before = calls(tree)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(900) != 0
    assert calls(tree) == before


def tiers_run(tree, target):
    """The expression of each run of pytest, after format and lint; mypy runs beside the first."""
    make(tree, target)
    first, second, *others = (call for call in calls(tree) if call != ["mypy"])
    assert first[0] == second[0] == "ruff"
    assert all(run[:3] == ["python", "-m", "pytest"] and run[-2] == "-m" for run in others)
    assert calls(tree).count(["mypy"]) == 1
    return [run[-1] for run in others]


def test_the_first_tier_is_all_that_is_not_marked(tree):
    assert tiers_run(tree, "test") == ["not slow"]


@pytest.mark.parametrize("fails", ["format.--check", "check..", "", "-m.pytest"])
def test_whatever_fails_fails_the_first_tier(tree, fails):
    """The program without arguments is mypy, whose output follows the tests."""
    (tree / f"{fails}.behaviour").write_text("sys.exit(f'{sys.argv[0]} failed')")
    ended = make(tree, "test-all", check=False)
    assert ended.returncode != 0
    assert "failed" in ended.stdout + ended.stderr
    assert "slow" not in [call[-1] for call in calls(tree)]


def test_both_tiers_are_each_run_once(tree):
    assert tiers_run(tree, "test-all") == ["not slow", "slow"]


def test_an_installation_in_place_is_not_made_again(tree):
    assert "up to date" in make(tree, ".venv/installed").stdout


@pytest.mark.parametrize("how", ["moved", "copied"])
def test_an_installation_elsewhere_is_made_anew(tree, how):
    """Its programs would start what lies at the old place, or nothing."""
    other = tree.with_name("other place")
    if how == "moved":
        tree.rename(other)
    else:
        shutil.copytree(tree, other)
    shown = make(other, "--dry-run", ".venv/installed").stdout
    assert shown.index("rm -rf .venv") < shown.index("-m venv .venv")


SHORT = "#!{}/bin/python3\n"
# Of pip, where a path has a space.
LONG = "#!/bin/sh\n'''exec' \"{}/bin/python3\" \"$0\" \"$@\"\n' '''\n"


@pytest.mark.parametrize("script", [SHORT, LONG])
@pytest.mark.parametrize(("named", "anew"), [("copy", False), (".venv", True), ("copy-2", True)])
def test_a_copy_whose_programs_name_its_place_is_not_made_anew(tree, script, named, anew):
    """So tools leave it that relocate an environment."""
    shutil.copytree(tree / ".venv", tree / "copy")
    (tree / "copy/bin/pip").write_text(script.format(tree / named))
    shown = make(tree, "--dry-run", "VENV=copy", "copy/installed").stdout
    assert ("rm -rf copy" in shown) == anew


def test_an_environment_without_an_installation_is_kept(tree):
    """Somebody may have made it, with a PyTorch of their own."""
    (tree / ".venv/installed").unlink()
    shown = make(tree, "--dry-run", ".venv/installed").stdout
    assert "rm -rf .venv" not in shown
    assert "--editable ." in shown


ENCODER = "sentence-transformers/all-mpnet-base-v2"


@pytest.mark.parametrize(
    ("encoder", "name"),
    [
        ("", "mosei_text"),
        (ENCODER, "mosei_text_all-mpnet-base-v2"),
        ("mine/", "mosei_text_mine"),
    ],
)
def test_the_real_run_works_in_a_path_with_a_space(tree, encoder, name):
    """In a folder named after the data set, and the text encoder where one is asked for.

    A folder of the user's is found from there too.
    """
    labels = tree / "label.csv"
    labels.touch()
    (tree / "mine").mkdir()
    (tree / "mine/config.json").touch()
    (tree / "dvc.lock").touch()
    (tree / ".gitignore").write_text("/.venv\n/runs/\n/calls\n")
    for command in (
        ("init", "--quiet"),
        ("add", "--all"),
        ("-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "-m", "t"),
    ):
        subprocess.run(["git", *command], cwd=tree, check=True)
    (tree / "params.yaml").write_text("changed: true\n")  # and not committed
    variables = ["DATASET=mosei_text", f"MOSEI_LABELS={labels}", f"ENCODER={encoder}"]
    make(tree, "real", *variables, check=False)
    real = tree / f"runs/real/{name}"  # the stand-ins make no tables
    assert (real / ".venv").resolve() == tree / ".venv"
    assert not (real / "dvc.lock").exists()
    assert (real / "params.yaml").read_text() == "changed: true\n"
    first, second, *_ = calls(tree)
    cache = str(tree / ".dvc/cache")
    assert first == ["dvc", "--cd", f"runs/real/{name}", "cache", "dir", "--local", cache]
    assert second[:4] == ["dvc", "exp", "run", "-S"]
    assert "dataset=mosei_text" in second
    asked = str(tree / "mine") if encoder == "mine/" else encoder
    assert [f"text_encoder={asked}"] * bool(encoder) == [
        change for change in second if change.startswith("text_encoder=")
    ]


@pytest.mark.parametrize("target", ["real", "tune"])
def test_a_data_set_must_be_named(tree, target):
    ended = make(tree, target, check=False)
    assert ended.returncode != 0
    assert "error: DATASET: ''; give one of datasets in params.yaml" in ended.stderr
    assert not (tree / "runs").exists()


def test_clean_keeps_what_took_hours_and_names_it(tree):
    for name in ("runs/scratch/a", "runs/real/b", "runs/ours-1", "data/raw", "predictions/ours-1"):
        (tree / name).mkdir(parents=True)
    assert "kept: runs/scratch runs/real; make clean ALL=1" in make(tree, "clean").stdout
    assert sorted(path.name for path in (tree / "runs").iterdir()) == ["real", "scratch"]
    assert not (tree / "data").exists()
    assert not (tree / "predictions").exists()
    make(tree, "clean", "ALL=1")
    assert not (tree / "runs").exists()
    assert "kept" not in make(tree, "clean").stdout  # nothing is left to keep
    assert "ALL: 'yes'; permitted: 1" in make(tree, "clean", "ALL=yes", check=False).stderr


def test_an_interruption_has_another_status_than_a_failed_run():
    assert errors.INTERRUPTED_STATUS != 1


def test_an_estimate_takes_the_changes_and_the_number_of_jobs(tree):
    make(tree, "estimate", "JOBS=3", "SET=-S lr=1e-4")
    assert calls(tree) == [["python", "-m", "msabench", "estimate", "--jobs", "3", "-S", "lr=1e-4"]]
