"""A tree of small random data in which the real stages have trained the models of params.yaml."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from msabench import hashes
from msabench.utterances import SPLITS, Ragged, save_prepared
from stages import features, plan, train
from tests.conftest import random_utterances

ROOT = Path(__file__).resolve().parents[1]
WORDS = ["good", "bad", "very", "not", "film", "the", "was", "but"]
SMALL = {"epochs": 1, "patience": 1, "transformer_dim": 16, "batch_size": 8}
NAMES = ["self_mm", "svm", "cnn", "ours", "lmf"]  # the default, and one that reads token states
SIZES = {"train": 24, "valid": 8, "test": 12}


def make(
    place: Path,
    text_encoder: str,
    trainable_layers: int | str,
    labels: Callable[[np.ndarray], np.ndarray] | None = None,
    **dataset: Any,
) -> None:
    """Train each model, seeds 1 and 2, on all modalities that it reads.

    labels: returns those to train on, from random ones in -3..3. dataset: settings of its block.
    """
    yaml = YAML()
    params = yaml.load(ROOT / "params.yaml")
    params["text_encoder"] = text_encoder
    params["text_encoders"]["default"] = {"trainable_layers": trainable_layers, "pooling": "mean"}
    params["max_tokens"] = 6
    params["datasets"][params["dataset"]] |= dataset
    params["seeds"], params["sweep_seeds"] = [1, 2], [1]
    params["sweep"] = {name: params["sweep"][name] for name in ("batch_size_64", "batch_size_32")}
    params["sweep"]["batch_size_64"]["batch_size"] = SMALL["batch_size"]  # equal to the base run
    params["transformer_dim"], params["batch_size"] = SMALL["transformer_dim"], SMALL["batch_size"]
    params["compare"] = NAMES
    params["models"]["lmf"] |= {"epochs": 1, "patience": 1}
    for block in params["models"].values():
        for key in ("epochs", "patience", "batch_size"):
            if key in block:
                block[key] = SMALL[key]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        Path("src").symlink_to(ROOT / "src")
        yaml.dump(params, Path("params.yaml"))
        _prepare(Path("data/prepared"), labels)
        plan.main()
        features.main()
        for name in params["compare"]:
            for seed in (1, 2):
                train.main(name, seed)
        for name in params["sweep"]:
            train.main(name, 1)


def _prepare(folder: Path, labels: Callable[[np.ndarray], np.ndarray] | None) -> None:
    splits = {}
    for seed, (split, n) in enumerate(SIZES.items()):
        data = random_utterances(seed=seed, n=n).select(["audio", "vision"])
        rng = np.random.default_rng(seed)
        data.texts[:] = [" ".join(rng.choice(WORDS, rng.integers(1, 9))) for _ in range(n)]
        if labels is not None:
            data.labels[:] = labels(data.labels)
        splits[split] = replace(data, sequences=_some_without(data.sequences))
    assert tuple(SIZES) == SPLITS
    save_prepared(splits, folder)
    (folder / "sha256.json").write_text(json.dumps(hashes.of_folder(folder)))
    (folder / "columns.json").write_text("{}")
    (folder / "split.json").write_text('{"drawn": ""}')


def _some_without(sequences: Mapping[str, Ragged]) -> dict[str, Ragged]:
    """Leave out the audio of utterances 1, 6, ..., the vision of 2, 7, ..."""
    return {
        name: Ragged.of([own[i][: 0 if i % 5 == first else None] for i in range(len(own))])
        for (name, own), first in zip(sequences.items(), (1, 2), strict=True)
    }


def frames(data, name: str, i: int) -> np.ndarray:
    """The frames of one modality of an utterance, as an array of its own."""
    ragged: Ragged = data.sequences[name]
    return np.array(ragged[i])
