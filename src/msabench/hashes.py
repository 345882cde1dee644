"""SHA-256 of files and folders: the identity of data, code and weights."""

import hashlib
import json
import sys
from pathlib import Path


def of_file(path: Path) -> str:
    """Return the SHA-256 of a file's content, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_folder(folder: Path, pattern: str = "*") -> dict[str, str]:
    """Return the SHA-256 of each file below the folder, by its path in it."""
    files = sorted(path for path in folder.rglob(pattern) if path.is_file())
    return {path.relative_to(folder).as_posix(): of_file(path) for path in files}


def of_data(path: Path) -> str:
    """Return the SHA-256 of a file, or of the list of all files of a folder with theirs."""
    if not path.is_dir():
        return of_file(path)
    return hashlib.sha256(json.dumps(of_folder(path)).encode()).hexdigest()


if __name__ == "__main__":
    try:
        print(of_data(Path(sys.argv[1])))
    except OSError as error:
        sys.exit(f"error: {sys.argv[1]!r}: {error.strerror}")
