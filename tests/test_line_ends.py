"""Line ends are part of what is hashed: a clone has them as committed, whatever git is told."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def git(folder, *arguments):
    command = ["git", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def test_a_clone_with_autocrlf_has_the_committed_bytes(tmp_path):
    """As Git for Windows is configured by default."""
    git(tmp_path, "clone", "--quiet", "--config", "core.autocrlf=true", str(ROOT), "clone")
    listed = git(tmp_path / "clone", "ls-files", "--stage").splitlines()
    committed = {line.partition("\t")[2]: line.split()[1] for line in listed}
    hashed = git(tmp_path / "clone", "hash-object", "--no-filters", "--", *committed).split()
    actual = dict(zip(committed, hashed, strict=True))
    assert {name: digest for name, digest in actual.items() if digest != committed[name]} == {}
    assert len(committed) > 100
