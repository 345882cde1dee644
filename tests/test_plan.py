"""The plan: what a setting changes, and what it leaves alone."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from dvc.utils.hydra import apply_overrides

from msabench import models, params, plan
from msabench.errors import ParamsError
from msabench.networks.encoders import MPNET
from msabench.params import Dataset
from msabench.training.network import Network

PARAMS = Path(__file__).resolve().parents[1] / "params.yaml"
BASE = params.load(PARAMS)
NO_FILE = params.Dataset(source="label_csv", title="nothing")


def planned(**changes):
    return resolve(BASE.model_copy(update=changes))


def resolve(settings):
    return plan.resolve(settings, plan.runs_of(settings))


def with_model(name, **settings):
    return {**BASE.models, name: {**BASE.models.get(name, {}), **settings}}


def trained(configs):
    """Name the runs that train, those on subsets apart."""
    return {run for run, config in configs.items() if "model" in config and "svm-" not in run}


def test_the_sweep_trains_seven_runs_beside_ours():
    """Ten rows, eight settings, one of which is the model of Table 6."""
    configs = planned()
    assert len(trained(configs) - set(BASE.compare)) == 7
    for row in ("batch_size_64", "lr_2e-4_2e-5", "transformer_dim_128"):
        assert configs[row] == {"same_as": "ours"}


def test_the_corpus_of_the_data_makes_no_training_stale():
    """It names the columns of the features."""
    own = BASE.datasets["simulated"].model_copy(update={"corpus": None})
    configs, without = planned(), planned(datasets=BASE.datasets | {"simulated": own})
    changed = [name for name in configs if configs[name] != without[name]]
    assert changed == ["stages/prepare", "stages/cards", "stages/tables"]
    assert "MIT" in configs["stages/cards"]["corpus"]["terms"]
    assert without["stages/cards"]["corpus"] is None


def test_every_corpus_says_the_same_things():
    assert len({tuple(facts) for facts in plan.CORPORA.values()}) == 1
    assert all(data.corpus in plan.CORPORA for data in BASE.datasets.values())


def test_an_unknown_corpus_is_named():
    own = BASE.datasets["simulated"].model_copy(update={"corpus": "mosie"})
    with pytest.raises(ParamsError, match=r"simulated\.corpus: 'mosie'; permitted: simulated"):
        planned(datasets=BASE.datasets | {"simulated": own})


def test_a_preset_lies_under_the_own_settings():
    """A mapping may override a part; the other rates are those of the preset."""
    own = {"preset": "mmsa_sims", "epochs": 3, "lr": {"text": 1e-4}}
    config = planned(models=BASE.models | {"self_mm": own})["self_mm"]
    sims = BASE.presets["mmsa_sims"]
    assert config["optimizer"]["lr"] == sims["lr"] | {"text": 1e-4}
    assert config["network"]["out_dim"] == sims["out_dim"]
    assert config["schedule"]["epochs"] == 3


PUBLISHED = [name for name in BASE.presets if name.startswith(("mmsa", "repository"))]


@pytest.mark.parametrize("preset", PUBLISHED)
def test_every_published_preset_is_complete(preset):
    planned(models=BASE.models | {"self_mm": {"preset": preset}})
    planned(models=with_model("self_mm", preset=preset))


def resolved(*overrides):
    """What `dvc exp run -S ...` resolves to: DVC applies the overrides with Hydra."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "params.yaml"
        file.write_bytes(PARAMS.read_bytes())
        apply_overrides(file, list(overrides))
        return resolve(params.load(file))


def test_a_data_set_alone_gives_the_settings_that_suit_it():
    """Those that were given to it one by one before it had presets (metrics/mosei_text)."""
    text = ("dataset=mosei_text", "sweep_seeds=[]")
    assert resolved(*text) == resolved(
        *text,
        "bert_lr=1e-4",
        "models.self_mm.lr.text=1e-4",
        "+models.ours.trainable_layers=4",
        "models.ours.epochs=3",
        "models.ours.decay=linear",
        "+models.self_mm.trainable_layers=4",
        "models.self_mm.epochs=3",
        "models.self_mm.decay=linear",
        "models.cnn.lr=3e-4",
        "models.cnn.dropout=0.5",
        "models.cnn.epochs=6",
        # What makes the difference is off:
        *(f"models.{model}.preset.mosei_text=null" for model in ("ours", "self_mm", "cnn")),
    )


def test_a_block_beats_the_data_set_which_beats_the_default():
    """Key by key in mappings, and `auto` is the preset's value, as if nothing stood there."""
    presets = {
        "default": {"epochs": 4, "patience": 4, "decay": "none"},
        "later": {"patience": 5},
        "own": {"epochs": 6, "decay": "none"},
    }
    block = {key: value for key, value in BASE.models["cnn"].items() if key != "patience"}
    block |= {"preset": {"default": ["cnn", "default", "later"], "mosei": "own"}}
    block |= {"epochs": "auto", "decay": "linear"}
    changes = {"models": BASE.models | {"cnn": block}, "presets": BASE.presets | presets}
    for dataset, epochs in (("simulated", 4), ("mosei", 6)):
        schedule = planned(**changes, dataset=dataset)["cnn"]["schedule"]
        assert (schedule["epochs"], schedule["patience"]) == (epochs, 5)
        assert schedule["decay"] == "linear"


def test_presets_go_by_corpus_size_data_set_and_size_of_the_encoder():
    """The later beats the earlier, whatever the data set is called; its own name beats the rest."""
    names = ("all", "corpus", "size", "own", "base", "both", "own base")
    presets = {name: {"epochs": i} for i, name in enumerate(names, 1)}
    block = {key: value for key, value in BASE.models["cnn"].items() if key != "epochs"}
    by = {"default": ["cnn", "all"], "mosi": "corpus", "few": "size", "mine": "own"}
    by |= {"base": "base", "base_few": "both", "ours_base": "own base"}
    changes = {"models": BASE.models | {"cnn": block | {"preset": by}}}
    changes["presets"] = BASE.presets | presets
    mosi = BASE.datasets["mosi"]
    for name, corpus, size, encoder, epochs in (
        ("other", None, None, "auto", 1),
        ("other", "mosi", None, "auto", 2),
        ("other", "mosi", "few", "auto", 3),
        ("mine", "mosi", "few", "auto", 4),
        ("mosi", "mosi", "few", "auto", 2),  # both its corpus and its name
        ("mine", "mosi", None, MPNET, 5),
        ("mine", "mosi", "few", MPNET, 6),
        ("ours", "mosi", "few", MPNET, 7),
        ("mine", "mosi", "few", "bert-base-uncased", 4),  # whose block names no size
    ):
        own = mosi.model_copy(update={"corpus": corpus, "size": size})
        datasets = BASE.datasets | {"mine": mosi, "ours": mosi, name: own}
        config = planned(**changes, datasets=datasets, dataset=name, text_encoder=encoder)["cnn"]
        assert config["schedule"]["epochs"] == epochs


HASHES = {"config.json": "1" * 64, "model.safetensors": "2" * 64}


def test_what_params_say_of_an_encoder_s_files_is_part_of_its_runs():
    """Where they say nothing, the configs are what they were."""
    known = BASE.text_encoders["default"].model_copy(update={"commit": "0" * 40, "sha256": HASHES})
    encoders = BASE.text_encoders | {"someone/encoder": known}
    config = planned(text_encoders=encoders, text_encoder="someone/encoder")["ours"]
    assert config["encoder"]["published"] == {"commit": "0" * 40, "sha256": HASHES}
    assert config["encoder"]["trainable_layers"] == "all"
    assert "published" not in planned(text_encoders=encoders)["ours"]["encoder"]
    assert params.flat(config)["pooling"] == "cls"
    assert not {"name", "published"} & set(params.flat(config))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"commit": "0" * 40}, "commit and sha256 belong together"),
        ({"sha256": HASHES}, "commit and sha256 belong together"),
        ({"commit": "main", "sha256": HASHES}, r"commit: .*\[0-9a-f\]\{40\}"),
        ({"commit": "0" * 40, "sha256": {"config.json": "0"}}, r"config\.json: .*\{64\}"),
        (
            {"commit": "0" * 40, "sha256": {"pytorch_model.bin": "0" * 64}},
            "no file of weights, .*safetensors; a pickle is not read",
        ),
        ({"commit": "0" * 40, "sha256": {"a.safetensors": "0" * 64}}, "config.json is missing"),
        (
            {"commit": "0" * 40, "sha256": {"../config.json": "0" * 64}},
            r"\.\./config\.json.*pattern",
        ),
        ({"size": "large"}, "size: .*'base'"),
    ],
)
def test_an_encoder_s_block_is_checked(changes, message, tmp_path):
    content = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
    block = {"trainable_layers": 1, "pooling": "mean", **changes}
    content["text_encoders"]["someone/encoder"] = block
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ParamsError, match=message) as refused:
        params.load(tmp_path / "params.yaml")
    assert "text_encoders.someone/encoder" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_candidates_are_runs_of_their_model():
    tune = params.Tune(
        model="svm", seeds=[1, 2], candidates={"a": {"C": 7.0, "modalities": ["text"]}}
    )
    runs = plan.runs_of(BASE.model_copy(update={"tune": tune}))
    assert (runs["a"].stage, runs["a"].seeds) == ("tune", (1, 2))
    assert runs["a"].config["network"]["C"] == 7.0
    assert runs["a"].config["modalities"] == ["text"]
    unchanged = tune.model_copy(update={"candidates": {"a": {}}, "seeds": list(BASE.seeds)})
    runs = plan.runs_of(BASE.model_copy(update={"tune": unchanged}))
    assert "a" not in plan.equal_runs(runs)  # `make tune` trains candidates alone
    assert not [name for name, run in plan.runs_of(BASE).items() if run.stage == "tune"]


def test_the_preset_s_part_of_a_mapping_may_be_changed_without_a_plus():
    """Hydra refuses a key that does not exist: `auto` keeps it."""
    rates = resolved("dataset=mosei_text", "models.self_mm.lr.text=7e-5")["self_mm"]["optimizer"]
    assert rates["lr"] == BASE.presets["mmsa_mosei"]["lr"] | {"text": 7e-5}
    assert resolved("models.ours.epochs=1")["ours"]["schedule"]["epochs"] == 1
    assert resolved("bert_lr=5e-5")["ours"]["optimizer"]["bert_lr"] == 5e-5


def test_a_name_replaces_the_presets_of_the_data_sets():
    """`-S models.self_mm.preset=repository_mosei`"""
    config = resolved("models.self_mm.preset=repository_mosei", "dataset=mosei_text")["self_mm"]
    assert config["optimizer"]["lr"] == BASE.presets["repository_mosei"]["lr"]
    assert config["encoder"]["trainable_layers"] == 1


def test_the_values_at_the_top_are_those_of_ours():
    """They beat its presets; another model has them where nothing else gives it a value."""
    configs = resolved("dataset=mosei_text", "bert_lr=3e-5", "batch_size=8")
    assert configs["ours"]["optimizer"]["bert_lr"] == 3e-5
    assert configs["ours"]["schedule"]["batch_size"] == 8
    for model in ("cnn", "self_mm"):
        assert configs[model] == resolved("dataset=mosei_text")[model]
    fifth = {key: value for key, value in BASE.models["cnn"].items() if key != "bert_lr"}
    for dataset, rate in (("simulated", 2e-5), ("mosei_text", 1e-4)):
        configs = planned(dataset=dataset, models=BASE.models | {"cnn": fifth})
        assert configs["cnn"]["optimizer"]["bert_lr"] == rate


@pytest.mark.parametrize("override", ["+models.ours.lr=0.001", "+models.ours.batch_size=64"])
def test_ours_has_a_value_of_the_top_there_alone(override):
    """Else `-S lr=...` would be without effect."""
    key, value = override.removeprefix("+models.ours.").split("=")
    expected = rf"^models\.ours\.{key}: {value}; .* top of params\.yaml: -S {key}={value}$"
    with pytest.raises(ParamsError, match=expected):
        resolved(override)


def test_a_setting_of_two_groups_is_refused(monkeypatch):
    class Twice(Network):
        def __init__(self, encoder, widths, *, lr: float):
            super().__init__()

    monkeypatch.setattr(models, "_model", {"x": Twice}.get)
    with pytest.raises(ParamsError, match=r"^models\.x: lr is a setting of network and of optimiz"):
        models.groups("x")


def test_a_flat_view_has_all_settings_and_no_other():
    for model, config in planned().items():
        if model in BASE.compare:
            types = models.groups(model).values()
            keys = {key for type_ in types for key in type_.model_fields}
            assert params.flat(config).keys() == keys


@pytest.mark.parametrize(
    ("preset", "values"),
    [
        # batch; rates and decays of text, audio, vision, other; LSTM of audio, vision;
        # heads and dropout of fusion, text, audio, vision; exclude_zero
        (
            "repository_mosei",
            "32 | 5e-5 5e-3 1e-4 1e-3 | 1e-3 0 0 1e-2 | 32 32 | 128 32 16 16 | 0 .1 0 .1 | 0",
        ),
        (
            "mmsa_mosei",
            "32 | 5e-5 5e-3 1e-4 1e-3 | 1e-3 0 0 1e-2 | 16 32 | 128 32 16 32 | .1 0 0 0 | 1",
        ),
        (
            "repository_mosi",
            "32 | 5e-5 1e-3 1e-4 1e-3 | 1e-3 1e-2 1e-3 1e-3 | 32 64 | 128 64 16 32"
            " | .1 0 .1 .1 | 0",
        ),
        (
            "mmsa_mosi",
            "16 | 5e-5 5e-3 5e-3 1e-3 | 1e-3 1e-3 1e-3 1e-3 | 16 32 | 128 32 16 32 | 0 .1 .1 0 | 1",
        ),
        (
            "mmsa_sims",
            "32 | 5e-5 5e-3 5e-3 1e-3 | 1e-3 1e-2 1e-2 1e-3 | 16 64 | 128 64 16 32 | 0 .1 .1 0 | 1",
        ),
    ],
)
def test_a_preset_is_as_published(preset, values):
    actual = BASE.presets[preset]
    groups = ("text", "audio", "vision", "other")
    tasks = ("fusion", "text", "audio", "vision")
    expected = [[float(value) for value in group.split()] for group in values.split("|")]
    assert [
        [actual["batch_size"]],
        [actual["lr"][group] for group in groups],
        [actual["weight_decay"][group] for group in groups],
        [actual["lstm_dim"][modality] for modality in ("audio", "vision")],
        [actual["post_dim"][task] for task in tasks],
        [actual["dropout"][task] for task in tasks],
        [actual["exclude_zero"]],
    ] == expected
    assert (actual["accumulate"], actual["patience"]) == (4, 8)
    assert actual["out_dim"] == {"audio": 16, "vision": 32}
    assert (actual["drop_incomplete"], actual["validation_loss"]) == (True, "mean_of_batches")


@pytest.mark.parametrize("preset", ["best", 1])
def test_an_unknown_preset_is_named(preset):
    expected = re.escape(f"models.cnn.preset: {preset!r}; permitted: ") + ".*, ours, ours_few, "
    for given in (preset, ["cnn", preset], {"default": "cnn", "mosei": preset}):
        with pytest.raises(ParamsError, match=expected):
            planned(models=with_model("cnn", preset=given))


def test_a_preset_of_an_unknown_data_set_is_named():
    message = (
        r"^models\.cnn\.preset\.mosie: no such data set, corpus or size; permitted: default, simul"
    )
    with pytest.raises(ParamsError, match=message):
        planned(models=with_model("cnn", preset={"default": "cnn", "mosie": "cnn"}))


def test_two_rows_of_a_table_with_one_name_are_refused():
    sweep = {"a": {"table": 3, "batch_size": 8}, "b": {"table": 3, "lstm_dim": 8}}
    with pytest.raises(ParamsError, match=r"sweep\.b: row '8' of Table 3 is sweep\.a already"):
        planned(sweep=sweep)


def test_a_cnn_without_kernels_is_refused():
    with pytest.raises(ParamsError, match=r"models\.cnn: kernel_widths"):
        planned(models=with_model("cnn", kernel_widths=[]))


def test_by_default_the_svm_alone_is_trained_on_subsets():
    """All modalities are its run of Table 6, and no change of ours retrains any."""
    configs = planned()
    assert [run for run in configs if run.startswith("svm-")] == [f"svm-{s}" for s in plan.SUBSETS]
    assert configs["svm-t+a+v"] == {"same_as": "svm"}
    assert configs["svm-t+a"] == {
        **configs["svm"],
        "modalities": ["text", "audio"],
        "modalities_required": True,
    }
    assert not any(run.startswith("ours-") for run in configs)


def test_without_models_or_seeds_nothing_is_trained_on_subsets():
    for names, seeds in (([], [1]), (["svm"], [])):
        configs = planned(ablation=params.Ablation(models=names, seeds=seeds))
        assert not any(run.startswith("svm-") for run in configs)
        assert configs["stages/tables"]["ablation"] == {}


def test_the_ablation_of_all_models_trains_no_run_of_table_6_again():
    models = BASE.compare
    configs = planned(ablation=params.Ablation(models=models, seeds=BASE.seeds))
    for model in models:
        assert configs[f"{model}-t+a+v"] == {"same_as": model}
        assert configs["stages/tables"]["ablation"][model]["t+a+v"] == model
        assert configs["stages/tables"]["stages"][f"{model}-a"] == "ablation"


def test_other_seeds_than_those_of_table_6_train_all_modalities_too():
    configs = planned(ablation=params.Ablation(models=["svm"], seeds=[7]))
    assert configs["svm-t+a+v"]["modalities"] == ["text", "audio", "vision"]


def test_a_model_of_one_modality_is_its_own_row_of_the_ablation():
    text = with_model("svm", modalities=["text"])
    configs = planned(models=text)
    assert configs["svm-t"] == {"same_as": "svm"}
    assert "same_as" not in configs["svm-t+a+v"]


EXTRA = BASE.models | {"extra": BASE.models["cnn"] | {"model": "cnn", "pooling": "cls"}}
FEW = ["svm", "cnn"]


def test_the_models_that_are_compared_are_trained_in_their_order():
    configs = planned(models=EXTRA, compare=["extra", *FEW])
    assert trained(configs) == {"extra", *FEW}
    assert configs["stages/tables"]["models"] == ["extra", *FEW]
    assert list(configs["stages/tables"]["modalities"]) == ["extra", *FEW]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": EXTRA | {"extra": {"model": "svm", "lr": 1}}}, r"models\.extra\.lr: unknown"),
        ({"sweep": {"x": {"table": 3, "lrate": 1}}}, r"sweep\.x\.lrate: unknown"),
        ({"sweep": {"cnn": {"table": 3, "lr": 1e-3}}}, "sweep: 'cnn' is the name of two runs"),
        ({"sweep": {"svm-t": {"table": 3, "lr": 1e-3}}}, "ablation: 'svm-t' is the name of two"),
    ],
)
def test_what_is_not_compared_is_checked_too(changes, message):
    """DVC expands it all the same, so that two of one name would write one output."""
    with pytest.raises(ParamsError, match=message):
        planned(compare=["self_mm"], **changes)


@pytest.mark.parametrize("compare", [["ours"], FEW, BASE.compare])
def test_whatever_dvc_expands_has_a_configuration_and_features(compare):
    """Those of a model that is not compared say so, and train nothing."""
    ablation = params.Ablation(models=["svm", "ours"], seeds=[1])
    settings = BASE.model_copy(update={"compare": compare, "ablation": ablation})
    runs = plan.runs_of(settings)
    configs = plan.resolve(settings, runs)
    subsets = {f"{model}-{s}": model for model in ablation.models for s in plan.SUBSETS}
    expanded = dict.fromkeys(BASE.sweep, "ours") | subsets
    names = {name for name in configs if not name.startswith("stages/")}
    assert names == {*compare, *expanded} == {*configs["stages/features"]["runs"]}
    asleep = {name: config for name, config in configs.items() if "not_compared" in config}
    asleep.pop("stages/tables")
    assert asleep == {
        name: {"not_compared": model} for name, model in expanded.items() if model not in compare
    }
    folders = plan.prediction_folders(settings, runs)
    assert {f"{name}-1" for name in names} <= folders


def test_the_tables_know_which_models_are_left_out():
    tables = planned(compare=["self_mm"])["stages/tables"]
    assert tables["not_compared"] == {"sweep": ["ours"], "ablation": ["svm"]}
    assert (tables["sweep"], tables["ablation"]) == ([], {})
    tables = planned(compare=["self_mm"], sweep_seeds=[])["stages/tables"]
    assert tables["not_compared"] == {"sweep": [], "ablation": ["svm"]}
    assert planned()["stages/tables"]["not_compared"] == {"sweep": [], "ablation": []}


def test_one_more_model_changes_no_run_s_configuration():
    """Nor what it reads, though an array of the text is added."""
    before = planned(models=EXTRA)
    after = planned(models=EXTRA, compare=[*BASE.compare, "extra"])
    added = after.pop("extra")
    assert (added["model"], after["stages/features"]["runs"].pop("extra")["pooling"]) == (
        "cnn",
        "cls",
    )
    assert {name for name in after if after[name] != before.get(name)} == {"stages/tables"}


def test_robustness_is_of_the_models_that_are_compared():
    settings = BASE.model_copy(update={"compare": FEW, "robustness_seeds": [2]})
    runs = plan.runs_of(settings)
    assert list(plan.resolve(settings, runs)["stages/tables"]["robustness"]) == FEW
    corrupted = {name for name in plan.prediction_folders(settings, runs) if "robust" in name}
    assert corrupted == {f"robustness-{model}-2" for model in FEW}


def test_a_block_may_have_the_model_of_another():
    """It takes its presets as any block does."""
    block = {"model": "self_mm", "preset": {"default": "mmsa_mosei", "mosei": "repository_mosei"}}
    for dataset in ("simulated", "mosei"):
        blocks = with_model("published", **block)
        configs = planned(models=blocks, compare=["published"], dataset=dataset)
        same = planned(models=BASE.models | {"self_mm": block}, dataset=dataset)
        assert configs["published"] == same["self_mm"]
        assert configs["published"] != planned(dataset=dataset)["self_mm"]


def test_the_values_at_the_top_are_those_of_the_block_called_ours():
    blocks = BASE.models | {"twin": BASE.models["ours"] | {"model": "ours", "dropout": 0.3}}
    changes = {"models": blocks, "compare": ["ours", "twin"], "sweep_seeds": []}
    before, after = planned(**changes), planned(**changes, bert_lr=1e-3)
    assert {name for name in after if after[name] != before[name]} == {"ours"}


def test_a_block_that_is_like_another_has_its_settings_but_for_its_own():
    """Mappings key by key, and of `ours` those that stand at the top."""
    blocks = with_model("wide", like="ours", dropout=0.4, transformer_dim=256)
    blocks |= {"other": {"like": "self_mm", "dropout": {"text": 0.4}}}
    configs = planned(models=blocks, compare=["wide", "other"], lr=3e-4)
    ours, self_mm = planned(lr=3e-4)["ours"], planned()["self_mm"]
    changed = {"dropout": 0.4, "transformer_dim": 256}
    assert configs["wide"] == ours | {"network": ours["network"] | changed}
    rates = self_mm["network"]["dropout"] | {"text": 0.4}
    assert configs["other"] == self_mm | {"network": self_mm["network"] | {"dropout": rates}}
    blocks |= {"published": {"like": "mult_published", "dim": 60}}
    configs = planned(models=blocks, compare=["published", "mult_published"])
    assert configs["published"]["model"] == "mult"
    assert configs["published"]["network"] == configs["mult_published"]["network"] | {"dim": 60}


def test_a_model_is_trained_under_each_of_its_names():
    """Each has a row of Table 6, and so runs."""
    blocks = with_model("twin", **BASE.models["svm"], model="svm")
    configs = planned(models=blocks, compare=["svm", "twin"])
    assert configs["twin"] == configs["svm"]
    assert configs["svm-t+a+v"] == {"same_as": "svm"}


def test_the_file_of_a_model_is_part_of_its_runs_alone(tmp_path, monkeypatch):
    """dvc.yaml cannot name it; so an edit makes these stale, and throws their checkpoints away."""
    blocks = with_model("published", model="self_mm", preset="mmsa_mosei")
    changes = {
        "models": blocks,
        "compare": [*BASE.compare, "published"],
        "ablation": params.Ablation(models=["svm", "published"], seeds=[1]),
        "tune": params.Tune(model="cnn", seeds=[1], candidates={"a": {"lr": 1e-4}}),
    }
    runs = plan.runs_of(BASE.model_copy(update=changes))
    files = models.files()
    for model, file in files.items():
        edited = tmp_path / f"{model}.py"
        edited.write_bytes(file.read_bytes() + b"# A comment.\n")
        monkeypatch.setattr(models, "files", lambda own={model: edited}: files | own)
        after = plan.runs_of(BASE.model_copy(update=changes))
        stale = {name for name in runs if runs[name] != after[name]}
        assert stale == {name for name, run in runs.items() if run.config["model"] == model}


def test_two_runs_of_one_name_are_refused():
    for name in ("cnn", "svm-t"):
        changes = {name: {"table": 3, "batch_size": 8}}
        with pytest.raises(ParamsError, match=f"'{name}' is the name of two runs"):
            planned(sweep=changes)


def test_the_base_value_changes_nothing():
    assert planned(lr=2e-4) == planned()


def test_lr_changes_ours_and_the_rows_that_do_not_pin_it():
    before, after = planned(), planned(lr=1e-4)
    differing = {name for name in after if after[name] != before[name]}
    changed = {name for name in differing if not name.startswith("stages/")}
    assert changed == {
        "ours",
        "batch_size_128",
        "batch_size_32",
        "batch_size_16",
        "lr_1e-4_2e-5",  # now equal to ours: trains nothing
        "lr_2e-4_2e-5",  # now differs from ours
        "transformer_dim_256",
        "transformer_dim_64",
    }
    assert after["lr_1e-4_2e-5"] == {"same_as": "ours"}
    assert len((trained(after) & changed) - {"ours"}) == 6
    assert differing - changed == {"stages/tables"}  # which names the aliases


def test_equal_rows_train_once_when_ours_lacks_the_seed():
    """A row may stand for ours only where ours has been trained with the sweep's seeds."""
    configs = planned(sweep_seeds=[7])
    assert "same_as" not in configs["batch_size_64"]
    assert configs["lr_2e-4_2e-5"] == {"same_as": "batch_size_64"}
    assert len(trained(configs) - set(BASE.compare)) == 8


def test_no_sweep_seeds_no_sweep():
    configs = planned(sweep_seeds=[])
    assert trained(configs) == set(BASE.compare)
    assert configs["stages/tables"]["sweep"] == []


def test_what_each_model_reads_is_in_the_plan_of_the_tables_and_robustness_is_off():
    assert planned()["stages/tables"]["robustness"] == {}
    configs = planned(robustness_seeds=[2], models=with_model("cnn", modalities=["text"]))
    tables = configs["stages/tables"]
    assert tables["robustness_seeds"] == [2]
    read = {
        model: ["text"] if model == "cnn" else ["text", "audio", "vision"] for model in BASE.compare
    }
    assert tables["robustness"] == tables["modalities"] == read


def test_row_names_are_those_of_the_report():
    rows = [(row["table"], row["row"]) for row in planned()["stages/tables"]["sweep"]]
    assert rows == [
        *((3, row) for row in ("128", "64", "32", "16")),
        *((4, row) for row in ("1e-4/2e-5", "2e-4/2e-5", "2e-4/5e-5")),
        *((5, row) for row in ("256", "128", "64")),
    ]


def test_where_the_data_lies_is_no_part_of_the_plan():
    datasets = {
        **BASE.datasets,
        "mosei": BASE.datasets["mosei"].model_copy(update={"path": "/somewhere"}),
    }
    assert planned(dataset="mosei", datasets=datasets) == planned(dataset="mosei")


def test_data_set_and_encoder_are_the_report_s_setting():
    """`dvc exp run -S dataset=mosei -S text_encoder=bert-base-uncased`"""
    configs = planned(dataset="mosei", text_encoder="bert-base-uncased")
    for run in trained(configs):
        assert configs[run]["encoder"]["name"] == "bert-base-uncased"
        assert configs[run]["encoder"]["pooling"] == "cls"
    for run in ("ours", "self_mm", "batch_size_32"):
        assert configs[run]["encoder"]["trainable_layers"] == "all"
    assert configs["cnn"]["encoder"]["trainable_layers"] == 0
    assert planned()["ours"]["encoder"]["pooling"] == "mean"


def test_a_data_set_may_have_its_own_encoder_range_and_metrics():
    configs = planned(dataset="sims")
    encoders = {configs[run]["encoder"]["name"] for run in trained(configs)}
    assert encoders == {configs["stages/features"]["encoder"]["name"]} == {"bert-base-chinese"}
    tables = configs["stages/tables"]
    assert (tables["metrics"], tables["label_range"]) == ("sims", [-1.0, 1.0])
    assert tables["text_encoder"] == "bert-base-chinese"
    requested = planned(dataset="sims", text_encoder="other")
    assert (
        requested["ours"]["encoder"]["name"]
        == requested["stages/features"]["encoder"]["name"]
        == requested["stages/tables"]["text_encoder"]
        == "other"
    )


@pytest.mark.parametrize(
    ("dataset", "preset"),
    [("mosei", "mmsa_mosei"), ("mosi_aligned", "mmsa_mosi"), ("sims", "mmsa_sims")],
)
def test_the_preset_is_that_of_the_data_set_unless_one_is_asked_for(dataset, preset):
    settings = planned(dataset=dataset)["self_mm"]["network"]
    assert settings["lstm_dim"] == BASE.presets[preset]["lstm_dim"]
    assert settings["post_dim"] == BASE.presets[preset]["post_dim"]
    requested = with_model("self_mm", preset="repository_mosei")
    settings = planned(dataset=dataset, models=requested)["self_mm"]["network"]
    assert settings["lstm_dim"] == BASE.presets["repository_mosei"]["lstm_dim"]


def test_mixed_precision_is_native_and_part_of_every_run():
    """But not of the cached states, which are float32 in any case."""
    exact, mixed = planned(arithmetic="native"), planned(precision="bfloat16")
    assert mixed["ours"] == exact["ours"] | {"precision": "bfloat16"}
    assert mixed["stages/features"] == exact["stages/features"]
    with pytest.raises(ValueError, match=r"'portable' with precision: bfloat16, .*permitted: auto"):
        params.Params.model_validate(
            BASE.model_dump() | {"arithmetic": "portable", "precision": "bfloat16"}
        )


def test_encoders_without_an_entry_need_a_default():
    with pytest.raises(ValueError, match="default is missing"):
        params.Params.model_validate(BASE.model_dump() | {"text_encoders": {}})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": with_model("cnn", dropuot=0.1)}, r"models.cnn.dropuot: unknown .*dropout"),
        ({"models": with_model("cnn", dropout=1.5)}, r"models.cnn: dropout: 1.5; .*less than 1"),
        ({"models": with_model("cnn", epochs="many")}, r"models.cnn: epochs: 'many'; .*integer"),
        ({"models": with_model("ours", pooling="max")}, r"pooling: 'max'; .*'cls' or 'mean'"),
        ({"models": with_model("lstm")}, r"models.lstm.model: 'lstm'; permitted: almt, bert_mag, "),
        (
            {"models": with_model("a", model="lstm")},
            r"models.a.model: 'lstm'; permitted: almt, bert_mag, ",
        ),
        ({"models": with_model("a", model=["svm"])}, r"models.a.model: \['svm'\]; permitted: almt"),
        ({"models": with_model("a", model="svm", lr=1.0)}, r"models.a.lr: unknown setting"),
        ({"sweep": {"x": {"table": 3, "model": "lstm"}}}, r"sweep.x.model: 'lstm'; permitted: al"),
        ({"sweep": {"x": {"table": 3, "like": "svm"}}}, r"sweep.x.like: unknown setting"),
        ({"models": with_model("a", like="lstm")}, r"models.a.like: 'lstm'; permitted: self_mm, "),
        ({"models": with_model("a", like=["svm"])}, r"models.a.like: \['svm'\]; permitted: self"),
        ({"models": with_model("a", like="a")}, r"models.a.like: 'a'; permitted: self_mm, "),
        (
            {"models": with_model("a", like="svm", model="svm")},
            r"models.a.model: 'svm'; permitted: nothing beside `like`",
        ),
        ({"models": with_model("a", like="svm", lr=1.0)}, r"models.a.lr: unknown setting"),
        ({"models": with_model("svm", lr=0.1)}, r"models.svm.lr: unknown setting"),
        (
            {"models": with_model("svm", modalities=["smell"])},
            r"modalities: \['smell'\]",
        ),
        ({"models": with_model("self_mm", lr={"txt": 1.0})}, r"self_mm: lr.txt: "),
        (
            {"models": with_model("ours", trainable_layers="top")},
            r"models.ours: trainable_layers: 'top'; it should be a valid integer, or 'all'$",
        ),
        ({"models": with_model("cnn", lr=float("inf"))}, r"cnn: lr: inf; .*finite"),
        ({"models": with_model("cnn", preset=None)}, r"models.cnn: steps: missing"),
        ({"datasets": BASE.datasets | {"simulated": NO_FILE}}, r"simulated: file and sha256 are"),
        ({"transformer_dim": 130}, r"transformer_dim: 130; it should be a multiple of heads, 4"),
        ({"sweep": {"x": {"table": 6}}}, r"sweep.x.table: 6; permitted: 3, 4 or 5"),
        ({"sweep": {"x": {"table": [3]}}}, r"sweep.x.table: \[3\]; permitted: 3, 4 or 5"),
        ({"sweep": {"x": {"table": 3, "speed": 1}}}, r"sweep.x.speed: unknown setting"),
        ({"models": {"svm": BASE.models["svm"]}}, r"models: ours is missing"),
    ],
)
def test_wrong_settings_are_named(changes, message):
    with pytest.raises(ParamsError, match=message):
        planned(**changes)


def on_labels(label_range, neutral=None, **changes):
    """The data set of params.yaml on another scale."""
    own = BASE.datasets[BASE.dataset].model_dump()
    own |= {"label_range": label_range, "neutral": neutral} | changes
    return {"datasets": BASE.datasets | {BASE.dataset: Dataset.model_validate(own)}}


def test_every_run_and_the_tables_hold_the_scale_of_the_labels():
    for neutral in (4.0, None):
        actual = planned(**on_labels([1.0, 7.0], neutral))
        expected = {"range": [1.0, 7.0], "neutral": neutral}
        assert {name: actual[name]["labels"] for name in trained(actual)} == dict.fromkeys(
            trained(actual), expected
        )
        tables = actual["stages/tables"]
        assert (tables["label_range"], tables["neutral"]) == ([1.0, 7.0], neutral)
    assert planned()["ours"]["labels"] == {"range": [-3.0, 3.0], "neutral": 0.0}


def test_a_model_has_the_scale_of_the_labels_where_it_has_an_argument_for_it():
    """The clamp of Self-MM follows the range, unless its block says otherwise."""
    actual = planned(**on_labels([1.0, 7.0], 4.0))
    settings = actual["self_mm"]["network"]
    assert (settings["label_range"], settings["neutral"]) == ([1.0, 7.0], 4.0)
    assert settings["clamp"] is None
    assert "label_range" not in actual["ours"]["network"]
    own = {"self_mm": BASE.models["self_mm"] | {"clamp": 1.5}}
    assert planned(models=BASE.models | own)["self_mm"]["network"]["clamp"] == 1.5


def test_a_neutral_point_makes_no_prepared_data_stale():
    one, other = (planned(**on_labels([1.0, 7.0], neutral)) for neutral in (None, 4.0))
    assert one["stages/prepare"] == other["stages/prepare"]


def not_finite(source, **settings):
    own = params.Dataset(source=source, title="own", file="f", sha256="0" * 64, settings=settings)
    configs = planned(datasets=BASE.datasets | {"simulated": own})
    return {configs[run]["not_finite"] for run in trained(configs)}


@pytest.mark.parametrize("source", ["folder", "mmsa_pickle", "cmu_csd"])
def test_a_run_repairs_later_frames_as_those_of_its_data(source):
    assert not_finite(source) == {"zero"}
    assert not_finite(source, not_finite="refuse") == {"refuse"}


def test_a_source_without_the_setting_repairs_frames():
    assert not_finite("label_csv") == {"zero"}
    assert planned()["ours"]["not_finite"] == "zero"  # simulated


# What only the published settings have, by model; corrected in the block of the model's own name.
DEFECTS: dict[str, dict[str, Any]] = {
    "tfn": {"limit": 3.0, "standardize": False},
    "lmf": {"train_fusion": False, "standardize": False, "start": "neutral"},
    "misa": {"frames_of_text": True, "standardize": False, "start": "neutral"},
    "mmim": {"full_likelihood": False, "fit_entropy": False, "ridge": 0.0, "standardize": False},
    "mult": {"positions": False, "standardize": False, "start": "neutral"},
    "tetfn": {"vision_kernel_of_audio": True, "clamp": 3.0, "standardize": False},
    "bert_mag": {"standardize": False, "start": "neutral"},
    "cenet": {"train_embeddings": False, "standardize": False, "start": "neutral"},
    "almt": {"masked": False, "standardize": False, "start": "neutral"},
}


@pytest.mark.parametrize("dataset", ["simulated", "mosei", "mosi", "sims"])
@pytest.mark.parametrize("model", DEFECTS)
def test_published_and_corrected_settings_of_a_model(model, dataset):
    """On each corpus: its published block has the defects, its own none of them."""
    compare = ["ours", model, f"{model}_published"]
    configs = planned(dataset=dataset, compare=compare)
    corrected, published = (configs[name] for name in compare[1:])
    assert published["model"] == corrected["model"] == model
    for key, value in DEFECTS[model].items():
        assert published["network"][key] == value
        assert corrected["network"][key] != value
    rounded = "mse" if model in ("misa", "almt") else "mean"
    assert published["schedule"]["validation_loss"] == f"{rounded}_of_batches"
    assert corrected["schedule"]["validation_loss"] == "mae"
    assert not corrected["schedule"]["drop_incomplete"]
    if model == "mult":  # a plateau that acts before early stopping
        assert corrected["schedule"]["decay"]["patience"] < corrected["schedule"]["patience"]
    if "pad_to" in published["network"]:
        frames = {"mosi": 375, "sims": 400}.get(dataset, 500)
        assert published["network"]["pad_to"]["audio"] == frames
        # To ALMT it is the size of a table, too.
        assert (corrected["network"]["pad_to"] is None) == (model != "almt")


@pytest.mark.parametrize("dataset", ["mosei_aligned", "mosi_aligned"])
@pytest.mark.parametrize("model", ["tetfn", "bert_mag"])
def test_some_published_models_read_aligned_frames_as_they_are(model, dataset):
    """One for each token: padded to as many steps as the text."""
    name = f"{model}_published"
    network = planned(dataset=dataset, compare=[name])[name]["network"]
    assert network["pad_to"] == {"text": 50, "audio": 50, "vision": 50}


@pytest.mark.parametrize("dataset", ["mosei", "mosi", "mosi_aligned", "sims"])
@pytest.mark.parametrize("model", ["tetfn", "bert_mag", "cenet", "almt"])
def test_on_the_published_corpora_models_train_as_published_but_for_their_defects(model, dataset):
    """No epochs, rates or layers of the simulated data's presets reach these."""
    names = [model, f"{model}_published"]
    configs = planned(dataset=dataset, compare=names, text_encoder="bert-base-uncased")
    corrected, published = (configs[name] for name in names)
    assert corrected["optimizer"] == published["optimizer"]
    assert corrected["encoder"]["trainable_layers"] == "all"
    assert published["encoder"]["trainable_layers"] == "all"
    schedules = [of["schedule"] for of in (corrected, published)]
    changed = {key for key in schedules[0] if schedules[0][key] != schedules[1][key]}
    defects = {"validation_loss"} | ({"drop_incomplete"} if model == "tetfn" else set())
    if model != "almt":
        assert changed == defects
        return
    # Half a cosine that ends where the published one does.
    assert changed == defects | {"decay", "warmup", "epochs"}
    schedule, decay = schedules[0], schedules[1]["decay"]
    assert schedule["decay"] == "cosine"
    assert schedule["warmup"] == decay["warmup"]
    assert schedule["epochs"] == decay["warmup"] + decay["cosine"]


@pytest.mark.parametrize("dataset", ["mosei_text", "mosi_utterances"])
@pytest.mark.parametrize("model", ["tetfn", "bert_mag", "cenet", "almt"])
def test_a_small_encoder_on_transcripts_has_rates_of_its_own(model, dataset):
    """MMSA's are those of BERT, which an encoder that is mostly frozen hardly learns by."""
    simulated = planned(compare=[model])[model]
    config = planned(dataset=dataset, compare=[model])[model]
    assert config["optimizer"]["lr"] == simulated["optimizer"]["lr"]
    assert config["schedule"]["epochs"] <= simulated["schedule"]["epochs"]
    assert config["encoder"]["trainable_layers"] == {"mosei_text": 4, "mosi_utterances": 2}[dataset]
