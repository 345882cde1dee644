"""Seconds of each stage against the number of utterances, and the exponent of its growth (15 GB).

Simulated pickles of MOSEI's form and split, from 1,000 utterances to its 22,856; MiniLM; one
thread; one epoch of each network. The exponent is fitted to what a stage takes beyond its start-up,
which is the time that it takes for 60 utterances; null where that is too little at most sizes.
"""

from pathlib import Path
from typing import Any

import numpy as np

from bench import trees
from bench.harness import wait_until_idle

COUNTS = (60, 1000, 3000, 8000, 22856)
NOISE = 0.2  # seconds beyond the start-up, below which they say nothing
NETWORKS = ("cnn", "self_mm", "ours")


def measure(folder: Path, *, most: int = COUNTS[-1]) -> dict[str, Any]:
    load = wait_until_idle()
    counts = [count for count in COUNTS if count <= most]
    # The start-up is subtracted below: it must not include reading the libraries from the disk.
    stages_of(folder / "warm", counts[0])
    seconds: dict[str, list[float]] = {}
    first_batch: dict[str, float] = {}
    for count in counts:
        measured, first_batch = stages_of(folder, count)
        for name, value in measured.items():
            seconds.setdefault(name, []).append(round(value, 2))
        print(count, measured, flush=True)
    return {
        "data": "simulated, MOSEI's widths and lengths",
        "threads": 1,
        "load_before": load,
        "utterances": counts,
        "stages": {
            name: {"seconds": values, "exponent": exponent(counts, values)}
            for name, values in seconds.items()
        },
        "first_batch_seconds": first_batch,
    }


def stages_of(folder: Path, count: int) -> tuple[dict[str, float], dict[str, float]]:
    """Return the seconds of each stage, and of each network those to its first batch."""
    folder.mkdir(exist_ok=True)
    file = trees.write_pickle(
        folder / f"{count}.pkl", trees.sizes(count / sum(trees.SIZES.values()))
    )
    epochs = {f"models__{network}__epochs": 1 for network in NETWORKS}
    tree = trees.mosei_tree(folder / f"tree-{count}", file, seeds=[1], sweep_seeds=[], **epochs)
    seconds = {name: trees.stage(tree, name).seconds for name in ("prepare", "features")}
    file.unlink()
    first_batch = {}
    for network in NETWORKS:
        measured = trees.script(tree, "bench.our_side", network, 0)
        seconds[f"train {network}, 1 epoch"] = measured.seconds
        first_batch[network] = round(measured.result["first_batch"], 2)
    seconds["train svm"] = trees.stage(tree, "train", "svm", "1").seconds
    seconds["table 2"] = trees.table2(tree)
    for name in ("tables", "report"):
        seconds[name] = trees.stage(tree, name).seconds
    return seconds, first_batch


def exponent(counts: list[int], seconds: list[float]) -> float | None:
    """Return the slope of log seconds beyond the first count over log utterances."""
    grown = [
        (count, value - seconds[0])
        for count, value in zip(counts[1:], seconds[1:], strict=True)
        if value - seconds[0] > NOISE
    ]
    if len(grown) < 2:
        return None
    log_count, log_seconds = np.log(grown).T
    return round(float(np.polyfit(log_count, log_seconds, 1)[0]), 2)
