"""SHA-256 of files: the identity of data, code and weights."""

import hashlib
from pathlib import Path


def of_file(path: Path) -> str:
    """Return the SHA-256 of a file's content, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_folder(folder: Path, pattern: str = "*") -> dict[str, str]:
    """Return the SHA-256 of each file below the folder, by its path in it."""
    files = sorted(path for path in folder.rglob(pattern) if path.is_file())
    return {path.relative_to(folder).as_posix(): of_file(path) for path in files}
