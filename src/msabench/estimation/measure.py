"""Measure a few steps of one run, or of the text encoder, in a process of its own.

    python -m msabench.estimation.measure < task.json

Prints a Cost and the seconds that it took as json. It is a process of its own, because memory is
measured, and because it computes as the stage does: with its arithmetic, threads and device.
"""

import json
import resource
import sys
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Integer, Shaped
from torch.optim.optimizer import register_optimizer_step_post_hook

from msabench import models, program
from msabench.estimation.sizes import Lengths
from msabench.execution import jobs
from msabench.networks import text, torch_settings
from msabench.networks.batches import POOL, cost, sorted_by_length
from msabench.utterances import Ragged, Utterances

T = TypeVar("T")

PAGE = "docs/experiments.md"
MOST = 12  # batches of a run that are measured, of equal distance from the longest to the shortest
SAMPLE = 3000  # training utterances, at most, of a model that is fitted in one go
PREDICTED = 500  # utterances that such a model predicts
ENCODED = 64  # texts in a batch of the text encoder, as `text.encode` has it


@dataclass(frozen=True)
class Cost:
    """What a run with one seed takes, or the text encoder (of which `predict` is all).

    Seconds: build, until training can begin; epoch, of training on all utterances and the check
    on valid; predict, for valid and test at the end. memory: the peak, of the device on a GPU.
    weights: of the saved model, both in bytes. width: of the encoder's states.
    """

    build: float
    epoch: float
    predict: float
    memory: float
    weights: float
    width: int = 0


@dataclass(frozen=True)
class Shapes:
    """Splits of which only the lengths count, from which samples are filled with random values."""

    splits: Mapping[str, Utterances]
    label_range: tuple[float, float]
    rng: np.random.Generator

    def sample(self, split: str, index: Integer[np.ndarray, " m"]) -> Utterances:
        """Return the chosen utterances, with random frames and labels; token ids are 1."""
        taken = self.splits[split].take(index)
        sequences = {
            name: Ragged(self._values(ragged), ragged.offsets)
            for name, ragged in taken.sequences.items()
        }
        labels = self.rng.uniform(*self.label_range, len(index)).astype(np.float32)
        return replace(taken, labels=labels, sequences=sequences)

    def _values(self, ragged: Ragged) -> Shaped[np.ndarray, "total *d"]:
        if ragged.values.ndim == 1:
            return np.ones_like(ragged.values)
        return self.rng.standard_normal(ragged.values.shape, dtype=np.float32)


def main() -> None:
    """Measure the task on stdin: the config, the lengths by split and modality, seconds to use."""
    start = time.perf_counter()
    task = json.load(sys.stdin)
    torch_settings.configure(task["config"])
    lengths = {
        split: {name: np.array(values, dtype=np.int64) for name, values in own.items()}
        for split, own in task["lengths"].items()
    }
    if "runs" in task["config"]:
        measured = encoder(task["config"], lengths, task["seconds"])
    else:
        measured = run(task["config"], lengths, task["widths"], task["seconds"])
    print(json.dumps({"elapsed": time.perf_counter() - start, **asdict(measured)}))


def encoder(
    config: Mapping[str, Any],
    lengths: Mapping[str, Lengths],
    seconds: float,
) -> Cost:
    """Measure the frozen layers of the text encoder on some batches of texts of these lengths.

    As many side by side as the stage encodes.
    config: of the stage `features`. seconds: to spend on it, about.
    """
    start = time.perf_counter()
    model = text.load_model(**config["encoder"])
    device = torch_settings.choose_device(config["device"])
    workers = jobs.encoders(config["threads"], device.type)
    build = time.perf_counter() - start
    wanted = {
        reads["array"]: (reads["trainable_layers"], reads["pooling"])
        for reads in (config["probe"], *config["runs"].values())
        if reads["array"] != "tokens"
    }
    tokens = np.concatenate([own["text"] for own in lengths.values()])
    batches = list(sorted_by_length(tokens, ENCODED))

    def encode(index: Integer[np.ndarray, " m"]) -> float:
        start = time.perf_counter()
        with TemporaryDirectory() as folder:
            sample = without_values({"text": tokens[index]}, {"text": 0}).sequences["text"]
            text.encode(
                *(model, sample, wanted, Path(folder)),
                batch_size=ENCODED,
                device=device,
                workers=workers,
            )
        return time.perf_counter() - start

    encode(batches[0])  # the first prepares kernels
    of_each = batches_in(seconds, encode(batches[0]), len(batches))
    index = np.concatenate(spread(batches, min(workers * of_each, len(batches))))
    predict = encode(index) * len(tokens) / len(index)
    return Cost(build, 0.0, predict, _peak(device), 0.0, model.config.hidden_size)


def run(
    config: Mapping[str, Any],
    lengths: Mapping[str, Lengths],
    widths: Mapping[str, int],
    seconds: float,
) -> Cost:
    """Measure a run by some batches of random frames of these lengths and widths.

    config: of the plan. widths: features per frame of each modality that the run reads; 0 for token
    ids. seconds: to spend on it, about.
    """
    low, high = config["labels"]["range"]
    splits = {split: without_values(own, widths) for split, own in lengths.items()}
    shapes = Shapes(splits, (low, high), np.random.default_rng(0))
    with TemporaryDirectory() as folder:
        if models.is_network(config["model"]):
            return _network(config, shapes, seconds, Path(folder))
        return _one_go(config, shapes, Path(folder))


def _network(config: Mapping[str, Any], shapes: Shapes, seconds: float, folder: Path) -> Cost:
    schedule = {**config["schedule"], "epochs": 2, "patience": 2, "drop_incomplete": False}
    train, size = shapes.splits["train"], schedule["batch_size"]
    regressor: Any = models.build({**config, "schedule": schedule}, train.widths, config["device"])
    build = _seconds(regressor.build)
    pool = shapes.rng.permutation(len(train))[: POOL * size]
    batches = [pool[rows] for rows in sorted_by_length(cost(train)[pool], size)]
    copies = (schedule["missing"] or {"copies": 0})["copies"]
    sample = _with_copies(shapes.sample("train", batches[0]), copies)
    longest = second_epoch(regressor, sample, folder / "longest")
    memory = _peak(regressor.device)
    count = batches_in(seconds, 2 * longest, len(batches), schedule["accumulate"])
    sample = _with_copies(shapes.sample("train", np.concatenate(spread(batches, count))), copies)
    epoch = second_epoch(regressor, sample, folder / "spread") / len(sample)
    predict = _seconds(partial(regressor.predict, sample)) / len(sample)
    regressor.save(folder)
    valid, test = (len(shapes.splits[split]) for split in ("valid", "test"))
    return Cost(
        build=build,
        epoch=epoch * len(train) + predict * valid,
        predict=predict * (valid + test),
        memory=memory,
        weights=float((folder / "weights.safetensors").stat().st_size),
    )


def _with_copies(data: Utterances, count: int) -> Utterances:
    """Return utterances whose text, if any, is its own corrupted copies: networks.corrupted."""
    if "text" not in data.sequences:
        return data
    text = data.sequences["text"]
    return data.with_text(replace(text, copies=[text] * count, empty=text[0]))


def second_epoch(regressor: Any, train: Utterances, folder: Path) -> float:
    """Return the seconds of an epoch, from the last step of the one before, which warms up."""
    steps: list[float] = []
    hook = register_optimizer_step_post_hook(lambda *_: steps.append(time.perf_counter()))
    folder.mkdir()
    try:
        regressor.fit(train, train.take([0]), seed=0, scratch=folder)
    finally:
        hook.remove()
    return steps[-1] - steps[len(steps) // 2 - 1]


def _one_go(config: Mapping[str, Any], shapes: Shapes, folder: Path) -> Cost:
    """Measure fits of two sizes: time and memory have a linear and a quadratic part in them."""
    count, start = len(shapes.splits["train"]), _peak(torch.device("cpu"))
    regressor = models.build(config, shapes.splits["train"].widths, config["device"])
    valid = shapes.sample("valid", np.arange(1))
    most = min(count, SAMPLE)
    fits, peaks = [], []
    for size in (most // 2, most):
        sample = shapes.sample("train", np.arange(size))
        fit = partial(regressor.fit, sample, valid, seed=0, scratch=folder)
        tracemalloc.start()  # as the peak of the process is that of its imports
        fit()  # it warms up, too
        peaks.append((size, float(tracemalloc.get_traced_memory()[1])))
        tracemalloc.stop()
        fits.append((size, _seconds(fit)))
    asked = shapes.sample("test", np.arange(min(len(shapes.splits["test"]), PREDICTED)))
    predict = _seconds(partial(regressor.predict, asked)) / len(asked)
    regressor.save(folder)
    scale = count / most  # of what is kept of each training utterance
    predicted = len(shapes.splits["valid"]) + len(shapes.splits["test"])
    return Cost(
        build=0.0,
        epoch=extrapolated(fits, count),
        predict=predict * scale * predicted,
        memory=start + extrapolated(peaks, count),
        weights=(folder / "weights.safetensors").stat().st_size * scale,
    )


def _seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def extrapolated(measured: Sequence[tuple[int, float]], size: int) -> float:
    """Return a x + b x^2 at the size, of the curve through two measured points (x, y).

    a and b are at least 0: where one would be less, the other alone, through the second point.
    """
    (x1, y1), (x2, y2) = measured
    if x1 == x2 or x1 == 0:
        return y2 * size / max(x2, 1)
    b = (y2 / x2 - y1 / x1) / (x2 - x1)
    a = y1 / x1 - b * x1
    if b < 0:
        a, b = y2 / x2, 0.0
    elif a < 0:
        a, b = 0.0, y2 / x2**2
    return a * size + b * size**2


def batches_in(seconds: float, one: float, most: int, accumulate: int = 1) -> int:
    """Return how many batches, of which one takes so long, are measured in the seconds.

    From 1 to MOST, in whole steps of the optimizer, but no more than there are.
    """
    count = min(max(int(seconds / one), 1), MOST)
    return min(-(-count // accumulate) * accumulate, most)


def spread(batches: Sequence[T], count: int) -> list[T]:
    """Return so many of the batches, which are sorted, at equal distances."""
    return [batches[int((i + 0.5) * len(batches) / count)] for i in range(count)]


def without_values(lengths: Lengths, widths: Mapping[str, int]) -> Utterances:
    """Return utterances of these lengths, whose values take no memory."""
    sequences = {}
    for name, own in lengths.items():
        offsets = np.concatenate([[0], np.cumsum(own)])
        shape = (offsets[-1], widths[name]) if widths[name] else (offsets[-1],)
        kind = np.float32 if widths[name] else np.int32
        sequences[name] = Ragged(np.broadcast_to(kind(0), shape), offsets)
    count = len(offsets) - 1
    return Utterances([""] * count, [""] * count, np.zeros(count, np.float32), sequences)


def _peak(device: torch.device) -> float:
    """Return the most memory that this process has used, in bytes; on a GPU that of the GPU."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_reserved(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


if __name__ == "__main__":
    with program.one_line(PAGE):
        main()
