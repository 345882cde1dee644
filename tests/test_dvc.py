"""DVC with our checks: what it cannot read, or cannot write, is said in one line."""

import shutil
import subprocess
import sys

import pytest

from msabench import dvc, params
from msabench.errors import ParamsError
from tests import clones
from tests.clones import ROOT, run

PROGRAM = ("env", f"PYTHONPATH={ROOT / 'src'}", sys.executable, "-P", "-m", "msabench.dvc")


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A copy of this tree, in which nothing has run."""
    folder = tmp_path_factory.mktemp("dvc") / "clone"
    folder.mkdir()
    clones.clone(folder)
    return folder


@pytest.fixture(scope="module")
def not_ascii(clone):
    """The same in a folder whose path is not ASCII."""
    name = "Meine Daten \N{LATIN SMALL LETTER U WITH DIAERESIS}"
    return shutil.copytree(clone, clone.with_name(name), symlinks=True)


def written(folder, content):
    path = folder / "params.yaml"
    path.write_text(content)
    return path


BLOCKS = {"models": "{}", "seeds": "[1]", "sweep": "{}", "sweep_seeds": "[]"}
BLOCKS["robustness_seeds"] = "[]"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("seeds", "1", "seeds: 1; it should be a list of plain values, as"),
        ("seeds", "'1'", "seeds: '1'; it should be a list"),
        ("sweep_seeds", "", "sweep_seeds: None; it should be a list"),
        ("robustness_seeds", "[1, [2]]", r"robustness_seeds: \[1, \[2\]\]; it should be a list"),
        ("models", "[ours]", r"models: \['ours'\]; it should be a mapping"),
        ("sweep", None, "sweep: missing; it should be a mapping"),
    ],
)
def test_what_dvc_cannot_expand_is_named_with_its_form(tmp_path, key, value, message):
    blocks = BLOCKS | {key: value}
    lines = [f"{name}: {text}\n" for name, text in blocks.items() if text is not None]
    with pytest.raises(ParamsError, match=f"^params.yaml: {message}"):
        params.check_expanded(written(tmp_path, "".join(lines)))


def test_the_committed_params_can_be_expanded():
    params.check_expanded(ROOT / "params.yaml")


@pytest.mark.parametrize("content", ["", "3", "[seeds]"])
def test_params_without_any_setting(tmp_path, content):
    with pytest.raises(ParamsError, match="models: missing"):
        params.check_expanded(written(tmp_path, content))


@pytest.mark.parametrize("options", [("exp", "run", "-S"), ("exp", "run", "--queue", "-S")])
def test_a_list_given_as_a_scalar(clone, options):
    ended = run(clone, *PROGRAM, *options, "seeds=1", check=False)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("error: params.yaml: seeds: 1; it should be a")


def test_another_error_of_dvc_is_its_own(clone):
    ended = run(clone, *PROGRAM, "repro", "no-such-stage", check=False)
    assert ended.returncode == dvc.FAILED
    assert "error: " not in ended.stderr
    assert run(clone, *PROGRAM, "no-such-command", check=False).returncode == 254
    assert run(clone, *PROGRAM, "--version").stdout


@pytest.mark.parametrize("options", [("--temp",), ("--queue",), ("--run-all",)])
def test_no_experiment_runs_in_a_copy_by_a_cache_whose_path_is_not_ascii(not_ascii, options):
    """DVC ends in an error of its own there, or lets queued experiments fail silently."""
    ended = run(not_ascii, *PROGRAM, "exp", "run", *options, "-S", "lr=1e-4", check=False)
    assert ended.returncode == 1
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert "its path must be ASCII: dvc cache dir --local" in line


def test_a_cache_whose_path_is_ascii_mends_it(not_ascii, tmp_path):
    run(not_ascii, *PROGRAM, "cache", "dir", "--local", str(tmp_path / "cache"))
    run(not_ascii, *PROGRAM, "exp", "run", "--temp", "--set-param", "lr=1e-4", "plan")


def test_the_program_of_the_installation_runs_these_checks(tmp_path):
    """As the Makefile writes it, from whatever folder it is called."""
    makefile = (ROOT / "Makefile").read_text()
    (line,) = [line for line in makefile.splitlines() if "msabench.dvc" in line]
    (tmp_path / "only space").mkdir()
    command = line.strip().replace("$(BIN)", "'only space'").replace("$$", "$")
    subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    program = tmp_path / "only space/dvc"
    program.chmod(0o755)
    (program.parent / "python").write_text('#!/bin/sh\necho "$@"\n')
    (program.parent / "python").chmod(0o755)
    shown = subprocess.run(
        [program, "repro", "a b"], cwd="/", capture_output=True, text=True, check=True
    )
    assert shown.stdout == "-P -m msabench.dvc repro a b\n"
