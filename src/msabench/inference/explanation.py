"""Explain a prediction: contributions of the modalities, and the nearest training utterances."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from msabench import runs
from msabench.errors import DataError
from msabench.folds import splits_of
from msabench.inference.predictor import Losses, Predictor
from msabench.networks.layers import varies
from msabench.networks.text import load_model
from msabench.predictions import Predictions
from msabench.utterances import Ragged, Utterances, load_splits


@dataclass(frozen=True)
class Neighbour:
    """A training utterance and its similarity, -1..1."""

    id: str
    similarity: float
    label: float
    text: str


@dataclass(frozen=True)
class Explanation:
    """One utterance of the test split.

    predictions: (seeds,). contributions: by modality, the predictions minus those without it,
    each (seeds,); they need not add up to the prediction. losses: see inference.Prediction; those
    of frames as far as the prepared data show them.
    """

    id: str
    text: str
    label: float
    predictions: Float[np.ndarray, " seeds"]
    contributions: Mapping[str, Float[np.ndarray, " seeds"]]
    nearest: list[Neighbour]
    losses: Losses


def explain(
    predictor: Predictor, splits: Mapping[str, Utterances], id: str, neighbours: int = 5
) -> Explanation:
    """Explain the prediction for a test utterance. Raises DataError for an unknown id.

    splits: see read_splits.
    """
    test, train = splits["test"], splits["train"]
    if id not in test.ids:
        raise DataError(f"{id!r} is no utterance of the test split, such as {test.ids[0]!r}")
    one = test.take([test.ids.index(id)])
    predictions = predictor.predict_read(one)[:, 0]
    without = {
        name: predictor.predict_read(predictor.without(one, name))[:, 0] for name in one.sequences
    }
    similarity = similarities(train, one, predictor.config["encoder"])
    order = np.argsort(-similarity, kind="stable")[:neighbours]
    _, (losses,) = predictor.read(predictor.gather(one))
    return Explanation(
        id=id,
        text=one.texts[0],
        label=float(one.labels[0]),
        predictions=predictions,
        contributions={name: predictions - other for name, other in without.items()},
        nearest=[
            Neighbour(train.ids[i], float(similarity[i]), float(train.labels[i]), train.texts[i])
            for i in order
        ],
        losses=losses,
    )


def similarities(
    train: Utterances, one: Utterances, encoder: Mapping[str, Any]
) -> Float[np.ndarray, " n"]:
    """Return the similarity of each training utterance to one other, -1..1, without any model.

    The mean over the modalities of the cosine of means over frames, each feature standardized by
    its mean and standard deviation over the training split. The frames of a text are the run's text
    input: hidden states, one vector, or the word embeddings where the whole encoder is trained.
    encoder: see text.Reader.
    """
    cosines = []
    for name, ragged in train.sequences.items():
        both = [ragged, one.sequences[name]]
        if ragged.values.ndim == 1:
            model = load_model(encoder["name"], encoder.get("published"))
            embeddings = model.get_input_embeddings().weight.detach().numpy()
            means = [_embedding_means(tokens, embeddings) for tokens in both]
        else:
            means = [frames.over_frames(np.mean) for frames in both]
        centre, spread = means[0].mean(axis=0), means[0].std(axis=0)
        varying = varies(centre, spread)
        train_means, new = ((part - centre)[:, varying] / spread[varying] for part in means)
        lengths = np.linalg.norm(train_means, axis=1) * np.linalg.norm(new)
        cosines.append((train_means @ new[0]) / np.where(lengths > 0, lengths, 1.0))
    return np.mean(cosines, axis=0)


def _embedding_means(
    tokens: Ragged, embeddings: Float[np.ndarray, "words d"]
) -> Float[np.ndarray, "n d"]:
    rows = [embeddings[tokens[i]].mean(axis=0, dtype=np.float64) for i in range(len(tokens))]
    return np.stack(rows)


def read_splits(folder: Path, config: Mapping[str, Any]) -> dict[str, Utterances]:
    """Read the data that a run was trained and tested on, from the work tree of its folder.

    folder: of the run. config: its run.json. Raises DataError where the data have changed since.
    """
    prepared, features = (_tree(folder) / "data" / name for name in ("prepared", "features"))
    digests = json.loads((prepared / "sha256.json").read_text(encoding="utf-8"))
    reads = json.loads((features / "runs" / f"{config['run']}.json").read_text(encoding="utf-8"))
    for path, unchanged in {
        prepared: digests == config["data"],
        features: reads["sha256"] == config["text"]["sha256"],
    }.items():
        if not unchanged:
            raise DataError(
                f"{path}: not the data that {folder} was trained on; `dvc repro` updates both"
            )
    return splits_of(load_splits(prepared, features, config["text"]["array"], config["widths"]))


def read_predictions(folders: list[Path]) -> Predictions:
    """Read the mean of the seeds' predictions for the test split. folders: those of the seeds.

    Over folds: the split of the fold whose model is saved. It was trained on what others tested.
    """
    seeds = [
        Predictions.read(_tree(folder) / "predictions" / folder.name / "test.csv")
        for folder in folders
    ]
    first = seeds[0]
    for folder, seed in zip(folders, seeds, strict=True):
        if seed.ids != first.ids:
            raise DataError(f"{folder}: its predictions are of other utterances than {folders[0]}")
    mean = np.mean([seed.predictions for seed in seeds], axis=0)
    kept, fold = np.ones(len(mean), bool), runs.config(folders[0]).get("fold")
    if fold:
        test = Utterances.load(_tree(folders[0]) / "data/prepared" / fold)
        kept = np.isin(first.ids, test.ids)
    ids = [id for id, keep in zip(first.ids, kept, strict=True) if keep]
    return Predictions(ids, first.labels[kept], mean[kept])


def _tree(folder: Path) -> Path:
    """Return the work tree of a run's folder, runs/<run>-<seed>."""
    return folder.absolute().parents[1]
