"""The probe: a ridge regression on the mean vector of each modality, and of all of them.

It takes seconds, and says what a linear model reads in the features of any data: a baseline of
Table 6, and a test of the data. It is fitted on train and measured on valid and test, and on train
out of fold: each utterance is predicted by a fit that has not seen its video.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Integer

from msabench.evaluation import metrics, tables
from msabench.evaluation.tables import Row, Rows
from msabench.folds import folds_of, held_out, splits_of
from msabench.utterances import Ragged, Utterances

ALL = "all"  # the row of all modalities
FOLDS = 5
# Penalties, the strongest first: of equally good ones the first is chosen.
ALPHAS = (1_000_000, 300_000, 100_000, 30_000, 10_000, 3000, 1000, 300, 100, 30, 10, 3, 1)
# A column is constant if its standard deviation is below this share of its largest value: vectors
# come from float32, and those of equal texts differ in the last digits.
ROUNDING = 1e-6
# What Corr on train and on valid may both be above that on test. In honest data it was at most .1
# (MOSI, MOSEI, POM), and .6 in features trained on the labels of train and valid (the vision of
# MOSI's old split). Of ENOUGH utterances, three standard errors of a Corr of 0 are .3.
MARGIN = 0.3
ENOUGH = 100
FAR_LESS = "far less on test than on train and valid"
# More than is published for one modality alone, on any split: the report's SVM has .13 of audio
# and .27 of vision, TEXT (arXiv 2512.22741) .77 of text. Features that are the output of a speech
# recognizer hold words, so that audio may well have more than the report's.
MOST = {"text": 0.9, "audio": 0.6, "vision": 0.6}


@dataclass(frozen=True)
class Ridge:
    """A fitted ridge regression on some of d columns.

    block: its columns, b of them. mean, weights: (b,), in units of the columns; a constant column
    has weight 0. out_of_fold: the predictions on train, (n,), None where train is one video.
    """

    block: slice
    alpha: int
    mean: Float[np.ndarray, " b"]
    weights: Float[np.ndarray, " b"]
    intercept: float
    out_of_fold: Float[np.ndarray, " n"] | None

    def predict(self, columns: Float[np.ndarray, "m d"]) -> Float[np.ndarray, " m"]:
        """Return the predictions, in units of the label."""
        return (columns[:, self.block] - self.mean) @ self.weights + self.intercept


@dataclass(frozen=True)
class Moments:
    """Sums over n rows of d columns and the label: of each, (d + 1,), and of their products."""

    n: int
    sums: Float[np.ndarray, " e"]
    products: Float[np.ndarray, "e e"]

    @classmethod
    def of(cls, columns: Float[np.ndarray, "n d"], labels: Float[np.ndarray, " n"]) -> "Moments":
        """Sum over these rows."""
        joined = np.column_stack([columns, labels])
        return cls(len(joined), joined.sum(axis=0), joined.T @ joined)

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(self.n + other.n, self.sums + other.sums, self.products + other.products)

    def __sub__(self, other: "Moments") -> "Moments":
        return Moments(self.n - other.n, self.sums - other.sums, self.products - other.products)


def measure(plan: Mapping[str, Any], parts: Mapping[str, Utterances], features: Path) -> Rows:
    """Return the row of each modality that the data have, text first, and of all of these.

    A row is that of a table (`tables.row_of`) and train_mae and train_corr, out of fold, and alpha:
    None over the folds of a cross-validation, which have a fit each.
    plan: of the tables. parts: see msabench.folds. features: the output of the stage of that name.
    """
    read = {
        name: part.with_text(Ragged.load(features / name, plan["probe"]["array"]))
        if "text" in part.modalities
        else part
        for name, part in parts.items()
    }
    guesses: dict[str, dict[str, list[np.ndarray]]] = {}
    others: dict[str, dict[str, float | int | None]] = {}
    for fold in folds_of(parts):
        splits = splits_of(read, fold)
        for name, (ridge, predicted) in _fitted(splits).items():
            own = guesses.setdefault(name, {"valid": [], "test": []})
            for split, values in predicted.items():
                own[split].append(values)
            others[name] = {} if fold else _on_train(ridge, splits["train"])
    unknown = dict.fromkeys(("train_mae", "train_corr", "alpha"))
    rows = {}
    for name, own in guesses.items():
        joined = {split: np.concatenate(values) for split, values in own.items()}
        rows[name] = tables.row_of(plan, held_out(parts), joined, **unknown | others[name])
    return rows


def _fitted(
    splits: Mapping[str, Utterances],
) -> dict[str, tuple[Ridge, dict[str, Float[np.ndarray, " _"]]]]:
    """Return the regression on each modality and on all, and its predictions of valid and test."""
    vectors = {
        split: {name: ragged.over_frames(np.mean) for name, ragged in data.sequences.items()}
        for split, data in splits.items()
    }
    columns = {split: np.concatenate([*own.values()], axis=1) for split, own in vectors.items()}
    blocks = _blocks({name: own.shape[1] for name, own in vectors["train"].items()})
    train = splits["train"]
    ridges = fit(columns["train"], train.labels.astype(np.float64), train.videos, blocks)
    return {
        name: (ridge, {split: ridge.predict(columns[split]) for split in ("valid", "test")})
        for name, ridge in ridges.items()
    }


def _on_train(ridge: Ridge, train: Utterances) -> dict[str, float | int | None]:
    """Return how well a regression predicts train out of fold, and its penalty."""
    if ridge.out_of_fold is None:
        return {"alpha": ridge.alpha}
    labels = train.labels.astype(np.float64)
    return {
        "train_mae": metrics.mae(labels, ridge.out_of_fold),
        "train_corr": metrics.corr(labels, ridge.out_of_fold),
        "alpha": ridge.alpha,
    }


def leaks(rows: Mapping[str, Row], splits: Mapping[str, Row], *, simulated: bool) -> list[str]:
    """Return one sentence for each modality whose features seem to be made with the labels.

    rows: of `measure`. splits: Table 1; one of fewer than ENOUGH utterances is no evidence. Over
    folds valid and test are all utterances, and nothing is known of train.
    simulated: whether the simulator decides how much of the label a modality holds.
    """
    columns = {"train": "train_corr", "valid": "valid_corr", "test": "corr"}
    sizes = {split: splits[split if split in splits else "all"]["utterances"] for split in columns}
    enough = [split for split in columns if sizes[split] >= ENOUGH]
    sentences = []
    for modality, most in MOST.items():
        row = rows.get(modality, {})
        every = {split: row.get(columns[split]) for split in enough}
        corr = {split: value for split, value in every.items() if value is not None}
        reasons = []
        if len(corr) == len(columns) and min(corr["train"], corr["valid"]) > corr["test"] + MARGIN:
            reasons.append(FAR_LESS)
        if not simulated and max(corr.values(), default=0.0) > most:
            reasons.append(f"above {most:.1f}, more than is published")
        if reasons:
            shown = ", ".join(f"{value:.2f} on {split}" for split, value in corr.items())
            sentence = (
                f"{modality.capitalize()} alone: Corr {shown} ({'; '.join(reasons)}); check how "
                "these features were made (docs/features.md)."
            )
            if FAR_LESS in reasons:
                sentence += (
                    " Epochs, settings and models are chosen on valid, which does not stand for "
                    "test then."
                )
            sentences.append(sentence)
    return sentences


def fit(
    columns: Float[np.ndarray, "n d"],
    labels: Float[np.ndarray, " n"],
    videos: Sequence[str],
    blocks: Mapping[str, slice],
) -> dict[str, Ridge]:
    """Fit a ridge regression on each block of the columns, which are standardized.

    alpha has the least squared error out of fold, with whole videos in each fold. The products of
    the columns are summed once for all blocks: a fold is left out by subtraction.
    """
    mean, scale = _mean_and_scale(columns)
    standardized = (columns - mean) / scale
    centre = float(labels.mean())
    folds = video_folds(videos)
    parts = [
        Moments.of(standardized[folds == fold], labels[folds == fold] - centre)
        for fold in range(folds.max() + 1)
    ]
    total = sum(parts[1:], parts[0])
    fitted = {}
    for name, block in blocks.items():
        alpha, out_of_fold = ALPHAS[0], None
        if len(parts) > 1:
            guesses = centre + _out_of_fold(standardized, folds, total, parts, block)
            best = int(np.argmin(((guesses - labels[:, None]) ** 2).mean(axis=0)))
            alpha, out_of_fold = ALPHAS[best], guesses[:, best]
        _, weights = solve(total, block, [alpha])
        weights = weights[:, 0] / scale[block]
        fitted[name] = Ridge(block, alpha, mean[block], weights, centre, out_of_fold)
    return fitted


def solve(
    moments: Moments, block: slice, alphas: Sequence[int]
) -> tuple[Float[np.ndarray, " b"], Float[np.ndarray, "b a"]]:
    """Solve the ridge regression of the label on a block of b columns for each penalty.

    Returns the columns' means and their weights. The penalty is on the weights of columns of mean 0
    and standard deviation 1, as scikit-learn's Ridge has it after its StandardScaler.
    """
    mean = moments.sums[block] / moments.n
    products = moments.products[block, block] - moments.n * np.outer(mean, mean)
    target = moments.products[block, -1] - mean * moments.sums[-1]
    scale = np.sqrt(np.diag(products).clip(0) / moments.n)
    varies = scale > ROUNDING  # of columns of standard deviation 1 over all rows, or constant
    scale = scale[varies]
    values, vectors = np.linalg.eigh(products[np.ix_(varies, varies)] / np.outer(scale, scale))
    rotated = vectors.T @ (target[varies] / scale)
    weights = np.zeros((len(mean), len(alphas)))
    penalized = values.clip(0)[:, None] + np.asarray(alphas)
    weights[varies] = vectors @ (rotated[:, None] / penalized) / scale[:, None]
    return mean, weights


def video_folds(videos: Sequence[str]) -> Integer[np.ndarray, " n"]:
    """Return the fold of each of n utterances: whole videos, in folds of about equal size.

    The videos with most utterances come first, each to the smallest fold; no chance is in it.
    """
    names, video, sizes = np.unique(np.asarray(videos), return_inverse=True, return_counts=True)
    fold_of = np.zeros(len(names), dtype=np.int64)
    filled = np.zeros(min(FOLDS, len(names)), dtype=np.int64)
    for i in np.argsort(-sizes, kind="stable"):
        fold_of[i] = np.argmin(filled)
        filled[fold_of[i]] += sizes[i]
    return fold_of[video]


def _out_of_fold(
    columns: Float[np.ndarray, "n d"],
    folds: Integer[np.ndarray, " n"],
    total: Moments,
    parts: Sequence[Moments],
    block: slice,
) -> Float[np.ndarray, "n a"]:
    """Return for each penalty the predictions of each fold by a fit on the others, about 0.

    0 is the mean label of all folds: that of the others is the lower, the higher the labels of the
    fold are, and would be a negative correlation where the columns say nothing.
    """
    guesses = np.empty((len(columns), len(ALPHAS)))
    for fold, part in enumerate(parts):
        mean, weights = solve(total - part, block, ALPHAS)
        guesses[folds == fold] = (columns[folds == fold, block] - mean) @ weights
    return guesses


def _blocks(widths: Mapping[str, int]) -> dict[str, slice]:
    """Return the columns of each modality, and of all, where they stand side by side."""
    ends = np.cumsum([0, *widths.values()]).tolist()
    own = zip(widths, ends[:-1], ends[1:], strict=True)
    return {name: slice(start, end) for name, start, end in own} | {ALL: slice(0, ends[-1])}


def _mean_and_scale(
    columns: Float[np.ndarray, "n d"],
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]]:
    """Return mean and standard deviation of each column; a constant has an infinite one.

    So it is 0 when it is standardized, in every split.
    """
    scale = columns.std(axis=0)
    constant = scale <= ROUNDING * np.abs(columns).max(axis=0)
    return columns.mean(axis=0), np.where(constant, np.inf, scale)
