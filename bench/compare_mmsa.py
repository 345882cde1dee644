"""Self-MM here and in MMSA 2.2.1: training samples per second, in one interleaved run.

    python bench/compare_mmsa.py --folder /where/5/GB/are/free

Both sides have the same simulated pickle of MOSEI's form, the same BERT of bert-base's size with
random weights, the same batches of 32 in groups of 4, and the same threads. One repeat measures
every side once; the figures are medians.

An epoch is all from one batch to the next: padding, forward and backward pass, label generation,
optimizer; the second one, when labels move. Validation is left out on both sides. Here it is whole,
512 utterances: how little is padded depends on how many are sorted by length. MMSA's ends after 4
batches, since it pads each of them to 50 tokens and 500 frames, so that all cost the same.
"""

import argparse
import sys
from collections import defaultdict
from pathlib import Path
from statistics import median

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in ("src", "")]

from bench.processes import ROOT, run, wait_until_idle  # noqa: E402
from bench.results import record  # noqa: E402
from bench.sides import BATCH_SIZE, MMSA, NAMES, TORCH, Sides  # noqa: E402

COUNTS = {"train": 512, "valid": BATCH_SIZE, "test": BATCH_SIZE}
BATCHES = {"mmsa": 4, "ours": COUNTS["train"] // BATCH_SIZE}
KINDS = {"finetuned": True, "frozen": False}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="a folder to work in")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    sides = Sides(options.folder, COUNTS, frozen=True)
    for threads in (1, 2):
        for finetune in KINDS.values():
            sides.tree(finetune, threads)
    load = wait_until_idle()

    speed: dict[str, list[float]] = defaultdict(list)
    share: dict[int, list[float]] = defaultdict(list)
    limit: dict[int, list[float]] = defaultdict(list)
    for repeat in range(options.repeats):
        for threads in (2, 1):
            program, tree = ROOT / "bench" / "gemm.py", sides.tree(True, 2)
            gemm = run(sys.executable, program, tree, threads, cwd=tree, threads=threads)
            share[threads].append(gemm.last["share"])
            limit[threads].append(gemm.last["gemm"])
            for kind, finetune in KINDS.items():
                for side in NAMES:
                    batches = BATCHES[side]
                    took = sides.train(side, finetune=finetune, threads=threads, batches=batches)
                    name = f"{side}_{kind}_{threads}_threads"
                    speed[name].append(batches * BATCH_SIZE / took.last["epochs"][1])
                    print(f"{repeat} {name}: {speed[name][-1]:.1f} samples/s", flush=True)

    medians = {name: round(median(values), 2) for name, values in speed.items()}
    ratio = {
        f"{kind}_{threads}_threads": round(
            medians[f"ours_{kind}_{threads}_threads"] / medians[f"mmsa_{kind}_{threads}_threads"], 2
        )
        for kind in KINDS
        for threads in (1, 2)
    }
    record(
        "compare_mmsa",
        {
            "data": "simulated, MOSEI's widths and lengths",
            "versions": f"{MMSA}, {TORCH}",
            "repeats": options.repeats,
            "load_before": load,
            "samples_per_second": medians,
            "ratio": ratio,
            "gemm_gigaflops": {f"{n}_threads": round(median(v)) for n, v in limit.items()},
            "gemm_share": {f"{n}_threads": round(median(v), 3) for n, v in share.items()},
        },
        self_mm_finetuned_vs_mmsa=ratio["finetuned_2_threads"],
        self_mm_frozen_vs_mmsa_frozen=ratio["frozen_2_threads"],
        gemm_share=round(median(share[2]), 3),
    )


if __name__ == "__main__":
    main()
