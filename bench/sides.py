"""Self-MM's two trainers, MMSA 2.2.1's and ours, on the same data, BERT and threads."""

import json
import sys
from pathlib import Path
from typing import Any

from bench import trees
from bench.harness import ROOT, Measured, run

MMSA = "MMSA==2.2.1"
TORCH = next(
    line for line in (ROOT / "requirements.txt").read_text().splitlines() if line[:7] == "torch=="
)
BATCH_SIZE = 32  # MMSA's for MOSEI, and that of our preset
NAMES = ("mmsa", "ours")


class Sides:
    """Both trainers, ready to run on a simulated pickle of so many utterances by split.

    MMSA is installed from PyPI into an environment of its own. BERT is of bert-base's size and has
    random weights. frozen: whether the frozen BERT's vectors are cached too, which takes minutes.
    """

    def __init__(self, folder: Path, counts: dict[str, int], *, frozen: bool) -> None:
        self.folder, self.frozen = folder.resolve(), frozen
        self.utterances = counts["train"]
        self.python = environment(self.folder / "mmsa")
        self.bert = trees.random_encoder(self.folder / "bert")
        self.file = self.folder / f"{self.utterances}.pkl"
        trees.write_pickle(self.file, counts, text_dump=True)
        (self.folder / "work").mkdir(exist_ok=True)
        self.trees: dict[tuple[bool, int], Path] = {}

    def train(self, side: str, *, finetune: bool, threads: int, batches: int) -> Measured:
        """Train two epochs; batches: of an epoch, 0 for all."""
        if side == "ours":
            tree = self.tree(finetune, threads)
            return trees.script(tree, "bench.our_side", "self_mm", batches, threads=threads)
        arguments = {
            "file": str(self.file),
            "bert": str(self.bert),
            "utterances": self.utterances,
            "finetune": finetune,
            "batches": batches,
        }
        # -P: the folder of the script has a profile.py, which is not the standard library's.
        command = (self.python, "-P", ROOT / "bench" / "mmsa_side.py", json.dumps(arguments))
        return run(*command, cwd=self.folder / "work", threads=threads, PYTHONPATH="")

    def tree(self, finetune: bool, threads: int) -> Path:
        """Return our work tree, with prepared data and features, prepared at the first call."""
        if (finetune, threads) not in self.trees:
            tree = self.folder / f"tree-{self.utterances}-{finetune}-{threads}"
            settings: dict[str, Any] = {
                "text_encoder": str(self.bert),
                "arithmetic": "native",
                "threads": threads,
                "sweep_seeds": [],
                "models__self_mm__epochs": 2,
                "models__self_mm__trainable_layers": "all" if finetune else 0,
            }
            trees.mosei_tree(tree, self.file, **settings)
            trees.stage(tree, "prepare")
            if not self.frozen:
                trees.only(tree, "self_mm")
            trees.stage(tree, "features", threads=2)
            self.trees[finetune, threads] = tree
        return self.trees[finetune, threads]


def environment(folder: Path) -> Path:
    """Install MMSA, with this project's versions of what both need; return its Python."""
    python = folder / "bin" / "python"
    if not (folder / "installed").exists():
        run(sys.executable, "-m", "venv", folder, cwd=folder.parent)
        install = (python, "-m", "pip", "install", "--quiet", "-c", ROOT / "requirements.txt")
        for package in (TORCH, MMSA):
            run(*install, package, cwd=folder, PYTHONPATH="")
        (folder / "installed").touch()
    return python
