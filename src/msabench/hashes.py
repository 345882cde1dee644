"""SHA-256 of files and folders: the identity of data, code and weights."""

import hashlib
import json
import sys
from errno import ELOOP
from pathlib import Path


def of_file(path: Path) -> str:
    """Return the SHA-256 of a file's content, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_in(folder: Path, pattern: str = "*") -> list[Path]:
    """Return the files below the folder, in order, but not those whose names begin with a dot.

    Raises OSError for a link that leads to no file: nothing would tell what is behind it.
    """
    paths = [
        path
        for path in sorted(folder.rglob(pattern))
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    for path in paths:
        if path.is_symlink() and not path.is_file():
            raise OSError(ELOOP, "a link that leads to no file; links to files are permitted", path)
    return [path for path in paths if path.is_file()]


def of_folder(folder: Path, pattern: str = "*") -> dict[str, str]:
    """Return the SHA-256 of each file below the folder, by its path in it."""
    return {
        path.relative_to(folder).as_posix(): of_file(path) for path in files_in(folder, pattern)
    }


def of_data(path: Path) -> str:
    """Return the SHA-256 of a file, or of the list of all files of a folder with theirs."""
    if not path.is_dir():
        return of_file(path)
    return hashlib.sha256(json.dumps(of_folder(path)).encode()).hexdigest()


if __name__ == "__main__":
    if not sys.argv[1]:
        sys.exit("error: DATA is not given: make hash DATA=/path")
    try:
        print(of_data(Path(sys.argv[1])))
    except OSError as error:
        sys.exit(f"error: {error.filename}: {error.strerror}")
