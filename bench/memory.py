"""Self-MM at MOSEI's size, here and in MMSA 2.2.1: anonymous memory, loading, the first batch.

    python bench/memory.py --folder /where/30/GB/are/free

Both read the same simulated pickle of MOSEI's full shape (13.5 GB; MMSA can still load it in 24
GB) and fine-tune the same BERT of bert-base's size on two threads, for the same number of batches
of 32 in two epochs. Ours reads what the stages `prepare` and `features` made of the pickle.
"""

import argparse
import sys
from pathlib import Path
from statistics import median

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in ("src", "")]

from bench import mosei  # noqa: E402
from bench.processes import Took, wait_until_idle  # noqa: E402
from bench.results import record  # noqa: E402
from bench.sides import NAMES, Sides  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="a folder to work in")
    parser.add_argument("--batches", type=int, default=32, help="of each of the two epochs")
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    sides = Sides(options.folder, mosei.SIZES, frozen=False)
    sides.tree(True, 2)
    load = wait_until_idle()
    took: dict[str, list[Took]] = {side: [] for side in NAMES}
    for _ in range(options.repeats):
        for side in NAMES:
            run = sides.train(side, finetune=True, threads=2, batches=options.batches)
            took[side].append(run)

    start_to_end = {side: median(run.anonymous for run in took[side]) for side in NAMES}
    training = {side: median(run.training for run in took[side]) for side in NAMES}
    record(
        "memory",
        {
            "data": "simulated, MOSEI's form and size",
            "utterances": sum(mosei.SIZES.values()),
            "batches": 2 * options.batches,
            "repeats": options.repeats,
            "load_before": load,
            "anonymous_gigabytes": _gigabytes(start_to_end),
            "anonymous_gigabytes_in_training": _gigabytes(training),
            "mmsa_loading_seconds": round(median(run.last["loading"] for run in took["mmsa"]), 1),
            "first_batch_seconds": round(
                median(run.last["first_batch"] for run in took["ours"]), 2
            ),
        },
        train_memory_vs_mmsa=round(training["ours"] / training["mmsa"], 3),
    )


def _gigabytes(peaks: dict[str, float]) -> dict[str, float]:
    return {side: round(value / 1e9, 2) for side, value in peaks.items()}


if __name__ == "__main__":
    main()
