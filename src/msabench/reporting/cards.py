"""Cards: what a trained model is, and what its data are, for those who would use them.

A model's card is made from what its training wrote (run.json), its predictions and the tables;
nothing here knows a model by name.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msabench import params
from msabench.errors import DataError
from msabench.evaluation import clusters, statistics, tables
from msabench.evaluation.tables import PUBLISHED, Row, Table
from msabench.execution import times
from msabench.labels import LabelScale
from msabench.networks import encoders
from msabench.predictions import Predictions
from msabench.reporting.markdown import Grid, drawn, markdown, printed, report_section, why_dashes

HASHED = "data/prepared/sha256.json"  # its own SHA-256 stands for all prepared data
SHOWN = ("utterances", "videos", "tokens", "audio_frames", "vision_frames")


def model_card(
    made: Mapping[str, Any],
    measured: Mapping[str, Row],
    row: Row,
    interval: Row | None,
    stage: str,
    plan: Mapping[str, Any],
    data: Mapping[str, Any],
    splits: Table,
) -> str:
    """Write the card of one run and seed.

    made: its run.json. measured: metrics of valid and test. row: those of all its seeds.
    interval: the confidence interval of its MAE, mae, low and high, where there is one; low and
    high are None where it is undefined. stage: of the pipeline that trains it. plan: of the tables.
    data: of the data's card. splits: Table 1.
    """
    run, title = f"{made['run']}-{made['seed']}", plan["title"]
    text = [f"# {made['run']}, seed {made['seed']}: {title}", *_warning(title), made["about"]]
    if "the report's own" in made["about"]:
        text.append(f"{PUBLISHED['source']}.")
    text += ["## Trained on", _splits_grid(splits)]
    text.append(
        f"{title}: its weights come from train, the choice of them and of its settings from valid; "
        f"test had no part in either. It reads {', '.join(made['modalities'])}. What the data are: "
        f"[data.md](data.md). SHA-256 of `{HASHED}`, which lists those of the prepared files: "
        f"`{_digest(made['data'])}`."
    )
    text += ["## Figures", _figures_grid(measured, row)]
    text.append(_figures_text(interval, splits["test"]))
    text += why_dashes([*measured.values(), row], plan)
    if "text" in made["modalities"]:
        text += ["## Text encoder", *_encoder_text(made)]
    text += ["## Settings", _settings_grid(params.flat(made))]
    text += ["## Size", _listed({name: f"{count:,}" for name, count in made["size"].items()})]
    if "parameters of the text encoder" in made["size"]:
        text.append("All of these were trained; frozen layers of the text encoder come on top.")
    if "text" in made["modalities"]:
        text += ["## Use", f'    python -m msabench predict --run runs/{run} "what was said"']
    text += ["## Make it again", f"    dvc repro {stage}@{run}"]
    text.append(
        "with the params.yaml, dvc.lock and packages of this version of the project gives the same "
        f"bytes on {_same_bytes(made)}. SHA-256 of `weights.safetensors`: "
        f"`{made['weights']}`. Made with {_versions(made['versions'])}. How long it took, and on "
        f"what, differs from time to time: `python -m msabench card runs/{run}` tells it where "
        "it was trained."
    )
    text += ["## Limits", _bullets(_limits(made, title, plan, data))]
    return "\n\n".join(text) + "\n"


def data_card(plan: Mapping[str, Any], data: Mapping[str, Any], splits: Table) -> str:
    """Write the card of the data. plan: of the tables. data: of this card. splits: Table 1."""
    title, corpus = plan["title"], data["corpus"]
    text = [f"# Data: {title}", *_warning(title)]
    if corpus:
        text.append(corpus["about"])
        facts = {
            "language": corpus["language"],
            "labels": f"{_scale_text(tables.scale_of(plan))}. {corpus['labels']}",
            "terms": corpus["terms"],
            "to be cited": corpus["citation"],
        }
        text.append(_listed({name: fact for name, fact in facts.items() if fact}))
    else:
        text.append(_unknown(data))
    text += ["## Source", _listed(_source(data)), "## Splits", _splits_grid(splits)]
    text.append("tokens and frames are means per utterance.")
    text.append(markdown([report_section(splits, plan)._replace(level=2)]).rstrip())
    texts, videos = splits["all"]["shared_texts"], splits["all"]["shared_videos"]
    limits = [
        f"More than one split has {texts} of the texts and {videos} of the videos: what a model "
        "remembers of them flatters it on test."
    ]
    text += ["## Limits", _bullets(limits + (corpus["limits"] if corpus else []))]
    return "\n\n".join(text) + "\n"


def measure(folder: Path, plan: Mapping[str, Any]) -> dict[str, Row]:
    """Return the metrics of a run's predictions on valid and test. plan: of the tables."""
    found = {split: Predictions.read(folder / f"{split}.csv") for split in ("valid", "test")}
    return {
        split: tables.evaluate(plan, run.labels, run.predictions) for split, run in found.items()
    }


def with_time(run: Path) -> str:
    """Return the card of a saved run, and at its end how long the training took.

    Raises DataError where the run has no card, or has been trained anew since.
    """
    alias = run / "same_as.json"
    if alias.is_file():  # a row of the sweep that trained nothing
        seed = run.name.rpartition("-")[2]
        run = run.with_name(f"{json.loads(alias.read_text())['same_as']}-{seed}")
    try:
        weights = json.loads((run / "run.json").read_text(encoding="utf-8"))["weights"]
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"{run}: no trained run; permitted: one of a seed, as runs/ours-1"
        ) from None
    except (KeyError, ValueError) as error:
        raise DataError(f"{run}/run.json: damaged, or of another version") from error
    card = run.parent / "cards" / f"{run.name}.md"
    if not card.is_file():
        raise DataError(f"{card}: no card of this run; `dvc repro cards` makes those of all runs")
    text = card.read_text(encoding="utf-8")
    if weights not in text:
        raise DataError(f"{card}: of other weights than {run} has; `dvc repro cards` mends it")
    record = times.read(run.parent / "times" / f"{run.name}.json")
    return f"{text}\n## Time\n\n{_time(record, weights)}\n"


def _time(record: Mapping[str, Any], weights: str) -> str:
    if record.get("weights") != weights:
        return "Not known: these weights were not trained here, but fetched from a cache."
    parts = record["parts"]
    once = "in one go" if parts == 1 else f"in {parts} parts; what was killed is not counted"
    return (
        f"{record['seconds']:.1f} s for training, the predictions and all that is written "
        f"({once}), on {record['machine']}."
    )


def _warning(title: str) -> list[str]:
    if PUBLISHED["data"] in title:
        return []
    return [f"**{title}: what is measured here says nothing about {PUBLISHED['data']}.**"]


def _scale_text(scale: LabelScale) -> str:
    neutral = "no neutral point" if scale.neutral is None else f"neutral at {scale.neutral:g}"
    return f"{scale.low:g} to {scale.high:g}, {neutral}"


def _unknown(data: Mapping[str, Any]) -> str:
    return (
        f"Where these data come from, who labelled them and on what terms is not known here: "
        f"`datasets.{data['dataset']}.corpus` in params.yaml names no entry of "
        "`src/msabench/data/corpora.json`."
    )


def _splits_grid(splits: Table) -> str:
    lines = [[name, *(printed(row[column]) for column in SHOWN)] for name, row in splits.items()]
    return drawn(Grid(["", *SHOWN], lines))


def _figures_grid(measured: Mapping[str, Row], row: Row) -> str:
    lines = []
    for metric, value in measured["test"].items():
        std = row[f"{metric}_std"]
        all_seeds = printed(row[metric]) + ("" if std is None else f" ± {std:.3f}")
        lines.append([metric, printed(measured["valid"][metric]), printed(value), all_seeds])
    return drawn(Grid(["", "valid", "test", "test, all seeds"], lines))


def _figures_text(interval: Row | None, test: Row) -> str:
    text = (
        f"`test` is this seed's, on {test['utterances']} utterances; `all seeds` the mean of the "
        "runs that differ by their seed alone, ± their standard deviation where there are several. "
        "What each metric is: `src/msabench/evaluation/metrics.py`."
    )
    if interval is None:
        return text
    if interval["low"] is not None:
        text += (
            f" The MAE of all seeds lies between {interval['low']:.3f} and {interval['high']:.3f} "
            f"({statistics.LEVEL:.0%} confidence, bootstrap over videos)."
        )
    return " ".join([text, *clusters.notes({"test": test})])


def _encoder_text(made: Mapping[str, Any]) -> list[str]:
    reads, known = made["text"], encoders.published(made["encoder"]["name"])
    facts = {
        "trained layers": f"{reads['trainable_layers']}, from the top",
        "read as": f"at most {reads['max_tokens']} tokens, pooled by `{reads['pooling']}`",
    }
    if known is None:
        return ["A folder of your own, of which nothing is known here.", _listed(facts)]
    facts |= {"language": known.language, "licence": known.licence}
    facts |= {"commit on the hub": f"`{known.commit}`"} if known.commit else {}
    facts["SHA-256 of its weights"] = f"`{known.sha256['model.safetensors']}`"
    return [f"`{made['encoder']['name']}`", _listed(facts)]


def _settings_grid(settings: Mapping[str, Any]) -> str:
    lines = [
        [name, value if isinstance(value, str) else json.dumps(value)]
        for name, value in settings.items()
    ]
    return drawn(Grid(["setting", "value"], lines, left=(0, 1)))


def _limits(
    made: Mapping[str, Any], title: str, plan: Mapping[str, Any], data: Mapping[str, Any]
) -> list[str]:
    corpus = data["corpus"]
    limits = [
        "Not for decisions about people: it guesses how a sentence sounds to others, and is wrong "
        "often, as the figures say.",
        f"Trained and measured on {title} alone; elsewhere (other speakers, topics, cameras, "
        "microphones, extractors of features) it may be of no use.",
        f"Labels: {_scale_text(tables.scale_of(plan))}; nothing keeps a prediction in that range.",
    ]
    if corpus:
        limits.append(f"Labels: {corpus['labels']}")
        limits.append(f"The data are in {corpus['language']}; no other language was tried.")
    else:
        limits.append(_unknown(data))
    known = encoders.published(made["encoder"]["name"])
    if "text" in made["modalities"] and known:
        limits.append(
            f"Its text encoder learned from texts in {known.language}, with what prejudice those "
            "texts have."
        )
    if len(made["modalities"]) > 1:
        limits.append(
            f"The figures are of utterances with {', '.join(made['modalities'])}; where one of "
            "these is missing, expect less."
        )
    return limits


def _source(data: Mapping[str, Any]) -> dict[str, str]:
    facts = {"read by": f"`src/msabench/data/sources/{data['source']}`"}
    if data["sha256"]:
        facts["file"] = f"`{data['file']}`, SHA-256 `{data['sha256']}`"
    facts |= {name.replace("_", " "): data[name] for name in ("url", "by_hand") if data[name]}
    if data["settings"]:
        facts["settings"] = f"`{json.dumps(data['settings'])}`"
    return facts


def _listed(facts: Mapping[str, str]) -> str:
    return "\n".join(f"- {name}: {fact}" for name, fact in facts.items())


def _bullets(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _same_bytes(made: Mapping[str, Any]) -> str:
    """Say where the same settings, data and packages give the same bytes."""
    if made["arithmetic_in_use"] == "portable" and made["threads"] == 1:
        return "every x86-64 processor with AVX2 and FMA, on Linux"
    return "the same kind of processor"


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{package} {version}" for package, version in versions.items())


def _digest(hashed: Mapping[str, str]) -> str:
    """Return the SHA-256 of data/prepared/sha256.json, which is run.json's `data`."""
    return hashlib.sha256((json.dumps(hashed, indent=2) + "\n").encode()).hexdigest()
