"""From params.yaml to one small, complete configuration per run and stage.

Stages depend on these and not on params.yaml, so that a setting reruns exactly the stages whose
configuration it changes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from msabench import errors, hashes, models
from msabench.counterparts import counterparts
from msabench.data import sources
from msabench.errors import ParamsError
from msabench.networks.text import cache_name
from msabench.params import (
    AUTO,
    ENCODER_SIZES,
    SIZES,
    Dataset,
    KnownEncoder,
    Params,
    Pooling,
    TextSettings,
    TrainableLayers,
)
from msabench.training.missing import cached_copies
from msabench.utterances import MODALITIES

Config = dict[str, Any]

CORPORA: dict[str, Config] = json.loads(
    Path(__file__).with_name("data").joinpath("corpora.json").read_text(encoding="utf-8")
)

# The subsets of the modalities, named by their first letters: an axis of dvc.yaml's matrix.
SUBSETS = {
    "t": ["text"],
    "a": ["audio"],
    "v": ["vision"],
    "t+a": ["text", "audio"],
    "t+v": ["text", "vision"],
    "a+v": ["audio", "vision"],
    "t+a+v": list(MODALITIES),
}
# Tables 3 to 5 vary the settings of one model, which dvc.yaml names too.
SWEEP_MODEL = "ours"
# The values of SWEEP_MODEL that stand at the top of params.yaml, since Tables 3 to 5 vary them.
TOP_SETTINGS = ("batch_size", "lr", "bert_lr", "transformer_dim")


@dataclass(frozen=True)
class Run:
    """A model with settings and modalities, trained once for each seed.

    stage: of dvc.yaml, which trains it. config: what decides its numbers beside data and seed.
    """

    stage: str
    seeds: tuple[int, ...]
    config: Config


@errors.see("docs/experiments.md")
def resolve(params: Params, runs: Mapping[str, Run]) -> dict[str, Config]:
    """Return the configuration of every run, by its name, and of every stage, as `stages/<name>`.

    Raises ParamsError for a setting that a source does not have or does not permit.
    """
    same = equal_runs(runs)
    configs = {name: run.config for name, run in runs.items()}
    configs |= {name: {"same_as": first} for name, first in same.items()}
    configs |= {name: run.config for name, run in not_compared(params).items()}
    stages = {f"stages/{name}": config for name, config in _stages(params, runs, same).items()}
    return configs | stages


@errors.see("docs/experiments.md")
def runs_of(params: Params) -> dict[str, Run]:
    """Return every run by its name: models, rows of the sweep, models on subsets, candidates.

    Only those of models that are compared are returned; all are checked. Raises ParamsError for a
    setting that a model does not have or does not permit, and for two runs of one name.
    """
    blocks = {
        name: Run(
            "train",
            tuple(params.seeds),
            _run(params, name, block_of(params, name), f"models.{name}"),
        )
        for name in params.models
    }
    if SWEEP_MODEL not in blocks:
        raise ParamsError(f"models: {SWEEP_MODEL} is missing, the model of Tables 3 to 5")
    groups = {
        "sweep": _sweep(params),
        "ablation": _ablation(params, blocks),
        "tune": _candidates(params),
    }
    runs = dict(blocks)
    for stage, more in groups.items():
        if twice := [name for name in more if name in runs]:
            raise ParamsError(f"{stage}: {twice[0]!r} is the name of two runs; each needs its own")
        runs |= more
    left_out = (blocks.keys() - params.compare) | not_compared(params).keys()
    return {name: run for name, run in runs.items() if name not in left_out}


def not_compared(params: Params) -> dict[str, Run]:
    """Return what DVC expands to stages of models that are not compared: these train nothing.

    It reads the sweep and the models of the ablation in params.yaml, and cannot leave any out.
    """
    runs: dict[str, Run] = {}
    if SWEEP_MODEL not in params.compare:
        config = {"not_compared": SWEEP_MODEL}
        runs |= dict.fromkeys(params.sweep, Run("sweep", tuple(params.sweep_seeds), config))
    for model in params.ablation.models:
        if model not in params.compare:
            run = Run("ablation", tuple(params.ablation.seeds), {"not_compared": model})
            runs |= {subset_run(model, subset): run for subset in SUBSETS}
    return {name: run for name, run in runs.items() if run.seeds}


def equal_runs(runs: Mapping[str, Run]) -> dict[str, str]:
    """Name for each run that equals an earlier one, seeds included, that one: it trains nothing."""
    same: dict[str, str] = {}
    for name, run in runs.items():
        for first, other in runs.items():
            if first == name:
                break
            covered = first not in same and set(run.seeds) <= set(other.seeds)
            covered &= "tune" not in {run.stage, other.stage}  # trained without all others
            covered &= run.stage != "train"  # Table 6 has the runs of each name
            if covered and _decides(run.config) == _decides(other.config):
                same[name] = first
                break
    return same


def _decides(config: Config) -> Config:
    return {key: value for key, value in config.items() if key != "modalities_required"}


def _models_not_compared(params: Params, stage: str) -> list[str]:
    """Name the models of a stage that are not compared, each once."""
    runs = [run for run in not_compared(params).values() if run.stage == stage]
    return list(dict.fromkeys(run.config["not_compared"] for run in runs))


def prediction_folders(params: Params, runs: Mapping[str, Run]) -> set[str]:
    """Name the folders of predictions/ that the stages write."""
    every = {**runs, **not_compared(params)}
    written = {f"{name}-{seed}" for name, run in every.items() for seed in run.seeds}
    corrupted = product(params.compare, params.robustness_seeds)
    return written | {f"robustness-{model}-{seed}" for model, seed in corrupted}


def block_of(params: Params, name: str) -> Config:
    """Return a block with its model, laid over the block that it is like, if any.

    Raises ParamsError for one that is like a block that does not exist, or is like another itself.
    """
    block, where = dict(params.models[name]), f"models.{name}"
    like = block.pop("like", None)
    if like is None:
        return {"model": name, **block}
    if "model" in block:
        raise ParamsError(f"{where}.model: {block['model']!r}; permitted: nothing beside `like`")
    permitted = [other for other, of in params.models.items() if "like" not in of]
    if like not in permitted:
        raise ParamsError(f"{where}.like: {like!r}; permitted: {', '.join(permitted)}")
    return _laid_over({"model": like, **params.models[like]}, block)


def _run(params: Params, name: str, block: Config, where: str) -> Config:
    """Resolve one run: what `train` and later use need to know, data and seed apart.

    name: that of the block in params.yaml. code: the hash of the file of its model, since dvc.yaml
    cannot tell which file that is.
    """
    dataset = params.datasets[params.dataset]
    model, files = block["model"], models.files()
    if not isinstance(model, str) or model not in files:
        raise ParamsError(f"{where}.model: {model!r}; permitted: {', '.join(files)}")
    settings = own_settings(params, name, block, where)
    modalities = settings.pop("modalities", list(MODALITIES))
    if modalities not in SUBSETS.values():
        raise ParamsError(
            f"{where}.modalities: {modalities}; permitted: some of {MODALITIES}, in this order"
        )
    groups = models.check_settings(model, settings, where, shared_settings(params))
    groups["encoder"] = {**encoder(params), **groups["encoder"]}
    return {
        "model": model,
        "code": hashes.of_file(files[model]),
        **groups,
        "modalities": modalities,
        "labels": _labels(params),
        "not_finite": sources.not_finite(dataset.source, dataset.settings),
        **_computing(params),
        "precision": params.precision,
    }


def _computing(params: Params) -> Config:
    """Return how a stage computes. `auto` arithmetic is native in mixed precision."""
    native = params.precision == "bfloat16"
    return {
        "arithmetic": "native" if native else params.arithmetic,
        "device": params.device,
        "threads": params.threads,
    }


def _labels(params: Params) -> Config:
    """Return what a prediction means: the range of the labels, and their neutral point, if any."""
    dataset = params.datasets[params.dataset]
    return {"range": dataset.label_range, "neutral": dataset.scale.neutral}


def shared_settings(params: Params) -> Config:
    """Return, flat, what a model takes where neither its block nor its presets say anything.

    That is the values of `ours` that stand at the top, how to read the text, and the scale of the
    labels. Raises ParamsError where models.ours sets a value of the top itself.
    """
    where, block = f"models.{SWEEP_MODEL}", params.models.get(SWEEP_MODEL, {})
    for key in TOP_SETTINGS:
        if block.get(key, AUTO) != AUTO:
            value = json.dumps(block[key])
            raise ParamsError(
                f"{where}.{key}: {value}; permitted: auto, as {key} of {SWEEP_MODEL} stands at the "
                f"top of params.yaml: -S {key}={value}"
            )
    ours = own_settings(params, SWEEP_MODEL, block, where)
    top = {key: ours[key] for key in TOP_SETTINGS if key in ours}
    reading = known_encoder(params).model_dump(include=set(TextSettings.model_fields))
    labels = _labels(params)
    scale = {"label_range": labels["range"], "neutral": labels["neutral"]}
    return top | reading | scale


def encoder(params: Params) -> Config:
    """Return the encoder of the texts: that of the data set, unless one is asked for.

    name, and published where params.yaml says what its files on the hub are.
    """
    name, published = _text_encoder(params), known_encoder(params).published
    return {"name": name} | ({"published": published} if published else {})


def _text_encoder(params: Params) -> str:
    if params.text_encoder == "auto":
        return params.datasets[params.dataset].text_encoder
    return params.text_encoder


def known_encoder(params: Params) -> KnownEncoder:
    """Return what params.yaml says of the encoder of the texts, or of all others."""
    return params.text_encoders.get(_text_encoder(params), params.text_encoders["default"])


def own_settings(params: Params, name: str, block: Config, where: str) -> Config:
    """Return the settings of a block, flat: its own over its presets.

    The values at the top are those of SWEEP_MODEL, and of blocks that are like it: over its
    presets, under its block.
    """
    layers = [params.presets[preset] for preset in _presets(params, block.get("preset"), where)]
    if SWEEP_MODEL in (name, params.models.get(name, {}).get("like")):
        layers.append({key: getattr(params, key) for key in TOP_SETTINGS})
    layers.append({key: value for key, value in block.items() if key not in ("preset", "model")})
    settings: Config = {}
    for layer in layers:
        settings = _laid_over(settings, layer)
    return settings


def _laid_over(below: Config, above: Config) -> Config:
    """Return settings over others, mappings key by key; `auto` is what lies below."""
    merged = dict(below)
    for key, value in above.items():
        if isinstance(value, dict):
            under = merged.get(key)
            merged[key] = _laid_over(under if isinstance(under, dict) else {}, value)
        elif value != AUTO:
            merged[key] = value
    return merged


def _presets(params: Params, preset: Any, where: str) -> list[str]:
    """Return the names of a block's presets, the lowest first.

    preset: one name, or a list, or such for `default` (all data sets), a corpus, a size, a data
    set, a size of text encoders, both sizes (`base_few`), and a data set with a size of encoders
    (`mosei_base`): the later of these are laid over the earlier.
    """
    known = dict.fromkeys(["default", *CORPORA, *SIZES, *params.datasets, *ENCODER_SIZES])
    known |= {f"{base}_{few}": None for base, few in product(ENCODER_SIZES, SIZES)}
    known |= {f"{name}_{base}": None for name, base in product(params.datasets, ENCODER_SIZES)}
    by_kind = preset if isinstance(preset, dict) else {"default": preset}
    names: dict[str, list[Any]] = {}
    for key, value in by_kind.items():
        if key not in known:
            raise ParamsError(
                f"{where}.preset.{key}: no such data set, corpus or size; permitted: "
                f"{', '.join(known)}"
            )
        names[key] = value if isinstance(value, list) else [value] if value is not None else []
        for name in names[key]:
            if not isinstance(name, str) or name not in params.presets:
                presets = ", ".join(params.presets) or "none"
                raise ParamsError(f"{where}.preset: {name!r}; permitted: {presets}")
    dataset = params.datasets[params.dataset]
    larger = known_encoder(params).size
    kinds = ["default", dataset.corpus, dataset.size, params.dataset, larger]
    kinds += [f"{larger}_{dataset.size}", f"{params.dataset}_{larger}"]
    # Where a data set has the name of its corpus, its presets are the topmost.
    kinds = [kind for i, kind in enumerate(kinds) if kind not in kinds[i + 1 :]]
    return [name for kind in kinds for name in names.get(str(kind), [])]


def _sweep(params: Params) -> dict[str, Run]:
    """Resolve the rows of Tables 3 to 5."""
    if not params.sweep_seeds:
        return {}
    rows = {}
    places: dict[tuple[int, str], str] = {}
    for name, changes in params.sweep.items():
        settings = block_of(params, SWEEP_MODEL) | changes
        table, row = settings.pop("table", None), row_name(changes)
        if table not in (3, 4, 5):
            raise ParamsError(f"sweep.{name}.table: {table!r}; permitted: 3, 4 or 5")
        first = places.setdefault((table, row), name)
        if first != name:
            raise ParamsError(
                f"sweep.{name}: row {row!r} of Table {table} is sweep.{first} already"
            )
        config = _run(params, SWEEP_MODEL, settings, f"sweep.{name}")
        rows[name] = Run("sweep", tuple(params.sweep_seeds), config)
    return rows


def _ablation(params: Params, models: Mapping[str, Run]) -> dict[str, Run]:
    """Resolve the models on every subset of the modalities.

    Such a run needs all of its modalities; another reads those of its own that the data have.
    """
    if not params.ablation.seeds:
        return {}
    return {
        subset_run(model, subset): Run(
            "ablation",
            tuple(params.ablation.seeds),
            {**models[model].config, "modalities": modalities, "modalities_required": True},
        )
        for model in params.ablation.models
        for subset, modalities in SUBSETS.items()
    }


def _candidates(params: Params) -> dict[str, Run]:
    """Resolve the candidates of `make tune`: a model with some settings changed.

    One that leaves modalities out needs those that it names.
    """
    model, seeds = params.tune.model, tuple(params.tune.seeds)
    runs = {}
    for name, changes in params.tune.candidates.items():
        config = _run(params, model, block_of(params, model) | changes, f"tune.{name}")
        if "modalities" in changes and config["modalities"] != list(MODALITIES):
            config["modalities_required"] = True
        runs[name] = Run("tune", seeds, config)
    return runs


def subset_run(model: str, subset: str) -> str:
    """Name the run of a model on a subset of the modalities."""
    return f"{model}-{subset}"


def _stages(params: Params, runs: Mapping[str, Run], same: Mapping[str, str]) -> dict[str, Config]:
    dataset, source = params.datasets[params.dataset], _source(params)
    probe = _array(0, "mean")  # the text that the probe reads
    return {
        "download": source,
        "prepare": {
            **source,
            "label_range": dataset.label_range,
            "corpus": dataset.corpus,
            "size": dataset.size,
        },
        "cards": {
            **source,
            "url": dataset.url,
            "by_hand": dataset.by_hand,
            "corpus": CORPORA[dataset.corpus] if dataset.corpus else None,
        },
        "features": {
            "encoder": encoder(params),
            "max_tokens": params.max_tokens,
            **_computing(params),
            # DVC wants a file of each that it expands; the probe's array is there in any case.
            "runs": {name: _text(run.config) for name, run in runs.items()}
            | dict.fromkeys(not_compared(params), probe),
            "probe": probe,
        },
        "tables": {
            "title": _title(dataset),
            "corpus": dataset.corpus,
            "simulated": sources.makes_data(dataset.source),
            "label_range": dataset.label_range,
            "neutral": dataset.scale.neutral,
            "metrics": dataset.metrics,
            "probe": probe,
            "text_encoder": _text_encoder(params),
            **_rows(params, runs, same),
        },
    }


def _title(dataset: Dataset) -> str:
    """Return the title of tables and figures, which says whether they are over folds."""
    folds = sources.folds(dataset.source, dataset.settings)
    return f"{dataset.title} ({folds}-fold cross-validation by video)" if folds else dataset.title


def _source(params: Params) -> Config:
    """Return what the data set is made of. Raises ParamsError as resolve does."""
    dataset, place = params.datasets[params.dataset], f"datasets.{params.dataset}"
    sources.check_settings(dataset.source, dataset.settings, f"{place}.settings")
    if dataset.file is None and not sources.makes_data(dataset.source):
        raise ParamsError(f"{place}: file and sha256 are missing; {dataset.source} reads a file")
    if dataset.corpus not in (None, *CORPORA):
        raise ParamsError(f"{place}.corpus: {dataset.corpus!r}; permitted: {', '.join(CORPORA)}")
    return {
        "dataset": params.dataset,
        "source": dataset.source,
        "file": dataset.file or f"{params.dataset}.pkl",
        "folder": sources.reads_folder(dataset.source),
        "sha256": dataset.sha256,
        "settings": dataset.settings,
    }


def _rows(params: Params, runs: Mapping[str, Run], same: Mapping[str, str]) -> Config:
    """Return what the tables show of which runs and seeds, and the stage of each run."""
    ablation = {
        model: {
            subset: same.get(subset_run(model, subset), subset_run(model, subset))
            for subset in SUBSETS
        }
        for model in params.ablation.models
        if params.ablation.seeds and model in params.compare
    }
    sweep = [
        {
            "run": name,
            "varies": SWEEP_MODEL,
            "table": changes["table"],
            "row": row_name(changes),
            "same_as": same.get(name),
        }
        for name, changes in params.sweep.items()
        if name in runs
    ]
    dataset = params.datasets[params.dataset]
    folds = sources.folds(dataset.source, dataset.settings)  # over which it is not measured
    robustness = params.compare if params.robustness_seeds and not folds else ()
    return {
        "models": params.compare,
        "modalities": {name: runs[name].config["modalities"] for name in params.compare},
        "not_compared": {
            stage: _models_not_compared(params, stage) for stage in ("sweep", "ablation")
        },
        "seeds": params.seeds,
        "sweep_seeds": params.sweep_seeds,
        "sweep": sweep,
        "subsets": SUBSETS,
        "ablation_seeds": params.ablation.seeds,
        "ablation": ablation,
        "robustness_seeds": params.robustness_seeds,
        "robustness": {name: runs[name].config["modalities"] for name in robustness},
        "missing": counterparts({name: runs[name].config for name in params.compare}),
        "stages": {name: run.stage for name, run in runs.items()},
    }


def _text(config: Config) -> Config:
    """What a run reads as its text: an array of the features stage, and copies of it."""
    trainable_layers = config["encoder"].get("trainable_layers", 0)
    states = trainable_layers == 0 and models.reads_states(config["model"])
    reads = _array(trainable_layers, None if states else config["encoder"]["pooling"])
    return reads | cached_copies(config, reads["array"])


def _array(trainable_layers: TrainableLayers, pooling: Pooling | None) -> Config:
    """Name an array of the features stage, and what makes it; see networks.text.cache_name."""
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
