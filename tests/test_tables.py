import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from msabench import hashes
from msabench.errors import DataError
from msabench.evaluation import metrics, probe, statistics, tables
from msabench.evaluation.robustness import LEVELS
from msabench.evaluation.tables import PUBLISHED
from msabench.predictions import Predictions
from msabench.reporting import figures
from msabench.utterances import Ragged, Utterances, save_prepared
from stages import report as report_stage
from stages import tables as tables_stage

MODELS = {"self_mm": 0.5, "svm": 0.8, "cnn": 0.7, "ours": 0.6}
SWEEP = [
    *[(3, "128", "batch_128", None), (3, "64", "batch_64", "ours")],
    *[(3, "32", "batch_32", None), (3, "16", "batch_16", None)],
    *[(4, "1e-4/2e-5", "lr_1", None), (4, "2e-4/2e-5", "lr_2", "ours")],
    *[(4, "2e-4/5e-5", "lr_3", None), (5, "256", "d_256", None)],
    *[(5, "128", "d_128", "ours"), (5, "64", "d_64", None)],
]
LETTERS = {"t": "text", "a": "audio", "v": "vision"}
SUBSETS = ("t", "a", "v", "t+a", "t+v", "a+v", "t+a+v")
SIZES = {"train": 60, "valid": 30, "test": 60}


def subset_runs(model: str, own: str = "t+a+v") -> dict[str, str]:
    """The runs of a model on each subset: on its own modalities it is that of Table 6."""
    return {subset: model if subset == own else f"{model}-{subset}" for subset in SUBSETS}


class Tree:
    """What the earlier stages leave on disk, made up; results come from the real stages."""

    def __init__(self, root: Path):
        self.root, self.random = root, np.random.default_rng(0)
        self.plan: dict = {
            **{"title": "simulated data", "corpus": "simulated", "simulated": True},
            **{"label_range": [-3.0, 3.0], "neutral": 0.0},
            **{"metrics": "mosei", "models": list(MODELS), "seeds": [1, 2], "sweep_seeds": [1]},
            **{"probe": {"array": "pooled-mean"}, "text_encoder": "publisher/an-encoder"},
            "sweep": [
                {"run": run, "varies": "ours", "table": table, "row": row, "same_as": same}
                for table, row, run, same in SWEEP
            ],
            "subsets": {name: [LETTERS[c] for c in name.split("+")] for name in SUBSETS},
            **{"ablation": {"svm": subset_runs("svm")}, "ablation_seeds": [1]},
            "not_compared": {"sweep": [], "ablation": []},
            "modalities": {model: ["text", "audio", "vision"] for model in MODELS},
            **{"robustness_seeds": [], "robustness": {}, "missing": {}},
        }
        self.data: dict[str, Utterances] = {}
        self.clips = 5  # of a video
        self.lowest = -9  # label of valid and test, in thirds
        self.sha256: str | None = None
        self.epochs, self.decay = 5, "none"  # of a training, which takes 4 epochs and improves
        self.columns: dict = {}  # names
        self.drawn = ""  # how the split was

    def write(self, modalities: tuple[str, ...] = ("audio", "vision"), scale: float = 1) -> None:
        for split, n in SIZES.items():
            lowest = 0 if split == "train" else self.lowest  # its mean differs from that of test
            labels = self.random.choice(np.arange(lowest, 10) / 3, n) * scale
            frames = {
                name: Ragged.of([np.ones((1 + i % 4, 2), np.float32) for i in range(n)])
                for name in modalities
            }
            ids = [f"{split}{i // self.clips}$_${i % self.clips}" for i in range(n)]
            self.data[split] = Utterances(ids, ["a"] * n, labels.astype(np.float32), frames)
            (self.root / "data/features" / split).mkdir(parents=True)
            tokens = Ragged.of([np.zeros(3 + i % 2, np.int32) for i in range(n)])
            tokens.save(self.root / "data/features" / split, "tokens")
            states = labels[:, None] + np.random.default_rng(n).normal(size=(n, 3))
            pooled = Ragged(states.astype(np.float32), np.arange(n + 1))
            pooled.save(self.root / "data/features" / split, "pooled-mean")
        prepared = self.root / "data/prepared"
        save_prepared(self.data, prepared)
        (prepared / "sha256.json").write_text(json.dumps(hashes.of_folder(prepared)))
        (prepared / "columns.json").write_text(json.dumps(self.columns))
        (prepared / "split.json").write_text(json.dumps({"drawn": self.drawn}))
        for model in self.plan["models"]:
            for seed in self.plan["seeds"]:
                self.predict(f"{model}-{seed}", MODELS.get(model, 1.0), model != "svm")
        for entry in self.plan["sweep"]:
            for seed in self.plan["sweep_seeds"] if not entry["same_as"] else ():
                self.predict(f"{entry['run']}-{seed}", 0.6)
        for model, runs in self.plan["ablation"].items():
            for (subset, run), seed in product(runs.items(), self.plan["ablation_seeds"]):
                if run != model and {*self.plan["subsets"][subset]} <= {"text", *modalities}:
                    self.predict(f"{run}-{seed}", self.noise(model, subset), model != "svm")
        self.save_plan()

    def noise(self, model: str, subset: str) -> float:
        """How wrong a model on a subset is."""
        return 1.0

    def predict(self, name: str, noise: float, history: bool = True) -> None:
        folder = self.root / "predictions" / name
        folder.mkdir(parents=True)
        for split in ("valid", "test"):
            data = self.data[split]
            guesses = data.labels + self.random.normal(0, noise, len(data))
            lines = [
                f"{i},{y},{p}\n" for i, y, p in zip(data.ids, data.labels, guesses, strict=True)
            ]
            (folder / f"{split}.csv").write_text("id,label,prediction\n" + "".join(lines))
        (folder / "run.json").write_text(json.dumps(self.run_json(name)))
        if history:
            lines = [f"{i},{1 / i},{0.9 / i},{0.8 / i}\n" for i in range(1, 5)]
            (folder / "history.csv").write_text(
                "epoch,train_loss,valid_loss,valid_mae\n" + "".join(lines)
            )

    def run_json(self, name: str) -> dict:
        """What run.json says: the runs of a sweep vary ours."""
        run, _, seed = name.rpartition("-")
        model = run.partition("-")[0]
        model = model if model in self.plan["models"] else "ours"
        optimizer: dict = {"lr": {"text": 5e-05} if model == "self_mm" else 0.001}
        text = {"array": "tokens", "max_tokens": 50, "sha256": dict.fromkeys(SIZES, "0" * 64)}
        return {
            **{"run": run, "seed": int(seed), "model": model, "optimizer": optimizer},
            "schedule": {
                "batch_size": 8,
                "epochs": self.epochs,
                "patience": 9,
                "decay": self.decay,
            },
            **{"encoder": {"name": "bert-base-uncased"}, "modalities": ["text"], "text": text},
            **{"network": {"width": run} if model != run else {}},
            **{"arithmetic_in_use": "portable", "device": "auto", "threads": 1},
            **{"versions": {"numpy": "2.0"}},
        }

    def save_plan(self) -> None:
        stages = dict.fromkeys(self.plan["models"], "train")
        stages |= {entry["run"]: "sweep" for entry in self.plan["sweep"]}
        stages |= {
            run: "ablation"
            for model, runs in self.plan["ablation"].items()
            for run in runs.values()
            if run != model
        }
        self.plan["stages"] = stages
        folder = self.root / "runs/plan/stages"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tables.json").write_text(json.dumps(self.plan))
        source: dict = {"dataset": "made_up", "source": "simulated", "file": "made_up.pkl"}
        source |= {"sha256": self.sha256, "settings": {"seed": 1}}
        (folder / "download.json").write_text(json.dumps(source))

    def read(self, name: str) -> dict:
        return json.loads((self.root / "metrics" / f"{name}.json").read_text())

    @property
    def markdown(self) -> str:
        return (self.root / "metrics/tables.md").read_text(encoding="utf-8")

    def outputs(self) -> dict[str, bytes]:
        files = [p for part in ("metrics", "plots") for p in (self.root / part).rglob("*.*")]
        return {str(path): path.read_bytes() for path in sorted(files)}


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Tree(tmp_path)


@pytest.fixture
def undrawn(monkeypatch):
    """Make the figures but leave out the drawing, which takes seconds; test_figures draws."""
    empty = '<svg xmlns="http://www.w3.org/2000/svg" width="1pt" height="1pt" version="1.1"/>'
    monkeypatch.setattr(figures, "save", lambda _, path: path.touch())
    monkeypatch.setattr(figures, "as_text", lambda _: empty)


def test_rows_and_columns_are_those_of_the_report(tree):
    tree.write()
    tables_stage.main()
    for number in "123456":
        rows = list(tree.read(f"table{number}"))
        expected = list(PUBLISHED["tables"][number]["rows"])
        assert rows == (
            ["self_mm", "svm", "cnn", "ours", *tables.BASELINES] if number == "6" else expected
        )
    row = tree.read("table6")["ours"]
    assert [*tree.read("table6")["probe"]] == [*row]
    names = list(metrics.METRICS["mosei"])
    assert set(row) == {
        *names,
        *(f"{name}_std" for name in names),
        *(f"valid_{name}" for name in metrics.HEADLINE),
    }
    assert list(tree.read("summary")) == list(MODELS)
    assert tree.read("summary")["ours"] == {name: row[name] for name in metrics.HEADLINE}


def test_the_data_report_says_that_the_split_was_drawn(tree):
    tree.drawn = "The split was drawn: whole videos, seed 1, 70/10/20"
    tree.write()
    tables_stage.main()
    assert f"\n{tree.drawn}.\n" in tree.markdown.partition("# Data report")[2]


def test_values_are_means_over_seeds_with_the_sample_std(tree):
    tree.write()
    tables_stage.main()
    runs = [Predictions.read(Path(f"predictions/cnn-{seed}/test.csv")) for seed in (1, 2)]
    first, second = (metrics.mae(run.labels, run.predictions) for run in runs)
    row = tree.read("table6")["cnn"]
    assert row["mae"] == round((first + second) / 2, 4)
    assert row["mae_std"] == round(abs(first - second) / 2**0.5, 4)
    assert tree.read("table2")["a"]["mae_std"] is None
    train, test = tree.data["train"].labels, tree.data["test"].labels
    for name, value in (("train_mean", train.mean()), ("train_median", np.median(train))):
        baseline = tree.read("table6")[name]
        assert baseline["mae"] == pytest.approx(np.abs(test - value).mean(), abs=1e-4)
        assert baseline["corr"] is None
    cells = [line.split("|") for line in tree.markdown.splitlines() if "| train_mean " in line]
    headline, table6, *_ = cells
    assert headline[3].strip() == "-"  # corr of a constant
    assert table6[3].strip() == table6[7].strip() == "-"  # valid_corr and corr


def guessing(tree: Tree, model: str, scale: float) -> None:
    """Let each seed of a model predict noise about the median of train, on test and valid."""
    middle = np.median(tree.data["train"].labels)
    for seed, split in product(tree.plan["seeds"], ("valid", "test")):
        data = tree.data[split]
        guesses = middle + scale * tree.random.normal(size=len(data))
        path = tree.root / f"predictions/{model}-{seed}/{split}.csv"
        Predictions(data.ids, data.labels, guesses).write(path)


@pytest.mark.usefixtures("undrawn")
def test_a_model_that_beats_no_constant_is_named_and_so_is_one_that_hardly_varies(tree, capsys):
    """CNN is nearly the median; Self-MM is noise about it, with seeds that differ."""
    tree.lowest = 0
    tree.write()
    guessing(tree, "cnn", 0.01)
    guessing(tree, "self_mm", 0.5)
    tables_stage.main()
    pairs, table = tree.read("constants"), tree.read("table6")
    better = min(tables.CONSTANTS, key=lambda name: table[name]["mae"])
    for constant, model in product(tables.CONSTANTS, MODELS):
        row = pairs[constant][model]
        exact = table[model]["mae"] - table[constant]["mae"]
        assert row["difference"] == pytest.approx(exact, abs=2e-4)
        alone = tree.read("comparison")["mae"]["models"][model]["se_seeds"]
        assert row["se_seeds"] == alone  # a constant adds none
    assert pairs[better]["ours"]["p_holm"] < 0.05
    assert tree.read("fits")["cnn"]["1"]["spread"] < 0.02
    assert pairs[better]["cnn"]["difference"] > 0
    named = [m for m, row in pairs[better].items() if m == "cnn" or row["p_holm"] >= 0.05]
    assert "ours" not in named
    assert {"self_mm", "cnn"} <= {*named}
    shown = ", ".join(
        f"{tables.printed_name(model)} ({table[model]['mae']:.3f})" for model in named
    )
    kind = better.removeprefix("train_")
    beaten = (
        f"Not shown to beat a constant, the {kind} of the training labels "
        f"(MAE on test {table[better]['mae']:.3f}): {shown}."
    )
    steady = "is below 0.1 of that of the labels): CNN (2 of 2 seeds)."
    printed = capsys.readouterr().err
    for sentence in (beaten, steady):
        assert tree.markdown.count(sentence) == 2  # above all, and below Table 6
        assert sentence in printed
    report_stage.main()


def test_where_every_model_beats_both_constants_none_is_named(tree, capsys):
    tree.write()
    tables_stage.main()
    assert "Not shown to beat" not in tree.markdown + capsys.readouterr().err
    assert "hardly vary" not in tree.markdown
    assert "and beats a constant by more than chance: the m" in tree.markdown


@pytest.mark.parametrize(
    ("epochs", "decay", "named"), [(4, "none", True), (4, "linear", False), (5, "none", False)]
)
def test_a_limit_of_epochs_that_binds_is_named(tree, capsys, epochs, decay, named):
    """One seed of CNN improved no more after its second epoch; the SVM has no epochs."""
    tree.epochs, tree.decay = epochs, decay
    tree.write()
    history = tree.root / "predictions/cnn-2/history.csv"
    history.write_text(
        "epoch,train_loss,valid_loss,valid_mae\n1,1,3,1\n2,1,1,1\n3,1,2,1\n4,1,1,1\n"
    )
    tables_stage.main()
    fits = tree.read("fits")
    assert fits["cnn"]["2"].items() >= {"best_epoch": 2, "epochs": epochs, "decay": decay}.items()
    assert fits["ours"]["1"]["best_epoch"] == 4
    assert fits["svm"]["1"]["best_epoch"] is None
    begins = "Best in the last epoch that was permitted, so that more epochs may be better: "
    listed = "Self-MM (`epochs: 4`, 2 of 2 seeds), CNN (`epochs: 4`, 1 of 2 seeds), Ours ("
    rows = "256 (`epochs: 4`, 1 of 1 seeds), 128 (`epochs: 4`, 1 of 1 seeds), 64 ("
    printed = capsys.readouterr().err
    for number, first in (("6", listed), ("5", rows)):
        assert (f"note: Table {number}: {begins}{first}" in printed) == named
        below = tree.markdown.partition(f"### Table {number}")[2]
        assert below.partition("\n### ")[0].count(begins + first) == named
    assert printed.count(begins) == 4 * named  # Table 2 is the SVM's


def test_columns_that_say_little_are_named(tree):
    tree.columns = {"audio": {"names": {"1": "F0"}, "tool": "COVAREP", "certainty": "sure"}}
    tree.write()
    tables_stage.main()
    row: dict = {"width": 2, "tool": None, "certainty": None, "names": {}, "never_finite": []}
    row |= {"zero": [], "constant": [0, 1], "not_finite": {}}
    audio = tree.columns["audio"]
    assert tree.read("columns") == {"audio": row | audio, "vision": row}
    assert (
        "audio has 2, by corpus and width those of COVAREP (sure); vision has 2." in tree.markdown
    )
    lines = [[cell.strip() for cell in line.split("|")] for line in tree.markdown.splitlines()]
    assert ["", "audio", "constant", "column 0 to 1 F0", ""] in lines


def test_features_that_hold_the_labels_are_named_above_all_tables_and_on_stderr(
    tree, monkeypatch, capsys
):
    """As if the states of train and valid were trained on the labels, and those of test not."""
    monkeypatch.setattr(probe, "ENOUGH", 30)
    tree.write()
    tables_stage.main()
    assert "alone: Corr" not in tree.markdown + capsys.readouterr().err
    noise = Ragged(tree.random.normal(size=(60, 3)).astype(np.float32), np.arange(61))
    noise.save(tree.root / "data/features/test", "pooled-mean")
    tables_stage.main()
    row = tree.read("probe")["text"]
    sentence = "Text alone: Corr {train_corr:.2f} on train, {valid_corr:.2f} on valid, ".format(
        **row
    )
    assert f"note: {sentence}" in capsys.readouterr().err
    above, _, below = tree.markdown.partition("\n## Tables")
    assert above.count(f"\n**{sentence}") == 1
    table6, _, report = below.partition("### Table 6")[2].partition("### Data report")
    for text, count in ((below, 2), (table6, 1), (report, 1)):
        assert text.count(f"\n**{sentence}") == count


def test_table_1_counts_what_is_there(tree):
    tree.write(modalities=("audio",))
    tables_stage.main()
    table = tree.read("table1")
    assert [table[name]["utterances"] for name in table] == [60, 30, 60, 150]
    assert [table[name]["videos"] for name in table] == [12, 6, 12, 30]
    assert table["train"]["audio_frames"] == 2.5
    assert table["train"]["tokens"] == 3.5
    assert table["train"]["vision_frames"] is None
    labels = np.concatenate([split.labels for split in tree.data.values()])
    assert table["all"]["label_std"] == pytest.approx(labels.std(), abs=1e-4)
    lines = [line.split() for line in tree.markdown.splitlines()]
    assert ["|", "repeated_utterances", "|", "60", "|", "30", "|", "60", "|", "150", "|"] in lines
    assert ["|", "vision_frames_max", "|", "-", "|", "-", "|", "-", "|", "-", "|"] in lines
    assert "### Data report, simulated data" in tree.markdown


def with_ablation(tree: Tree) -> None:
    tree.plan["ablation"]["ours"] = subset_runs("ours")
    tree.plan["ablation_seeds"] = [1, 2]
    tree.noise = lambda *_: 2.0  # type: ignore[method-assign]
    tree.write()


UNKNOWN = dict.fromkeys(("low", "high", "p", "p_holm", "se_videos", "se_seeds"))


@pytest.mark.usefixtures("undrawn")
def test_of_one_test_video_neither_intervals_nor_p_are_shown(tree):
    tree.clips = 60
    with_ablation(tree)
    tables_stage.main()
    comparison, ablation = tree.read("comparison")["mae"], tree.read("ablation")["ours"]["pairs"]
    for row in comparison["models"].values():
        assert row["value"] > 0
        assert row["low"] is row["high"] is None
    for row in (*comparison["pairs"].values(), *ablation.values()):
        assert abs(row["difference"]) > 0
        assert row.items() >= UNKNOWN.items()
    assert len(comparison["pairs"]) == len(ablation) == 6
    lines = [[cell.strip() for cell in line.split("|")] for line in tree.markdown.splitlines()]
    assert [line[4:8] for line in lines if line[1:3] == ["mae", "self_mm - svm"]] == [["-"] * 4]
    assert [line[-7:-1] for line in lines if line[1:3] == ["ours", "t"]] == [["-"] * 6]
    assert tree.markdown.count("1 test video: with fewer than 6, intervals and p") == 3
    report_stage.main()


@pytest.mark.usefixtures("undrawn")
def test_with_one_seed_the_verdict_holds_for_that_seed_alone(tree):
    tree.write()
    tables_stage.main()
    said = "**One seed: intervals and p hold for seed 2 alone**"
    assert said not in tree.markdown
    assert tree.read("comparison")["mae"]["models"]["cnn"]["se_seeds"] > 0
    tree.plan["seeds"] = [2]
    tree.save_plan()
    tables_stage.main()
    assert tree.markdown.count(said) == 2  # below the verdict, and beside the intervals
    for metric, part in tree.read("comparison").items():
        for row in (*part["models"].values(), *part["pairs"].values()):
            assert row["se_seeds"] is None
            assert row["se_videos"] > 0, metric
    report_stage.main()


def test_what_each_seed_measured_is_kept(tree):
    tree.write()
    tables_stage.main()
    seeds = tree.read("seeds")
    run = Predictions.read(Path("predictions/cnn-2/test.csv"))
    assert list(seeds["cnn"]) == ["1", "2"]
    assert seeds["cnn"]["2"]["mae"] == round(metrics.mae(run.labels, run.predictions), 4)
    for metric in metrics.METRICS["mosei"]:
        values = [row[metric] for row in seeds["cnn"].values()]
        assert tree.read("table6")["cnn"][metric] == pytest.approx(np.mean(values), abs=1e-4)


@pytest.mark.parametrize(("clips", "notes"), [(1, ["own"]), (2, []), (5, ["few"])])
def test_few_videos_and_single_ones_are_noted_with_the_data_and_the_intervals(tree, clips, notes):
    """60, 30 and 12 videos of test."""
    tree.clips = clips
    tree.write()
    tables_stage.main()
    own, few = "Every or nearly every utterance is a video of its own", "fewer than about 30"
    assert tree.markdown.count(own) == 3 * ("own" in notes)
    assert tree.markdown.count(few) == 3 * ("few" in notes)
    comparison, _, data = tree.markdown.partition("## Data report")
    if "own" in notes:
        assert "train: 60 videos in 60 utterances; valid: 30 videos in 30" in data
        assert "(test: 60 videos in 60 utterances)" in comparison


def test_videos_are_those_of_the_prepared_data_whatever_the_ids_say(tree):
    """The ids tell twelve, the data three."""
    with_ablation(tree)
    test = replace(tree.data["test"], video_names=[f"v{i // 20}" for i in range(60)])
    test.save(tree.root / "data/prepared/test")
    tables_stage.main()
    assert tree.read("table1")["test"]["videos"] == 3
    assert tree.read("comparison")["mae"]["pairs"]["self_mm - svm"].items() >= UNKNOWN.items()
    assert tree.read("ablation")["ours"]["pairs"]["t - t+a+v"].items() >= UNKNOWN.items()


def test_models_are_compared_on_the_utterances_of_test_alone(tree):
    """Whatever other tables check: they leave out a row whose files of valid are missing."""
    tree.write()
    path = Path("predictions/cnn-1/test.csv")
    header, first, second, *others = path.read_text().splitlines()
    path.write_text("\n".join([header, second, first, *others]) + "\n")
    with pytest.raises(DataError, match=r"cnn-1/test.csv: ids and labels are not those"):
        tables.compare(tree.plan, {"cnn": ["cnn-1"]}, tree.data["test"], Path("predictions"))


def test_a_row_like_another_run_reads_the_predictions_of_that_run(tree):
    tree.write()
    tables_stage.main()
    run = Predictions.read(Path("predictions/ours-1/test.csv"))
    expected = round(metrics.mae(run.labels, run.predictions), 4)
    for number, row in (("3", "64"), ("4", "2e-4/2e-5"), ("5", "128")):
        assert tree.read(f"table{number}")[row]["mae"] == expected


def test_sweeps_choose_on_validation(tree):
    tree.write()
    tables_stage.main()
    for number in tables.SWEEPS:
        table = tree.read(f"table{number}")
        best = min(table, key=lambda row: table[row]["valid_mae"])
        assert [name for name in table if table[name]["chosen"]] == [best]
        assert f"| {best} * " in tree.markdown


@pytest.mark.usefixtures("undrawn")
def test_sweeps_without_seeds_are_left_out(tree):
    tree.plan["sweep_seeds"] = []
    tree.write()
    tables_stage.main()
    assert tree.read("table3")["64"]["mae"] is None
    assert tree.read("table3")["64"]["chosen"] is False
    assert tree.markdown.count("Left out: `sweep_seeds` is empty.") == 3
    report_stage.main()


def test_a_subset_with_a_modality_that_the_data_lack_is_empty(tree):
    tree.write(modalities=("vision",))
    tables_stage.main()
    table = tree.read("table2")
    assert [name for name in table if table[name]["mae"] is None] == ["a", "t+a", "a+v", "t+a+v"]
    assert "absent" in tree.markdown


@pytest.mark.usefixtures("undrawn")
def test_a_failed_run_costs_its_own_row_only(tree):
    tree.write()
    Path("predictions/cnn-2/test.csv").unlink()
    with pytest.raises(SystemExit, match=r"^tables: 1 missing.*: predictions/cnn-2/test.csv$"):
        tables_stage.main()
    table = tree.read("table6")
    assert [name for name in table if table[name]["mae"] is None] == ["cnn"]
    assert set(table["cnn"].values()) == {None}
    assert list(tree.read("comparison")["mae"]["models"]) == ["self_mm", "svm", "ours"]
    assert "missing" in tree.markdown
    report_stage.main()


@pytest.mark.usefixtures("undrawn")
def test_a_fifth_model_just_appears(tree):
    tree.plan["models"].append("fifth")
    tree.write()
    tables_stage.main()
    assert list(tree.read("table6"))[4:] == ["fifth", *tables.BASELINES]
    assert "ours - fifth" in tree.read("comparison")["mae"]["pairs"]
    report_stage.main()
    assert Path("plots/data/learning/fifth.csv").exists()


@pytest.mark.slow
def test_outputs_are_the_same_byte_for_byte(tree):
    tree.write()
    tables_stage.main()
    report_stage.main()
    first = tree.outputs()
    tables_stage.main()
    assert tree.outputs() == first
    names = {str(Path(name).relative_to(tree.root)) for name in first}
    drawn = ("learning", "predictions", "confusion", "comparison", "sweeps", "generated_labels")
    assert names >= {"plots/robustness.svg", "plots/published.svg"}
    assert names >= {"plots/report.html", *(f"plots/{name}.svg" for name in drawn)}
    assert names >= {f"plots/data/{name}.csv" for name in ("table6", "learning/cnn")}
    assert "plots/data/predictions/svm.csv" in names
    assert "plots/data/learning/svm.csv" not in names
    assert not any(b"<dc:date>" in content for content in first.values())


@pytest.mark.usefixtures("undrawn")
def test_metrics_of_ch_sims(tree):
    tree.plan.update({"metrics": "sims", "label_range": [-1.0, 1.0]})
    tree.write(scale=1 / 3)
    tables_stage.main()
    assert set(tree.read("summary")["svm"]) == {"mae", "corr", "acc_2", "f1"}
    assert "acc_7" not in tree.read("table6")["ours"]
    report_stage.main()


@pytest.mark.parametrize(("lowest", "times"), [(-9, 0), (0, 1)])
def test_where_a_constant_is_right_about_every_sign_the_text_says_so(tree, lowest, times):
    """Labels of 0 to 3 by the range of -3 to 3, which nobody has changed."""
    tree.lowest = lowest
    tree.write()
    tables_stage.main()
    assert (tree.read("table6")["train_mean"]["acc_2"] == 1.0) == bool(times)
    assert tree.markdown.count("not neutral are all on one side**") == times


def test_metrics_that_the_scale_does_not_have_are_dashes_with_a_reason_and_are_not_compared(tree):
    """Labels without a neutral point, as those of POM."""
    tree.lowest = 0
    tree.plan |= {"label_range": [0.0, 3.0], "neutral": None, "corpus": None, "simulated": False}
    tree.write()
    tables_stage.main()
    headline, _, rest = tree.markdown.partition("### Differences between the models")
    differences, _, rest = rest.partition("\n## ")
    line = next(line for line in headline.splitlines() if line.startswith("| ours"))
    assert line.count(" - ") == 7
    assert "Acc and F1 are not defined" in headline
    assert "acc_2, f1: positive against negative" not in headline
    assert "| corr | self_mm - svm" in differences
    assert "acc_2" not in differences
    assert "| - |" not in differences.replace("  ", " ")


def test_the_text_names_the_data_in_every_title(tree):
    tree.write()
    tables_stage.main()
    titles = [line for line in tree.markdown.splitlines() if line.startswith("#")]
    own = {"## Results", "## Tables of the report", "### Published results, CMU-MOSEI"}
    own.add("## Modalities")
    own.add("## Data")
    assert {line for line in titles if "simulated data" not in line} == own
    assert "The data are simulated: what is measured here says nothing about MOSEI" in tree.markdown
    tree.plan |= {"corpus": "mosei", "simulated": False}
    tree.save_plan()
    tables_stage.main()
    assert "says nothing" not in tree.markdown


def test_the_text_sets_the_report_beside_the_measured(tree):
    tree.write()
    tables_stage.main()
    text = tree.markdown
    ours, svm = tree.read("table6")["ours"], tree.read("table6")["svm"]
    line = next(line for line in text.splitlines() if line.startswith("| ours") and "0.563" in line)
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1:3] == [f"{ours['valid_mae']:.3f}", f"{ours['valid_corr']:.3f}"]
    del cells[1:3]
    assert cells[:3] == ["ours", f"{ours['mae']:.3f} ± {ours['mae_std']:.3f}", "0.563"]
    assert cells[3] == f"{ours['mae'] - 0.563:+.3f}"
    line = next(line for line in text.splitlines() if line.startswith("| svm") and "0.745" in line)
    assert f"{svm['acc_2_pos']:.3f} ± {svm['acc_2_pos_std']:.3f} † |  0.745" in line
    grids = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert all(len({len(row) for row in grid}) == 1 for grid in grids)


@pytest.mark.parametrize("column", ["id", "label"])
def test_predictions_for_other_data_are_refused(tree, column):
    tree.write()
    path = Path("predictions/cnn-1/test.csv")
    lines = path.read_text().splitlines()
    id, label, prediction = lines[1].split(",")
    lines[1] = f"other,{label},{prediction}" if column == "id" else f"{id},0.05,{prediction}"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=r"cnn-1/test.csv: ids and labels are not those"):
        tables_stage.main()


def test_published_figures_are_complete():
    for number in "23456":
        for row in PUBLISHED["tables"][number]["rows"].values():
            assert set(row) in (
                {"mae", "corr", "acc_2", "f1"},
                {"mae", "corr", "acc_2_pos", "f1_pos"},
            )
    assert PUBLISHED["protocol"]["selection"].keys() == PUBLISHED["tables"]["6"]["rows"].keys()


def test_tables_start_without_heavy_imports():
    code = (
        "import sys, msabench.evaluation.tables; "
        "print({'torch', 'sklearn', 'matplotlib'} & {*sys.modules})"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(tables.__file__).parents[2])}
    command = [sys.executable, "-c", code]
    actual = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert actual.stdout.strip() == "set()"


def alone(tree: Tree, own: str) -> None:
    """Let one model be all there is: ours, whose run of Table 6 reads a subset."""
    tree.plan |= {"models": ["ours"], "sweep": [], "ablation": {"ours": subset_runs("ours", own)}}
    tree.plan["ablation_seeds"] = [1, 2]


def test_without_models_on_subsets_table_2_is_left_out(tree):
    tree.plan["ablation"] = {}
    tree.write()
    tables_stage.main()
    assert {row["mae"] for row in tree.read("table2").values()} == {None}
    assert "Left out: `ablation` names no seeds, or not svm among its models." in tree.markdown
    assert "| t+a   |  left out |" in tree.markdown


def test_a_table_of_a_model_that_is_not_compared_is_a_note(tree):
    """On the report's corpus, where a table stands beside the report's, as on any other."""
    tree.plan |= {"models": ["cnn"], "modalities": {"cnn": ["text"]}, "sweep": [], "ablation": {}}
    tree.plan["not_compared"] = {"sweep": ["ours"], "ablation": ["svm", "self_mm"]}
    tree.write()
    tables_stage.main()
    note = "\n\nLeft out, as not among `compare` in params.yaml: "
    for number, model in (("2", "svm"), ("3", "ours"), ("4", "ours"), ("5", "ours")):
        section = tree.markdown.partition(f"\n### Table {number}")[2].partition("\n### ")[0]
        assert section.endswith(f"{note}{model}.\n")
        assert "|" not in section
    assert f"{note}svm, self_mm.\n" in tree.markdown.partition("### Modality ablation")[2]
    assert tree.markdown.count(note) == 5
    assert list(tree.read("table6")) == ["cnn", *tables.BASELINES]
    report_stage.main()


def test_the_ablation_of_other_models_names_those_that_are_not_compared(tree):
    alone(tree, "t+a+v")
    tree.plan["not_compared"] = {"sweep": [], "ablation": ["cnn"]}
    tree.write()
    tables_stage.main()
    ablation = tree.markdown.partition("### Modality ablation")[2].partition("\n### ")[0]
    assert "\nLeft out, as not among `compare` in params.yaml: cnn.\n" in ablation
    assert tree.markdown.count("Left out, as not among") == 1


def test_the_ablation_is_left_out_where_only_table_2_is_asked_for(tree):
    tree.write()
    tables_stage.main()
    assert tree.read("ablation") == {}
    models = "self_mm,svm,cnn,ours"
    assert f"Not measured. `dvc exp run -S 'ablation.models=[{models}]'`" in tree.markdown


def test_the_ablation_compares_each_subset_with_all_modalities(tree):
    """Text is made twice as wrong as the whole, audio equally wrong."""
    alone(tree, "t+a+v")
    tree.noise = lambda _, subset: 2.0 if subset == "t" else 0.6
    tree.write()
    tables_stage.main()
    measured = tree.read("ablation")["ours"]
    assert list(measured["rows"]) == list(SUBSETS)
    assert measured["rows"]["t+a+v"] == {
        key: value for key, value in tree.read("table6")["ours"].items() if key != "chosen"
    }
    assert set(measured["pairs"]) == {f"{subset} - t+a+v" for subset in SUBSETS[:-1]}
    assert measured["pairs"]["t - t+a+v"]["p_holm"] < 0.01
    assert measured["pairs"]["t - t+a+v"]["difference"] > 0
    assert measured["pairs"]["a - t+a+v"]["p"] > 0.01
    assert "every model on every subset" in tree.markdown


def test_the_ablation_compares_with_all_modalities_that_there_are(tree):
    """Of text and audio audio is much worse; text alone is better than both."""
    alone(tree, "t+a+v")
    tree.noise = lambda _, subset: {"t": 0.3, "a": 2.0}.get(subset, 0.9)
    tree.write(modalities=("audio",))
    tables_stage.main()
    pairs = tree.read("ablation")["ours"]["pairs"]
    assert set(pairs) == {"t - t+a", "a - t+a"}
    assert pairs["a - t+a"]["p_holm"] < 0.05
    assert "MAE minus that of t+a of the same model" in tree.markdown
    assert "\nBetter on test than t+a by more than chance: t (Ours).\n" in tree.markdown
    assert "Not shown to be worse on test than" not in tree.markdown
    assert "\nLower valid_mae than t+a: t (Ours).\n" in tree.markdown


def test_a_subset_that_differs_by_chance_alone_is_not_shown_to_be_worse(tree):
    alone(tree, "t+a+v")
    tree.noise = lambda _, subset: 0.9 if subset in ("t", "t+a") else 2.5
    tree.write(modalities=("audio",))
    tables_stage.main()
    assert tree.read("ablation")["ours"]["pairs"]["t - t+a"]["p_holm"] > 0.05
    assert "\nNot shown to be worse on test than t+a: t (Ours).\n" in tree.markdown
    assert "Better on test than" not in tree.markdown


def test_a_model_whose_settings_leave_a_modality_out_is_named(tree):
    """Vision is not in the data, so that no model leaves it out."""
    tree.plan["modalities"] |= {"svm": ["text"], "cnn": ["text", "audio"]}
    tree.write(modalities=("audio",))
    tables_stage.main()
    named = "leave a modality out: SVM (reads text alone, without audio)."
    assert tree.markdown.count(named) == 1
    assert named in tree.markdown.partition("### Table 6")[2]


def test_the_ablation_of_text_alone_has_no_row_for_what_is_absent(tree):
    alone(tree, "t+a+v")
    tree.write(modalities=())
    tables_stage.main()
    assert list(tree.read("ablation")["ours"]["rows"]) == ["t"]


def test_generated_labels_are_means_over_the_seeds(tree):
    tree.write()
    for seed, last in ((1, 0.5), (2, 0.7)):
        (tree.root / f"predictions/ours-{seed}/history.csv").write_text(
            "epoch,train_loss,valid_loss,valid_mae,label_corr_text,shift_corr_text,shift_ratio_text"
            f"\n1,1,1,1,0.9,0,0\n2,1,1,1,{last},0.2,{last}\n"
        )
    tables_stage.main()
    assert tree.read("generated_labels") == {
        "ours": {
            "text": {
                "multimodal": 0.9,
                "generated": 0.6,
                "shift_corr": 0.2,
                "shift_ratio": 0.6,
                "by_epoch": [0.9, 0.6],
            }
        }
    }
    assert "| ours | text |      0.900 |     0.600 |" in tree.markdown


@pytest.mark.usefixtures("undrawn")
def test_what_the_history_does_not_define_is_null_in_the_tables_and_empty_in_the_plots(tree):
    tree.write()
    for seed in (1, 2):
        (tree.root / f"predictions/ours-{seed}/history.csv").write_text(
            "epoch,train_loss,valid_loss,valid_mae,label_corr_text,shift_corr_text,shift_ratio_text"
            "\n1,1,1,1,0.9,0,\n2,1,1,1,0.8,0.2,\n"
        )
    tables_stage.main()
    measured = tree.read("generated_labels")["ours"]["text"]
    assert (measured["shift_ratio"], measured["shift_corr"]) == (None, 0.2)
    assert "| ours | text |      0.900 |     0.800 |      0.200 |           - |" in tree.markdown
    report_stage.main()
    assert Path("plots/data/learning/ours.csv").read_text().splitlines()[1] == "1,1,1,1,0.9,0,"


def test_a_metric_that_a_seed_does_not_have_has_no_mean_over_the_seeds(tree):
    """The mean of the others would be one of another choice of seeds."""
    tree.write()
    path = Path("predictions/cnn-1/test.csv")
    first, *lines = path.read_text().splitlines()
    constant = [line.rpartition(",")[0] + ",0.5" for line in lines]
    path.write_text("\n".join([first, *constant]) + "\n")
    tables_stage.main()
    row = tree.read("table6")["cnn"]
    assert (row["corr"], row["corr_std"]) == (None, None)
    assert row["mae"] is not None
    assert "corr is not defined without labels and predictions that vary." in tree.markdown


def test_a_model_of_some_modalities_is_its_own_row_of_the_ablation(tree):
    """Its run of Table 6 is text alone; all modalities together come from the ablation."""
    alone(tree, "t")
    tree.noise = lambda _, subset: 0.1 if subset == "t+a+v" else 0.6
    tree.write()
    tables_stage.main()
    rows = tree.read("ablation")["ours"]["rows"]
    assert rows["t"]["mae"] == tree.read("table6")["ours"]["mae"]
    assert rows["t+a+v"]["mae"] < rows["t"]["mae"]


def test_robustness_is_left_out_until_seeds_are_asked_for(tree):
    tree.write()
    tables_stage.main()
    assert tree.read("robustness") == {}
    assert not Path("metrics/missing.json").exists()
    assert "Not measured. `dvc exp run -S 'robustness_seeds=[1,2,3]'`" in tree.markdown
    assert "Missing data" not in tree.markdown


@pytest.mark.usefixtures("undrawn")
def test_robustness_is_the_mae_by_level_over_the_seeds_asked_for(tree):
    """The data lack vision, and svm reads the text alone."""
    tree.plan |= {
        "robustness_seeds": [1, 2],
        "robustness": {"svm": ["text"], "ours": ["text", "audio", "vision"]},
    }
    tree.write(modalities=("audio",))
    kinds = {"svm": ["all_missing", "text_missing", "text_noise"]}
    kinds["ours"] = [*kinds["svm"], "audio_missing", "audio_noise"]
    kinds["ours"] = [kind for kind in LEVELS if kind in kinds["ours"]]
    test = tree.data["test"]
    for seed, (model, names) in product((1, 2), kinds.items()):
        for kind in names:
            folder = Path(f"predictions/robustness-{model}-{seed}/{kind}")
            folder.mkdir(parents=True)
            for level in LEVELS[kind]:
                wrong = Predictions(test.ids, test.labels, test.labels + 0.1 * seed + level)
                wrong.write(folder / f"{level:g}.csv")
    tables_stage.main()
    measured = tree.read("robustness")
    assert {model: list(actual) for model, actual in measured.items()} == kinds
    assert measured["ours"]["audio_noise"] == {
        level: {"mae": pytest.approx(0.15 + float(level)), "mae_std": 0.0707}
        for level in ("0", "0.5", "1", "2", "4")
    }
    assert "## Robustness, simulated data" in tree.markdown
    line = "| text, noise    | svm  | 0.150 ± 0.071 | 0.350 ± 0.071 | 0.550 ± 0.071 |"
    assert line in tree.markdown
    report_stage.main()

    Path("predictions/robustness-ours-2/audio_noise/4.csv").unlink()
    with pytest.raises(SystemExit, match=r"1 missing.*robustness-ours-2/audio_noise/4.csv"):
        tables_stage.main()
    assert tree.read("robustness")["ours"]["audio_noise"]["4"] == {"mae": None, "mae_std": None}
    report_stage.main()
    assert "robustness-ours-2/audio_noise/4.csv" in Path("plots/report.html").read_text()


TRAINED = {"share": 0.5, "copies": 4, "absent": 0.0}


def write_curves(tree: Tree, models, *, better=()) -> dict[str, np.ndarray]:
    """Write predictions at each share by two seeds, and return them: (seeds, shares, n).

    better: the models that lose less by missing data.
    """
    tree.plan |= {"models": list(models), "robustness_seeds": [1, 2]}
    tree.plan["modalities"] = tree.plan["robustness"] = {name: ["audio"] for name in models}
    tree.plan |= {"sweep": [], "ablation": {}}
    tree.write(modalities=("audio",))
    test, curves = tree.data["test"], {}
    for model in models:
        noise = tree.random.normal(size=(2, 1, len(test)))
        spread = np.array(LEVELS["all_missing"])[:, None] * (0.5 if model in better else 2) + 0.2
        curves[model] = test.labels + spread * noise
        for seed, kind in product((1, 2), ("all_missing", "audio_missing", "audio_noise")):
            folder = Path(f"predictions/robustness-{model}-{seed}/{kind}")
            folder.mkdir(parents=True)
            for level, guesses in zip(LEVELS[kind], curves[model][seed - 1], strict=False):
                Predictions(test.ids, test.labels, guesses).write(folder / f"{level:g}.csv")
    return curves


def test_the_area_is_the_mean_over_shares_of_the_mae_that_the_files_have(tree):
    write_curves(tree, ["svm", "ours"])
    tables_stage.main()
    measured, robustness = tree.read("missing"), tree.read("robustness")
    for model in ("svm", "ours"):
        seeds = []
        for seed in (1, 2):
            folder = Path(f"predictions/robustness-{model}-{seed}/all_missing")
            runs = [Predictions.read(folder / f"{share / 10:g}.csv") for share in range(10)]
            seeds.append(np.mean([metrics.mae(run.labels, run.predictions) for run in runs]))
        area = measured["area"]["models"][model]["value"]
        assert area == round(np.mean(seeds), 4) == measured["metrics"][model]["mae"]
        assert measured["metrics"][model]["mae_std"] == round(np.std(seeds, ddof=1), 4)
        whole = measured["whole"]["models"][model]["value"]
        assert whole == robustness[model]["all_missing"]["0"]["mae"]
        assert area - whole > 0.4


def test_the_interval_of_an_area_is_that_of_errors_averaged_over_shares(tree):
    curves = write_curves(tree, ["svm", "ours", "cnn"], better=["ours"])
    tables_stage.main()
    test = tree.data["test"]

    def mean(_, errors):
        return float(errors.mean())

    models = {
        name: statistics.replicates(
            mean, test.labels, np.abs(curve - test.labels).mean(axis=1), test.videos
        )
        for name, curve in curves.items()
    }
    expected = statistics.compare(models, len(set(test.videos)))
    area = tree.read("missing")["area"]
    for part in ("models", "pairs"):
        assert list(area[part]) == list(expected[part])
        for name, row in expected[part].items():
            assert area[part][name] == pytest.approx(row, abs=1e-4)
    assert area["pairs"]["svm - ours"]["difference"] > 0.2


def test_a_metric_is_measured_at_each_share_and_then_averaged(tree):
    """The correlation over all shares together is another."""
    curves = write_curves(tree, ["ours"])
    tables_stage.main()
    labels, ours = tree.data["test"].labels, tree.read("missing")["metrics"]["ours"]
    assert set(ours) == {f"{m}{end}" for m in metrics.METRICS["mosei"] for end in ("", "_std")}
    for name in ("corr", "acc_7"):
        metric = getattr(metrics, name)
        each = [[metric(labels, share) for share in seed] for seed in curves["ours"]]
        assert ours[name] == pytest.approx(np.mean(each), abs=1e-4)
    together = metrics.corr(np.tile(labels, 20), curves["ours"].ravel())
    assert ours["corr"] != pytest.approx(together, abs=0.01)


def test_a_metric_that_is_not_defined_at_a_share_has_no_mean(tree):
    curves = write_curves(tree, ["ours"])
    test = tree.data["test"]
    constant = Predictions(test.ids, test.labels, np.zeros_like(curves["ours"][0, 0]))
    constant.write(Path("predictions/robustness-ours-1/all_missing/0.9.csv"))
    tables_stage.main()
    ours = tree.read("missing")["metrics"]["ours"]
    assert ours["corr"] is None
    assert ours["mae"] > 0


def assert_paired(tree, curves, counterparts):
    """The area of `gaps` less that of `ours`, by the differences of seeds that belong together."""
    test = tree.data["test"]
    errors = {name: np.abs(curves[name] - test.labels).mean(axis=1) for name in ("gaps", "ours")}

    def mean(_, errors):
        return float(errors.mean())

    models = {
        name: statistics.replicates(mean, test.labels, of, test.videos)
        for name, of in errors.items()
    }
    paired = statistics.compare(models, len(set(test.videos)), paired=True)["pairs"]
    unpaired = statistics.compare(models, len(set(test.videos)))["pairs"]
    assert list(counterparts) == ["gaps"]
    assert counterparts["gaps"] == pytest.approx(paired["gaps - ours"], abs=1e-4)
    assert counterparts["gaps"]["se_seeds"] != pytest.approx(
        unpaired["gaps - ours"]["se_seeds"], abs=1e-4
    )
    assert counterparts["gaps"]["high"] < 0


@pytest.mark.usefixtures("undrawn")
def test_a_model_and_the_same_trained_with_missing_data_stand_side_by_side(tree):
    names = ["ours", "svm", "twin", "gaps", "alone"]
    curves = write_curves(tree, names, better=["gaps"])
    settings = {"settings": TRAINED}
    tree.plan["missing"] = {
        "gaps": {**settings, "counterpart": "ours"},
        "alone": {**settings, "counterpart": None},
    }
    tree.save_plan()
    tables_stage.main()
    area = tree.read("missing")["area"]
    assert list(area["models"]) == ["ours", "gaps", "svm", "twin", "alone"]
    table = tree.markdown.partition("### Missing data, simulated data")[2].partition("\n\n###")[0]
    rows = [line.split("|")[1:-1] for line in table.splitlines() if line.startswith("| gaps ")]
    name, trained, *values = (cell.strip() for cell in rows[0])
    assert (name, trained) == ("gaps", "share 0.5, copies 4, absent 0.0")
    assert values == [
        f"{tree.read('missing')[part]['models']['gaps'][bound]:.3f}"
        for part in ("whole", "area")
        for bound in ("value", "low", "high")
    ]
    assert_paired(tree, curves, area["counterparts"])
    _, *compared = (cell.strip() for cell in rows[1])
    pair = area["counterparts"]["gaps"]
    assert compared[5:8] == [f"{pair[bound]:+.3f}" for bound in ("difference", "low", "high")]
    assert "Trained with missing data: gaps, alone; no other model" in tree.markdown
    report_stage.main()
    page = Path("plots/report.html").read_text()
    assert "Area under the curve" in page
    assert "Missing data" in page


@pytest.mark.usefixtures("undrawn")
def test_a_curve_that_is_not_whole_is_left_out(tree):
    write_curves(tree, ["svm", "ours"])
    Path("predictions/robustness-ours-2/all_missing/0.3.csv").unlink()
    with pytest.raises(SystemExit, match=r"1 missing.*robustness-ours-2/all_missing/0.3.csv"):
        tables_stage.main()
    assert list(tree.read("missing")["area"]["models"]) == ["svm"]
    report_stage.main()
    shutil.rmtree("predictions/robustness-svm-1")
    with pytest.raises(SystemExit, match="missing, rows left empty"):
        tables_stage.main()
    assert not Path("metrics/missing.json").exists()
    report_stage.main()
