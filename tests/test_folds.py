"""Cross-validation by video, through the stages: who is trained on whom, and what is said of it."""

import argparse
import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from msabench import folds, hashes, inference, runs
from msabench.commands import explain
from msabench.evaluation import probe
from msabench.models import svm
from msabench.predictions import Predictions
from msabench.utterances import Ragged, Utterances, video_of
from stages import cards, download, features, plan, prepare, report, robustness, tables, train
from tests.trained_tree import ROOT, SMALL, WORDS

COUNT = 3  # of folds
NAMES = [f"fold{k}" for k in range(1, COUNT + 1)]


def write_clips(folder: Path) -> None:
    """40 clips of 10 videos, whose label is the mean of their frames."""
    rng = np.random.default_rng(1)
    (folder / "audio").mkdir(parents=True)
    with (folder / "utterances.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "text", "label"])
        for i in range(40):
            id, label = f"v{i % 10}$_${i // 10}", float(np.clip(rng.normal(i % 10 / 5, 1), -3, 3))
            table.writerow([id, " ".join(rng.choice(WORDS, 4)), round(label, 2)])
            frames = label + rng.normal(0, 0.5, (rng.integers(1, 6), 3))
            np.save(folder / "audio" / f"{id}.npy", frames)


def write_params(folder: Path, text_encoder: str) -> None:
    yaml = YAML()
    params = yaml.load(ROOT / "params.yaml")
    params["datasets"]["mine"] = {
        **{"source": "folder", "title": "mine", "file": "mine", "path": str(folder)},
        **{"sha256": hashes.of_data(folder), "settings": {"folds": COUNT}},
    }
    params |= {"dataset": "mine", "text_encoder": text_encoder, "max_tokens": 6}
    params |= {"seeds": [1], "sweep_seeds": [], "robustness_seeds": [1]}
    params["ablation"]["models"] = []
    params["text_encoders"]["default"] = {"trainable_layers": 1, "pooling": "mean"}
    params["compare"] = ["ours", "svm"]
    params["models"]["ours"] |= {key: SMALL[key] for key in ("epochs", "patience")}
    params |= {key: SMALL[key] for key in ("transformer_dim", "batch_size")}
    yaml.dump(params, Path("params.yaml"))


def make(place: Path, text_encoder: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        Path("src").symlink_to(ROOT / "src")
        write_clips(place / "mine")
        write_params(place / "mine", text_encoder)
        for stage in (plan, download, prepare, features):
            stage.main()
        for model in ("ours", "svm"):
            train.main(model, 1)
            robustness.main(model, 1)
        tables.main()
        cards.main()


@pytest.fixture
def tree(shared, tiny_bert, tmp_path, monkeypatch):
    whole = shared("folded", make, tiny_bert)
    shutil.copytree(whole, tmp_path / "tree", symlinks=True)
    monkeypatch.chdir(tmp_path / "tree")
    return tmp_path / "tree"


def parts() -> dict[str, Utterances]:
    return {name: Utterances.load(Path("data/prepared", name)) for name in NAMES}


class Recorder(svm.Model):
    """A model that notes the videos of train and valid, and predicts how many were fitted before.

    stop_at: how many fits before the one that is interrupted.
    """

    def __init__(self, fits: list[tuple[set[str], set[str]]], stop_at: int | None) -> None:
        self.fits, self.stop_at = fits, stop_at

    def fit(self, train: Utterances, valid: Utterances, **_: object) -> list:
        if len(self.fits) == self.stop_at:
            raise KeyboardInterrupt
        self.fits.append((set(train.videos), set(valid.videos)))
        return []

    def predict(self, data: Utterances) -> np.ndarray:
        return np.full(len(data), len(self.fits) - 1.0)


@pytest.fixture
def fit(tree, monkeypatch):
    """Return a function that fits a Recorder to each fold, and returns what it was fitted on."""

    def fit_folds(fits: list, stop_at: int | None = None) -> list[tuple[set[str], set[str]]]:
        monkeypatch.setattr(runs.models, "build", lambda *_: Recorder(fits, stop_at))
        config = json.loads((tree / "runs/plan/svm.json").read_text())
        runs.fit_and_predict(config, parts(), 1, scratch=Path("s"), outcome=Path("o"))
        return fits

    return fit_folds


def test_each_clip_has_one_prediction_by_a_model_that_has_not_seen_its_video(fit):
    fits = fit([])
    assert len(fits) == COUNT
    for split, data in folds.held_out(parts()).items():
        predicted = Predictions.read(Path("o", f"{split}.csv"))
        predicted.check(Path(split), data)
        assert len(set(predicted.ids)) == len(predicted.ids) == 40
        for id, fold in zip(predicted.ids, predicted.predictions.astype(int), strict=True):
            train, valid = fits[fold]
            assert video_of(id) not in train
            assert (video_of(id) in valid) == (split == "valid")
    assert all(len(train | valid) < 10 for train, valid in fits)


def test_an_interrupted_run_keeps_the_folds_that_are_done(fit):
    with pytest.raises(KeyboardInterrupt):
        fit([], stop_at=2)
    assert not Path("o").exists()
    fits = fit([None, None])  # the two that were fitted
    assert fits[:2] == [None, None]
    assert len(fits) == COUNT
    resumed = [Path("o", f"{split}.csv").read_bytes() for split in ("valid", "test")]
    shutil.rmtree("s")
    fit([])
    assert resumed == [Path("o", f"{split}.csv").read_bytes() for split in ("valid", "test")]


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize("model", ["ours", "svm"])
def test_the_first_fold_is_the_one_whose_model_is_saved(model, capsys):
    """So `predict` and `explain` work, the latter on what that model was not trained on."""
    run, of_fold = Path(f"runs/{model}-1"), parts()
    assert runs.config(run)["fold"] == "fold1"
    predictor = inference.load(run)
    for split, name in {"test": "fold1", "valid": "fold2"}.items():
        every = Predictions.read(Path(f"predictions/{model}-1/{split}.csv"))
        every.check(run, folds.held_out(of_fold)[split])
        own = every.predictions[: len(of_fold[name])]  # the first fold's come first
        np.testing.assert_allclose(predictor.predict(of_fold[name]), own, rtol=0, atol=1e-6)
    parser = argparse.ArgumentParser()
    explain.arguments(parser)
    explain.main(parser.parse_args(["--run", str(run), "--list", "--json"]))
    listed = [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()]
    assert sorted(listed) == sorted(of_fold["fold1"].ids)
    explain.main(parser.parse_args(["--run", str(run), "--json"]))
    explained = json.loads(capsys.readouterr().out)
    assert explained["id"] in of_fold["fold1"].ids
    train = {*of_fold["fold3"].ids}
    assert {one["id"] for one in explained["nearest"]} <= train


@pytest.mark.usefixtures("tree")
def test_tables_are_over_all_folds():
    measured = {n: json.loads(Path(f"metrics/table{n}.json").read_text()) for n in "16"}
    assert list(measured["1"]) == [*NAMES, "all"]
    assert sum(measured["1"][name]["utterances"] for name in NAMES) == 40
    assert measured["1"]["all"]["shared_videos"] == 0
    for model in ("ours", "svm"):
        for split, column in {"test": "mae", "valid": "valid_mae"}.items():
            every = Predictions.read(Path(f"predictions/{model}-1/{split}.csv"))
            mae = np.abs(every.predictions - every.labels).mean()
            assert measured["6"][model][column] == pytest.approx(mae, abs=1e-4)
    assert json.loads(Path("metrics/robustness.json").read_text()) == {}
    assert not Path("metrics/missing.json").exists()
    text = Path("metrics/tables.md").read_text(encoding="utf-8")
    assert "# Table 6, mine (3-fold cross-validation by video)" in text
    assert "3 folds were drawn: whole videos, seed 1." in text
    assert "models that were not trained on its video" in text


@pytest.mark.usefixtures("tree")
def test_constants_and_the_probe_are_fitted_on_the_train_of_each_fold():
    labels = {name: part.labels.astype(np.float64) for name, part in parts().items()}
    means = {"fold1": labels["fold3"], "fold2": labels["fold1"], "fold3": labels["fold2"]}
    errors = [np.abs(labels[name] - means[name].mean()) for name in NAMES]
    row = json.loads(Path("metrics/table6.json").read_text())["train_mean"]
    assert row["mae"] == pytest.approx(np.concatenate(errors).mean(), abs=1e-4)
    columns = {name: part.sequences["audio"].over_frames(np.mean) for name, part in parts().items()}
    errors = []
    for test, own in zip(NAMES, ("fold3", "fold1", "fold2"), strict=True):
        block = {"audio": slice(0, 3)}
        ridge = probe.fit(columns[own], labels[own], parts()[own].videos, block)["audio"]
        errors.append(np.abs(ridge.predict(columns[test]) - labels[test]))
    row = json.loads(Path("metrics/probe.json").read_text())["audio"]
    assert row["mae"] == pytest.approx(np.concatenate(errors).mean(), abs=1e-4)
    assert (row["train_mae"], row["alpha"]) == (None, None)


@pytest.mark.usefixtures("tree")
def test_a_card_says_that_weights_are_of_one_fold_and_figures_of_all():
    card = Path("runs/cards/ours-1.md").read_text(encoding="utf-8")
    assert "these weights are those of one model of 3, one for each fold. They come from " in card
    assert "The figures are those of the models of all folds" in card
    assert "on 40 utterances" in card


@pytest.mark.usefixtures("tree")
def test_robustness_is_not_measured_over_folds(capsys):
    robustness.main("svm", 1)
    assert capsys.readouterr().err == "svm: robustness is not measured over folds\n"
    assert not any(Path("predictions/robustness-svm-1").iterdir())


@pytest.mark.slow
@pytest.mark.usefixtures("tree")
def test_the_page_says_that_results_are_over_folds():
    report.main()
    page = Path("plots/report.html").read_text(encoding="utf-8")
    assert "mine (3-fold cross-validation by video)" in page
    assert "Learning curves and generated labels are those of the first fold" in page
    drawn = Path("plots/data/predictions/ours.csv").read_text().count("\n") - 1
    assert drawn == 40


def test_what_a_clip_lacks_is_imputed_by_the_train_of_its_fold():
    """Not by other clips, whose frames the model must not know."""
    frames = {name: np.full((1, 2), value, np.float32) for value, name in enumerate(NAMES, 1)}
    none = np.zeros((0, 2), np.float32)
    data = {
        name: Utterances(
            [f"{name}$_$0", f"{name}$_$1"],
            ["x", "x"],
            np.zeros(2, np.float32),
            {"audio": Ragged.of([own, none])},
        )
        for name, own in frames.items()
    }
    for test, value in {"fold1": 3.0, "fold2": 1.0, "fold3": 2.0}.items():
        for split in folds.splits_of(data, test).values():
            assert split.sequences["audio"][1].tolist() == [[value, value]]
        assert folds.splits_of(data, test)["test"].ids == data[test].ids


def test_splits_are_the_only_fold_of_data_with_a_split():
    assert folds.folds_of(["train", "valid", "test"]) == {
        "": {"train": ["train"], "valid": ["valid"], "test": ["test"]}
    }
