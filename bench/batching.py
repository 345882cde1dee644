"""What length-bucketed batches change: the same trainings in shuffled batches, side by side.

Default settings and data (simulated), three seeds of each network that trains on frames: batches
from shuffled pools of 16 batches sorted by length, as the loop makes them, against batches of a
plain shuffle. Both of a pair run at the same time, one thread each.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from bench import trees
from bench.harness import wait_until_idle
from msabench.predictions import Predictions

MODELS, SEEDS = ("self_mm", "ours"), (1, 2, 3)
POOLS = {"length_bucketed": "batches.POOL", "shuffled": "1"}  # batches that are sorted together
TRAIN = """
from msabench.networks import batches
from stages import train
batches.POOL = {pool}
train.main("{model}", {seed})
"""


def measure(folder: Path) -> dict[str, Any]:
    folders = {kind: trees.default_tree(folder / kind) for kind in POOLS}
    load = wait_until_idle()
    figures = {}
    for model in MODELS:
        rows = [_train(folders, model, seed) for seed in SEEDS]
        figures[model] = {kind: _summary([row[kind] for row in rows]) for kind in POOLS}
    return {"data": "simulated, the default run", "load_before": load, **figures}


def _train(folders: dict[str, Path], model: str, seed: int) -> dict[str, tuple[float, float]]:
    """Train one pair; return the seconds and the test MAE of each."""

    def seconds(kind: str) -> float:
        program = TRAIN.format(pool=POOLS[kind], model=model, seed=seed)
        return trees.script(folders[kind], program).seconds

    with ThreadPoolExecutor() as executor:
        trained = {kind: executor.submit(seconds, kind) for kind in POOLS}
    rows = {}
    for kind, tree in folders.items():
        test = Predictions.read(tree / f"predictions/{model}-{seed}/test.csv")
        error = float(np.abs(test.labels - test.predictions).mean())
        rows[kind] = trained[kind].result(), error
    return rows


def _summary(rows: list[tuple[float, float]]) -> dict[str, float]:
    seconds, errors = zip(*rows, strict=True)
    return {
        "seconds": round(mean(seconds), 1),
        "test_mae": round(mean(errors), 4),
        "test_mae_std": round(stdev(errors), 4),
    }
