"""A trained model, from a repository that has run the pipeline into any other place."""

import sys

import pytest

from msabench import inference
from tests import clones
from tests.clones import run

pytestmark = pytest.mark.slow
TAG = "ours@v0.2.0"
TEXTS = ["the film was very good", "what a waste of time"]


@pytest.fixture(scope="module")
def origin(pipeline, tmp_path_factory):
    """A repository without a remote, whose branch `later` has no results.

    The commit of the results has the tag of a release.
    """
    folder = clones.copy(pipeline, tmp_path_factory.mktemp("origin") / "msabench")
    run(folder, "git", "commit", "--quiet", "--all", "--message", "results")
    run(folder, "git", "tag", "--annotate", TAG, "--message", "a release")
    run(folder, "git", "switch", "--quiet", "--create", "later")
    run(folder, "git", "rm", "--quiet", "dvc.lock")
    run(folder, "git", "commit", "--quiet", "--message", "no results")
    run(folder, "git", "switch", "--quiet", "main")
    return folder


@pytest.fixture(scope="module")
def clone(origin, tmp_path_factory):
    """A clone of it without any cache: what DVC made lies in a remote, which all clones know."""
    store, folder = (tmp_path_factory.mktemp("published") / name for name in ("store", "msabench"))
    run(origin, "dvc", "remote", "add", "--default", "store", store)
    run(origin, "dvc", "push", "--quiet", "runs/ours-1")
    run(origin, "git", "commit", "--quiet", "--all", "--message", "remote")
    run(origin, "git", "tag", "--annotate", "ours@v0.2.1", "--message", "a release with a remote")
    run(origin, "git", "clone", "--quiet", ".", folder)
    return folder


def assert_predicts(run, origin):
    """The folder that came is the trained run, which predicts the same without its repository."""
    trained = origin / "runs/ours-1"
    assert {path.name: path.read_bytes() for path in run.iterdir()} == {
        path.name: path.read_bytes() for path in trained.iterdir()
    }
    predicted = inference.load(run, device="cpu").predict(TEXTS)
    assert predicted.shape == (2,)
    assert (predicted == inference.load(trained, device="cpu").predict(TEXTS)).all()


@pytest.mark.parametrize("commit", [(), ("--rev", "main")])
def test_get_a_run_of_a_repository_on_this_machine(origin, tmp_path, commit):
    """As it lies there; or from its cache, as a commit has it."""
    run(tmp_path, "dvc", "get", origin, "runs/ours-1", *commit)
    assert_predicts(tmp_path / "ours-1", origin)


def test_get_a_run_from_the_remote_of_a_repository(clone, origin, tmp_path):
    assert not (clone / "runs").exists()
    run(tmp_path, "dvc", "get", clone, "runs/ours-1", "--out", "theirs-1")
    assert_predicts(tmp_path / "theirs-1", origin)


def test_get_ours_from_a_release(origin, tmp_path):
    """From the commit that has the tag, whatever has been committed since."""
    assert run(
        tmp_path, "dvc", "get", origin, "runs/ours-1", "--rev", "later", check=False
    ).returncode
    run(origin, "git", "switch", "--quiet", "later")
    run(tmp_path, "dvc", "artifacts", "get", origin, "ours")
    run(origin, "git", "switch", "--quiet", "main")
    assert_predicts(tmp_path / "ours-1", origin)


def test_get_ours_from_a_release_by_its_version(clone, origin, tmp_path):
    command = ("dvc", "artifacts", "get", clone, "ours", "--rev", "v0.2.1")
    run(tmp_path, *command, "--out", "theirs-1")
    assert_predicts(tmp_path / "theirs-1", origin)
    program = (sys.executable, "-m", "msabench", "predict", "--run", "theirs-1", "--json")
    assert len(run(tmp_path, *program, *TEXTS).stdout.splitlines()) == len(TEXTS)
