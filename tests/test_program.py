"""What all programs share: arguments that begin with `-`, environment variables, `--debug`."""

import os

import pytest

from msabench import program
from msabench.errors import DataError, ParamsError


@pytest.fixture
def parser():
    result = program.Parser(prog="act")
    result.add_argument("--text")
    result.add_argument("--json", action="store_true")
    result.add_argument("words", nargs="*")
    return result


def refused(parser, capsys, *arguments):
    """Return the one line that a parser says."""
    with pytest.raises(SystemExit) as stopped:
        parser.parse_args(arguments)
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert line.endswith("; usage: act [-h] [--debug] [--text TEXT] [--json] [words ...]")
    return line


@pytest.mark.parametrize("word", ["-3g5yACwYnA$_$0", "-meh", "-hmm, not good", "--weird", "-h1"])
def test_what_begins_with_a_dash_is_told_of_two_dashes(parser, capsys, word):
    line = refused(parser, capsys, word)
    assert '; what begins with "-" and is no option needs "--" before it: -- ' in line
    assert parser.parse_args(["--json", "--", word]).words == [word]


def test_a_value_that_begins_with_a_dash_is_told_of_the_equals_sign(parser, capsys):
    line = refused(parser, capsys, "--text", "-meh$")
    assert """; a value that begins with "-" needs "=": --text='-meh$'""" in line
    assert parser.parse_args(["--text=-meh$"]).text == "-meh$"


@pytest.mark.parametrize("arguments", [["--text"], ["--json=1"], ["--json=1", "--", "-meh"]])
def test_other_wrong_usage_is_told_of_neither(parser, capsys, arguments):
    assert "begins" not in refused(parser, capsys, *arguments)


def test_a_parser_without_words_tells_of_no_dashes(capsys):
    with pytest.raises(SystemExit):
        program.Parser().parse_args(["-x"])
    assert "begins" not in capsys.readouterr().err


def test_a_message_of_several_lines_becomes_one(parser, capsys):
    assert "unrecognized arguments: --a b;" in refused(parser, capsys, "--a\nb")


@pytest.fixture
def unset(monkeypatch):
    """Let each variable be as it was before, whatever a test sets."""
    monkeypatch.setenv(program.DEBUG, "")


@pytest.mark.usefixtures("unset")
def test_debug_is_an_environment_variable_too(parser):
    """So that what the program starts shows its tracebacks as well."""
    assert "debug" not in vars(parser.parse_args(["a", "--debug"]))
    assert os.environ[program.DEBUG] == "1"


def ends(error):
    """Return how a program ends by an error: its one line, or the error itself."""
    try:
        with program.one_line("docs/data.md"):
            raise error
    except SystemExit as stop:
        return stop.code
    except Exception as raised:
        return raised


@pytest.mark.parametrize("off", [None, "", "0"])
def test_an_error_is_one_line(off, monkeypatch):
    monkeypatch.delenv(program.DEBUG, raising=False)
    if off is not None:
        monkeypatch.setenv(program.DEBUG, off)
    assert ends(DataError("a")) == "error: a (docs/data.md)"
    assert isinstance(ends(OSError("a bug")), OSError)


def test_with_debug_any_error_shows_its_traceback(monkeypatch):
    monkeypatch.setenv(program.DEBUG, "1")
    assert isinstance(ends(DataError("a")), DataError)
    assert program.shows_traceback(DataError("a"))


@pytest.mark.parametrize("value", ["yes", "2", "-1", " "])
def test_another_value_of_debug_is_refused(value, monkeypatch):
    monkeypatch.setenv(program.DEBUG, value)
    line = f"error: environment variable {program.DEBUG}: {value!r}; permitted: 0 or 1"
    assert ends(None) == f"{line} (docs/experiments.md)"


@pytest.mark.parametrize("value", ["0", "-1", "abc", "1.5", "4,", "4,x", "auto"])
def test_a_senseless_number_of_threads_is_refused(value, monkeypatch):
    """Libraries would take all cores."""
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert f"OMP_NUM_THREADS: {value!r}; permitted: a number of threads, 1 or more" in ends(None)


@pytest.mark.parametrize("value", ["", "1", "4,2"])
def test_numbers_of_threads(value, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    with program.one_line("docs/data.md"):
        pass


@pytest.mark.parametrize("value", ["abc", "-1", "nan", "inf", "1e999"])
def test_senseless_seconds_are_refused(value, monkeypatch):
    monkeypatch.setenv("PAUSE", value)
    with pytest.raises(ParamsError, match=f"PAUSE: '{value}'; permitted: seconds, 0 or more"):
        program.seconds("PAUSE", 10.0)


def test_numbers_of_the_environment(monkeypatch):
    monkeypatch.setenv("PAUSE", "")
    assert (program.seconds("PAUSE", 10.0), program.whole("PAUSE", 3, 1)) == (10.0, 3)
    monkeypatch.setenv("PAUSE", "2")
    assert (program.seconds("PAUSE", 10.0), program.whole("PAUSE", 3, 1, 2)) == (2.0, 2)
    for value, permitted in (
        ("3", "1 to 2"),
        ("0", "1 to 2"),
        ("two", "1 to 2"),
        ("1.0", "1 to 2"),
    ):
        monkeypatch.setenv("PAUSE", value)
        with pytest.raises(ParamsError, match=f"PAUSE: '{value}'; permitted: {permitted}"):
            program.whole("PAUSE", 3, 1, 2)
