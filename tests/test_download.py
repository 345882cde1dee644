"""Finding and verifying a file that the user keeps."""

import hashlib

import pytest

from msabench import download
from msabench.utterances import DataError


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "label.csv"
    path.write_text("content")
    return path


def test_found_by_path_or_folder_or_variable(file, monkeypatch):
    monkeypatch.setenv("WHERE", str(file))
    assert download.locate("d", "label.csv", str(file), None) == file
    assert download.locate("d", "label.csv", str(file.parent), None) == file
    assert download.locate("d", "label.csv", None, "WHERE") == file


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (None, r"datasets.d.path: not set; .*label.csv, or set the environment variable WHERE"),
        ("label.csv", r"datasets.d.path: 'label.csv' is relative; it must be absolute"),
        ("/nowhere/label.csv", r"datasets.d.path: no file at /nowhere/label.csv"),
    ],
)
def test_not_found(path, message, monkeypatch):
    monkeypatch.delenv("WHERE", raising=False)
    with pytest.raises(DataError, match=message):
        download.locate("d", "label.csv", path, "WHERE")


def test_verify(file):
    download.verify(file, hashlib.sha256(b"content").hexdigest())
    with pytest.raises(DataError, match=r"label.csv: SHA-256 ed7002.*; expected 0000"):
        download.verify(file, "0" * 64)


def test_link_makes_no_copy(file, tmp_path):
    target = tmp_path / "linked.csv"
    download.link(file, target)
    assert target.read_text() == "content"
    assert target.samefile(file)
