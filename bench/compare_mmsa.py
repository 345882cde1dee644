"""Self-MM here and in MMSA 2.2.1: samples per second, memory, loading, in one interleaved run.

    python bench/compare_mmsa.py --folder /where/30/GB/are/free

Both sides have the same simulated pickle of MOSEI's form, the same BERT of bert-base's size with
random weights, the same batches of 32 in groups of 4, and the same threads. MMSA is installed from
PyPI into an environment of its own. One repeat measures every side once; the figures are medians.

An epoch is all from one batch to the next: padding, forward and backward pass, label generation,
optimizer; the second one, when labels move. Validation is left out on both sides. Here it is whole,
512 utterances: how little is padded depends on how many are sorted by length. MMSA's ends after 4
batches, since it pads each of them to 50 tokens and 500 frames, so that all cost the same. The
memory of both is that of two epochs of 8 batches at MOSEI's size.
"""

import argparse
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in ("src", "")]

from bench import mosei  # noqa: E402
from bench.processes import ROOT, Took, run, wait_until_idle  # noqa: E402
from bench.results import record  # noqa: E402

MMSA = "MMSA==2.2.1"
TORCH = next(
    line for line in (ROOT / "requirements.txt").read_text().splitlines() if line[:7] == "torch=="
)
UTTERANCES, BATCH_SIZE = 512, 32
MMSA_BATCHES, FULL_BATCHES = 4, 8
SIDES = ("mmsa", "ours")


def environment(folder: Path) -> Path:
    """Install MMSA, with the PyTorch of this project; return its Python."""
    python = folder / "bin" / "python"
    if not (folder / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        for package in (TORCH, MMSA):
            subprocess.run([python, "-m", "pip", "install", "--quiet", package], check=True)
        (folder / "installed").touch()
    return python


class Sides:
    """The two programs, on the same data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = environment(folder / "mmsa")
        self.bert = mosei.random_bert(folder / "bert")
        small = {"train": UTTERANCES, "valid": BATCH_SIZE, "test": BATCH_SIZE}
        self.files = {"small": folder / "small.pkl", "full": folder / "full.pkl"}
        self.utterances = {"small": UTTERANCES, "full": mosei.SIZES["train"]}
        for name, sizes in (("small", small), ("full", mosei.SIZES)):
            if not self.files[name].exists():
                mosei.write(self.files[name], sizes)
        (folder / "work").mkdir(exist_ok=True)
        self.trees: dict[tuple[str, bool, int], Path] = {}

    def mmsa(self, size: str, finetune: bool, threads: int, batches: int) -> Took:
        """Train two epochs with MMSA; batches: of an epoch, 0 for all."""
        arguments = {
            "file": str(self.files[size]),
            "bert": str(self.bert),
            "utterances": self.utterances[size],
            "finetune": finetune,
            "batches": batches,
        }
        return run(
            *(self.python, ROOT / "bench" / "mmsa_side.py", json.dumps(arguments)),
            cwd=self.folder / "work",
            threads=threads,
            PYTHONPATH="",
        )

    def ours(self, size: str, finetune: bool, threads: int, batches: int) -> Took:
        """Train two epochs by the stage `train`."""
        program = ROOT / "bench" / "our_side.py"
        tree = self.tree(size, finetune, threads)
        return run(sys.executable, program, "self_mm", batches, cwd=tree, threads=threads)

    def tree(self, size: str, finetune: bool, threads: int) -> Path:
        """Return a work tree with prepared data and features, made once for each kind."""
        key = (size, finetune, threads)
        if key not in self.trees:
            tree = self.trees[key] = self.folder / f"tree-{size}-{finetune}-{threads}"
            settings: dict[str, Any] = {"models__self_mm__epochs": 2, "threads": threads}
            settings["models__self_mm__trainable_layers"] = "all" if finetune else 0
            mosei.tree(
                tree, self.files[size], text_encoder=str(self.bert), sweep_seeds=[], **settings
            )
            mosei.stage(tree, "prepare")
            if size == "full":
                mosei.only(tree, "self_mm")  # tokens: a frozen BERT would take minutes
            mosei.stage(tree, "features", threads=2)
        return self.trees[key]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="a folder to work in")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    sides = Sides(options.folder.resolve())
    for threads in (1, 2):
        for finetune in (True, False):
            sides.tree("small", finetune, threads)
    sides.tree("full", True, 2)
    load = wait_until_idle()

    speed: dict[str, list[float]] = defaultdict(list)
    share: dict[int, list[float]] = defaultdict(list)
    limit: dict[int, list[float]] = defaultdict(list)
    full: dict[str, list[Took]] = defaultdict(list)
    for repeat in range(options.repeats):
        for threads in (2, 1):
            program, tree = ROOT / "bench" / "gemm.py", sides.tree("small", True, 2)
            gemm = run(sys.executable, program, tree, threads, cwd=sides.folder, threads=threads)
            share[threads].append(gemm.last["share"])
            limit[threads].append(gemm.last["gemm"])
            for finetune in (True, False):
                for side in SIDES:
                    batches = MMSA_BATCHES if side == "mmsa" else 0
                    took = getattr(sides, side)("small", finetune, threads, batches)
                    name = f"{side}_{'finetuned' if finetune else 'frozen'}_{threads}_threads"
                    samples = batches * BATCH_SIZE or UTTERANCES
                    speed[name].append(samples / took.last["epochs"][1])
                    print(f"{repeat} {name}: {speed[name][-1]:.1f} samples/s", flush=True)
        for side in SIDES:
            full[side].append(getattr(sides, side)("full", True, 2, FULL_BATCHES))

    medians = {name: round(median(values), 2) for name, values in speed.items()}
    ratio = {
        f"{kind}_{threads}_threads": round(
            medians[f"ours_{kind}_{threads}_threads"] / medians[f"mmsa_{kind}_{threads}_threads"], 2
        )
        for kind in ("finetuned", "frozen")
        for threads in (1, 2)
    }
    peak = {side: median(took.anonymous for took in full[side]) for side in SIDES}
    training = {side: median(took.training for took in full[side]) for side in SIDES}
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
            "mosei_size": {
                "utterances": sum(mosei.SIZES.values()),
                "mmsa_loading_seconds": median(took.last["loading"] for took in full["mmsa"]),
                "first_batch_seconds": median(took.last["first_batch"] for took in full["ours"]),
                "anonymous_gigabytes": {side: round(peak[side] / 1e9, 2) for side in SIDES},
                "anonymous_gigabytes_in_training": {
                    side: round(training[side] / 1e9, 2) for side in SIDES
                },
            },
        },
        self_mm_finetuned_vs_mmsa=ratio["finetuned_2_threads"],
        self_mm_frozen_vs_mmsa_frozen=ratio["frozen_2_threads"],
        gemm_share=round(median(share[2]), 3),
        train_memory_vs_mmsa=round(training["ours"] / training["mmsa"], 3),
    )


if __name__ == "__main__":
    main()
