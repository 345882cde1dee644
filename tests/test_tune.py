"""`make tune`: the candidates of a grid, and the choice among them."""

import difflib
import json
import math
import shutil

import numpy as np
import pytest
from dvc.utils.hydra import apply_overrides

from msabench import params, plan
from msabench.commands import tune
from msabench.errors import DataError, ParamsError
from msabench.networks.encoders import MPNET
from msabench.predictions import Predictions
from tests.test_plan import PARAMS

# Of base size; the folder of the record, and the key of the preset.
ENCODER = (MPNET, "pom_all-mpnet-base-v2", "pom_base")


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A folder with params.yaml, and below it the tree of the candidates, with its own."""
    monkeypatch.chdir(tmp_path)
    clone = tmp_path / "clone"
    clone.mkdir()
    shutil.copy(PARAMS, tmp_path)
    apply_overrides(tmp_path / "params.yaml", ["grids.svm.seeds=[1,2]"])
    tune.write_candidates("pom", "svm", clone / "params.yaml")
    return tmp_path


def test_the_candidates_are_all_combinations_and_the_only_other_runs(tree):
    written = params.load(tree / "clone/params.yaml")
    runs = plan.runs_of(written)
    grid = params.load(PARAMS).grids["svm"].model_extra or {}
    candidates = [run.config for run in runs.values() if run.stage == "tune"]
    expected = math.prod(len(values) for values in grid.values())
    assert len({json.dumps(config) for config in candidates}) == len(candidates) == expected
    assert {run.stage for run in runs.values()} == {"train", "tune"}
    assert all(run.seeds == (1, 2) for run in runs.values() if run.stage == "tune")
    needs_all = {tuple(c["modalities"]) for c in candidates if c.get("modalities_required")}
    assert needs_all == {("text",), ("audio",), ("vision",)}
    assert written.dataset == "pom"


def train(tree, errors):
    """Write predictions on validation with these errors, by the number of the candidate."""
    labels = np.zeros(2, np.float32)
    for number, by_seed in errors.items():
        for seed, error in by_seed.items():
            folder = tree / f"clone/predictions/tune{number}-{seed}"
            folder.mkdir(parents=True)
            predictions = Predictions(["a", "b"], labels, labels + np.float32(error))
            predictions.write(folder / "valid.csv")


@pytest.mark.parametrize(("encoder", "record", "key"), [("auto", "pom", "pom"), ENCODER])
def test_the_lowest_mean_error_on_validation_becomes_a_preset(tree, capsys, encoder, record, key):
    """Not one of a single seed, however good; the rest of the file stays, and so it does by -S.

    It beats the presets for encoders of its size.
    """
    apply_overrides(tree / "params.yaml", [f"text_encoder={encoder}"])
    train(tree, {2: {1: 0.2, 2: 0.8}, 3: {1: 0.4, 2: 0.5}, 5: {1: 0.1}})
    before = (tree / "params.yaml").read_text().splitlines()
    tune.choose("pom", "svm", tree / "clone")
    chosen = params.load(tree / "clone/params.yaml").tune.candidates["tune3"]
    after = params.load(tree / "params.yaml")
    assert after.presets[f"svm_{key}"] == chosen
    own = after.model_copy(update={"dataset": "pom"})
    config = plan.runs_of(own)["svm"].config
    assert config["modalities"] == chosen["modalities"]
    assert {key: config["network"][key] for key in ("C", "epsilon")} == {
        key: chosen[key] for key in ("C", "epsilon")
    }
    printed = capsys.readouterr().out
    assert printed.index("0.4500  ") < printed.index("0.5000  ")
    record = json.loads((tree / f"metrics/{record}/tune_svm.json").read_text())
    assert [row["valid_mae"] for row in record["candidates"]] == [0.45, 0.5]
    after = (tree / "params.yaml").read_text()
    assert not [line for line in difflib.ndiff(before, after.splitlines()) if line.startswith("- ")]
    apply_overrides(tree / "params.yaml", ["threads=1"])
    assert (tree / "params.yaml").read_text() == after


def test_nothing_trained_is_an_error(tree):
    train(tree, {1: {1: 0.3}})
    with pytest.raises(DataError, match="no candidate has predictions of all seeds"):
        tune.choose("pom", "svm", tree / "clone")


@pytest.mark.parametrize(
    ("dataset", "model", "message"),
    [
        ("mine", "svm", r"datasets: no 'mine'; permitted: simulated, mosei"),
        ("sims", "svn", r"grids: no 'svn'; permitted: svm, cnn"),
    ],
)
def test_an_unknown_name_is_an_error(tree, dataset, model, message):
    with pytest.raises(ParamsError, match=message):
        tune.write_candidates(dataset, model, tree / "clone/params.yaml")


@pytest.mark.parametrize("model", list(params.load(PARAMS).grids))
def test_every_grid_fits_its_model(tree, model):
    tune.write_candidates("pom", model, tree / "clone/params.yaml")
    runs = plan.runs_of(params.load(tree / "clone/params.yaml"))
    assert len([run for run in runs.values() if run.stage == "tune"]) > 1
