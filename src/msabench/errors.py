"""Which errors the user can fix: each is printed as one line that names a page of docs/.

Any other is a defect of the code, and ends in a traceback.
"""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

INTERRUPTED = "interrupted: `dvc repro` resumes from the last checkpoint"
INTERRUPTED_STATUS = 130  # what a shell reports of a command that Ctrl-C ended


class ParamsError(ValueError):
    """A setting that is not permitted; the message names it, its value and what is permitted."""


class DataError(ValueError):
    """Data that are not as required; the message names place, value and permitted range."""


class DeviceError(DataError):
    """A device that this machine, or this build of PyTorch, does not have."""


class EncoderError(DataError):
    """A text encoder that is missing, or is not the published one."""


class StorageError(DataError):
    """A file that cannot be written, or that processes read differently."""


class ProcessError(DataError):
    """Another process, here or elsewhere, that is in the way, has ended, or has failed."""


# What the system refuses, whatever the code does: full disks, quotas, rights, limits of a process,
# memory, names that are too long for the file system, a disk or network drive that fails.
REFUSED = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOLCK, errno.ENAMETOOLONG),
    *(errno.EIO, errno.ESTALE),
}
OUTPUTS = ("data", "runs", "predictions", "metrics", "plots")  # folders that the pipeline makes
OURS = ("msabench", "stages")
INSTALLATION = "docs/systems.md"  # the page on a missing package, wherever it is imported


def fixable(error: BaseException) -> bool:
    """Return whether an error is for the user to fix, rather than a defect of the code."""
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").partition(".")[0]
        return package not in OURS and package not in sys.stdlib_module_names
    if isinstance(error, FileNotFoundError):
        return _is_output(error.filename)
    if isinstance(error, OSError):
        return error.errno in REFUSED
    return isinstance(error, ParamsError | DataError | FloatingPointError | MemoryError)


def _is_output(path: object) -> bool:
    """Return whether a path is in a folder that the pipeline makes, here or in another tree."""
    if not isinstance(path, str | bytes | os.PathLike):
        return False
    full = Path(os.path.abspath(os.fsdecode(path)))
    trees = [folder.parent for folder in (full, *full.parents) if folder.name in OUTPUTS]
    return any(
        tree.is_dir() and (tree.samefile(".") or (tree / "dvc.yaml").is_file()) for tree in trees
    )


@contextmanager
def see(page: str) -> Iterator[None]:
    """Let an error inside name this page of docs/, unless one further inside names another.

    Around a block, or as a decorator of a function.
    """
    try:
        yield
    except Exception as error:
        if fixable(error):
            vars(error).setdefault("page", page)
        raise


def message(error: BaseException, place: str = "") -> str:
    """Return the line to print for an error that is `fixable`. place: what was to run."""
    reason = " ".join(str(error).split())
    page = getattr(error, "page", "")
    if isinstance(error, ModuleNotFoundError):
        reason, page = f"{reason}; `make repro` installs what is needed", INSTALLATION
    elif isinstance(error, FileNotFoundError):
        reason = f"{os.fsdecode(error.filename)} is missing: `dvc repro` makes it"
    elif isinstance(error, MemoryError) and not reason:
        reason = "out of memory; try a smaller batch_size, or end other programs on this machine"
    pointer = f" ({page})" if page else ""
    return f"error: {place}{': ' if place else ''}{reason}{pointer}"
