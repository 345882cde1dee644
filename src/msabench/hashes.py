"""SHA-256 of files and folders: the identity of data, code and weights."""

import hashlib
import json
import re
from pathlib import Path

from msabench import program
from msabench.errors import DataError

# Of files that describe data. No source is given them, so that they can change and the data not.
DESCRIPTION = re.compile(
    r".*\.md|(readme|licen[cs]e|copying|notice|citation|changelog)(\.(txt|rst|pdf|cff))?",
    re.IGNORECASE,
)


def is_data(name: str) -> bool:
    """Return whether a file or folder of this name counts as data: not hidden, no description."""
    return not name.startswith(".") and not DESCRIPTION.fullmatch(name)


def of_file(path: Path) -> str:
    """Return the SHA-256 of a file's content, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_in(folder: Path, pattern: str = "*") -> list[Path]:
    """Return the files below the folder, sorted, that are data: see is_data.

    Raises DataError for a link that leads to no file: its content could not be hashed.
    """
    paths = [
        path
        for path in sorted(folder.rglob(pattern))
        if all(map(is_data, path.relative_to(folder).parts))
    ]
    for path in paths:
        if path.is_symlink() and not path.is_file():
            raise DataError(f"{path}: a link that leads to no file; links to files are permitted")
    return [path for path in paths if path.is_file()]


def of_folder(folder: Path, pattern: str = "*") -> dict[str, str]:
    """Return the SHA-256 of each file below the folder, by its path in it."""
    return {
        path.relative_to(folder).as_posix(): of_file(path) for path in files_in(folder, pattern)
    }


def of_data(path: Path) -> str:
    """Return the SHA-256 of a file, or of the list of a folder's files with theirs.

    All files of a folder count, except hidden ones and those that describe the data: *.md, and
    README, LICENSE, COPYING, NOTICE, CITATION, CHANGELOG, alone or with .txt, .rst, .pdf or .cff.
    Raises DataError for an empty file or folder: its hash would verify any other empty one.
    """
    if not path.is_dir():
        if path.stat().st_size == 0:
            raise DataError(f"{path}: the file is empty")
        return of_file(path)
    files = of_folder(path)
    if not files:
        raise DataError(f"{path}: the folder has no file of data")
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def main() -> None:
    """Print the hash of the one path that is given."""
    parser = program.Parser(prog="python -m msabench.hashes", description=of_data.__doc__)
    parser.add_argument("path", help="of a file or folder")
    path = parser.parse_args().path
    if not path:
        parser.error("DATA is not given: make hash DATA=/path")
    with program.one_line("docs/data.md"):
        try:
            print(of_data(Path(path)))
        except OSError as error:  # of this path, which the user gave
            raise DataError(f"{error.filename}: {error.strerror}") from error


if __name__ == "__main__":
    main()
