"""What batches by length change: the same trainings in batches of chance, side by side.

    python bench/batching.py --folder /an/empty/folder

Default settings and data (simulated), three seeds of each network that trains on frames: batches
from shuffled pools of 16 batches sorted by length, as the loop makes them, against batches of a
plain shuffle. Both of a pair run at the same time, one thread each.
"""

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean, stdev

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in ("src", "")]

import msabench  # noqa: E402, F401  before NumPy

# isort: split
import numpy as np  # noqa: E402

from bench import mosei  # noqa: E402
from bench.processes import run, wait_until_idle  # noqa: E402
from bench.results import record  # noqa: E402
from msabench.networks.batches import POOL  # noqa: E402
from msabench.predictions import Predictions  # noqa: E402

MODELS, SEEDS = ("self_mm", "ours"), (1, 2, 3)
WAYS = {"by_length": POOL, "by_chance": 1}
TRAIN = """
from msabench.networks import batches
from stages import train
batches.POOL = {pool}
train.main("{model}", {seed})
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="an empty folder to work in")
    options = parser.parse_args()
    trees = {way: mosei.default_tree(options.folder / way) for way in WAYS}
    load = wait_until_idle()

    figures: dict[str, dict[str, object]] = {}
    for model in MODELS:
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        errors: dict[str, list[float]] = {way: [] for way in WAYS}

        def train(way: str, model: str, seed: int) -> float:
            program = TRAIN.format(pool=WAYS[way], model=model, seed=seed)
            return run(sys.executable, "-c", program, cwd=trees[way]).seconds

        for seed in SEEDS:
            with ThreadPoolExecutor() as pool:
                took = {way: pool.submit(train, way, model, seed) for way in WAYS}
            for way, tree in trees.items():
                seconds[way].append(took[way].result())
                test = Predictions.read(tree / f"predictions/{model}-{seed}/test.csv")
                errors[way].append(float(np.abs(test.labels - test.predictions).mean()))
        figures[model] = {
            way: {
                "seconds": round(mean(seconds[way]), 1),
                "test_mae": round(mean(errors[way]), 4),
                "test_mae_std": round(stdev(errors[way]), 4),
            }
            for way in WAYS
        }
    record("batching", {"data": "simulated, the default run", "load_before": load, **figures})


if __name__ == "__main__":
    main()
