"""The stages of the pipeline: thin programs, run by DVC as `python -m stages.<name>`."""

import argparse
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

if not (3, 11) <= sys.version_info[:2] <= (3, 12):
    sys.exit("error: Python {}.{}; 3.11 or 3.12 is needed".format(*sys.version_info))

PARENT = os.getppid()  # as early as can be: it may end while this process starts

# The package of this very tree, not an installed one: a queued experiment runs its own code.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))


def run(main: Callable[..., None], *arguments: str) -> None:
    """Run a stage; an error that the user can mend is one line and exit status 1.

    The line begins with what the stage was to run, as several may run at once.
    `--help` shows the docstring of the stage and the parameters of main, which the arguments must
    fit: status 2 where they do not.
    """
    from msabench import errors

    parsed = _parse(main, arguments)
    try:
        main(*parsed)
    except errors.MENDABLE as error:
        sys.exit(errors.told(error, place="-".join(arguments)))
    except KeyboardInterrupt:
        print(errors.INTERRUPTED, file=sys.stderr)
        sys.exit(errors.INTERRUPTED_STATUS)


class _Parser(argparse.ArgumentParser):
    """Its errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; {' '.join(self.format_usage().split())}\n")


def _parse(main: Callable[..., None], arguments: Sequence[str]) -> list[Any]:
    """Return the arguments as main takes them: those annotated as int are numbers."""
    parser = _Parser(
        prog=f"python -m stages.{Path(inspect.getfile(main)).stem}",
        description=sys.modules[main.__module__].__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, parameter in inspect.signature(main).parameters.items():
        parser.add_argument(name, type=int if parameter.annotation is int else str)
    return list(vars(parser.parse_args(arguments)).values())


def _without_traceback(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Tell in one line of a package that is missing: stages import before they run."""
    from msabench import errors

    if isinstance(error, ModuleNotFoundError):
        print(errors.told(error), file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _without_traceback
