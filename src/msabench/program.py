"""Shared by all programs: argument parsing, environment variables, one-line errors."""

import argparse
import math
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise, takewhile
from typing import Any, NoReturn, TypeVar

from msabench import errors

T = TypeVar("T")

DEBUG = "MSABENCH_DEBUG"


class Parser(argparse.ArgumentParser):
    """A parser with `--debug`, whose errors are one line; it keeps the line breaks of its help."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(**options)
        self.words: list[str] = []
        self.add_argument("--debug", action=_Debug, help=f"show tracebacks, as {DEBUG}=1 does")

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse; the parser that meets an unknown argument prints its own usage."""
        self.words = sys.argv[1:] if args is None else list(args)
        options, unknown = super().parse_known_args(self.words, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return options, unknown

    def error(self, message: str) -> NoReturn:
        """End with status 2."""
        line = " ".join(f"{message}{self._hint()}; {self.format_usage()}".split())
        self.exit(2, f"error: {line}\n")

    def _hint(self) -> str:
        """Return how to pass an argument that begins with `-`, as ids and texts may, or ""."""
        options = {option: action for action in self._actions for option in action.option_strings}
        takes_words = any(
            not action.option_strings and action.nargs != argparse.PARSER
            for action in self._actions
        )
        words = takewhile(lambda word: word != "--", self.words)
        for previous, word in pairwise(["", *words]):
            name = word.partition("=")[0]
            if (
                word[:1] != "-"
                or word == "-"
                or self._negative_number_matcher.match(word)
                or any(option.startswith(name) for option in options)
            ):
                continue
            if previous in options and options[previous].nargs is None:
                return f'; a value that begins with "-" needs "=": {previous}={shlex.quote(word)}'
            if takes_words:
                return (
                    '; what begins with "-" and is no option needs "--" before it: '
                    f"-- {shlex.quote(word)}"
                )
        return ""


class _Debug(argparse.Action):
    """Set the environment variable, which subprocesses inherit."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, *_: object) -> None:
        os.environ[DEBUG] = "1"


@contextmanager
def one_line(page: str, place: str = "") -> Iterator[None]:
    """End the program with one line and status 1 for an error inside that the user can fix.

    page: of docs/, for an error that names none. place: what was to run.
    """
    try:
        with errors.see(page):
            _check_environment()
            yield
    except Exception as error:
        if shows_traceback(error):
            raise
        sys.exit(errors.message(error, place))


def shows_traceback(error: BaseException) -> bool:
    """Return whether an error ends in a traceback: a defect does, with `--debug` any."""
    return not errors.fixable(error) or os.environ.get(DEBUG) == "1"


@errors.see("docs/experiments.md")
def _check_environment() -> None:
    """Refuse values that a library would misread, before it reads them."""
    variable(DEBUG, 0, {"0": 0, "1": 1}.__getitem__, "0 or 1")
    # OpenMP takes one number, or one per nesting level; any other value means all cores.
    variable("OMP_NUM_THREADS", [1], _each_whole, "a number of threads, 1 or more")


def variable(name: str, default: T, read: Callable[[str], T], permitted: str) -> T:
    """Return the value of an environment variable; the default where it is unset or empty.

    read: raises ValueError or KeyError for a value that is not permitted; this raises ParamsError.
    """
    text = os.environ.get(name, "")
    if not text:
        return default
    try:
        return read(text)
    except (KeyError, ValueError):
        raise errors.ParamsError(
            f"environment variable {name}: {text!r}; permitted: {permitted}"
        ) from None


def seconds(name: str, default: float) -> float:
    """Return an environment variable as seconds. Raises ParamsError."""

    def read(text: str) -> float:
        if not 0 <= float(text) < math.inf:
            raise ValueError(text)
        return float(text)

    return variable(name, default, read, "seconds, 0 or more")


def whole(name: str, default: int, low: int, high: int | None = None) -> int:
    """Return an environment variable as a whole number. Raises ParamsError."""
    range_ = f"a whole number, {low} or more" if high is None else f"{low} to {high}"
    return variable(name, default, lambda text: _whole(text, low, high), range_)


def _each_whole(text: str) -> list[int]:
    return [_whole(part, 1) for part in text.split(",")]


def _whole(text: str, low: int, high: int | None = None) -> int:
    number = int(text)
    if number < low or (high is not None and number > high):
        raise ValueError(text)
    return number
