"""Data without text, as a folder of audio and vision: the whole pipeline, and use of its runs."""

import json
import os
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

import msabench
from msabench import hashes
from msabench.__main__ import main
from msabench.data import sources
from msabench.errors import DataError
from msabench.utterances import SPLITS, check_splits
from stages import cards, download, features, plan, prepare, report, robustness, tables, train

ROOT = Path(__file__).resolve().parents[1]
MODELS = ("self_mm", "svm", "cnn", "ours")
ABLATED = ("svm", "cnn")
SUBSETS = ("t", "a", "v", "t+a", "t+v", "a+v", "t+a+v")
WIDTHS = {"audio": 3, "vision": 2}


def write(folder: Path, header: str = "id,split,label") -> Path:
    """Write a folder without the column text, of videos of four clips."""
    rng = np.random.default_rng(0)
    rows = [header]
    for modality in WIDTHS:
        (folder / modality).mkdir(parents=True)
    for split, n in {"train": 24, "valid": 8, "test": 32}.items():
        for i in range(n):
            id, label = f"{split}{i // 4}$_${i % 4}", rng.uniform(-3, 3)
            rows.append(f"{id},{split},{label}")
            for modality, width in WIDTHS.items():
                frames = rng.normal(label, size=(rng.integers(1, 5), width))
                np.save(folder / modality / f"{id}.npy", frames)
    (folder / "utterances.csv").write_text("\n".join(rows) + "\n")
    return folder


def run_pipeline(place: Path, data: Path, sha256: str, label_range: list[float]) -> None:
    """Run every stage with a text encoder that does not exist."""
    yaml = YAML()
    params = yaml.load(ROOT / "params.yaml")
    params |= {"dataset": "mine", "text_encoder": str(place / "none"), "seeds": [1]}
    params |= {"sweep_seeds": [], "robustness_seeds": [1], "transformer_dim": 16}
    params["ablation"] = {"models": list(ABLATED), "seeds": [1]}
    entry = {"source": "folder", "title": "mine", "file": data.name, "sha256": sha256}
    params["datasets"]["mine"] = entry | {"path": str(data), "label_range": label_range}
    for model in ("self_mm", "cnn", "ours"):
        params["models"][model]["epochs"] = 1
    yaml.dump(params, place / "params.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        Path("src").symlink_to(ROOT / "src")
        for stage in (plan, download, prepare, features):
            stage.main()
        runs = [*MODELS, *(f"{model}-{subset}" for model, subset in product(ABLATED, SUBSETS))]
        for run in runs:
            train.main(run, 1)
        for model in MODELS:
            robustness.main(model, 1)
        for stage in (tables, report, cards):
            stage.main()


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    place = tmp_path_factory.mktemp("no_text")
    data = write(place / "mine")
    run_pipeline(place, data, hashes.of_data(data), [-3.0, 3.0])
    return place


def content(tree: Path, name: str) -> dict:
    return json.loads((tree / "metrics" / f"{name}.json").read_text())


def check_results(tree: Path) -> None:
    """Whatever needs text is absent, and all else is there."""
    for split in SPLITS:
        assert not (tree / "data/features" / split).exists()
    table2, table6 = content(tree, "table2"), content(tree, "table6")
    for subset, row in table2.items():
        assert (row["mae"] is None) == ("t" in subset.split("+"))
    assert all(table6[model]["mae"] is not None for model in (*MODELS, "train_mean", "probe"))
    assert list(content(tree, "probe")) == ["audio", "vision", "all"]
    everything = content(tree, "table1")["all"]
    assert everything["tokens"] is None
    assert everything["repeated_texts"] == everything["shared_texts"] == 0
    assert not any(
        key.startswith(("tokens_", "texts_", "text_"))
        for key in everything
        if key not in ("tokens_median", "tokens_max")
    )
    for model in ABLATED:
        assert list(content(tree, "ablation")[model]["rows"]) == ["a", "v", "a+v"]
    for kinds in content(tree, "robustness").values():
        assert {kind.partition("_")[0] for kind in kinds} == {"all", "audio", "vision"}
    assert json.loads((tree / "runs/svm-t-1/absent.json").read_text()) == {"absent": ["text"]}
    assert {file.stem for file in (tree / "runs/cards").iterdir()} >= {"data", "ours-1", "svm-a-1"}
    assert (tree / "plots/report.html").exists()


def test_the_pipeline_runs_without_text(tree):
    check_results(tree)


@pytest.mark.parametrize("model", MODELS)
def test_a_run_predicts_from_frames_and_says_that_it_reads_no_text(tree, model):
    run = msabench.load(tree / "runs" / model)
    assert run.widths == WIDTHS
    frames = {name: np.ones((2, width)) for name, width in WIDTHS.items()}
    # One by one: native kernels may round the rows of a batch differently.
    with_text, without = (run.attempt([one])[0] for one in (frames | {"text": "so good"}, frames))
    np.testing.assert_array_equal(with_text.seeds, without.seeds)
    assert (with_text.losses, without.losses) == ({"text_unread": 1}, {})
    with pytest.raises(DataError, match=r"nothing is given; this run reads audio, vision$"):
        run.predict("so good")


def test_commands_need_no_text(tree, capsys, monkeypatch):
    monkeypatch.chdir(tree)
    Path("clips.csv").write_text("id,audio\na,mine/audio/train0$_$0.npy\n")
    for arguments in (
        ["predict", "--run", "runs/ours", "--csv", "clips.csv"],
        ["explain", "--run", "runs/ours"],
        ["explain", "--run", "runs/cnn-1", "--json", "test0$_$1"],
    ):
        main(arguments)
        shown = capsys.readouterr()
        assert "prediction" in shown.out
        assert "text" not in shown.err
        assert not shown.out.startswith("\n")


@pytest.mark.parametrize("texts", [["", " \t", ""], ["so", "", "good"]])
def test_blank_texts_are_no_modality_and_must_be_so_in_every_split(tmp_path, texts):
    data = write(tmp_path / "mine", "id,split,label,text")
    rows = (data / "utterances.csv").read_text().splitlines()
    of_split = dict(zip(SPLITS, texts, strict=True))
    rows[1:] = [f"{row},{of_split[row.split(',')[1]]}" for row in rows[1:]]
    (data / "utterances.csv").write_text("\n".join(rows) + "\n")
    splits = sources.read("folder", data, {})
    if any(text.strip() for text in texts):
        with pytest.raises(DataError, match=r"^valid: all texts are blank, those of other splits"):
            check_splits(splits, (-3.0, 3.0))
    else:
        check_splits(splits, (-3.0, 3.0))
        assert all(split.modalities == ["audio", "vision"] for split in splits.values())


def test_data_without_any_modality_are_refused(tmp_path):
    (tmp_path / "utterances.csv").write_text(
        "id,split,label\n" + "".join(f"{split},{split},0\n" for split in SPLITS)
    )
    with pytest.raises(DataError, match="all texts are blank, and there are no frames; needed"):
        check_splits(sources.read("folder", tmp_path, {}), (-3.0, 3.0))


@pytest.mark.slow
@pytest.mark.skipif("POM" not in os.environ, reason="POM names no data")
def test_pom(tmp_path):
    """Of 903 videos with audio and vision, whose column text is blank."""
    sha256 = "af6aaafe70cd9678374e61fb2b1e225cbe387c06687474a58c5f8b126b577dad"
    run_pipeline(tmp_path, Path(os.environ["POM"]), sha256, [1.0, 7.0])
    check_results(tmp_path)
