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
    """A repository that has committed its results, and then gone on without them.

    The commit with the results has the tag of a release. What DVC made lies in its cache alone.
    """
    folder = clones.copy(pipeline, tmp_path_factory.mktemp("origin") / "msabench")
    run(folder, "git", "commit", "--quiet", "--all", "--message", "results")
    run(folder, "git", "tag", "--annotate", TAG, "--message", "a release")
    run(folder, "git", "rm", "--quiet", "dvc.lock")
    run(folder, "git", "commit", "--quiet", "--message", "no results")
    run(folder, "git", "checkout", "--quiet", "-b", "results", TAG)
    return folder


@pytest.fixture(scope="module")
def clone(origin, tmp_path_factory):
    """A clone of it without any cache: what DVC made lies in a remote, which all clones know."""
    store, folder = (tmp_path_factory.mktemp("published") / name for name in ("store", "msabench"))
    run(origin, "dvc", "remote", "add", "--default", "store", str(store))
    run(origin, "dvc", "push", "--quiet", "runs/ours-1")
    run(origin, "git", "commit", "--quiet", "--all", "--message", "remote")
    run(origin, "git", "tag", "--annotate", "ours@v0.2.1", "--message", "a release with a remote")
    run(origin, "git", "clone", "--quiet", ".", str(folder))
    return folder


def assert_predicts(found, origin):
    """The folder that came is the trained run, which predicts the same without its repository."""
    trained = origin / "runs/ours-1"
    assert {path.name: path.read_bytes() for path in found.iterdir()} == {
        path.name: path.read_bytes() for path in trained.iterdir()
    }
    predicted = inference.load(found, device="cpu").predict(TEXTS)
    assert predicted.shape == (2,)
    assert (predicted == inference.load(trained, device="cpu").predict(TEXTS)).all()


def test_get_a_run_from_the_cache_of_a_repository(origin, tmp_path):
    run(tmp_path, "dvc", "get", str(origin), "runs/ours-1")
    assert_predicts(tmp_path / "ours-1", origin)


def test_get_a_run_from_the_remote_of_a_repository(clone, origin, tmp_path):
    assert not (clone / "runs").exists()
    run(tmp_path, "dvc", "get", str(clone), "runs/ours-1", "--out", "theirs-1")
    assert_predicts(tmp_path / "theirs-1", origin)


def test_get_ours_from_a_release(origin, tmp_path):
    """From the commit that has the tag, whatever has been committed since."""
    run(origin, "git", "checkout", "--quiet", "main")
    try:
        made = run(tmp_path, "dvc", "get", str(origin), "runs/ours-1", check=False)
        assert made.returncode != 0
        run(tmp_path, "dvc", "artifacts", "get", str(origin), "ours")
    finally:
        run(origin, "git", "checkout", "--quiet", "results")
    assert_predicts(tmp_path / "ours-1", origin)


def test_get_ours_from_a_release_by_its_version(clone, origin, tmp_path):
    command = ("dvc", "artifacts", "get", str(clone), "ours", "--rev", "v0.2.1")
    run(tmp_path, *command, "--out", "theirs-1")
    assert_predicts(tmp_path / "theirs-1", origin)
    program = (sys.executable, "-m", "msabench", "predict", "--run", "theirs-1", "--json")
    assert len(run(tmp_path, *program, *TEXTS).stdout.splitlines()) == len(TEXTS)
