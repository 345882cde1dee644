"""Choose a model's settings for a data set on validation: the program of `make tune`.

With --grid, writes the candidates of the model's grid in params.yaml into another params.yaml. With
--choose, reads the predictions of a tree where the candidates were trained, prints them from the
best to the worst, and writes the best as a preset of the data set into params.yaml.

examples:
  msabench tune --dataset mosi_utterances --model svm --grid runs/tune/params.yaml
  msabench tune --dataset mosi_utterances --model svm --choose runs/tune
"""

import argparse
from copy import deepcopy
from itertools import islice
from pathlib import Path
from typing import Any

from msabench.errors import DataError, ParamsError

PAGE = "docs/experiments.md"
PARAMS = Path("params.yaml")
SHOWN = 10  # candidates


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--dataset", required=True, help="one of datasets in params.yaml")
    parser.add_argument("--model", required=True, help="one of grids in params.yaml")
    step = parser.add_mutually_exclusive_group(required=True)
    step.add_argument("--grid", type=Path, metavar="FILE", help="the params.yaml to write them to")
    step.add_argument("--choose", type=Path, metavar="FOLDER", help="the tree that trained them")


def main(options: argparse.Namespace) -> None:
    """Write the candidates, or choose among them."""
    if options.grid:
        write_candidates(options.dataset, options.model, options.grid)
    else:
        choose(options.dataset, options.model, options.choose)


def write_candidates(dataset: str, model: str, file: Path) -> None:
    """Write the candidates of a model's grid into a params.yaml without sweep and ablation.

    Raises ParamsError for a data set or a model that has none.
    """
    from sklearn.model_selection import ParameterGrid

    content = _read(PARAMS)
    for key, value in (("datasets", dataset), ("grids", model)):
        if value not in content[key]:
            known = ", ".join(content[key])
            raise ParamsError(f"{PARAMS}: {key}: no {value!r}; permitted: {known}")
    grid = dict(content["grids"][model])
    seeds = grid.pop("seeds")
    # Copies: an object that occurs twice would be written as an alias.
    every = map(deepcopy, ParameterGrid(grid))
    candidates = {f"tune{number}": changes for number, changes in enumerate(every, start=1)}
    content["dataset"] = dataset
    content["sweep_seeds"], content["ablation"]["models"] = [], []
    content["tune"] = {
        "model": model,
        "seeds": deepcopy(seeds),
        "candidates": candidates,
    }
    _write(file, content)
    print(f"{model} on {dataset}: {len(candidates)} candidates")


def choose(dataset: str, model: str, tree: Path) -> None:
    """Print the candidates by their mean MAE on validation; write the best into params.yaml.

    Raises DataError where none was trained with all seeds.
    """
    import numpy as np

    from msabench.evaluation import metrics, tables
    from msabench.predictions import Predictions

    tune = _read(tree / PARAMS)["tune"]
    judged: list[dict[str, Any]] = []
    for name, changes in tune["candidates"].items():
        files = [tree / f"predictions/{name}-{seed}/valid.csv" for seed in tune["seeds"]]
        if all(file.is_file() for file in files):
            runs = [Predictions.read(file) for file in files]
            errors = [metrics.mae(run.labels, run.predictions) for run in runs]
            judged.append(
                {"settings": dict(changes), "valid_mae": round(float(np.mean(errors)), 4)}
            )
    if not judged:
        raise DataError(f"{tree}: no candidate has predictions of all seeds; run `make tune` again")
    judged.sort(key=lambda candidate: candidate["valid_mae"])  # of equal ones the first in the grid
    asked_for, size = _encoder(dataset)
    out = Path("metrics") / "_".join([dataset, *asked_for])
    out.mkdir(parents=True, exist_ok=True)
    tables.write_json(
        out / f"tune_{model}.json", {"seeds": list(tune["seeds"]), "candidates": judged}
    )
    for candidate in islice(judged, SHOWN):
        print(f"{candidate['valid_mae']:.4f}  {candidate['settings']}")
    print(f"MAE on validation, mean of seeds {list(tune['seeds'])}; {len(judged)} candidates")
    _write_preset("_".join([dataset, *size]), model, judged[0]["settings"])


def _encoder(dataset: str) -> tuple[list[str], list[str]]:
    """Return the short name of the text encoder, where one is asked for, and its size, if any."""
    from msabench import params, plan

    settings = params.load(PARAMS).model_copy(update={"dataset": dataset})
    size = plan.known_encoder(settings).size
    asked_for = [] if settings.text_encoder == params.AUTO else [Path(settings.text_encoder).name]
    return asked_for, [size] if size else []


def _write_preset(key: str, model: str, settings: dict[str, Any]) -> None:
    """Write settings as the preset that a model takes by a key, a data set and size of encoder."""
    from ruamel.yaml.comments import CommentedMap

    content, name = _read(PARAMS), f"{model}_{key}"
    block = CommentedMap(settings)
    block.fa.set_flow_style()  # DVC keeps lists in one line only within a mapping in one line
    content["presets"].pop(name, None)
    # At the front: the comment above the next part of the file is one of the last preset.
    content["presets"].insert(0, name, block)
    preset = content["models"][model].get("preset") or {}
    if not isinstance(preset, dict):
        preset = {"default": preset}
    preset[key] = name
    content["models"][model]["preset"] = preset
    _write(PARAMS, content)
    print(f"{PARAMS}: presets.{name}: {settings}")


def _read(path: Path) -> Any:
    from msabench import params

    params.load(path)
    return _yaml().load(path.read_text(encoding="utf-8"))


def _write(path: Path, content: Any) -> None:
    with path.open("w", encoding="utf-8") as file:
        _yaml().dump(content, file)


def _yaml() -> Any:
    """Return a reader and writer that keeps comments and the style of each value, as DVC does."""
    from ruamel.yaml import YAML

    return YAML(typ="rt")
