"""Self-MM here and in MMSA 2.2.1: training samples per second, in one interleaved run (5 GB).

Both sides have the same simulated pickle of MOSEI's form, the same BERT of bert-base's size with
random weights, the same batches of 32 in groups of 4, and the same threads. One repeat measures
every side once; the figures are medians.

An epoch is all from one batch to the next: padding, forward and backward pass, label generation,
optimizer; the second one, when labels move. Validation is left out on both sides. Here it is whole,
512 utterances: how little is padded depends on how many are sorted by length. MMSA's ends after 4
batches, since it pads each of them to 50 tokens and 500 frames, so that all cost the same.
"""

from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

from bench import trees
from bench.harness import wait_until_idle
from bench.sides import BATCH_SIZE, MMSA, NAMES, TORCH, Sides

COUNTS = {"train": 512, "valid": BATCH_SIZE, "test": BATCH_SIZE}
BATCHES = {"mmsa": 4, "ours": COUNTS["train"] // BATCH_SIZE}
KINDS = {"finetuned": True, "frozen": False}


def measure(folder: Path, *, repeats: int = 3) -> dict[str, Any]:
    sides = Sides(folder, COUNTS, frozen=True)
    for threads in (1, 2):
        for finetune in KINDS.values():
            sides.tree(finetune, threads)
    load = wait_until_idle()

    speed: dict[str, list[float]] = defaultdict(list)
    share: dict[str, list[float]] = defaultdict(list)
    limit: dict[str, list[float]] = defaultdict(list)
    for repeat in range(repeats):
        for threads in (2, 1):
            tree = sides.tree(True, 2)
            gemm = trees.script(
                tree, "bench.gemm", threads, "cpu", "float32", threads=threads
            ).result
            share[f"{threads}_threads"].append(gemm["share"])
            limit[f"{threads}_threads"].append(gemm["gemm"])
            for kind, finetune in KINDS.items():
                for side in NAMES:
                    batches = BATCHES[side]
                    one = sides.train(side, finetune=finetune, threads=threads, batches=batches)
                    name = f"{side}_{kind}_{threads}_threads"
                    speed[name].append(batches * BATCH_SIZE / one.result["epochs"][1])
                    print(f"{repeat} {name}: {speed[name][-1]:.1f} samples/s", flush=True)

    medians = {name: round(median(values), 2) for name, values in speed.items()}
    ratio = {
        key: round(medians[f"ours_{key}"] / medians[f"mmsa_{key}"], 2)
        for key in (f"{kind}_{threads}_threads" for kind in KINDS for threads in (1, 2))
    }
    gemm_share = {threads: round(median(values), 3) for threads, values in share.items()}
    return {
        "data": "simulated, MOSEI's widths and lengths",
        "versions": f"{MMSA}, {TORCH}",
        "repeats": repeats,
        "load_before": load,
        "samples_per_second": medians,
        "ratio": ratio,
        "gemm_gigaflops": {threads: round(median(values)) for threads, values in limit.items()},
        "gemm_share": gemm_share,
        "headlines": {
            "self_mm_finetuned_vs_mmsa": ratio["finetuned_2_threads"],
            "self_mm_frozen_vs_mmsa_frozen": ratio["frozen_2_threads"],
            "gemm_share": gemm_share["2_threads"],
        },
    }
