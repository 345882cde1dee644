"""Measure one text encoder in a process of its own, and print its figures as JSON.

    python -m bench.encoder_case ENCODER TRAINED_LAYERS ARITHMETIC PRECISION THREADS BATCHES

In a work tree of bench/encoders.py, which says what the figures are. Floating point operations are
those of the matrix products of real tokens, two for a multiplication and an addition. A layer of
width d and inner width f has in its forward pass, for a text of t tokens,

    t * 2 (4 d^2 + 2 d f)   queries, keys, values, output, and the two of the feed-forward part
    + 4 t^2 d               attention: scores, and the sum of the values

and twice as many in its backward pass. Where layers below are frozen, what the lowest trained one
reads needs no gradient, which its queries, keys and values would give it: t * 6 d^2 less. Padding
does not count, nor what is computed again.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from jaxtyping import Integer
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from bench import gemm
from msabench import models
from msabench.estimation.measure import spread
from msabench.networks import text, torch_settings
from msabench.networks.batches import POOL, Batch, sorted_by_length
from msabench.params import TrainableLayers
from msabench.training import checkpoints, loop
from msabench.utterances import Ragged, Utterances

MODEL, CPU = "self_mm", torch.device("cpu")

Lengths = Integer[np.ndarray, " b"]  # tokens of each text of a batch


@dataclass(frozen=True)
class Shape:
    """The sizes of an encoder that decide its floating point operations."""

    layers: int
    width: int
    inner: int

    @classmethod
    def read(cls, encoder: Path) -> "Shape":
        config = json.loads((encoder / "config.json").read_text())
        sizes = ("num_hidden_layers", "hidden_size", "intermediate_size")
        return cls(*(config[name] for name in sizes))

    def operations(self, lengths: Lengths, trained: TrainableLayers) -> float:
        """Count the operations of the frozen pass (0 trained), or of forward and backward pass."""
        tokens, pairs = float(lengths.sum()), float((lengths**2).sum())
        layer = tokens * 2 * (4 * self.width**2 + 2 * self.width * self.inner)
        layer += 4 * pairs * self.width
        if trained == 0:
            return self.layers * layer
        if trained == "all":
            return 3 * self.layers * layer
        return 3 * trained * layer - tokens * 6 * self.width**2

    def limit(self, lengths: Lengths) -> float:
        """Measure the plain product of a padded batch, in FLOP/s."""
        return gemm.limit(len(lengths) * int(lengths.max()), self.width, self.inner, CPU)


def main(
    encoder: str, layers: str, arithmetic: str, precision: str, threads: int, batches: int
) -> None:
    trained: TrainableLayers = int(layers) if layers.isdecimal() else "all"
    config = json.loads(Path(f"runs/plan/{MODEL}.json").read_text())
    config |= {"arithmetic": arithmetic, "precision": precision}
    config |= {"threads": threads, "device": "cpu"}
    config["encoder"] |= {"name": encoder, "trainable_layers": trained}
    torch_settings.configure(config)
    shape, lengths = Shape.read(Path(encoder)), np.load("lengths.npy")
    size, accumulate = (config["schedule"][name] for name in ("batch_size", "accumulate"))
    if trained != 0:  # the frozen pass sorts all texts by length, training a pool of them
        lengths = np.random.default_rng(1).permutation(lengths)[: POOL * size]
        batches = -(-batches // accumulate) * accumulate  # in whole steps of the optimizer
    by_length = [lengths[index] for index in sorted_by_length(lengths, size)]
    measured = spread(by_length, batches)
    if trained == 0:
        seconds, limits = frozen_pass(encoder, shape, [by_length[0], *measured])
    else:
        longest, shortest = by_length[0], by_length[-1]
        warm_up = [longest, *[shortest] * (accumulate - 1)]
        # Memory peaks where a long batch finds Adam's moments, and the gradients of one before it.
        order = [*warm_up, *measured, shortest, longest]
        seconds, limits = training(config, shape, order, slice(accumulate, accumulate + batches))
    work = [shape.operations(one, trained) for one in measured]
    at_limit = sum(one / limit for one, limit in zip(work, limits, strict=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # of Linux, as harness.run
    figures = {
        "utterances_per_second": round(sum(map(len, measured)) / seconds, 1),
        "gemm_share": round(at_limit / seconds, 3),
        "gemm_gigaflops": round(median(limits) / 1e9),
        "peak_gigabytes": round(peak / 1e9, 2),
    }
    print(json.dumps(figures))


def frozen_pass(
    encoder: str, shape: Shape, batches: Sequence[Lengths]
) -> tuple[float, list[float]]:
    """Return the seconds of all batches but the first, which warms up, and the limit at each."""
    model, seconds, limits = text.load_model(encoder), [], []
    for lengths in batches:
        tokens, start = random_text(lengths), time.perf_counter()
        with TemporaryDirectory(dir=".") as folder:
            settings: Any = {text.cache_name(0, "mean"): (0, "mean")}
            text.encode(model, tokens, settings, Path(folder), batch_size=len(lengths), device=CPU)
            seconds.append(time.perf_counter() - start)
        limits.append(shape.limit(lengths))
    return sum(seconds[1:]), limits[1:]


def training(
    config: dict[str, Any], shape: Shape, batches: Sequence[Lengths], measured: slice
) -> tuple[float, list[float]]:
    """Train an epoch of these batches; return the seconds of those measured, the limit at each.

    measured: whole steps of the optimizer, after the first and before the last.
    """
    config["schedule"]["epochs"] = 1
    accumulate = config["schedule"]["accumulate"]
    lengths = np.concatenate(batches)
    ends = np.cumsum([len(one) for one in batches])
    order = np.split(np.arange(len(lengths)), ends[:-1])
    loop.length_bucketed = lambda *_: order
    os.environ[checkpoints.SECONDS] = "1e6"  # none while it is measured
    width = 0 if config["encoder"]["trainable_layers"] == "all" else shape.width
    labels = np.random.default_rng(1).uniform(-3, 3, len(lengths)).astype(np.float32)
    names = [""] * len(lengths)
    train = Utterances(names, names, labels, {"text": random_text(lengths, width)})
    regressor: Any = models.build(config, train.widths, "cpu")
    build, limits, pauses, steps = regressor.build, [], [], []

    def build_timed() -> loop.Network:
        network = build()
        training_loss = network.training_loss

        def after_limit(batch: Batch, epoch: int) -> Tensor:
            start = time.perf_counter()
            limits.append(shape.limit(batch.sequences["text"].lengths.numpy()))
            pauses.append(time.perf_counter() - start)
            return training_loss(batch, epoch)

        network.training_loss = after_limit
        return network

    regressor.build = build_timed
    register_optimizer_step_post_hook(lambda *_: steps.append(time.perf_counter()))
    with TemporaryDirectory(dir=".") as folder:
        regressor.fit(train, train.take([0]), seed=1, scratch=Path(folder))
    first, last = measured.start // accumulate - 1, measured.stop // accumulate - 1
    return steps[last] - steps[first] - sum(pauses[measured]), limits[measured]


def random_text(lengths: Lengths, width: int = 0) -> Ragged:
    """Return texts of random hidden states of this width; 0: of random token ids."""
    rng, total = np.random.default_rng(1), int(lengths.sum())
    if width:
        values: Any = rng.standard_normal((total, width), dtype=np.float32)
    else:
        values = rng.integers(1000, 30000, total, dtype=np.int32)
    return Ragged(values, np.concatenate([[0], np.cumsum(lengths)]))


if __name__ == "__main__":
    case, numbers = sys.argv[1:5], map(int, sys.argv[5:])
    main(*case, *numbers)  # type: ignore[arg-type]
