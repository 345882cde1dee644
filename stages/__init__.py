"""The stages of the pipeline: thin programs, run by DVC as `python -m stages.<name>`."""

import inspect
import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any

if not (3, 11) <= sys.version_info[:2] <= (3, 12):
    sys.exit("error: Python {}.{}; 3.11 or 3.12 is needed".format(*sys.version_info))

PARENT = os.getppid()  # as early as can be: it may end while this process starts
PAGE = "docs/experiments.md"  # for the errors of a stage that names no page

# The package of this very tree, not an installed one: a queued experiment runs its own code.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
import msabench  # noqa: E402, F401  before a stage imports NumPy, which reads its settings then


def run(main: Callable[..., None], *arguments: str) -> None:
    """Run a stage; an error that the user can fix is one line and exit status 1.

    The line begins with what the stage was to run, as several may run at once, and names the
    page of docs/ where the error arose, by default `PAGE` of the stage's file.
    `--help` shows the docstring of the stage and the parameters of main, which the arguments must
    fit: status 2 where they do not. `--debug` lets any error show its traceback.
    """
    from msabench import errors, program

    parsed = _parse(main, arguments)
    page = getattr(sys.modules[main.__module__], "PAGE", PAGE)
    try:
        with program.one_line(page, place="-".join(map(str, parsed))):
            main(*parsed)
    except KeyboardInterrupt:
        print(errors.INTERRUPTED, file=sys.stderr)
        sys.exit(errors.INTERRUPTED_STATUS)


def parent_is_alive() -> bool:
    """Return whether the process is alive that started this one, or had it forked."""
    parent = multiprocessing.parent_process()
    return os.getppid() == PARENT if parent is None else parent.is_alive()


def run_forked(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run a stage in this process, which has been forked for it.

    command: the stage's module and its arguments. environment: what is added to it.
    """
    os.environ.update(environment)
    module, *arguments = command
    run(import_module(module).main, *arguments)


def _parse(main: Callable[..., None], arguments: Sequence[str]) -> list[Any]:
    """Return the arguments as main takes them: those annotated as int are numbers."""
    from msabench import program

    parser = program.Parser(
        prog=f"python -m stages.{Path(inspect.getfile(main)).stem}",
        description=sys.modules[main.__module__].__doc__,
    )
    for name, parameter in inspect.signature(main).parameters.items():
        parser.add_argument(name, type=int if parameter.annotation is int else str)
    return list(vars(parser.parse_args(arguments)).values())


def _without_traceback(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Tell in one line of what is missing: stages import before they read their arguments."""
    from msabench import errors, program

    if "--debug" in sys.argv or program.shows_traceback(error):
        sys.__excepthook__(kind, error, trace)
    else:
        print(errors.message(error), file=sys.stderr)


sys.excepthook = _without_traceback
