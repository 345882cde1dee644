"""What a run will take: from a few measured steps to stages, runs and totals."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msabench import __main__ as program
from msabench import params, plan
from msabench.commands import estimate as command
from msabench.errors import DataError, ParamsError, ProcessError
from msabench.estimation import estimate, measure, sizes
from msabench.estimation.estimate import Row
from msabench.estimation.measure import Cost
from msabench.estimation.sizes import Sizes
from msabench.networks import encoders
from msabench.training.loop import NetworkRegressor

ROOT = Path(__file__).resolve().parents[1]
COST = Cost(build=5.0, epoch=10.0, predict=2.0, memory=1e9, weights=3e6, width=384)


@pytest.fixture(scope="module")
def settings():
    return params.load(ROOT / "params.yaml")


@pytest.fixture(scope="module")
def runs(settings):
    return plan.runs_of(settings)


@pytest.fixture(scope="module")
def configs(settings, runs):
    return plan.resolve(settings, runs)


def some_sizes(**lengths):
    """Sizes of 6 / 2 / 3 utterances of the modalities: so many tokens or frames in each."""
    counts = {"train": 6, "valid": 2, "test": 3}
    widths = {"audio": 5, "vision": 4}
    return Sizes(
        {s: {name: np.full(n, t) for name, t in lengths.items()} for s, n in counts.items()},
        {name: width for name, width in widths.items() if name in lengths},
        "of a test",
    )


ALL = some_sizes(text=7, audio=20, vision=10)


@pytest.fixture
def measured(monkeypatch):
    """Replace the measurements; return what was measured: configs and widths."""
    calls = []

    def measured(config, _lengths, widths, *, seconds, **_):
        calls.append((config, widths))
        assert seconds > 0
        return COST

    monkeypatch.setattr(estimate, "measured", measured)
    return calls


def arrays_of(configs):
    return {name: reads["array"] for name, reads in configs["stages/features"]["runs"].items()}


def test_a_curve_through_two_points_has_a_linear_and_a_quadratic_part():
    def time(n):
        return 3e-3 * n + 2e-6 * n**2

    measured = [(500, time(500)), (1000, time(1000))]
    assert measure.extrapolated(measured, 16000) == pytest.approx(time(16000))
    assert measure.extrapolated(measured, 1000) == pytest.approx(time(1000))
    assert measure.extrapolated([(500, 1.0), (1000, 1.5)], 10_000) == pytest.approx(15.0)
    assert measure.extrapolated([(500, 1.0), (1000, 5.0)], 10_000) == pytest.approx(500.0)
    assert measure.extrapolated([(0, 0.1), (1, 0.2)], 1) == pytest.approx(0.2)


def test_batches_fill_the_seconds_in_whole_steps_of_the_optimizer():
    assert measure.batches_in(10.0, 2.0, most=100) == 5
    assert measure.batches_in(10.0, 100.0, most=100) == 1
    assert measure.batches_in(10.0, 100.0, most=100, accumulate=4) == 4
    assert measure.batches_in(10.0, 2.0, most=100, accumulate=4) == 8
    assert measure.batches_in(1000.0, 1.0, most=100) == measure.MOST
    assert measure.batches_in(1000.0, 1.0, most=3, accumulate=4) == 3


def test_the_measured_batches_are_spread_over_all_lengths():
    assert measure.spread(list(range(16)), 1) == [8]
    assert measure.spread(list(range(16)), 4) == [2, 6, 10, 14]
    assert measure.spread([1, 2, 3], 3) == [1, 2, 3]


def test_a_training_takes_its_limit_of_epochs(runs):
    config = runs["self_mm"].config
    epochs = config["schedule"]["epochs"]
    assert epochs > 1
    assert estimate.training_seconds(COST, config) == 5.0 + 10.0 * epochs + 2.0
    assert estimate.training_seconds(COST, config, folds=5) == 5.0 + 5 * (10.0 * epochs + 2.0)
    assert estimate.training_seconds(COST, runs["svm"].config) == 5.0 + 10.0 + 2.0


def test_trainings_side_by_side_end_with_the_last():
    rows = [
        Row("features", seconds=7.0, memory=9.0, disk=1.0),
        Row("download", seconds=None, disk=2.0),
        Row("train", "a", 2, 10.0, memory=4.0, disk=3.0),
        Row("sweep", "b", 0, 0.0),
        Row("ablation", "c", 1, 25.0, memory=5.0),
    ]
    one, two = estimate.total(rows, 1), estimate.total(rows, 2)
    assert (one.seconds, one.work, one.memory, one.disk) == (52.0, 52.0, 9.0, 6.0)
    # a-1 and a-2 from 7 to 17, then c to 42: of the two that run together, c and a, 9 bytes.
    assert (two.seconds, two.work, two.memory) == (42.0, 52.0, 9.0)
    assert estimate.total(rows, 3).memory == 13.0


def test_the_rows_are_the_runs_of_the_plan_and_each_kind_is_measured_once(
    settings, runs, configs, measured
):
    rows = estimate.estimate(settings, configs, ALL, 2, [])
    stages, trained = [row.stage for row in rows[:3]], rows[3:]
    assert stages == ["download", "prepare", "features"]
    same = plan.equal_runs(runs)
    assert [row.run for row in trained] == list(runs)
    assert {row.run: row.note for row in trained if not row.times} == {
        name: f"equals {first}" for name, first in same.items()
    }
    assert {row.run: row.times for row in trained if row.times} == {
        name: len(run.seeds) for name, run in runs.items() if name not in same
    }
    # A learning rate costs no time: those rows of the sweep are measured as `ours`.
    kinds = estimate.kinds_of(runs, arrays_of(configs), ALL)
    assert kinds["lr_1e-4_2e-5"] == kinds["ours"]
    assert kinds["batch_size_32"] != kinds["ours"]
    assert len(measured) == 1 + len(set(kinds.values()))  # the text encoder, too


def test_each_corruption_is_a_prediction_and_each_of_the_text_an_encoding(settings):
    """all_missing, text_missing and text_noise change the text; the first two alike at 4 levels."""
    settings = settings.model_copy(update={"robustness_seeds": [1, 2], "compare": ["svm"]})
    costs = {"svm": COST}
    (row,) = estimate.robustness_rows(settings, costs, COST, 3, ALL)
    of_test, of_all = 3 / 5, 3 / 11
    predicted = 1 + 9 + 3 * 5 + 5 + 2 * 4
    expected = 2 * COST.build + COST.predict * (of_test * predicted + 3 * of_all * (1 + 9 + 1 + 5))
    assert (row.stage, row.run, row.times) == ("robustness", "svm", 2)
    assert row.seconds == pytest.approx(expected)
    (row,) = estimate.robustness_rows(settings, costs, COST, 3, some_sizes(audio=20))
    expected = 2 * COST.build + COST.predict * (of_test * (1 + 9 + 5 + 4) + 3 * of_all)
    assert row.seconds == pytest.approx(expected)


def test_a_run_without_its_modality_trains_nothing(settings, configs, measured):
    rows = {row.run: row for row in estimate.estimate(settings, configs, some_sizes(text=7), 1, [])}
    assert rows["svm-t+a"].times == rows["svm-a"].times == 0
    assert "lack" in rows["svm-a"].note
    assert rows["svm-t"].times == 1
    assert all(set(widths) <= {"text"} for _, widths in measured)


def test_data_without_text_need_no_encoder(settings, configs, measured):
    rows = estimate.estimate(settings, configs, some_sizes(audio=20, vision=10), 1, [])
    assert all("runs" not in config for config, _ in measured)
    assert (rows[2].stage, rows[2].seconds, rows[2].disk) == ("features", 0.0, 0.0)
    assert {row.run for row in rows if row.note == "the data lack a modality"} >= {
        "svm-t",
        "svm-t+a",
    }


def test_what_a_run_reads_of_the_text_decides_its_lengths_and_widths(runs):
    lengths, widths = estimate.inputs(runs["ours"], "below-1", ALL, 384)
    assert lengths["train"]["text"].tolist() == [7] * 6
    assert widths == {"text": 384, "audio": 5, "vision": 4}
    lengths, _ = estimate.inputs(runs["svm-t"], "pooled-mean", ALL, 384)
    assert {name: own.tolist() for name, own in lengths["test"].items()} == {"text": [1, 1, 1]}
    assert estimate.inputs(runs["ours"], "tokens", ALL, 384)[1]["text"] == 0


def test_the_disk_holds_frames_and_the_arrays_of_the_features():
    assert ALL.prepared == 4 * 11 * (20 * 5 + 10 * 4)
    features = {"probe": {"array": "pooled-mean"}, "runs": {"a": {"array": "below-1"}}}
    assert estimate.bytes_of_features(features, ALL, 384) == 4 * 11 * (7 + 384 * (1 + 7))


def test_corrupted_copies_of_the_training_texts_take_disk_and_passes():
    """Each once, whoever reads it; over folds there are those of all texts."""
    half = {"below-1-missing-0.5-1": 0.5}
    few = {"arrays": half, "empty": "below-1-empty"}
    more = {"arrays": half | {"below-1-missing-1-2": 1.0}, "empty": None}
    tokens = {"arrays": {"tokens-missing-0.5-1": 0.5}, "empty": None}
    runs: dict[str, dict[str, Any]] = {
        "a": {"array": "below-1"},
        "b": {"array": "below-1", "missing": few},
        "c": {"array": "below-1", "missing": more},
        "d": {"array": "tokens", "missing": tokens},
    }
    features = {"probe": {"array": "pooled-mean"}, "runs": runs}
    own = 11 * (7 + 384 * (1 + 7))
    assert estimate.bytes_of_features(features, ALL, 384) == 4 * (own + 6 * 7 * (2 * 384 + 1))
    assert estimate.passes(features, ALL) == 1 + 2 * 6 / 11
    folds = replace(ALL, folds=5)
    assert estimate.bytes_of_features(features, folds, 384) == 4 * (own + 11 * 7 * (2 * 384 + 1))
    assert estimate.passes(features, folds) == 3
    assert estimate.passes({"runs": {"a": runs["a"]}}, ALL) == 1


def test_a_run_that_expects_missing_data_is_measured_so(runs, monkeypatch):
    run = runs["cnn"]
    expecting = json.loads(json.dumps(run.config))
    expecting["schedule"]["missing"] = {"share": 0.5, "copies": 2, "absent": 0.1}
    of_both = {"cnn": run, "robust": replace(run, config=expecting)}
    kinds = estimate.kinds_of(of_both, dict.fromkeys(of_both, "pooled-mean"), ALL)
    assert kinds["cnn"] != kinds["robust"]
    counts = {"train": 20, "valid": 4, "test": 4}
    audio = {split: {"audio": np.arange(n) + 1} for split, n in counts.items()}
    both = {split: {"text": np.ones(n, int)} | audio[split] for split, n in counts.items()}
    copies: list[int] = []
    fit = NetworkRegressor.fit

    def recorded(regressor, train, *rest, **settings):
        text = train.sequences.get("text")
        copies.append(len(text.copies) if text else 0)
        return fit(regressor, train, *rest, **settings)

    monkeypatch.setattr(NetworkRegressor, "fit", recorded)
    assert measure.run(expecting, both, {"text": 8, "audio": 5}, seconds=0.1).epoch > 0
    assert measure.run(expecting, audio, {"audio": 5}, seconds=0.1).epoch > 0
    assert copies == [2, 2, 0, 0]


@pytest.mark.parametrize("model", ["ours", "self_mm", "cnn", "svm"])
def test_a_measurement_runs_the_model_itself(model, runs):
    """On random frames of the lengths: weights are as wide as the data, and all times positive."""
    config = json.loads(json.dumps(runs[model].config))
    config["encoder"] |= {"trainable_layers": 0} if model != "svm" else {}
    counts = {"train": 40, "valid": 8, "test": 8}
    lengths = {
        s: {"text": np.ones(n, int), "audio": np.arange(n) % 9 + 1} for s, n in counts.items()
    }
    cost = measure.run(config, lengths, {"text": 8, "audio": 5}, seconds=0.1)
    assert min(cost.epoch, cost.predict, cost.memory, cost.weights) > 0
    wider = measure.run(config, lengths, {"text": 8, "audio": 50}, seconds=0.1)
    assert wider.weights > cost.weights


def test_the_frozen_layers_of_the_encoder_are_measured(tiny_bert, configs):
    config = {**configs["stages/features"], "encoder": {"name": tiny_bert}}
    config["runs"] = {"a": {"array": "below-1", "trainable_layers": 1, "pooling": "mean"}}
    cost = measure.encoder(config, {"train": {"text": np.arange(3, 90) % 6 + 2}}, seconds=0.1)
    assert cost.predict > 0
    assert cost.width > 0


def test_a_measurement_that_fails_says_why(runs, monkeypatch):
    config = runs["svm"].config
    lengths = {"train": {"text": np.ones(2, int)}}
    monkeypatch.setattr(estimate, "PROGRAM", (sys.executable, "-c", "exit('error: no such thing')"))
    with pytest.raises(ProcessError, match=r"^svm: no such thing$"):
        estimate.measured(config, lengths, {"text": 8}, seconds=1.0)
    kill = "import os; os.kill(os.getpid(), 9)"
    monkeypatch.setattr(estimate, "PROGRAM", (sys.executable, "-c", kill))
    with pytest.raises(ProcessError, match=r"svm: .*killed by signal 9.*smaller batch_size"):
        estimate.measured(config, lengths, {"text": 8}, seconds=1.0)


def sizes_of(changes, monkeypatch):
    monkeypatch.chdir(ROOT)
    settings = command.changed_params(changes)
    configs = plan.resolve(settings, plan.runs_of(settings))
    dataset = settings.datasets[settings.dataset]
    return sizes.measure(dataset, configs["stages/prepare"], {"name": encoders.MINILM}, 50)


def test_a_file_that_is_not_here_has_its_published_size(monkeypatch):
    monkeypatch.setattr(sizes, "SAMPLE", 20)
    monkeypatch.setattr(sizes, "PREPARED", Path("none"))
    mosei = sizes_of(["dataset=mosei"], monkeypatch)
    assert mosei.utterances == {"train": 16326, "valid": 1871, "test": 4659}
    assert mosei.widths == {"audio": 74, "vision": 35}
    assert mosei.raw == pytest.approx(13_652_131_313, rel=0.02)
    assert max(mosei.lengths["train"]["audio"]) <= 500
    assert mosei.download is None
    aligned = sizes_of(["dataset=mosei_aligned"], monkeypatch)
    assert aligned.raw == pytest.approx(4_683_341_880, rel=0.05)
    assert max(aligned.lengths["train"]["audio"]) <= 50
    assert list(sizes_of(["dataset=mosei_text"], monkeypatch).lengths["test"]) == ["text"]


def test_prepared_data_count_only_for_the_data_set_that_they_are_of(trained_with, monkeypatch):
    tree = trained_with(1)
    monkeypatch.chdir(tree)
    settings = params.load(Path("params.yaml"))
    config = plan.resolve(settings, plan.runs_of(settings))["stages/prepare"]
    dataset, encoder = settings.datasets["simulated"], plan.encoder(settings)
    monkeypatch.setattr(sizes, "SAMPLE", 20)
    assert "sample" in sizes.measure(dataset, config, encoder, 6).origin
    Path("data/prepared/config.json").write_text(json.dumps(config))
    found = sizes.measure(dataset, config, encoder, 6)
    assert found.origin == "of data/prepared"
    assert found.utterances == {"train": 24, "valid": 8, "test": 12}
    assert found.lengths["train"]["text"].max() <= 6
    other = {**config, "label_range": [0.0, 1.0]}
    assert "sample" in sizes.measure(dataset, other, encoder, 6).origin


def test_data_of_unknown_size_that_are_not_here_are_named(settings, configs, monkeypatch):
    monkeypatch.delenv("MOSEI", raising=False)
    own = settings.datasets["mosei"].model_copy(update={"corpus": None})
    config = {**configs["stages/prepare"], "dataset": "own", "folder": False}
    with pytest.raises(DataError, match=r"datasets\.own: no size is known"):
        sizes.measure(own, config, {"name": encoders.MINILM}, 50)


@pytest.mark.parametrize(
    ("change", "named"),
    [("lrr=1", "lrr"), ("lr", "lr"), ("dataset=nowhere", "nowhere"), ("lr=-1", "lr: -1")],
)
def test_a_wrong_change_is_one_line(change, named, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(ParamsError) as raised:
        command.changed_params([change])
    assert named in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "/tmp" not in str(raised.value)


@pytest.mark.usefixtures("measured")
def test_it_prints_each_stage_and_run_and_the_total(runs, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sizes, "measure", lambda *_: ALL)
    program.main(["estimate", "--jobs", "2"])
    heading, header, *lines = capsys.readouterr().out.splitlines()
    assert heading == "simulated data: 6 / 2 / 3 utterances, lengths of a test"
    assert header.split() == ["stage", "times", "each", "all", "utterance", "memory", "disk", "run"]
    printed = {line.split()[-1] for line in lines if "equals" not in line}
    assert {name for name in runs if name not in plan.equal_runs(runs)} <= printed
    epochs = runs["ours"].config["schedule"]["epochs"]
    [ours] = [line.split() for line in lines if line.endswith("  ours")]
    assert ours[:4] == ["train", "3", str(7 + 10 * epochs), "s"]
    assert f"{1000 * COST.epoch / 6:.2g} ms" in " ".join(ours)
    program.main(["estimate", "--jobs", "2", "--json", "-S", "seeds=[1]"])
    content = json.loads(capsys.readouterr().out)
    assert {row["run"]: row["times"] for row in content["rows"]}["ours"] == 1
    assert content["total"]["seconds"] > 0


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(3.4, "3 s"), (99.0, "99 s"), (3e3, "50 min"), (9e3, "2.5 h"), (1e6, "12 days"), (None, "-")],
)
def test_durations_have_the_unit_that_suits(seconds, shown):
    assert command.duration(seconds) == shown


@pytest.mark.parametrize("jobs", ["0", "-1", "many"])
def test_an_impossible_number_of_jobs_is_refused(jobs, capsys):
    with pytest.raises(SystemExit) as stopped:
        program.main(["estimate", f"--jobs={jobs}"])
    assert stopped.value.code == 2
    assert "--jobs" in capsys.readouterr().err


@pytest.mark.slow
def test_the_file_of_mosei_is_rehearsed(tmp_path):
    """On few utterances, from the hub to the cards and the estimate of the whole."""
    command = [sys.executable, "-m", "bench", "rehearse", "--folder", str(tmp_path), "--trial"]
    finished = subprocess.run(
        [*command, "--share", "0.002", "--sample", "40"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    recorded = json.loads(finished.stdout[finished.stdout.index("{\n") :])["rehearse"]
    assert {"download", "prepare", "features", "train ours", "tables"} <= set(recorded["stages"])
    assert recorded["bytes"] == pytest.approx(0.002 * 13.65e9, rel=0.1)
    rows = recorded["estimate_of_mosei"]["rows"]
    assert rows["train ours"]["times"] == len(params.load(ROOT / "params.yaml").seeds)
    assert not (tmp_path / "data.pkl").exists()


def test_a_rehearsal_asks_for_its_disk_first(tmp_path):
    from bench import rehearse

    with pytest.raises(SystemExit, match=r"^error: .* GB needed, .* GB free; .*--share"):
        rehearse.check_space(tmp_path, 1e18)
