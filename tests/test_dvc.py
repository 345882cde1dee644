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


@pytest.fixture
def not_ascii(clone, tmp_path):
    """The same in a folder whose path is not ASCII."""
    name = "Meine Daten \N{LATIN SMALL LETTER U WITH DIAERESIS}"
    return shutil.copytree(clone, tmp_path / name, symlinks=True)


def written(folder, content):
    path = folder / "params.yaml"
    path.write_text(content)
    return path


BLOCKS = {
    "dataset": "simulated",
    "compare": "[ours]",
    "seeds": "[1]",
    "sweep": "{}",
    "sweep_seeds": "[]",
}
BLOCKS["robustness_seeds"] = "[]"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("seeds", "1", "seeds: 1; it should be a list of plain values, as"),
        ("seeds", "'1'", "seeds: '1'; it should be a list"),
        ("sweep_seeds", "", "sweep_seeds: None; it should be a list"),
        ("robustness_seeds", "[1, [2]]", r"robustness_seeds: \[1, \[2\]\]; it should be a list"),
        ("compare", "ours", r"compare: 'ours'; it should be a list of plain values"),
        ("sweep", "[ours]", r"sweep: \['ours'\]; it should be a mapping"),
        ("sweep", None, "sweep: missing; it should be a mapping"),
        ("dataset", "[1]", r"dataset: \[1\]; it should be the name of a data set"),
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
    with pytest.raises(ParamsError, match="dataset: missing"):
        params.check_expanded(written(tmp_path, content))


@pytest.mark.parametrize("options", [("exp", "run", "-S"), ("exp", "run", "--queue", "-S")])
def test_a_list_given_as_a_scalar(clone, options):
    ended = run(clone, *PROGRAM, *options, "seeds=1", check=False)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("error: params.yaml: seeds: 1; it should be a")


def test_params_that_are_not_there_or_are_no_text(clone):
    params_file = clone / "params.yaml"
    content = params_file.read_bytes()
    try:
        params_file.write_bytes(content.replace(b"simulated data", b"simul\xe9"))
        ended = run(clone, *PROGRAM, "repro", "plan", check=False)
        assert "error: " in ended.stderr
        assert "is not UTF-8; save the file as UTF-8" in ended.stderr
        params_file.unlink()
        ended = run(clone, *PROGRAM, "repro", "plan", check=False)
        assert "params.yaml: No such file or directory" in ended.stderr.splitlines()[-1]
    finally:
        params_file.write_bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize("change", ["lr", "lr=[1", "lr=glob(*)"])
def test_a_change_that_is_none_is_told_by_dvc(clone, change):
    ended = run(clone, *PROGRAM, "exp", "run", "--queue", "-S", change, check=False)
    assert ended.returncode == dvc.FAILED
    assert "Traceback" not in ended.stderr


def test_another_error_of_dvc_is_its_own(clone):
    ended = run(clone, *PROGRAM, "repro", "no-such-stage", check=False)
    assert ended.returncode == dvc.FAILED
    assert "error: " not in ended.stderr
    assert run(clone, *PROGRAM, "no-such-command", check=False).returncode == 254
    assert run(clone, *PROGRAM, "--version").stdout


@pytest.mark.slow
@pytest.mark.parametrize("options", [("--temp",), ("--queue",), ("--run-all",)])
def test_no_experiment_runs_in_a_copy_by_a_cache_whose_path_is_not_ascii(not_ascii, options):
    """DVC ends in an error of its own there, or lets queued experiments fail silently."""
    ended = run(not_ascii, *PROGRAM, "exp", "run", *options, "-S", "lr=1e-4", check=False)
    assert ended.returncode == 1
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert "its path must be ASCII: dvc cache dir --local" in line


@pytest.mark.slow
def test_a_cache_whose_path_is_ascii_mends_it(not_ascii, tmp_path):
    run(not_ascii, *PROGRAM, "cache", "dir", "--local", str(tmp_path / "cache"))
    run(not_ascii, *PROGRAM, "exp", "run", "--temp", "--set-param", "lr=1e-4", "plan")


@pytest.mark.parametrize(("checks", "expected"), [(True, "checks"), (False, "dvc itself")])
def test_the_program_of_the_installation_runs_these_checks(tmp_path, checks, expected):
    """As the Makefile writes it, through a link too; without such code DVC runs by itself."""
    show = "show: ; @printf '%s\\n' \"$$DVC_WITH_CHECKS\""
    command = ["make", "--silent", "--eval", show, "show"]
    written = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    place = tmp_path / "only space"
    for module in ("msabench", "dvc"):
        (place / module).mkdir(parents=True)
        (place / module / "__init__.py").touch()
    said = "import sys\ndef main(arguments):\n    sys.exit(f'{name}: {arguments}')\n"
    (place / "dvc/cli.py").write_text("name = 'dvc itself'\n" + said)
    if checks:
        (place / "msabench/dvc.py").write_text("name = 'checks'\n" + said)
    (place / "dvc.sh").write_text(written)
    (place / "dvc.sh").chmod(0o755)
    python = place / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{place}" exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (tmp_path / "link").symlink_to(place / "dvc.sh")
    ended = subprocess.run(
        [tmp_path / "link", "repro", "a b"], cwd="/", capture_output=True, text=True, check=False
    )
    assert ended.stderr == f"{expected}: ['repro', 'a b']\n"
