"""Cards: from what a training and the tables wrote, read back and held against them."""

import argparse
import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import DatasetCard, ModelCard

import stages
from msabench import errors, params, plan
from msabench.commands import card
from msabench.evaluation import clusters, metrics, tables
from msabench.evaluation.results import OTHERS
from msabench.networks import encoders
from msabench.predictions import Predictions
from stages import cards as stage

ROOT = Path(__file__).resolve().parents[1]
PARAMS = params.load(ROOT / "params.yaml")
PLAN = plan.resolve(PARAMS, plan.runs_of(PARAMS))["stages/tables"]
WEIGHTS = hashlib.sha256(b"weights").hexdigest()
DATA = {f"{split}/labels.npy": "0" * 64 for split in ("train", "valid", "test")}


def predictions(seed, n):
    rng = np.random.default_rng(seed)
    labels = rng.integers(-3, 4, size=n).astype(np.float64)
    ids = [f"video{i // 3}$_${i % 3}" for i in range(n)]
    return Predictions(ids, labels, labels + rng.normal(size=n))


def run_json(run, seed, config, **changes):
    """run.json, as the training of a network writes it."""
    text = {"array": "below-1", "trainable_layers": 1, "pooling": "mean", "max_tokens": 50}
    return {
        **{"run": run, "seed": seed, **config, "text": text, "data": DATA},
        **{"about": "A model of the report.", "versions": {"torch": "2.13.0"}, "weights": WEIGHTS},
        **{"arithmetic_in_use": "portable"},
        **{"size": {"parameters of the text encoder": 1234567, "other parameters": 89}},
        **changes,
    }


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A folder with the plan, runs of two seeds or one, and their tables."""
    monkeypatch.chdir(tmp_path)
    chosen = {"seeds": [1, 2], "compare": ["svm", "ours"]}
    settings = PARAMS.model_copy(update=chosen)
    configs = plan.resolve(settings, plan.runs_of(settings))
    for name in ("stages/tables", "stages/cards"):
        write(Path(f"runs/plan/{name}.json"), configs[name])
    trained = [("svm", 1), ("svm", 2), ("ours", 1), ("batch_size_16", 1), ("svm-t", 1)]
    for run, seed in trained:
        folder = Path(f"predictions/{run}-{seed}")
        write(folder / "run.json", run_json(run, seed, configs[run]))
        for split, n in (("valid", 24), ("test", 36)):
            predictions(seed, n).write(folder / f"{split}.csv")
    rows = tables.rows_of(configs["stages/tables"], [])
    for number in rows:
        columns = [*metrics.METRICS["mosei"], "valid_mae", "valid_corr"]
        row = dict.fromkeys(columns, 0.5) | {f"{column}_std": 0.25 for column in columns}
        names = (*rows[number], *(tables.BASELINES if number == "6" else ()))
        write(Path(f"metrics/table{number}.json"), dict.fromkeys(names, row))
    shutil.copy(ROOT / "metrics" / "table1.json", "metrics")
    runs = {f"{run}-{seed}": measured(f"{run}-{seed}") for run, seed in trained}
    write(Path("metrics/seeds.json"), tables.by_seed(runs))
    write_interval({"value": 0.5, "low": 0.111, "high": 0.888, "se_seeds": 0.2})
    write_fits()
    for name in {*OTHERS} - {"seeds", "comparison", "fits"}:
        write(Path(f"metrics/{name}.json"), {})
    return tmp_path


def measured(folder):
    splits = {}
    for split in ("valid", "test"):
        run = Predictions.read(Path("predictions") / folder / f"{split}.csv")
        splits[split] = tables.evaluate(PLAN, run.labels, run.predictions)
    return splits["test"] | {f"valid_{name}": value for name, value in splits["valid"].items()}


def write_fits(**changes):
    fit = {"spread": 0.8, "best_epoch": 3, "epochs": 4, "decay": "none"} | changes
    runs = json.loads(Path("metrics/seeds.json").read_text())
    write(
        Path("metrics/fits.json"), {run: dict.fromkeys(seeds, fit) for run, seeds in runs.items()}
    )


def write_interval(interval):
    models = {"svm": interval, "ours": interval}
    write(Path("metrics/comparison.json"), {"mae": {"models": models}})


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def written(name: str) -> str:
    stages.run(stage.main)
    return Path(f"runs/cards/{name}.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("tree")
def test_each_run_that_was_trained_has_a_card_and_the_data_have_one():
    """Not a run that failed (ours-2), nor a row of the sweep that is `ours` itself."""
    Path("runs/cards").mkdir()
    Path("runs/cards/of_before-1.md").touch()
    stages.run(stage.main)
    found = {path.stem for path in Path("runs/cards").iterdir()}
    assert found == {"svm-1", "svm-2", "ours-1", "batch_size_16-1", "svm-t-1", "data"}


@pytest.mark.usefixtures("tree")
def test_the_figures_are_those_of_the_predictions_and_the_table():
    text = written("svm-2")
    values = measured("svm-2")
    for metric in metrics.METRICS["mosei"]:
        value = values[metric]
        line = next(line for line in text.splitlines() if line.startswith(f"| {metric} "))
        assert line.endswith(f"| {value:.3f} |   0.500 ± 0.250 |")
    test = Predictions.read(Path("predictions/svm-2/test.csv"))
    assert f"| {np.abs(test.labels - test.predictions).mean():.3f} |" in text
    assert "between 0.111 and 0.888 (95% confidence, chance of videos and of seeds)" in text


@pytest.mark.usefixtures("tree")
def test_a_card_says_which_epoch_was_kept_and_what_limits_the_run():
    text = written("ours-1")
    assert "These are the weights of epoch 3 of at most 4. It reads" in text
    limits = (
        "- It was best in the last epoch that `epochs: 4` permits: more epochs may be better.",
        "- Its predictions hardly vary: their standard deviation on test is 0.05 of that of",
        "- Over all seeds it is not shown to beat a constant, the mean of the training labels "
        "(MAE on test 0.500).",
    )
    assert not [line for line in limits if line in text]
    write_fits(best_epoch=4, spread=0.05)
    pairs = {"ours": {"difference": -0.1, "p_holm": 0.2}, "svm": {"difference": -0.1, "p_holm": 0}}
    write(Path("metrics/constants.json"), {"train_mean": pairs})
    text = written("ours-1").partition("## Limits")[2]
    assert [line for line in limits if line in text] == [*limits]
    assert limits[2] not in written("svm-1")
    assert limits[2] not in written("batch_size_16-1")
    write_fits(best_epoch=4, decay="linear")
    text = written("ours-1")
    assert "epoch 4 of at most 4, by the last of which the learning rates fall to zero." in text
    assert limits[0] not in text
    write_fits(best_epoch=None, epochs=None, decay=None)
    assert "the weights of epoch" not in written("svm-1")


@pytest.mark.usefixtures("tree")
def test_the_interval_of_one_seed_is_called_that_of_this_seed_alone():
    write_interval({"value": 0.5, "low": 0.111, "high": 0.888, "se_seeds": None})
    assert "(95% confidence, chance of videos, for this seed alone)" in written("svm-2")


@pytest.mark.usefixtures("tree")
def test_a_row_of_the_sweep_has_its_own_stage_and_no_interval():
    text = written("batch_size_16-1")
    assert "dvc repro sweep@batch_size_16-1" in text
    assert "confidence" not in text
    assert "dvc repro train@ours-1" in written("ours-1")
    assert "dvc repro ablation@svm-t-1" in written("svm-t-1")


@pytest.mark.usefixtures("tree")
def test_a_run_of_the_ablation_has_the_row_of_its_subset():
    columns = metrics.METRICS["mosei"]
    row: dict = dict.fromkeys(columns, 0.7) | {f"{column}_std": None for column in columns}
    write(Path("metrics/ablation.json"), {"ours": {"rows": {"t": row}, "pairs": {}}})
    path = Path("runs/plan/stages/tables.json")
    content = json.loads(path.read_text())
    content["ablation"]["ours"] = {subset: f"ours-{subset}" for subset in content["subsets"]}
    content["stages"]["ours-t"] = "ablation"
    write(path, content)
    shutil.copytree("predictions/ours-1", "predictions/ours-t-1")
    path = Path("predictions/ours-t-1/run.json")
    write(path, json.loads(path.read_text()) | {"run": "ours-t"})
    seeds = Path("metrics/seeds.json")
    write(seeds, json.loads(seeds.read_text()) | {"ours-t": {"1": measured("ours-t-1")}})
    write_fits()
    assert re.search(r"^\| mae .* \|           0\.700 \|$", written("ours-t-1"), re.MULTILINE)


@pytest.mark.usefixtures("tree")
def test_the_hub_reads_the_results_of_this_seed():
    text = written("svm-2")
    metadata: Any = ModelCard(text).data
    values = measured("svm-2")
    test = {metric: values[metric] for metric in metrics.METRICS["mosei"]}
    results = {result.metric_name: result for result in metadata.eval_results}
    assert {name: result.metric_value for name, result in results.items()} == {
        name: round(value, 4) for name, value in test.items() if value is not None
    }
    assert {result.metric_type for result in results.values()} == {*metadata.metrics}
    assert (results["corr"].metric_type, results["acc_2"].metric_type) == ("pearsonr", "accuracy")
    assert {result.dataset_split for result in results.values()} == {"test"}
    assert metadata.model_name == "svm-2"
    assert (metadata.language, metadata.license) == ("en", "mit")
    assert metadata.base_model == encoders.MINILM
    assert {"msabench", "text", "audio", "vision"} <= set(metadata.tags)
    assert metadata.datasets == ["simulated"]
    data: Any = DatasetCard(written("data")).data
    assert (data.language, data.license, data.pretty_name) == ("en", "mit", "simulated data")


@pytest.mark.usefixtures("tree")
def test_what_is_not_known_of_the_data_is_not_in_the_metadata():
    path = Path("runs/plan/stages/cards.json")
    write(path, json.loads(path.read_text()) | {"corpus": None, "dataset": "mine"})
    metadata: Any = ModelCard(written("svm-2")).data
    assert (metadata.language, metadata.license, metadata.datasets) == (None, None, ["mine"])


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize(("videos", "defined"), [(3, False), (12, True)])
def test_few_test_videos_are_told_beside_the_interval_and_on_the_card_of_the_data(videos, defined):
    table = json.loads(Path("metrics/table1.json").read_text())
    table["test"]["videos"] = videos
    write(Path("metrics/table1.json"), table)
    if not defined:
        write_interval({"value": 0.5, "low": None, "high": None, "se_seeds": None})
    text = written("svm-2")
    assert ("between 0.111 and 0.888 (95% confidence" in text) == defined
    assert ("confidence" in text) == defined
    (note,) = clusters.notes({"test": table["test"]})
    assert note in text
    assert note not in written("batch_size_16-1")
    assert note in written("data")


@pytest.mark.usefixtures("tree")
def test_the_card_of_the_data_tells_of_features_that_hold_the_labels():
    row = dict.fromkeys(("mae", "valid_mae", "train_mae", "alpha"), 1.0)
    row |= {"train_corr": 0.73, "valid_corr": 0.74, "corr": 0.06}
    write(Path("metrics/probe.json"), {"vision": row})
    sentence = "Vision alone: Corr 0.73 on train, 0.74 on valid, 0.06 on test ("
    card = written("data")
    assert f"\n**{sentence}" in card
    assert f"\n- {sentence}" in card.partition("## Limits")[2]
    write(Path("metrics/probe.json"), {"vision": row | {"corr": 0.7}})
    assert "Vision alone" not in written("data")


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize(
    ("modalities", "guesses"),
    [
        (["text", "audio"], "how a sentence sounds"),
        (["audio"], "how a person sounds"),
        (["vision"], "how a person looks"),
    ],
)
def test_the_cards_of_data_without_text_speak_of_none(modalities, guesses):
    table = json.loads(Path("metrics/table1.json").read_text())
    for split in table.values():
        split |= {"tokens": None, "vision_missing": 300}
    write(Path("metrics/table1.json"), table)
    path = Path("predictions/svm-1/run.json")
    write(path, json.loads(path.read_text()) | {"modalities": modalities})
    data, limits = written("data"), written("svm-1").partition("## Limits")[2]
    assert "frames are means per utterance." in data
    assert not re.search(r"tokens and frames|of the texts|\| tokens \|", data)
    assert "| tokens |" not in written("svm-1")
    assert f"it guesses {guesses} to others" in limits
    for text in (data.partition("## Limits")[2], limits):
        assert "\n- Vision is missing in many utterances (300 of 1500 of train," in text


@pytest.mark.usefixtures("tree")
def test_the_card_of_the_data_tells_of_videos_of_one_utterance():
    assert "a video of its own" not in written("data")
    table = json.loads(Path("metrics/table1.json").read_text())
    table["train"]["videos"] = table["train"]["utterances"]
    write(Path("metrics/table1.json"), table)
    assert "is a video of its own (train: 1500 videos in 1500 utterances)" in written("data")


@pytest.mark.usefixtures("tree")
def test_what_a_card_names_is_there():
    """Settings, weights, encoder, sizes, and the title, that says the data are simulated."""
    text = written("ours-1")
    assert "\n# ours, seed 1: simulated data\n" in text
    assert "**The data are simulated: what is measured here says nothing about MOSEI**." in text
    assert WEIGHTS in text
    known = encoders.PUBLISHED[encoders.MINILM]
    assert known.sha256["model.safetensors"] in text
    assert known.licence in text
    assert "1,234,567" in text
    settings = params.flat(json.loads(Path("predictions/ours-1/run.json").read_text()))
    assert settings["lr"] == PARAMS.presets["ours"]["lr"]
    for name, value in settings.items():
        shown = value if isinstance(value, str) else json.dumps(value)
        assert re.search(rf"^\| {name} +\| {re.escape(shown)} +\|$", text, re.MULTILINE)
    listed = (json.dumps(DATA, indent=2) + "\n").encode()
    assert hashlib.sha256(listed).hexdigest() in text


@pytest.mark.usefixtures("tree")
def test_a_model_without_an_encoder_of_its_own_says_so_by_its_size():
    path = Path("predictions/svm-1/run.json")
    content = json.loads(path.read_text())
    write(path, content | {"size": {"support vectors": 1295}, "modalities": ["audio"]})
    text = written("svm-1")
    assert "- support vectors: 1,295" in text
    assert "frozen layers" not in text
    assert "## Text encoder" not in text
    assert "## Use" not in text


@pytest.mark.usefixtures("tree")
def test_of_an_encoder_of_params_the_card_names_commit_and_every_file_of_weights():
    path = Path("predictions/ours-1/run.json")
    content = json.loads(path.read_text())
    files = {"model-1.safetensors": "1" * 64, "model-2.safetensors": "2" * 64, "config.json": "3"}
    known = {"commit": "4" * 40, "sha256": files, "licence": "MIT"}
    content["encoder"] |= {"name": "someone/encoder", "published": known}
    write(path, content)
    text = written("ours-1")
    assert "SHA-256 of its model-1.safetensors: `" + "1" * 64 in text
    assert "SHA-256 of its model-2.safetensors: `" + "2" * 64 in text
    assert "- commit on the hub: `" + "4" * 40 in text
    assert "- licence: MIT" in text
    assert "base_model: someone/encoder" in text


@pytest.mark.usefixtures("tree")
def test_an_encoder_of_the_user_shows_no_path():
    path = Path("predictions/ours-1/run.json")
    content = json.loads(path.read_text())
    content["encoder"]["name"] = "/home/someone/bert"
    write(path, content)
    text = written("ours-1")
    assert "someone" not in text
    assert "A folder of your own" in text


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize("name", ["ours-1", "data"])
def test_data_that_no_corpus_describes(name):
    path = Path("runs/plan/stages/cards.json")
    write(path, json.loads(path.read_text()) | {"corpus": None, "dataset": "mine"})
    assert "`datasets.mine.corpus` in params.yaml names no entry" in written(name)


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize("corpus", plan.CORPORA)
def test_the_card_of_the_data_says_what_their_corpus_says(corpus):
    path = Path("runs/plan/stages/cards.json")
    facts = plan.CORPORA[corpus]
    write(path, json.loads(path.read_text()) | {"corpus": facts, "sha256": "1" * 64})
    text = written("data")
    for key in ("about", "language", "labels", "terms"):
        assert facts[key] in text
    assert "1" * 64 in text
    splits = json.loads(Path("metrics/table1.json").read_text())
    for split, row in splits.items():
        assert re.search(rf"^\| {split} +\| +{row['utterances']} \|", text, re.MULTILINE)


def printed_card(run: str, capsys) -> str:
    card.main(argparse.Namespace(run=Path(run)))
    return capsys.readouterr().out


def trained_in(seconds: float, weights: str = WEIGHTS) -> None:
    record = {"training": "ours-1-0", "machine": "cpu AVX2", "parts": 2, "seconds": seconds}
    write(Path("runs/times/ours-1.json"), record | {"weights": weights})


@pytest.mark.usefixtures("tree")
def test_the_command_tells_the_time_that_no_card_may_hold(capsys):
    text = written("ours-1")
    shutil.copytree("predictions/ours-1", "runs/ours-1")
    assert printed_card("runs/ours-1", capsys).startswith(text)
    trained_in(12.34)
    assert "12.3 s" in printed_card("runs/ours-1", capsys)
    assert "in 2 parts; what was killed is not counted), on cpu AVX2" in printed_card(
        "runs/ours-1", capsys
    )
    assert written("ours-1") == text


@pytest.mark.usefixtures("tree")
def test_the_time_of_other_weights_is_not_told(capsys):
    written("ours-1")
    shutil.copytree("predictions/ours-1", "runs/ours-1")
    trained_in(12.34, weights="of another setting")
    assert "12.3" not in (text := printed_card("runs/ours-1", capsys))
    assert "were not trained here" in text


@pytest.mark.usefixtures("tree")
def test_a_run_without_a_card_or_with_that_of_other_weights_is_refused(capsys):
    with pytest.raises(errors.DataError, match=r"runs/ours: no trained run; permitted"):
        printed_card("runs/ours", capsys)
    shutil.copytree("predictions/ours-1", "runs/ours-1")
    with pytest.raises(errors.DataError, match=r"runs/cards/ours-1.md: no card of this run"):
        printed_card("runs/ours-1", capsys)
    written("ours-1")
    write(Path("runs/same-1/same_as.json"), {"same_as": "ours"})
    assert "\n# ours, seed 1" in printed_card("runs/same-1", capsys)
    content = json.loads(Path("runs/ours-1/run.json").read_text())
    write(Path("runs/ours-1/run.json"), content | {"weights": "trained anew"})
    with pytest.raises(errors.DataError, match="of other weights than runs/ours-1 has"):
        printed_card("runs/ours-1", capsys)
    Path("runs/ours-1/run.json").write_text("{")
    with pytest.raises(errors.DataError, match=r"run\.json: damaged"):
        printed_card("runs/ours-1", capsys)


@pytest.mark.parametrize(
    ("arithmetic", "threads", "where"),
    [
        ("portable", 1, "the same bytes on every x86-64 processor with AVX2 and FMA, on Linux."),
        ("portable", 2, "the same bytes on the same kind of processor."),
        ("native", 1, "the same bytes on the same kind of processor."),
    ],
)
def test_a_card_says_where_its_numbers_come_out_again(tree, arithmetic, threads, where):
    path = tree / "predictions/ours-1/run.json"
    changes = {"arithmetic_in_use": arithmetic, "threads": threads}
    write(path, json.loads(path.read_text()) | changes)
    stage.main()
    assert where in (tree / "runs/cards/ours-1.md").read_text()


@pytest.mark.usefixtures("tree")
def test_cards_say_that_the_split_was_drawn():
    sentence = "The split was drawn: whole videos, seed 1, 70/10/20"
    assert sentence not in written("data")
    write(Path("metrics/split.json"), {"drawn": sentence})
    assert f"\n{sentence}.\n" in written("data").partition("## Splits")[2]
    assert f"\n{sentence}.\n" in written("svm-1").partition("## Trained on")[2]
