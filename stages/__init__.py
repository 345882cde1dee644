"""The stages of the pipeline: thin programs, run by DVC as `python -m stages.<name>`."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

if not (3, 11) <= sys.version_info[:2] <= (3, 12):
    sys.exit("error: Python {}.{}; 3.11 or 3.12 is needed".format(*sys.version_info))

PARENT = os.getppid()  # as early as can be: it may end while this process starts

# The package of this very tree, not an installed one: a queued experiment runs its own code.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))


def run(main: Callable[..., None], *arguments: str) -> None:
    """Run a stage; an error that the user can mend is one line and exit status 1.

    The line begins with what the stage was to run, as several may run at once.
    """
    from msabench.params import ParamsError
    from msabench.utterances import DataError

    try:
        main(*arguments)
    except (ParamsError, DataError, OSError, FloatingPointError, MemoryError) as error:
        place = f"{'-'.join(arguments)}: " if arguments else ""
        sys.exit(f"error: {place}{' '.join(str(error).split())}")
    except KeyboardInterrupt:
        print("interrupted: `dvc repro` goes on from the last checkpoint", file=sys.stderr)
        sys.exit(130)


def _without_traceback(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Say in one line that a package is missing: stages import before they run."""
    if isinstance(error, ModuleNotFoundError):
        print(f"error: {error}; `make repro` installs what is needed", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _without_traceback
