"""The sections on what the results were made of: settings, versions, hashes, how to verify each."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msabench import hashes, params
from msabench.networks import encoders
from msabench.reporting.document import Block, Code, Column, Section, Table, Title, row

Run = Mapping[str, Any]  # what run.json says: settings, seed, texts read, versions

NAME, HASH = Column("", "words"), Column("SHA-256", "hash")
VERIFY_PREPARED = (
    "cd data/prepared && python -c \"import json; [print(h, f, sep='  ') for f, h in "
    "json.load(open('sha256.json')).items()]\" | sha256sum --check"
)
VERIFY_ENCODER = """\
PYTHONPATH=src python - <<'END'
from msabench.networks.encoders import folder
with folder({name!r}) as files:
    print('as published:', *sorted(file.name for file in files.iterdir()))
END"""
ALIKE = (
    *("text_encoder", "modalities", "arithmetic_in_use", "precision", "device", "threads"),
    "max_tokens",
)


def sections(
    plan: Mapping[str, Any],
    rows: Mapping[str, Mapping[str, list[str]]],
    source: Mapping[str, Any],
    prepared: Path,
    predictions: Path,
) -> list[Section]:
    """Return what the results were made of.

    rows: as `tables.rows_of` names them, and those of an ablation. source: the plan of `download`.
    prepared: the folder of the prepared splits.
    """
    tables = sorted(rows, key=lambda number: number != "6")  # the models first; others vary them
    folders = list(dict.fromkeys(name for n in tables for row in rows[n].values() for name in row))
    files = {folder: predictions / folder / "run.json" for folder in folders}
    runs = {
        folder: json.loads(file.read_text(encoding="utf-8"))
        for folder, file in files.items()
        if file.exists()
    }
    content = json.loads((prepared / "sha256.json").read_text(encoding="utf-8"))
    return [
        Section("settings", Title("Settings"), _settings(plan, runs)),
        Section("versions", Title("Versions"), _versions(runs.values())),
        Section("data_set", Title("Data set"), _data_set(source, content)),
        Section("text_encoder", Title("Text encoder"), _text_encoder(runs.values())),
        Section("hashes", Title("Hashes of the predictions"), _hashes(plan, folders, predictions)),
    ]


def stage_of(plan: Mapping[str, Any], folder: str) -> str:
    """Name the stage of dvc.yaml that makes a folder of predictions."""
    return f"{plan['stages'][folder.rpartition('-')[0]]}@{folder}"


def _settings(plan: Mapping[str, Any], runs: Mapping[str, Run]) -> list[Block]:
    models = {
        model: _decisive(run)
        for model in plan["models"]
        for run in [_first(runs, model, plan["seeds"])]
        if run is not None
    }
    if not models:
        return ["No run has left its settings."]
    keys = list(dict.fromkeys(key for settings in models.values() for key in settings))
    keys.sort(key=lambda key: -sum(key in settings for settings in models.values()))
    shown = {
        key: [_printed(own[key]) if key in own else None for own in models.values()] for key in keys
    }
    alike = [key for key in keys if key in ALIKE and len(set(shown[key])) == 1]
    every = "; ".join(f"{key} `{shown[key][0]}`" for key in alike)
    blocks: list[Block] = [
        f"The models of Table 6, seeds {_printed(plan['seeds'])}. All alike: {every}. A model has "
        "no setting where none is shown.",
        Table(
            [NAME, *(Column(model, "words") for model in models)],
            [row(key, *shown[key]) for key in keys if key not in alike],
            caption="Settings of the models",
        ),
    ]
    sweep = [
        row(
            f"Table {entry['table']}",
            entry["row"],
            entry["run"],
            _varied(plan, entry, runs, models),
        )
        for entry in plan["sweep"]
    ]
    if sweep:
        names = ("", "row", "run", "setting, and that of the model it varies")
        columns = [Column(name, "words") for name in names]
        blocks.append(Table(columns, sweep, caption="Settings of the sweeps"))
    return blocks


def _varied(
    plan: Mapping[str, Any],
    entry: Mapping[str, Any],
    runs: Mapping[str, Run],
    models: Mapping[str, Mapping[str, Any]],
) -> str:
    """Say what a row of the sweeps has other than its model."""
    if entry["same_as"]:
        return f"that of {entry['same_as']}: trained once"
    run = _first(runs, entry["run"], plan["sweep_seeds"])
    if run is None or entry["varies"] not in models:
        return "missing"
    base, own = models[entry["varies"]], _decisive(run)
    return ", ".join(
        f"{key} {_value(own, key)} ({_value(base, key)})"
        for key in dict.fromkeys((*base, *own))
        if base.get(key) != own.get(key)
    )


def _versions(runs: Iterable[Run]) -> list[Block]:
    versions = _gathered(item for run in runs for item in run["versions"].items())
    if not versions:
        return ["No run has left its versions."]
    return [
        "Those that the runs name; `requirements.txt` pins all packages, and `dvc.lock` holds the "
        "hash of everything that was read or written.",
        Table([NAME, Column("version", "words")], [row(*item) for item in versions.items()]),
    ]


def _data_set(source: Mapping[str, Any], content: Mapping[str, str]) -> list[Block]:
    settings = f" with {_printed(source['settings'])}" if source["settings"] else ""
    if source["sha256"] is None:
        done, identity = "made", []
        verify = "Made of its settings alone, it has no file to fetch. Make it again:"
        stages = ("download", "prepare")
        command = " && ".join(f"dvc repro --force --single-item {stage}" for stage in stages)
    else:
        done, identity = "read", [_hash_table({source["file"]: source["sha256"]}, "The raw data")]
        verify = "The SHA-256 of the raw file or folder is checked before it is read. Print it:"
        command = f"make hash DATA=/absolute/path/{source['file']}"
    return [
        f"`{source['dataset']}`, {done} by source `{source['source']}`{settings}.",
        *identity,
        verify,
        Code(command),
        "What the models read of it, and its check:",
        _hash_table(content, "Prepared splits, data/prepared/"),
        Code(VERIFY_PREPARED),
    ]


def _text_encoder(runs: Iterable[Run]) -> list[Block]:
    runs = list(runs)
    if not runs:
        return ["No run has left the name of its text encoder."]
    if not any(run["text"]["sha256"] for run in runs):
        return ["None: the data have no text."]
    blocks: list[Block] = []
    for name in dict.fromkeys(run["encoder"]["name"] for run in runs):
        published = encoders.published(name)
        if published is None:
            blocks.append(f"`{name}`, a folder: its publisher's hashes are not known.")
            continue
        origin = f"commit `{published.commit}` of the Hugging Face hub"
        if not published.commit:
            origin = f"package `{encoders.MINILM_PACKAGE}`"
        blocks += [
            f"`{name}`, from {origin}. Each file is checked before it is read. Check them now:",
            Code(VERIFY_ENCODER.format(name=name)),
            _hash_table(published.sha256, f"{name}, as published"),
        ]
    arrays = _gathered(
        ((array, split), digest) for run in runs for array, split, digest in _arrays(run["text"])
    )
    table = Table(
        [NAME, NAME, HASH],
        [row(*names, digests) for names, digests in arrays.items()],
        caption="What the models read as text, data/features/<split>/<array>.npy",
        keys=2,
    )
    return [*blocks, table, Code("sha256sum data/features/*/*.npy")]


def _arrays(text: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield each array that a run reads as text, corrupted copies too: name, split and hash."""
    for split, digest in text["sha256"].items():
        yield text["array"], split, digest
    for split, copies in text.get("missing", {"sha256": {}})["sha256"].items():
        for array, digest in copies.items():
            yield array, split, digest


def _hashes(plan: Mapping[str, Any], folders: Sequence[str], predictions: Path) -> list[Block]:
    files = {folder: predictions / folder / "test.csv" for folder in folders}
    rows = [
        row(folder, stage_of(plan, folder), hashes.of_file(file) if file.exists() else "missing")
        for folder, file in files.items()
    ]
    remake = [
        Code(
            f"dvc repro --force --single-item {stage_of(plan, folder)}\n"
            f"sha256sum predictions/{folder}/test.csv"
        )
        for folder in folders[:1]
    ]
    return [
        "All figures on test but those of robustness are made of these files. A run on the same "
        "kind of processor gives the same bytes; on another kind the last digits move. Make one "
        "again by its stage:",
        *remake,
        Table(
            [NAME, Column("stage", "words"), HASH],
            rows,
            caption="Predictions on test, predictions/<run>/test.csv",
        ),
        "Everything, from a fresh clone; nothing is then to differ:",
        Code("make repro\ngit diff --stat metrics plots"),
    ]


def _hash_table(files: Mapping[str, str], caption: str) -> Table:
    return Table([NAME, HASH], [row(*item) for item in files.items()], caption=caption)


def _gathered(items: Iterable[tuple[Any, str]]) -> dict[Any, str]:
    """Return all values of each key, each value once."""
    values: dict[Any, dict[str, None]] = {}
    for key, value in items:
        values.setdefault(key, {})[value] = None
    return {key: ", ".join(several) for key, several in values.items()}


def _first(runs: Mapping[str, Run], run: str, seeds: Sequence[int]) -> Run | None:
    return next((runs[name] for seed in seeds if (name := f"{run}-{seed}") in runs), None)


def _decisive(run: Run) -> dict[str, Any]:
    """Return the settings of a run, and what else decides its numbers."""
    known = {key: run[key] for key in ALIKE if key in run}
    known |= {"text_encoder": run["encoder"]["name"], "max_tokens": run["text"]["max_tokens"]}
    return known | params.flat(run)


def _value(settings: Mapping[str, Any], key: str) -> str:
    return _printed(settings[key]) if key in settings else "-"


def _printed(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_printed, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_printed(inner)}" for key, inner in value.items())
    return value if isinstance(value, str) else json.dumps(value)
