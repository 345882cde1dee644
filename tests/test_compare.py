"""`msabench compare`: the same models in two trees."""

import json
import shutil

import numpy as np
import pytest

from msabench import __main__ as program
from msabench.commands import compare
from msabench.evaluation import metrics, statistics
from msabench.predictions import Predictions
from tests.test_tables import MODELS, Tree


@pytest.fixture
def trees(tmp_path):
    """Two trees of the same data; in `after` the errors of ours are halved in every seed."""
    before = Tree(tmp_path / "before")
    before.write()
    shutil.copytree(tmp_path / "before", tmp_path / "after")
    for seed in before.plan["seeds"]:
        path = tmp_path / f"after/predictions/ours-{seed}/test.csv"
        run = Predictions.read(path)
        halved = run.labels + (run.predictions - run.labels) / 2
        Predictions(run.ids, run.labels, halved).write(path)
    return tmp_path / "after", tmp_path / "before"


def compared(tree, other, *arguments):
    file = tree.parent / "compared.json"
    program.main(["compare", str(tree), "--with", str(other), "--output", str(file), *arguments])
    return json.loads(file.read_text())


def test_metrics_are_those_of_the_summary():
    assert compare.METRICS == metrics.HEADLINE


def test_the_difference_is_that_of_the_same_models_on_the_same_videos(trees, capsys):
    tree, other = trees
    mae = compared(tree, other)["mae"]
    files = [[each / f"predictions/ours-{s}/test.csv" for s in (1, 2)] for each in (other, tree)]
    runs = [np.stack([Predictions.read(file).predictions for file in each]) for each in files]
    test = Predictions.read(tree / "predictions/ours-1/test.csv")
    videos = [name.partition("$_$")[0] for name in test.ids]
    replicates = [statistics.replicates(metrics.mae, test.labels, run, videos) for run in runs]
    expected = statistics.compare(dict(zip(("after", "before"), replicates[::-1], strict=True)), 12)
    row = mae["differences"]["ours"]
    for name, value in expected["pairs"]["after - before"].items():
        assert row[name] == pytest.approx(value, abs=1e-4) or name == "p_holm"
    assert row["low"] < row["difference"] < row["high"] < 0
    assert {name: row["difference"] for name, row in mae["differences"].items()} == dict.fromkeys(
        MODELS, 0
    ) | {"ours": row["difference"]}
    assert row["p_holm"] == pytest.approx(len(MODELS) * row["p"])
    printed = capsys.readouterr().out
    assert "| after - before" in printed
    assert f"{row['difference']:+.3f} (" in printed
    assert "self_mm - ours" in printed


@pytest.mark.usefixtures("capsys")
def test_a_model_without_predictions_in_a_tree_is_left_out(trees):
    tree, other = trees
    shutil.rmtree(other / "predictions/cnn-2")
    assert [*compared(tree, other)["corr"]["differences"]] == ["self_mm", "svm", "ours"]


def refused(*arguments):
    with pytest.raises(SystemExit) as status:
        program.main(["compare", *map(str, arguments)])
    message = status.value.code
    assert isinstance(message, str)
    assert "\n" not in message
    return message


def test_what_cannot_be_compared_is_refused(trees):
    tree, other = trees
    assert "a folder of the same name" in refused(tree, "--with", tree)
    assert "the pipeline has not run there" in refused(tree.parent, "--with", other)
    assert "nowhere/predictions is missing" in refused(tree, "--with", "nowhere")
    assert f"--output {tree}: " in refused(tree, "--with", other, "--output", tree)
    path = other / "predictions/svm-1/test.csv"
    path.write_text(path.read_text().replace("test0$_$0", "test0$_$9"))
    assert f"{path}: ids and labels are not those" in refused(tree, "--with", other)
    shutil.rmtree(other / "predictions")
    (other / "predictions").mkdir()
    assert "no model has predictions of all seeds" in refused(tree, "--with", other)
