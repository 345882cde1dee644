"""From params.yaml to one small, complete configuration per run and stage.

Stages depend on these and not on params.yaml, so that a setting reruns exactly the stages whose
configuration it changes.
"""

import json
from itertools import product
from pathlib import Path
from typing import Any

from msabench import errors, models
from msabench.data import sources
from msabench.errors import ParamsError
from msabench.networks.text import cache_name
from msabench.params import Params
from msabench.utterances import MODALITIES

Config = dict[str, Any]

CORPORA: dict[str, Config] = json.loads(
    Path(__file__).with_name("data").joinpath("corpora.json").read_text(encoding="utf-8")
)

# Table 2: one model on each subset of the modalities, named by their first letters.
SUBSETS = {
    "t": ["text"],
    "a": ["audio"],
    "v": ["vision"],
    "t+a": ["text", "audio"],
    "t+v": ["text", "vision"],
    "a+v": ["audio", "vision"],
    "t+a+v": list(MODALITIES),
}
SUBSETS_MODEL = "svm"
# Tables 3 to 5 vary the settings of one model, which dvc.yaml names too.
SWEEP_MODEL = "ours"
# Settings at the top of params.yaml, for every model that has one of that name and no own value.
TOP_SETTINGS = ("batch_size", "lr", "bert_lr", "transformer_dim")


@errors.section("Try one setting")
def resolve(params: Params) -> dict[str, Config]:
    """Return the configuration of every run, by its name, and of every stage, as `stages/<name>`.

    Raises ParamsError for a setting that a model or a source does not have or does not permit.
    """
    runs = {
        name: _run(params, name, settings, f"models.{name}")
        for name, settings in params.models.items()
    }
    for model, table in ((SUBSETS_MODEL, "2"), (SWEEP_MODEL, "3 to 5")):
        if model not in runs:
            raise ParamsError(f"models: {model} is missing, the model of Table {table}")
    ablations = {f"ablation/{name}": _ablation(params, config) for name, config in runs.items()}
    runs |= _sweep(params, runs[SWEEP_MODEL])
    stages = {f"stages/{name}": config for name, config in _stages(params, runs).items()}
    return runs | ablations | stages


def prediction_folders(params: Params) -> set[str]:
    """Name the folders of predictions/ that the stages of these params write."""
    runs = {
        *product(params.models, params.seeds),
        *product(params.sweep, params.sweep_seeds),
        *product((f"robustness-{model}" for model in params.models), params.robustness_seeds),
    }
    ablations = {f"ablation-{model}" for model in params.models}
    return {f"{run}-{seed}" for run, seed in runs} | ablations | {"modalities"}


def _run(params: Params, model: str, settings: Config, where: str) -> Config:
    """Resolve one run: what `train` and later use need to know, data and seed apart."""
    dataset = params.datasets[params.dataset]
    settings = with_preset(params, settings, where)
    modalities = settings.pop("modalities", list(MODALITIES))
    if modalities not in SUBSETS.values():
        raise ParamsError(
            f"{where}.modalities: {modalities}; permitted: some of {MODALITIES}, in this order"
        )
    return {
        "model": model,
        "settings": models.check_settings(model, settings, where, shared_settings(params)),
        "modalities": modalities,
        "labels": _labels(params),
        "text_encoder": text_encoder(params),
        "not_finite": sources.not_finite(dataset.source, dataset.settings),
        "arithmetic": params.arithmetic,
        "device": params.device,
        "threads": params.threads,
    }


def _labels(params: Params) -> Config:
    """Return what a prediction means: the range of the labels, and their neutral point, if any."""
    dataset = params.datasets[params.dataset]
    return {"range": dataset.label_range, "neutral": dataset.scale.neutral}


def shared_settings(params: Params) -> Config:
    """Return what a model takes from outside its block.

    That is the top settings, how to read the text, and the scale of the labels.
    """
    reading = params.text_encoders.get(text_encoder(params), params.text_encoders["default"])
    labels = _labels(params)
    shared = {key: getattr(params, key) for key in TOP_SETTINGS} | reading.model_dump()
    return shared | {"label_range": labels["range"], "neutral": labels["neutral"]}


def text_encoder(params: Params) -> str:
    """Return the encoder of the texts: that of the data set, unless one is asked for."""
    if params.text_encoder == "auto":
        return params.datasets[params.dataset].text_encoder
    return params.text_encoder


def with_preset(params: Params, settings: Config, where: str) -> Config:
    """Return the settings over those of the preset that they name, if any.

    They name one, or one for each data set and a `default` for all others. A mapping (the learning
    rates of groups) may name some of the preset's keys alone.
    """
    own = dict(settings)
    name = own.pop("preset", None)
    if isinstance(name, dict):
        name = name.get(params.dataset, name.get("default"))
    if name is None:
        return own
    if not isinstance(name, str) or name not in params.presets:
        there = ", ".join(params.presets)
        raise ParamsError(f"{where}.preset: {name!r}; there are: {there or 'none'}")
    merged = dict(params.presets[name])
    for key, value in own.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merged[key] | value if both else value
    return merged


def _sweep(params: Params, base: Config) -> dict[str, Config]:
    """Resolve the rows of Tables 3 to 5; equal rows train once, those equal to the base never."""
    if not params.sweep_seeds:
        return {}
    trained = {}
    if set(params.sweep_seeds) <= set(params.seeds):
        trained[SWEEP_MODEL] = base
    rows: dict[str, Config] = {}
    places: dict[tuple[int, str], str] = {}
    for run, changes in params.sweep.items():
        settings = params.models[SWEEP_MODEL] | changes
        table, row = settings.pop("table", None), row_name(changes)
        if table not in (3, 4, 5):
            raise ParamsError(f"sweep.{run}.table: {table!r}; permitted: 3, 4 or 5")
        first = places.setdefault((table, row), run)
        if first != run:
            raise ParamsError(f"sweep.{run}: row {row!r} of Table {table} is sweep.{first} already")
        config = _run(params, SWEEP_MODEL, settings, f"sweep.{run}")
        same = [name for name, other in trained.items() if other == config]
        if same:
            rows[run] = {"same_as": same[0]}
        else:
            rows[run] = trained[run] = config
    return rows


def _ablation(params: Params, config: Config) -> Config:
    """Resolve the smaller subsets of one model; switched off, nothing else of it matters."""
    if not params.ablation.enabled:
        return {"enabled": False}
    smaller = {name: subset for name, subset in SUBSETS.items() if subset != config["modalities"]}
    return {"enabled": True, **config, "seeds": params.seeds, "subsets": smaller}


def _stages(params: Params, runs: dict[str, Config]) -> dict[str, Config]:
    dataset = params.datasets[params.dataset]
    where = f"datasets.{params.dataset}.settings"
    sources.check_settings(dataset.source, dataset.settings, where)
    if dataset.file is None and not sources.makes_data(dataset.source):
        raise ParamsError(
            f"datasets.{params.dataset}: file and sha256 are missing; {dataset.source} reads a file"
        )
    if dataset.corpus not in (None, *CORPORA):
        raise ParamsError(
            f"datasets.{params.dataset}.corpus: {dataset.corpus!r}; there are: {', '.join(CORPORA)}"
        )
    source = {
        "dataset": params.dataset,
        "source": dataset.source,
        "file": dataset.file or f"{params.dataset}.pkl",
        "folder": sources.reads_folder(dataset.source),
        "sha256": dataset.sha256,
        "settings": dataset.settings,
    }
    return {
        "download": source,
        "prepare": {**source, "label_range": dataset.label_range},
        "cards": {
            **source,
            "url": dataset.url,
            "by_hand": dataset.by_hand,
            "corpus": CORPORA[dataset.corpus] if dataset.corpus else None,
        },
        "features": {
            "text_encoder": text_encoder(params),
            "max_tokens": params.max_tokens,
            "arithmetic": params.arithmetic,
            "device": params.device,
            "threads": params.threads,
            "runs": {run: _text(runs[config.get("same_as", run)]) for run, config in runs.items()},
        },
        "modalities": {"run": SUBSETS_MODEL, "subsets": SUBSETS},
        "tables": {
            "title": dataset.title,
            "label_range": dataset.label_range,
            "neutral": dataset.scale.neutral,
            "metrics": dataset.metrics,
            "models": list(params.models),
            "seeds": params.seeds,
            "sweep_seeds": params.sweep_seeds,
            "sweep": [
                {
                    "run": run,
                    "table": changes["table"],
                    "row": row_name(changes),
                    "same_as": runs[run].get("same_as"),
                }
                for run, changes in params.sweep.items()
                if run in runs
            ],
            "subsets": SUBSETS,
            "ablation": {
                name: next(s for s, names in SUBSETS.items() if names == runs[name]["modalities"])
                for name in params.models
                if params.ablation.enabled
            },
            "robustness_seeds": params.robustness_seeds,
            "robustness": {
                name: runs[name]["modalities"] for name in params.models if params.robustness_seeds
            },
        },
    }


def _text(config: Config) -> Config:
    """What a run reads as its text: an array of the features stage."""
    trainable_layers = config["settings"].get("trainable_layers", 0)
    pooling = config["settings"]["pooling"]
    return {
        "array": cache_name(trainable_layers, pooling),
        "trainable_layers": trainable_layers,
        "pooling": pooling,
    }


def row_name(changes: Config) -> str:
    """Return the values of a sweep row as the report prints them: `128`, `1e-4/2e-5`."""
    values = [value for key, value in changes.items() if key != "table"]
    return "/".join(_printed(value) for value in values)


def _printed(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    digits, _, exponent = f"{value:e}".partition("e")
    return f"{float(digits):g}e{int(exponent)}"
