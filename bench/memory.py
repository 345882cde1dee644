"""Self-MM at MOSEI's size, here and in MMSA 2.2.1: anonymous memory and loading (30 GB).

Both read the same simulated pickle of MOSEI's full shape (13.5 GB; MMSA can still load it in 24
GB) and fine-tune the same BERT of bert-base's size on two threads, for the same number of batches
of 32 in each of two epochs. Ours reads what the stages `prepare` and `features` made of the pickle.
"""

from pathlib import Path
from statistics import median
from typing import Any

from bench import trees
from bench.harness import Measured, wait_until_idle
from bench.sides import NAMES, Sides


def measure(
    folder: Path, *, batches: int = 32, repeats: int = 1, share: float = 1.0
) -> dict[str, Any]:
    sizes = trees.sizes(share)
    sides = Sides(folder, sizes, frozen=False)
    sides.tree(True, 2)
    load = wait_until_idle()
    measured: dict[str, list[Measured]] = {side: [] for side in NAMES}
    for _ in range(repeats):
        for side in NAMES:
            measured[side].append(sides.train(side, finetune=True, threads=2, batches=batches))

    peaks = {side: median(one.memory for one in measured[side]) for side in NAMES}
    training = {side: median(one.training_memory for one in measured[side]) for side in NAMES}
    loading = median(one.result["loading"] for one in measured["mmsa"])
    first_batch = median(one.result["first_batch"] for one in measured["ours"])
    return {
        "data": "simulated, MOSEI's form and size",
        "utterances": sum(sizes.values()),
        "batches": 2 * batches,
        "repeats": repeats,
        "load_before": load,
        "anonymous_gigabytes": _gigabytes(peaks),
        "anonymous_gigabytes_in_training": _gigabytes(training),
        "mmsa_loading_seconds": round(loading, 1),
        "first_batch_seconds": round(first_batch, 2),
        "headlines": {"train_memory_vs_mmsa": round(training["ours"] / training["mmsa"], 3)},
    }


def _gigabytes(peaks: dict[str, float]) -> dict[str, float]:
    return {side: round(value / 1e9, 2) for side, value in peaks.items()}
