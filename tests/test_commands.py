"""`msabench`: what a person types and reads."""

import argparse
import csv
import io
import json
import os
import re
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import msabench
from msabench import __main__ as program
from msabench import commands, errors
from msabench.commands import _notes, _table
from msabench.errors import DataError
from msabench.labels import MOSEI, LabelScale
from msabench.predictions import Predictions
from msabench.utterances import Utterances
from tests import trained_tree

NAMES = list(commands.load())
NO_FRAMES = (
    "note: no audio and no vision given: the mean frame of the training data is read; the model "
    "was trained without modality dropout\n"
)
INSTALLED = Path(sysconfig.get_path("scripts"), "msabench")


@pytest.fixture(scope="module")
def tree(trained_with):
    return trained_with(1)


@pytest.fixture
def run(tree, capsys, monkeypatch):
    """Run a command in the tree; return what it prints."""
    monkeypatch.chdir(tree)

    def run(*arguments):
        program.main([str(argument) for argument in arguments])
        return capsys.readouterr().out

    return run


@pytest.fixture
def fails(run, capsys):
    """Run a command that must fail; return its status and the one line it says."""

    def fails(*arguments):
        with pytest.raises(SystemExit) as stopped:
            run(*arguments)
        if isinstance(stopped.value.code, str):
            return 1, stopped.value.code
        return stopped.value.code, capsys.readouterr().err.splitlines()[-1]

    return fails


def python(*arguments, **options):
    environment = os.environ | {"PYTHONPATH": str(trained_tree.ROOT / "src")}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, **options)


def test_help_lists_each_command_and_its_first_line(capsys):
    with pytest.raises(SystemExit) as stopped:
        program.main(["--help"])
    assert stopped.value.code == 0
    shown = " ".join(capsys.readouterr().out.split()).lower()
    assert {"explain", "predict"} <= set(NAMES)
    for name, command in commands.load().items():
        assert f"{name} {command.__doc__.splitlines()[0].rstrip('.').lower()}" in shown


@pytest.mark.parametrize("name", NAMES)
def test_the_help_of_a_command_has_examples_that_parse(name, capsys):
    with pytest.raises(SystemExit):
        program.main([name, "--help"])
    shown = capsys.readouterr().out
    examples = re.findall(r"(?<!\S)msabench (.*?)(?: \||$)", shown.split("xamples:")[1], re.M)
    assert examples
    for example in examples:
        options = program._parser().parse_args(shlex.split(example))
        assert options.main is commands.load()[name].main


def test_help_needs_no_slow_import():
    code = (
        "import sys; from msabench.__main__ import _parser; _parser().format_help(); "
        "print({'torch', 'transformers', 'numpy', 'pydantic'} & set(sys.modules))"
    )
    assert python("-c", code).stdout == "set()\n"


@pytest.mark.parametrize("program", [[INSTALLED], [sys.executable, "-m", "msabench"]])
def test_the_package_is_a_program(program):
    """It names itself `msabench`, whichever way it is started."""
    result = subprocess.run([*program, "predict"], capture_output=True, text=True)
    assert result.returncode == 2
    assert "; usage: msabench predict [-h] [--debug] --run RUN " in result.stderr
    assert result.stdout == ""


def one_command(monkeypatch, main):
    """Replace all commands by one, `act`."""

    def arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--what")

    act = SimpleNamespace(
        __doc__="Act.\n\nMore.", PAGE="docs/data.md", arguments=arguments, main=main
    )
    monkeypatch.setattr(commands, "load", lambda: {"act": act})


@pytest.mark.parametrize("error", [DataError, FloatingPointError, MemoryError])
def test_an_error_of_the_input_is_one_line(error, monkeypatch):
    def main(_):
        raise error("what\nis wrong")

    one_command(monkeypatch, main)
    with pytest.raises(SystemExit) as stopped:
        program.main(["act"])
    assert str(stopped.value.code).startswith("error: what is wrong (docs/")


@pytest.mark.parametrize("error", [AttributeError, OSError, ConnectionError])
def test_an_error_of_ours_is_not_hidden(error, monkeypatch):
    def main(_):
        raise error("a defect")

    one_command(monkeypatch, main)
    with pytest.raises(error):
        program.main(["act"])


@pytest.mark.parametrize("arguments", [["act", "--debug"], ["--debug", "act"]])
def test_debug_shows_the_traceback_of_any_error(arguments, monkeypatch):
    def main(_):
        raise DataError("wrong")

    one_command(monkeypatch, main)
    monkeypatch.setenv("MSABENCH_DEBUG", "")
    with pytest.raises(DataError):
        program.main(arguments)


def test_an_error_names_the_page_of_where_it_arose(monkeypatch):
    @errors.see("docs/systems.md")
    def main(_):
        raise DataError("wrong")

    one_command(monkeypatch, main)
    with pytest.raises(SystemExit, match=r"^error: wrong \(docs/systems.md\)$"):
        program.main(["act"])


def test_ctrl_c_is_the_status_of_a_shell(monkeypatch):
    def main(_):
        raise KeyboardInterrupt

    one_command(monkeypatch, main)
    with pytest.raises(SystemExit) as stopped:
        program.main(["act"])
    assert stopped.value.code == 130


@pytest.mark.parametrize("arguments", [[], ["no_such_command"], ["act", "--no-such-option"]])
def test_wrong_usage_is_status_2(arguments, monkeypatch, capsys):
    one_command(monkeypatch, print)
    with pytest.raises(SystemExit) as stopped:
        program.main(arguments)
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert "; usage: msabench " in line


def test_a_reader_that_stops_is_no_error():
    """`explain --list | head -1`, with more lines than a pipe holds."""
    code = (
        "from msabench import __main__, commands; from types import SimpleNamespace as S; "
        "commands.load = lambda: {'act': S(__doc__='Act.', PAGE='', arguments=lambda p: None, "
        "main=lambda o: [print('x' * 1000) for _ in range(1000)])}; __main__.main(['act'])"
    )
    environment = os.environ | {"PYTHONPATH": str(trained_tree.ROOT / "src")}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.readline()
        child.stdout.close()
        assert child.stderr.read() == b""
    assert child.returncode == 141


def test_predict_shows_texts_with_spread_and_class(run, tree):
    texts = ["the film was very good", "bad  film"]
    actual = run("predict", "--run", "runs/ours", *texts)
    by_seed = msabench.load(tree / "runs/ours").predict_each(texts)
    lines = actual.splitlines()
    assert re.split(r"\s{2,}", lines[0]) == ["prediction", "class", "text"]
    for line, seeds, text in zip(lines[1:], by_seed.T, texts, strict=True):
        prediction, sign, shown = re.split(r"\s{2,}", line)
        assert prediction == f"{seeds.mean():+.2f} ± {seeds.std(ddof=1):.2f}"
        assert sign == ("neutral", "positive", "negative")[int(np.sign(seeds.mean().round(2)))]
        assert shown == " ".join(text.split())


def test_predict_as_json(run, tree):
    """Each line is one object, with all digits; one seed has no spread, all read no notes."""
    texts = ["very good", 'a "quote" and 好']
    actual = [
        json.loads(line)
        for line in run("predict", "--run", "runs/cnn", *texts, "--json").splitlines()
    ]
    by_seed = msabench.load(tree / "runs/cnn").predict_each(texts)
    assert [row["text"] for row in actual] == texts
    keys = ["text", "prediction", "class", "spread"]
    assert [list(row) for row in actual] == [keys, [*keys, "notes"]]
    np.testing.assert_allclose(
        [row["prediction"] for row in actual], by_seed.mean(axis=0), atol=1e-7
    )
    np.testing.assert_allclose(
        [row["spread"] for row in actual], by_seed.std(axis=0, ddof=1), atol=1e-7
    )
    (one,) = run("predict", "--run", "runs/cnn-2", texts[0], "--json").splitlines()
    assert list(json.loads(one)) == ["text", "prediction", "class"]
    assert json.loads(one)["prediction"] == pytest.approx(by_seed[1, 0], abs=1e-6)


def test_predict_reads_lines(run, monkeypatch):
    given = "\ufeffthe film\r\nvery good\n".encode()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(given)))
    lines = run("predict", "--run", "runs/svm", "-", "--json")
    assert lines == run("predict", "--run", "runs/svm", "the film", "very good", "--json")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (b"\n \n", "line 1 of the input: nothing is given; this run reads text, "),
        (b"", "no utterance is given"),
        (
            "good\n\ufeffIt\N{RIGHT SINGLE QUOTATION MARK}s\n".encode("utf-8-sig")
            + "caf\xe9 \n".encode("cp1252"),
            "1 of 3 utterances not predicted: line 3 of the input is not UTF-8: byte 4 of it is ",
        ),
    ],
)
def test_predict_refuses_bad_lines(fails, monkeypatch, given, message):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(given)))
    status, line = fails("predict", "--run", "runs/svm", "-")
    assert status == 1
    assert line.startswith(f"error: {message}")


@pytest.fixture
def table(tree, tmp_path):
    """Write the test split as a csv, with its frames in files; return the csv and the split."""
    split = Utterances.load(tree / "data/prepared/test")
    for modality in ("audio", "vision"):
        (tmp_path / modality).mkdir()
        for i in range(len(split)):
            np.save(tmp_path / modality / f"{i}.npy", trained_tree.frames(split, modality, i))
    rows = [
        {"id": id, "text": text, "audio": f"audio/{i}.npy", "vision": f"vision/{i}.npy"}
        for i, (id, text) in enumerate(zip(split.ids, split.texts, strict=True))
    ]

    def write(changes=lambda rows: rows, encoding="utf-8"):
        changed = changes(rows)
        file = tmp_path / "clips.csv"
        with file.open("w", encoding=encoding, newline="") as stream:
            writer = csv.DictWriter(stream, list(changed[0]))
            writer.writeheader()
            writer.writerows(changed)
        return file

    write.split = split  # type: ignore[attr-defined]
    return write


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_predict_reads_a_csv(run, tree, table, encoding):
    file = table(encoding=encoding)
    expected = Predictions.read(tree / "predictions/ours-1/test.csv")
    rows = [
        json.loads(line)
        for line in run("predict", "--run", "runs/ours-1", "--csv", file, "--json").splitlines()
    ]
    assert [row["id"] for row in rows] == expected.ids
    np.testing.assert_allclose([row["prediction"] for row in rows], expected.predictions, atol=1e-5)
    lines = run("predict", "--run", "runs/ours-1", "--csv", file).splitlines()
    assert re.split(r"\s{2,}", lines[0]) == ["prediction", "class", "id", "text"]
    assert re.split(r"\s{2,}", lines[3])[2:] == [table.split.ids[2], table.split.texts[2]]


def test_predict_for_one_utterance_with_frames(run, table, tmp_path):
    table()
    frames = {f"--{name}": tmp_path / name / "4.npy" for name in ("audio", "vision")}
    options = [part for pair in frames.items() for part in pair]
    text = table.split.texts[4]
    actual = run("predict", "--run", "runs/ours", "--text", text, *options, "--json")
    file = table(lambda rows: rows[4:5])
    assert (
        json.loads(actual).items()
        < json.loads(run("predict", "--run", "runs/ours", "--csv", file, "--json")).items()
    )


def changed(**cells):
    """The same rows, with other cells in the second, which is line 3."""
    return lambda rows: [rows[0], rows[1] | cells, *rows[2:]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (changed(audio="no.npy"), "line 3: audio: {folder}/no.npy: missing"),
        (
            changed(audio="vision/1.npy"),
            "line 3: audio {folder}/vision/1.npy: 4 features in a frame; this run reads 5",
        ),
        (
            changed(text="", audio="", vision=""),
            "line 3: nothing is given; this run reads text, audio, vision",
        ),
    ],
)
def test_a_bad_row_of_a_csv_stops_no_other(run, table, tmp_path, capsys, changes, message):
    expected = [json.loads(line) for line in run_csv(run, table(lambda rows: rows[:3]))]
    file = table(lambda rows: changes(rows)[:3])
    with pytest.raises(SystemExit) as stopped:
        run("predict", "--run", "runs/ours-1", "--csv", file, "--json")
    actual = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["id"] for row in actual] == [expected[0]["id"], expected[2]["id"]]
    for row, same in zip(actual, (expected[0], expected[2]), strict=True):
        assert row["prediction"] == pytest.approx(same["prediction"], abs=1e-5)
    reason = f"{file}: {message.format(folder=tmp_path)}"
    printed = f"error: 1 of 3 utterances not predicted: {reason} (docs/use.md)"
    assert stopped.value.code == printed


def run_csv(run, file):
    return run("predict", "--run", "runs/ours-1", "--csv", file, "--json").splitlines()


def test_a_row_with_a_wrong_number_of_fields_stops_no_other(run, tmp_path, capsys):
    file = tmp_path / "clips.csv"
    file.write_text("id,text\n1,good\n2\n3,bad\n4,not, good\n\n5,very bad\n6\n7,\n")
    with pytest.raises(SystemExit) as stopped:
        run("predict", "--run", "runs/svm-1", "--csv", file, "--json")
    assert [json.loads(row)["id"] for row in capsys.readouterr().out.splitlines()] == [
        "1",
        "3",
        "5",
    ]
    misfit = "the row does not have 2 fields like the first line"
    assert stopped.value.code == (
        f"error: 4 of 7 utterances not predicted: {file}: line 3: {misfit}; "
        f"{file}: line 5: {misfit}; {file}: line 8: {misfit}; ... (docs/use.md)"
    )


def test_where_no_row_can_be_read_the_first_is_named(fails, tmp_path):
    file = tmp_path / "clips.csv"
    file.write_text("id,text\n1\n2,\n")
    misfit = "the row does not have 2 fields like the first line"
    message = f"error: {file}: line 2: {misfit} (docs/use.md)"
    assert fails("predict", "--run", "runs/svm-1", "--csv", file) == (1, message)


def test_a_line_or_text_without_anything_stops_no_other(run, monkeypatch, capsys):
    given = io.BytesIO(b"good\n\nbad\n")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=given))
    tables = {}
    for texts, name in ((["-"], "line 2 of the input"), (["good", " ", "bad"], "text 2")):
        with pytest.raises(SystemExit) as stopped:
            run("predict", "--run", "runs/svm-1", *texts)
        reason = f"{name}: nothing is given; this run reads text, audio, vision"
        printed = f"error: 1 of 3 utterances not predicted: {reason} (docs/use.md)"
        assert stopped.value.code == printed
        tables[name] = capsys.readouterr().out
    assert [row.split()[-1] for row in tables["text 2"].splitlines()] == ["text", "good", "bad"]
    assert len(set(tables.values())) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"id,txt\n1,good\n", "no column text or audio or vision; found: ['id', 'txt']"),
        (b"id,text\n1,good\n2,caf\xe9 \n", "not UTF-8"),
        (b'id,text\n1,good\n2,"bad\n', "unexpected end of data"),
    ],
)
def test_predict_refuses_what_is_no_csv_as_a_whole(fails, tmp_path, content, message):
    (tmp_path / "a.csv").write_bytes(content)
    status, line = fails("predict", "--run", "runs/ours-1", "--csv", tmp_path / "a.csv")
    assert status == 1
    assert line.startswith(f"error: {tmp_path / 'a.csv'}: ")
    assert message in line


@pytest.mark.parametrize("words", [80, 1700])
def test_predict_notes_what_is_not_read_of_a_text(run, capsys, words):  # noqa: ARG001
    program.main(["predict", "--run", "runs/svm-1", "good " * words])
    assert (
        capsys.readouterr().err
        == f"{NO_FRAMES}note: tokens beyond the first 6, not read: text 1 ({words - 4:,})\n"
    )


def test_predict_notes_unknown_tokens_in_the_first_few_of_many(run, capsys):
    texts = ["good 😂", "bad", "好 😂", "very good", "好", "好", "film"]
    rows = [
        json.loads(row)
        for row in run("predict", "--run", "runs/svm-1", *texts, "--json").splitlines()
    ]
    notes = [row.get("notes") for row in rows]
    assert notes == [{"tokens_unknown": n} if n else None for n in (1, 0, 2, 0, 1, 1, 0)]
    program.main(["predict", "--run", "runs/svm-1", *texts])
    assert capsys.readouterr().err == (
        f"{NO_FRAMES}note: tokens that the text encoder does not know: 4 of 7 utterances: "
        "text 1 (1), text 3 (2), text 5 (1), ...\n"
    )


def test_predict_notes_frames_that_were_repaired(run, table, capsys, tmp_path):
    frames = np.array(table.split.sequences["audio"][0])
    frames[0, :3] = np.nan, np.inf, -np.inf
    np.save(tmp_path / "bad.npy", frames)
    np.save(tmp_path / "none.npy", np.zeros((0, 4)))
    rows = [
        {"text": "bad", "audio": "", "vision": "vision/0.npy"},
        {"text": "good", "audio": "bad.npy", "vision": "none.npy"},
        {"text": "", "audio": "audio/0.npy", "vision": "vision/0.npy"},
        {"text": "film", "audio": "audio/0.npy", "vision": "vision/0.npy"},
    ]
    file = table(lambda _: rows)
    actual = [json.loads(row) for row in run_csv(run, file)]
    assert [row.get("notes") for row in actual] == [
        {"audio_imputed": 1},
        {"audio_not_finite": 3, "vision_missing": 1},
        {"text_missing": 1},
        None,
    ]
    program.main(["predict", "--run", "runs/ours-1", "--csv", str(file)])
    assert capsys.readouterr().err.splitlines() == [
        "note: audio not given, replaced by the mean frame of the training data: 1 of 4 "
        f"utterances: {file}: line 2",
        "note: values of audio that are not finite, set to 0: 1 of 4 utterances: "
        f"{file}: line 3 (3)",
        "note: vision without frames, or of zeros alone, replaced as if not given: 1 of 4 "
        f"utterances: {file}: line 3",
        f"note: text without a token: 1 of 4 utterances: {file}: line 4",
    ]


def test_predict_says_what_no_utterance_has(run, table, capsys):
    """In one note, and not for each utterance; `run` trained without `missing`."""
    file = table(lambda _: [{"audio": f"audio/{i}.npy"} for i in (0, 2)])
    rows = [json.loads(row) for row in run_csv(run, file)]
    assert not any("notes" in row for row in rows)
    program.main(["predict", "--run", "runs/ours-1", "--csv", str(file)])
    assert capsys.readouterr().err == (
        "note: no text given: an empty text is read; no vision given: the mean frame of the "
        "training data is read; the model was trained without modality dropout\n"
    )


@pytest.mark.parametrize(
    ("missing", "trained"),
    [(None, "without"), ({"absent": 0.0}, "without"), ({"absent": 0.2}, "with")],
)
def test_a_model_is_trained_for_absent_modalities_by_modality_dropout(missing, trained, capsys):
    losses = [{"audio_imputed": 1}, {"audio_imputed": 1, "vision_imputed": 1, "text_missing": 1}]
    _notes.note_absent(losses, {"schedule": {"missing": missing}})
    assert capsys.readouterr().err == (
        "note: no audio given: the mean frame of the training data is read; the model was "
        f"trained {trained} modality dropout\n"
    )
    _notes.note_absent([{"audio_imputed": 1}, {}], {})
    assert capsys.readouterr().err == ""


def test_every_kind_of_loss_has_a_meaning():
    kinds = ["tokens_cut", "tokens_unknown", "text_missing", "text_unread"]
    kinds += [f"audio_{kind}" for kind in ("not_finite", "missing", "imputed")]
    _notes.print_notes(["a"], [dict.fromkeys(kinds, 1)], 50)


def test_predict_refuses_an_empty_csv(fails, tmp_path):
    (tmp_path / "a.csv").write_text("text\n")
    message = f"error: {tmp_path / 'a.csv'}: no row after the first line; at least 1 is needed"
    message += " (docs/use.md)"
    assert fails("predict", "--run", "runs/svm", "--csv", tmp_path / "a.csv") == (1, message)


def test_predict_tells_of_columns_that_it_does_not_read(run, table, capsys):  # noqa: ARG001
    """A misspelt one would otherwise be a modality that silently is not given."""
    file = table(lambda rows: [{"text": "good", "vison": row["vision"]} for row in rows])
    program.main(["predict", "--run", "runs/svm-1", "--csv", str(file)])
    unread = f"note: {file}: not read: vison; read: id, text, audio, vision\n"
    assert capsys.readouterr().err == unread + NO_FRAMES


@pytest.mark.parametrize("given", [[], ["good", "--csv", "a.csv"], ["good", "--text", "bad"]])
def test_predict_wants_utterances_in_one_way(fails, given):
    status, line = fails("predict", "--run", "runs/ours", *given)
    assert status == 2
    message = "error: give texts, or --text, --audio and --vision, or --csv; one of these; usage: "
    assert line.startswith(message)


def test_predict_reads_texts_that_begin_with_a_dash(run, fails):
    texts = ["-meh", "-hmm, not good", "--weird"]
    lines = run("predict", "--run", "runs/svm", "--json", "--", *texts).splitlines()
    assert [json.loads(line)["text"] for line in lines] == texts
    assert run("predict", "--run", "runs/svm", "--json", "--text=-meh") == f"{lines[0]}\n"
    status, line = fails("predict", "--run", "runs/svm", "-meh")
    assert status == 2
    assert "-- -meh; usage: msabench predict " in line
    status, line = fails("predict", "--run", "runs/svm", "--text", "-meh")
    assert status == 2
    assert "--text=-meh; usage: msabench predict " in line


def test_explain_takes_an_id_that_begins_with_a_dash(fails):
    id = "-3g5yACwYnA$_$0"
    status, line = fails("explain", "--run", "runs/svm", id)
    assert status == 2
    assert f"-- '{id}'; usage: msabench explain " in line
    status, line = fails("explain", "--run", "runs/svm", "--", id)
    assert status == 1
    assert line.startswith(f"error: {id!r} is no utterance of the test split")


def test_a_run_that_is_not_there(fails):
    for name in ("predict", "explain"):
        status, line = fails(name, "--run", "runs/none", *["good"] * (name == "predict"))
        assert status == 1
        assert line.startswith("error: runs/none: no such run; in runs there are: ")


def test_explain_shows_the_worst_by_default(run, tree):
    expected = [Predictions.read(tree / f"predictions/ours-{seed}/test.csv") for seed in (1, 2)]
    errors = np.abs(np.mean([one.predictions for one in expected], axis=0) - expected[0].labels)
    worst, best = (expected[0].ids[i] for i in (errors.argmax(), errors.argmin()))
    split = Utterances.load(tree / "data/prepared/test")
    shown = run("explain", "--run", "runs/ours")
    assert shown == run("explain", "--run", "runs/ours", "--worst")
    assert shown == run("explain", "--run", "runs/ours", worst)
    assert shown.splitlines()[0] == split.texts[split.ids.index(worst)]
    assert shown.splitlines()[2].split() == ["id", worst]
    assert re.search(r"^[+-]\d\.\d\d ± \d\.\d\d  vision$", shown, re.M)
    assert len(re.findall(r"^-?\d\.\d\d +[+-]\d\.\d\d  video0_", shown, re.M)) == 5
    actual = json.loads(run("explain", "--run", "runs/ours", "--best", "--json"))
    assert actual["id"] == best
    assert abs(actual["prediction"]["mean"] - actual["label"]) == pytest.approx(
        errors.min(), abs=1e-5
    )
    assert list(actual["contributions"]) == ["text", "audio", "vision"]
    assert list(actual["nearest"][0]) == ["id", "similarity", "label", "text"]


def test_explain_notes_what_is_not_read_of_the_text(run, tree, capsys):
    """Texts of the tree have 1 to 8 words; 6 tokens are read, 2 of which are marks."""
    split = Utterances.load(tree / "data/prepared/test")
    lengths = [ragged.lengths for ragged in split.sequences.values()]
    whole = np.flatnonzero(np.min(lengths, axis=0))  # others have a note of their own
    words = [len(split.texts[i].split()) for i in whole]
    longest, shortest = (split.ids[whole[words.index(n)]] for n in (max(words), min(words)))
    assert max(words) > 4 >= min(words)
    lost = max(words) - 4
    (actual,) = run("explain", "--run", "runs/ours-1", longest, "--json").splitlines()
    assert json.loads(actual)["notes"] == {"tokens_cut": lost}
    program.main(["explain", "--run", "runs/ours-1", longest])
    note = f"note: tokens beyond the first 6, not read: {longest} ({lost})\n"
    assert capsys.readouterr().err == note
    program.main(["explain", "--run", "runs/ours-1", shortest, "--json"])
    shown = capsys.readouterr()
    assert "notes" not in json.loads(shown.out)
    assert shown.err == ""


def test_explain_lists_ids_from_the_largest_error(run, tree):
    expected = Predictions.read(tree / "predictions/svm-1/test.csv").by_error()
    lines = run("explain", "--run", "runs/svm-1", "--list").splitlines()
    assert lines[0].split() == ["label", "prediction", "error", "id"]
    assert [line.split()[-1] for line in lines[1:]] == expected.ids
    rows = [
        json.loads(line)
        for line in run("explain", "--run", "runs/svm-1", "--list", "--json").splitlines()
    ]
    assert [row["id"] for row in rows] == expected.ids


def test_explain_refuses_other_data(fails, tree):
    file = tree / "data/prepared/sha256.json"
    before = file.read_text()
    file.write_text("{}")
    try:
        status, line = fails("explain", "--run", "runs/svm")
    finally:
        file.write_text(before)
    assert status == 1
    assert "not the data that runs/svm-1 was trained on" in line


def test_classes_are_the_signs_of_what_is_shown():
    values = [-1.0, -0.006, -0.004, 0.0, 0.004, 0.006, 2.5]
    assert [_table.polarity(value, MOSEI) for value in values] == ["negative"] * 2 + [
        "neutral"
    ] * 3 + ["positive"] * 2


def test_a_table_is_aligned_and_cut_to_the_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setenv("COLUMNS", "30")
    rows = [("a", "+1.00 ± 0.10", "long " * 9), ("好好", "-", "好" * 40), ("é", "+2", "short")]
    actual = _table.table(["id", "n", "text"], rows).splitlines()
    assert actual == [
        "id    n             text",
        "a     +1.00 ± 0.10  long long…",
        "好好  -             好好好好…",
        "é     +2            short",
    ]


def test_without_a_terminal_nothing_is_cut():
    assert _table.table(["text"], [("word " * 300,)]).splitlines()[1] == ("word " * 300).strip()


def test_a_text_steers_no_terminal():
    assert _table.one_line("a\x1b[2Jb\n\tc\ud800") == "a�[2Jb c�"


@pytest.mark.parametrize(
    ("scale", "value", "shown", "side"),
    [
        (MOSEI, 0.004, "+0.00", "neutral"),
        (LabelScale(-0.01, 0.01, 0.0), 0.004, "+0.0040", "positive"),
        (LabelScale(1.0, 5.0, 3.0), 1.0, "1.00", "negative"),
        (LabelScale(0.0, 100.0, None), 7.0, "7.00", None),
    ],
)
def test_a_sentiment_is_shown_as_the_range_of_its_labels_needs(scale, value, shown, side):
    assert _table.sentiment(value, scale=scale) == shown
    assert _table.polarity(value, scale) == side
