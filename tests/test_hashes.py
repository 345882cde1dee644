"""The identity of a file and of a folder."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from msabench import hashes
from msabench.data import download
from msabench.errors import DataError

SOURCE = Path(hashes.__file__).parents[1]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data/audio").mkdir(parents=True)
    (tmp_path / "data/audio/a.npy").write_bytes(b"frames")
    (tmp_path / "data/utterances.csv").write_text("id")
    return tmp_path / "data"


def test_a_folder_is_known_by_names_and_contents(folder, tmp_path):
    known = hashes.of_data(folder)
    assert hashes.of_data(folder.rename(tmp_path / "elsewhere")) == known
    folder = tmp_path / "elsewhere"
    (folder / ".DS_Store").write_text("what a file manager leaves behind")
    assert hashes.of_data(folder) == known
    (folder / "audio/a.npy").write_bytes(b"other")
    assert hashes.of_data(folder) != known
    (folder / "audio/a.npy").rename(folder / "audio/b.npy")
    (folder / "audio/b.npy").write_bytes(b"frames")
    assert hashes.of_data(folder) != known


DESCRIPTIONS = ("README.md", "ReadMe", "audio/readme.txt", "LICENSE", "licence.rst", "CITATION.cff")


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_what_describes_a_folder_is_no_part_of_its_data(folder, tmp_path, name):
    """Neither of its hash nor of what is linked, so that no source reads what the hash omits."""
    known = hashes.of_data(folder)
    (folder / name).write_text("about these data")
    assert hashes.of_data(folder) == known
    download.link(folder, tmp_path / "raw")
    linked = {path for path in (tmp_path / "raw").rglob("*") if path.is_symlink()}
    assert linked == {tmp_path / "raw/audio/a.npy", tmp_path / "raw/utterances.csv"}


@pytest.mark.parametrize("name", ["audio/readme.npy", "notice.csv", "LICENSE.csd", "notes.txt"])
def test_a_file_that_may_be_data_counts(folder, name):
    known = hashes.of_data(folder)
    (folder / name).write_text("frames of a clip")
    assert hashes.of_data(folder) != known


@pytest.mark.parametrize(
    ("variable", "sha256"),
    [
        ("MOSI_UTTERANCES", "6381e075de174c469765e635c961f317d2072e420c3fa0f8784c78098c459b60"),
        ("MOSI_OLD_SPLIT", "3c381c145bad19dc19e8bac111825c9a937e21714ff236f2fca2eea8a0816e7b"),
        ("POM", "af6aaafe70cd9678374e61fb2b1e225cbe387c06687474a58c5f8b126b577dad"),
    ],
)
def test_the_hashes_of_real_folders(variable, sha256):
    if variable not in os.environ:
        pytest.skip(f"needs {variable}, the path of that folder")
    assert hashes.of_data(Path(os.environ[variable])) == sha256


def test_a_file_is_known_by_its_content(folder):
    assert hashes.of_data(folder / "audio/a.npy") == hashlib.sha256(b"frames").hexdigest()


def test_links(folder, tmp_path):
    """A link to a file counts as that file; a folder behind a link would not be seen."""
    known = hashes.of_data(folder)
    (folder / "audio/a.npy").rename(tmp_path / "a.npy")
    (folder / "audio/a.npy").symlink_to(tmp_path / "a.npy")
    assert hashes.of_data(folder) == known
    for target in (tmp_path, tmp_path / "nothing"):
        (folder / "vision").symlink_to(target)
        with pytest.raises(DataError, match="leads to no file"):
            hashes.of_data(folder)
        (folder / "vision").unlink()


def test_nothing_has_no_hash(tmp_path):
    """It would be the same for all that is empty, and pass for that of data."""
    folder = tmp_path / "data"
    (folder / "audio").mkdir(parents=True)
    (folder / ".DS_Store").write_text("what a file manager leaves behind")
    (folder / "README.md").write_text("what the data are")
    with pytest.raises(DataError, match=f"^{folder}: the folder has no file"):
        hashes.of_data(folder)
    (folder / "audio/a.npy").touch()
    with pytest.raises(DataError, match=r"a\.npy: the file is empty"):
        hashes.of_data(folder / "audio/a.npy")


def run(folder, *arguments):
    """As `make hash` runs it, in a folder."""
    command = [sys.executable, "-m", "msabench.hashes", *map(str, arguments)]
    environment = {"PYTHONPATH": str(SOURCE)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_as_a_program(folder):
    assert run(folder.parent, folder).stdout.strip() == hashes.of_data(folder)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "error: nothing: No such file or directory"),
        (["empty"], "error: empty: the folder has no file"),
        (["data/utterances.csv/more"], "error: data/utterances.csv/more: Not a directory"),
        (["a" * 300], "File name too long"),
        ([""], "error: DATA is not given: make hash DATA=/path"),
        ([], "error: the following arguments are required: path"),
        (["a", "b"], "error: unrecognized arguments: b"),
        (["-a"], 'needs "--" before it: -- -a'),
    ],
)
def test_what_the_program_cannot_hash_is_one_line(arguments, said, folder):
    (folder.parent / "empty").mkdir()
    result = run(folder.parent, *arguments)
    assert result.returncode != 0
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert said in line
