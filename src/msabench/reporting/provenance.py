"""What the results were made of: settings, versions and hashes, and how to verify each."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from msabench import hashes, params
from msabench.networks import encoders
from msabench.reporting.markdown import Grid, Section

Made = Mapping[str, Any]  # what run.json says: settings, seed, texts read, versions

VERIFY_PREPARED = (
    "cd data/prepared && python -c \"import json; [print(h, f, sep='  ') for f, h in "
    "json.load(open('sha256.json')).items()]\" | sha256sum --check"
)
ALIKE = ("text_encoder", "modalities", "arithmetic_in_use", "device", "threads", "max_tokens")


def read_runs(folders: Iterable[str], predictions: Path) -> dict[str, Made]:
    """Return what made the predictions of each run and seed, where they tell."""
    files = {folder: predictions / folder / "run.json" for folder in folders}
    return {
        folder: json.loads(file.read_text(encoding="utf-8"))
        for folder, file in files.items()
        if file.exists()
    }


def sections(
    plan: Mapping[str, Any],
    rows: Mapping[str, Mapping[str, list[str]]],
    source: Mapping[str, Any],
    prepared: Path,
    predictions: Path,
) -> list[Section]:
    """Lay out what the results were made of.

    rows: as `tables.rows_of` names them, and those of an ablation. source: the plan of `download`.
    prepared: the folder of the prepared splits.
    """
    folders = list(
        dict.fromkeys(name for n in _order(rows) for row in rows[n].values() for name in row)
    )
    made = read_runs(folders, predictions)
    content = json.loads((prepared / "sha256.json").read_text(encoding="utf-8"))
    return [
        Section("settings", "Settings", _settings(plan, made)),
        Section("versions", "Versions", _versions(made.values())),
        Section("data_set", "Data set", _data_set(source, content)),
        Section("text_encoder", "Text encoder", _text_encoder(made.values())),
        Section("hashes", "Hashes of the predictions", _predictions(plan, folders, predictions)),
    ]


def _order(rows: Mapping[str, Any]) -> list[str]:
    """Table 6 first: its runs are the models, which the others vary."""
    return sorted(rows, key=lambda number: number != "6")


def _settings(plan: Mapping[str, Any], made: Mapping[str, Made]) -> list[str | Grid]:
    models = {
        model: _decisive(run)
        for model in plan["models"]
        for run in [_first(made, model, plan["seeds"])]
        if run is not None
    }
    if not models:
        return ["No run has left its settings."]
    keys = list(dict.fromkeys(key for settings in models.values() for key in settings))
    keys.sort(key=lambda key: -sum(key in settings for settings in models.values()))
    shown = {key: [_value(settings, key) for settings in models.values()] for key in keys}
    alike = [key for key in keys if key in ALIKE and len(set(shown[key])) == 1]
    lines = [[key, *shown[key]] for key in keys if key not in alike]
    every = "; ".join(f"{key} `{shown[key][0]}`" for key in alike)
    blocks: list[str | Grid] = [
        f"The models of Table 6, seeds {_told(plan['seeds'])}. All alike: {every}. A model has no "
        "setting where none is shown.",
        Grid(["", *models], lines, left=range(len(models) + 1), caption="Settings of the models"),
    ]
    sweep = [
        [f"Table {entry['table']}", entry["row"], entry["run"], _changed(plan, entry, made, models)]
        for entry in plan["sweep"]
    ]
    if sweep:
        header = ["", "row", "run", "setting, and that of the model it varies"]
        blocks.append(Grid(header, sweep, left=range(4), caption="Settings of the sweeps"))
    return blocks


def _changed(
    plan: Mapping[str, Any],
    entry: Mapping[str, Any],
    made: Mapping[str, Made],
    models: Mapping[str, Mapping[str, Any]],
) -> str:
    """Say what a row of the sweeps has other than its model."""
    if entry["same_as"]:
        return f"that of {entry['same_as']}: trained once"
    run = _first(made, entry["run"], plan["sweep_seeds"])
    if run is None or run["model"] not in models:
        return "missing"
    base, own = models[run["model"]], _decisive(run)
    return ", ".join(
        f"{key} {_value(own, key)} ({_value(base, key)})"
        for key in dict.fromkeys((*base, *own))
        if base.get(key) != own.get(key)
    )


def _versions(made: Iterable[Made]) -> list[str | Grid]:
    found: dict[str, dict[str, None]] = {}
    for run in made:
        for package, version in run["versions"].items():
            found.setdefault(package, {})[version] = None
    if not found:
        return ["No run has left its versions."]
    return [
        "Those that the runs name; `requirements.txt` pins all packages, and `dvc.lock` holds the "
        "hash of everything that was read or written.",
        Grid(["", "version"], [[name, ", ".join(v)] for name, v in found.items()], left=(0, 1)),
    ]


def _data_set(source: Mapping[str, Any], content: Mapping[str, str]) -> list[str | Grid]:
    settings = _told(source["settings"])
    name = f"`{source['dataset']}`, read by source `{source['source']}`"
    if source["sha256"] is None:
        name = f"`{source['dataset']}`, made by source `{source['source']}`"
        verify = "Made of its settings alone, it has no file to fetch. Make it again:"
        command = (
            "dvc repro --force --single-item download && dvc repro --force --single-item prepare"
        )
        identity: list[str | Grid] = []
    else:
        verify = "The SHA-256 of the raw file or folder is checked before it is read. Print it:"
        command = f"make hash DATA=/absolute/path/{source['file']}"
        line = [source["file"], source["sha256"]]
        identity = [Grid(["", "SHA-256"], [line], left=(0, 1), caption="The raw data")]
    return [
        f"{name}{' with ' + settings if settings else ''}.",
        *identity,
        verify,
        _commands(command),
        "What the models read of it, and its check:",
        Grid(
            ["", "SHA-256"],
            [[file, digest] for file, digest in content.items()],
            left=(0, 1),
            caption="Prepared splits, data/prepared/",
        ),
        _commands(VERIFY_PREPARED),
    ]


def _text_encoder(made: Iterable[Made]) -> list[str | Grid]:
    names: dict[str, None] = {}
    arrays: dict[tuple[str, str], dict[str, None]] = {}
    for run in made:
        names[run["encoder"]["name"]] = None
        for split, digest in run["text"]["sha256"].items():
            arrays.setdefault((run["text"]["array"], split), {})[digest] = None
    if not names:
        return ["No run has left the name of its text encoder."]
    blocks: list[str | Grid] = []
    for name in names:
        published = encoders.published(name)
        if published is None:
            blocks.append(f"`{name}`, a folder: its publisher's hashes are not known.")
            continue
        origin = f"commit `{published.commit}` of the Hugging Face hub"
        if not published.commit:
            origin = f"package `{encoders.MINILM_PACKAGE}`"
        blocks += [
            f"`{name}`, from {origin}. Each file is checked before it is read. Check them now:",
            _commands(
                "PYTHONPATH=src python - <<'END'",
                "from msabench.networks.encoders import folder",
                f"with folder({name!r}) as files:",
                "    print('as published:', *sorted(file.name for file in files.iterdir()))",
                "END",
            ),
            Grid(
                ["", "SHA-256"],
                [[file, digest] for file, digest in published.sha256.items()],
                left=(0, 1),
                caption=f"{name}, as published",
            ),
        ]
    lines = [[array, split, ", ".join(found)] for (array, split), found in arrays.items()]
    grid = Grid(
        ["", "", "SHA-256"],
        lines,
        left=(0, 1, 2),
        caption="What the models read as text, data/features/<split>/<array>.npy",
    )
    return [*blocks, grid, _commands("sha256sum data/features/*/*.npy")]


def _predictions(
    plan: Mapping[str, Any], folders: Sequence[str], predictions: Path
) -> list[str | Grid]:
    lines = []
    for folder in folders:
        file = predictions / folder / "test.csv"
        digest = hashes.of_file(file) if file.exists() else "missing"
        lines.append([folder, stage_of(plan, folder), digest])
    return [
        "All figures on test but those of robustness are made of these files. A run on the same "
        "kind of processor gives the same bytes; on another kind the last digits move. Make one "
        "again by its stage:",
        *(
            _commands(
                f"dvc repro --force --single-item {stage}",
                f"sha256sum predictions/{folder}/test.csv",
            )
            for folder, stage, _ in lines[:1]
        ),
        Grid(
            ["", "stage", "SHA-256"],
            lines,
            left=(0, 1, 2),
            caption="Predictions on test, predictions/<run>/test.csv",
        ),
        "Everything, from a fresh clone; nothing is then to differ:",
        _commands("make repro", "git diff --stat metrics plots"),
    ]


def stage_of(plan: Mapping[str, Any], folder: str) -> str:
    """Name the stage of dvc.yaml that makes a folder of predictions."""
    return f"{plan['stages'][folder.rpartition('-')[0]]}@{folder}"


def _first(made: Mapping[str, Made], run: str, seeds: Sequence[int]) -> Made | None:
    return next((made[name] for seed in seeds if (name := f"{run}-{seed}") in made), None)


def _decisive(made: Made) -> dict[str, Any]:
    """Return the settings of a run, and what else decides its numbers."""
    found = {key: made[key] for key in ALIKE if key in made}
    found |= {"text_encoder": made["encoder"]["name"], "max_tokens": made["text"]["max_tokens"]}
    return found | params.flat(made)


def _value(settings: Mapping[str, Any], key: str) -> str:
    return _told(settings[key]) if key in settings else "-"


def _told(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_told, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_told(inner)}" for key, inner in value.items())
    return value if isinstance(value, str) else json.dumps(value)


def _commands(*lines: str) -> str:
    """Return a block of code, in markdown."""
    return "\n".join(f"    {line}" for line in lines)
