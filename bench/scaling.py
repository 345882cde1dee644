"""Seconds of each stage against the number of utterances, and the exponent of its growth.

    python bench/scaling.py --folder /where/15/GB/are/free

Simulated pickles of MOSEI's form and split, from 1,000 utterances to its 22,856; MiniLM; one
thread; one epoch of each network. The exponent is fitted to what a stage takes beyond its start-up,
which is the time that it takes for 60 utterances; null where that is too little at most sizes.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in ("src", "")]

import msabench  # noqa: E402, F401  before NumPy

# isort: split
import numpy as np  # noqa: E402

from bench import mosei  # noqa: E402
from bench.processes import ROOT, run, wait_until_idle  # noqa: E402
from bench.results import record  # noqa: E402

COUNTS = (60, 1000, 3000, 8000, 22856)
NOISE = 0.2  # seconds beyond the start-up, below which they say nothing
NETWORKS = ("cnn", "self_mm", "ours")


def measure(folder: Path, count: int) -> tuple[dict[str, float], dict[str, float]]:
    """Return the seconds of each stage, and of each network those to its first batch."""
    file = folder / f"{count}.pkl"
    mosei.write(file, mosei.sizes(count / sum(mosei.SIZES.values())), text_dump=False)
    epochs = {f"models__{network}__epochs": 1 for network in NETWORKS}
    tree = mosei.tree(folder / f"tree-{count}", file, seeds=[1], sweep_seeds=[], **epochs)
    seconds = {name: mosei.stage(tree, name).seconds for name in ("prepare", "features")}
    file.unlink()
    first_batch = {}
    for network in NETWORKS:
        took = run(sys.executable, ROOT / "bench" / "our_side.py", network, 0, cwd=tree)
        seconds[f"train {network}, 1 epoch"] = took.seconds
        first_batch[network] = round(took.last["first_batch"], 2)
    seconds["train svm"] = mosei.stage(tree, "train", "svm", "1").seconds
    seconds["table 2"] = mosei.table2(tree)
    seconds["tables"] = mosei.stage(tree, "tables").seconds
    seconds["report"] = mosei.stage(tree, "report").seconds
    return seconds, first_batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="a folder to work in")
    parser.add_argument("--most", type=int, default=COUNTS[-1], help="utterances")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    load = wait_until_idle()
    counts = [count for count in COUNTS if count <= options.most]
    seconds: dict[str, list[float]] = {}
    first_batch: dict[str, float] = {}
    for count in counts:
        took, first_batch = measure(options.folder, count)
        for name, value in took.items():
            seconds.setdefault(name, []).append(round(value, 2))
        print(count, took, flush=True)
    stages: dict[str, Any] = {}
    for name, (start, *values) in seconds.items():
        grown = [(n, value - start) for n, value in zip(counts[1:], values, strict=True)]
        grown = [(n, value) for n, value in grown if value > NOISE]
        n_log, seconds_log = np.log(grown).reshape(-1, 2).T
        slope = np.polyfit(n_log, seconds_log, 1)[0] if len(grown) > 1 else None
        exponent = None if slope is None else round(float(slope), 2)
        stages[name] = {"seconds": [start, *values], "exponent": exponent}
    record(
        "scaling",
        {
            "data": "simulated, MOSEI's widths and lengths",
            "threads": 1,
            "load_before": load,
            "utterances": counts,
            "stages": stages,
            "first_batch_seconds": first_batch,
        },
    )


if __name__ == "__main__":
    main()
