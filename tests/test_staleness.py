"""What makes a training stale: the code on one list, which names its checkpoint too."""

import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from msabench.execution import scratch
from tests import clones

pytestmark = pytest.mark.slow  # needs a pipeline that has run

CODE = ("src/msabench", "stages")
# Of each, its model. That sweep and ablation depend on the same list: tests/test_architecture.py.
TRAININGS = {"train@ours-1": "ours", "train@svm-1": "svm"}
# Asks DVC, in one process for all files, which of these depend on something that has changed.
STALE = """
import sys
from pathlib import Path
from dvc.repo import Repo

trainings, files = sys.argv[1:3], sys.argv[3:]
with Repo() as repo, repo.lock:
    stages = [stage for stage in repo.index.stages if stage.addressing in trainings]
    assert len(stages) == 2
    for name in files:
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


def decisive(tree: Path, model: str) -> list[str]:
    return [path.relative_to(tree).as_posix() for path in scratch.decisive_code(model)]


@pytest.fixture
def of_the_tree(tree, monkeypatch):
    """Let checkpoints be named by the code of the tree."""
    monkeypatch.setattr(scratch, "TREE", tree)
    return tree


def test_a_comment_makes_a_training_stale_where_its_file_is_on_the_list_and_nowhere_else(
    of_the_tree,
):
    tree = of_the_tree
    files = code_of(tree)
    printed = clones.run(tree, sys.executable, "-c", STALE, *TRAININGS, *files).stdout
    stale = {name: trainings for name, *trainings in map(str.split, printed.splitlines())}
    assert stale.pop("none") == []
    for training, model in TRAININGS.items():
        listed = decisive(tree, model)
        expected = {n for n in files if any(Path(n).is_relative_to(entry) for entry in listed)}
        assert 15 < len(expected) < len(files) - 40
        assert {name for name in files if training in stale[name]} == expected


def test_a_checkpoint_is_thrown_away_where_a_training_is_stale_and_nowhere_else(
    of_the_tree, tmp_path
):
    tree = of_the_tree

    def name() -> str:
        code = scratch.decisive_code("ours")
        with scratch.folder(tmp_path, "ours-1", *code, machine="portable") as folder:
            return folder.name

    listed = decisive(tree, "ours")
    before = name()
    for file in code_of(tree):
        with commented(tree / file):
            on_the_list = any(Path(file).is_relative_to(entry) for entry in listed)
            assert (name() != before) == (on_the_list and file.endswith(".py")), file
    assert name() == before


@contextmanager
def commented(file: Path):
    """Add a comment to a file for a while."""
    content = file.read_bytes()
    file.write_bytes(content + b"\n# A comment.\n")
    yield
    file.write_bytes(content)
