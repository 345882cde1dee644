"""The identity of a file and of a folder."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from msabench import hashes

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
        with pytest.raises(OSError, match="leads to no file"):
            hashes.of_data(folder)
        (folder / "vision").unlink()


def test_as_a_program(folder):
    """As `make hash` runs it."""

    def run(path):
        command = [sys.executable, "-m", "msabench.hashes", str(path)]
        return subprocess.run(
            command, cwd=SOURCE, capture_output=True, text=True, check=False, env={}
        )

    assert run(folder).stdout.strip() == hashes.of_data(folder)
    missing = run(folder / "nothing")
    assert missing.returncode == 1
    assert "DATA is not given" in run("").stderr
    assert missing.stderr == f"error: {folder / 'nothing'}: No such file or directory\n"
