"""What makes a training stale: the code on one list, which names its checkpoint too, and its plan.

The plan of a run holds the hash of its model's file.
"""

import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from msabench.execution import scratch
from tests import clones

pytestmark = pytest.mark.slow  # needs a pipeline that has run

CODE = ("src/msabench", "stages")
# That sweep and ablation depend on the same list: tests/test_architecture.py.
RUNS = ("self_mm", "svm", "cnn", "ours")
# Asks DVC, in one process for all files, which trainings depend on something that has changed.
STALE = """
import sys
from pathlib import Path
from dvc.repo import Repo

with Repo() as repo, repo.lock:
    stages = [stage for stage in repo.index.stages if stage.addressing.startswith("train@")]
    for name in sys.argv[1:]:
        file = Path(name)
        content = file.read_bytes()
        file.write_bytes(content + b"\\n# A comment.\\n")
        print(name, *(stage.addressing for stage in stages if stage.changed_deps()))
        file.write_bytes(content)
    print("none", *(stage.addressing for stage in stages if stage.changed_deps()))
"""


@pytest.fixture(scope="module")
def tree(pipeline, tmp_path_factory):
    """A repository in which everything is up to date."""
    return clones.copy(pipeline, tmp_path_factory.mktemp("stale") / "msabench")


def code_of(tree: Path) -> list[str]:
    """Name every file of code, however it is written."""
    files = [path for folder in CODE for path in (tree / folder).rglob("*") if path.is_file()]
    names = sorted(path.relative_to(tree).as_posix() for path in files)
    return [name for name in names if "__pycache__" not in name]


def decisive(tree: Path) -> list[str]:
    return [path.relative_to(tree).as_posix() for path in scratch.decisive_code()]


@pytest.fixture
def of_the_tree(tree, monkeypatch):
    """Let checkpoints be named by the code of the tree."""
    monkeypatch.setattr(scratch, "TREE", tree)
    return tree


def stale(tree: Path, *files: str) -> dict[str, list[str]]:
    """Return the trainings that are stale once a comment is in each file, and in `none`."""
    printed = clones.run(tree, sys.executable, "-c", STALE, *files).stdout
    return {name: trainings for name, *trainings in map(str.split, printed.splitlines())}


def test_a_comment_makes_a_training_stale_where_its_file_is_on_the_list_and_nowhere_else(
    of_the_tree,
):
    tree = of_the_tree
    files = code_of(tree)
    trainings = stale(tree, *files)
    assert trainings.pop("none") == []
    listed = decisive(tree)
    expected = {n for n in files if any(Path(n).is_relative_to(entry) for entry in listed)}
    assert 15 < len(expected) < len(files) - 40
    for name in files:
        assert trainings[name] == [f"train@{run}-1" for run in RUNS] * (name in expected)


@pytest.mark.parametrize("model", RUNS)
def test_a_comment_in_a_model_s_file_makes_its_trainings_stale_and_no_other(
    of_the_tree, tmp_path, model
):
    """By the plan of the run: so are their checkpoints, once the stage has made it again."""
    tree = of_the_tree
    before = checkpoints(tree, tmp_path)
    try:
        with commented(tree / f"src/msabench/models/{model}.py"):
            clones.run(tree, sys.executable, "-m", "stages.plan")
            after = checkpoints(tree, tmp_path)
            assert stale(tree)["none"] == [f"train@{model}-1"]
        assert {run for run in RUNS if before[run] != after[run]} == {model}
    finally:
        clones.run(tree, sys.executable, "-m", "stages.plan")
    assert checkpoints(tree, tmp_path) == before


def test_a_checkpoint_is_thrown_away_where_a_training_is_stale_and_nowhere_else(
    of_the_tree, tmp_path
):
    tree = of_the_tree
    listed = decisive(tree)
    before = checkpoints(tree, tmp_path)
    for file in code_of(tree):
        with commented(tree / file):
            after = checkpoints(tree, tmp_path)
        on_the_list = any(Path(file).is_relative_to(entry) for entry in listed)
        changed = [run for run in RUNS if after[run] != before[run]]
        assert changed == [*RUNS] * (on_the_list and file.endswith(".py")), file
    assert checkpoints(tree, tmp_path) == before


def checkpoints(tree: Path, root: Path) -> dict[str, str]:
    """Name the folder of each run's checkpoint, by its plan and the code."""
    names = {}
    for run in RUNS:
        deciding = (tree / f"runs/plan/{run}.json", *scratch.decisive_code())
        with scratch.folder(root, f"{run}-1", *deciding, machine="portable") as folder:
            names[run] = folder.name
    return names


@contextmanager
def commented(file: Path):
    """Add a comment to a file for a while."""
    content = file.read_bytes()
    file.write_bytes(content + b"\n# A comment.\n")
    yield
    file.write_bytes(content)
