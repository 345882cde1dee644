"""Labels of any range, from params.yaml through the real stages to tables, cards and commands."""

import json
import shutil

import numpy as np
import pytest

from msabench import inference, plan
from msabench.__main__ import main as command
from msabench.errors import DataError
from msabench.evaluation import metrics
from stages import cards, report, tables, train
from tests import trained_tree

pytestmark = pytest.mark.slow
NEVER = set(metrics.METRICS["mosei"]) - {"mae", "corr"}


def finished(place, bert, labels, **dataset):
    """Train on labels of this kind, and make tables, report and cards of it."""
    trained_tree.make(place, bert, 0, labels, **dataset)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for subset in plan.SUBSETS:
            train.main(f"svm-{subset}", 1)
        for stage in (tables, report, cards):
            stage.main()
    return place


@pytest.fixture(scope="module")
def binary(tmp_path_factory, tiny_bert):
    """Labels 0 and 1."""
    place = tmp_path_factory.mktemp("binary")
    return finished(place, tiny_bert, lambda labels: labels > 0, label_range=[0.0, 1.0])


@pytest.fixture(scope="module")
def likert(tmp_path_factory, tiny_bert):
    """Labels 1, 2 .. 7 about 4."""
    place = tmp_path_factory.mktemp("likert")
    scale = {"label_range": [1.0, 7.0], "neutral": 4.0}
    return finished(place, tiny_bert, lambda labels: np.rint(labels) + 4, **scale)


def read(tree, name):
    return json.loads((tree / name).read_text(encoding="utf-8"))


def test_labels_0_and_1_have_no_metric_of_signs_in_any_table(binary):
    for number in "26":
        rows = read(binary, f"metrics/table{number}.json").values()
        for row in rows:
            assert row["mae"] is not None
            assert {row[name] for name in NEVER} == {None}
    assert read(binary, "metrics/summary.json")["ours"]["f1"] is None
    assert ",\n" in (binary / "plots/data/table6.csv").read_text().replace("train_mean", "")


def test_a_sentence_in_tables_page_and_card_says_why(binary):
    why = "Acc and F1 are not defined: labels of 0 to 1 have no neutral point ("
    printed = (binary / "metrics/tables.md").read_text(encoding="utf-8")
    assert why in printed
    assert "nan" not in printed
    assert why in (binary / "plots/report.html").read_text(encoding="utf-8")
    card = (binary / "runs/cards/ours-1.md").read_text(encoding="utf-8")
    assert why in card
    assert "Labels: 0 to 1, no neutral point; nothing keeps" in card
    assert "0 to 1, no neutral point." in (binary / "runs/cards/data.md").read_text()


def test_labels_0_and_1_are_the_classes_of_histogram_and_confusion(binary):
    test = read(binary, "metrics/table1.json")["test"]
    assert list(test["labels"]) == ["0", "1"]
    assert sum(test["labels"].values()) == test["utterances"]
    lines = (binary / "plots/data/confusion/ours.csv").read_text().split()
    assert lines[0] == "actual,predicted"
    assert {value for line in lines[1:] for value in line.split(",")} <= {"0", "1"}


def test_labels_1_to_7_about_4_have_every_metric(likert):
    for name, row in read(likert, "metrics/table6.json").items():
        constant = {"corr", "valid_corr"} if name.startswith("train_") else set()
        defined = {*metrics.METRICS["mosei"], "valid_acc_2", "valid_f1"} - constant - {"f1_pos"}
        assert None not in {row[metric] for metric in defined}
        assert {row[metric] for metric in constant} <= {None}
    printed = (likert / "metrics/tables.md").read_text(encoding="utf-8")
    assert "Acc and F1 are not defined" not in printed
    assert "corr is not defined without labels and predictions that vary." in printed
    assert "Labels: 1 to 7, neutral at 4;" in (likert / "runs/cards/ours-1.md").read_text()


def test_labels_1_to_7_are_the_classes_of_histogram_and_confusion(likert):
    counts = read(likert, "metrics/table1.json")["all"]["labels"]
    assert {*counts} <= {*"1234567"}
    assert min(counts.values()) > 0
    assert sum(counts.values()) == sum(trained_tree.SIZES.values())


@pytest.mark.parametrize("model", ["self_mm", "ours"])
def test_each_run_holds_the_scale_that_it_learned(binary, likert, model):
    assert read(binary, f"runs/{model}-1/run.json")["labels"] == {
        "range": [0.0, 1.0],
        "neutral": None,
    }
    assert read(likert, f"runs/{model}-1/run.json")["labels"]["neutral"] == 4.0


def test_predict_and_explain_name_no_class_without_a_neutral_point(binary, monkeypatch, capsys):
    monkeypatch.chdir(binary)
    for arguments in (["predict", "the film was good"], ["explain"]):
        arguments += ["--run", "runs/svm"]
        command([*arguments, "--json"])
        shown = capsys.readouterr()
        assert json.loads(shown.out)["class"] is None
        assert (
            "note: no class: labels of 0 to 1 have no neutral point (`neutral` of the data set in "
            "params.yaml)\n"
        ) in shown.err
        command(arguments)
        shown = capsys.readouterr()
        assert not {"positive", "negative"} & {*shown.out.replace("(", " ").split()}
        assert "-" in shown.out.replace("(-)", "-").split()


def test_the_class_is_the_side_of_the_neutral_point(likert, monkeypatch, capsys):
    monkeypatch.chdir(likert)
    command(["explain", "--run", "runs/svm", "--json"])
    shown = capsys.readouterr()
    actual = json.loads(shown.out)
    side = round(actual["prediction"]["mean"], 2) - 4
    expected = "positive" if side > 0 else "negative" if side < 0 else "neutral"
    assert actual["class"] == expected
    assert "no class" not in shown.err
    command(["predict", "--run", "runs/svm-1", "good", "bad", "--json"])
    for line in capsys.readouterr().out.splitlines():
        row = json.loads(line)
        assert (row["class"] == "positive") == (round(row["prediction"], 2) > 4)


def test_a_run_without_the_scale_of_its_labels_is_damaged(likert, tmp_path):
    shutil.copytree(likert / "runs/svm-1", tmp_path / "runs/svm-1")
    file = tmp_path / "runs/svm-1/run.json"
    content = json.loads(file.read_text())
    del content["labels"]
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"svm-1: damaged, or of another version \('labels'\)"):
        inference.load(tmp_path / "runs/svm-1")
