"""Raw data: find the file that a data set is made of, verify it, link it into the tree."""

import os
from pathlib import Path

from msabench import hashes
from msabench.utterances import DataError


def locate(dataset: str, file: str, path: str | None, variable: str | None) -> Path:
    """Return where the user keeps the file: by params.yaml, or else by the environment variable.

    A folder stands for the file of that name in it. Raises DataError where it is not given,
    relative, or missing.
    """
    setting = f"datasets.{dataset}.path"
    given, place = path, setting
    if given is None and variable is not None:
        given, place = os.environ.get(variable), f"environment variable {variable}"
    if not given:
        raise DataError(
            f"{setting}: not set; give the absolute path of {file}"
            + (f", or set the environment variable {variable}" if variable else "")
        )
    found = Path(given)
    if not found.is_absolute():
        raise DataError(f"{place}: {given!r} is relative; it must be absolute")
    if found.is_dir():
        found /= file
    if not found.is_file():
        raise DataError(f"{place}: no file at {found}")
    return found


def verify(path: Path, sha256: str) -> None:
    """Raise DataError where the file is not the one that the hash names."""
    found = hashes.of_file(path)
    if found != sha256:
        raise DataError(
            f"{path}: SHA-256 {found}; expected {sha256}: damaged, incomplete or another version"
        )


def link(source: Path, target: Path) -> None:
    """Make the file appear under the target name without a second copy of its bytes."""
    target.symlink_to(source)
