"""Self-MM's two trainers, MMSA 2.2.1's and ours, on the same data, BERT and threads."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench import mosei
from bench.processes import ROOT, Took, run

MMSA = "MMSA==2.2.1"
TORCH = next(
    line for line in (ROOT / "requirements.txt").read_text().splitlines() if line[:7] == "torch=="
)
BATCH_SIZE = 32  # MMSA's for MOSEI, and that of our preset
NAMES = ("mmsa", "ours")


class Sides:
    """Both trainers, ready to run on a simulated pickle of so many utterances by split.

    MMSA is installed from PyPI into an environment of its own. BERT is of bert-base's size and has
    random weights. frozen: whether the frozen BERT's vectors are made too, which takes minutes.
    """

    def __init__(self, folder: Path, counts: dict[str, int], *, frozen: bool) -> None:
        self.folder, self.frozen = folder.resolve(), frozen
        self.utterances = counts["train"]
        self.folder.mkdir(parents=True, exist_ok=True)
        self.python = environment(self.folder / "mmsa")
        self.bert = mosei.random_bert(self.folder / "bert")
        self.file = self.folder / f"{self.utterances}.pkl"
        mosei.write(self.file, counts)
        (self.folder / "work").mkdir(exist_ok=True)
        self.trees: dict[tuple[bool, int], Path] = {}

    def train(self, side: str, *, finetune: bool, threads: int, batches: int) -> Took:
        """Train two epochs; batches: of an epoch, 0 for all."""
        if side == "ours":
            tree, program = self.tree(finetune, threads), ROOT / "bench" / "our_side.py"
            return run(sys.executable, program, "self_mm", batches, cwd=tree, threads=threads)
        arguments = {
            "file": str(self.file),
            "bert": str(self.bert),
            "utterances": self.utterances,
            "finetune": finetune,
            "batches": batches,
        }
        program, work = ROOT / "bench" / "mmsa_side.py", self.folder / "work"
        command = (self.python, program, json.dumps(arguments))
        return run(*command, cwd=work, threads=threads, PYTHONPATH="")

    def tree(self, finetune: bool, threads: int) -> Path:
        """Return our work tree, with prepared data and features, made when first asked for."""
        if (finetune, threads) not in self.trees:
            tree = self.folder / f"tree-{self.utterances}-{finetune}-{threads}"
            settings: dict[str, Any] = {
                "text_encoder": str(self.bert),
                "threads": threads,
                "sweep_seeds": [],
                "models__self_mm__epochs": 2,
                "models__self_mm__trainable_layers": "all" if finetune else 0,
            }
            mosei.tree(tree, self.file, **settings)
            mosei.stage(tree, "prepare")
            if not self.frozen:
                mosei.only(tree, "self_mm")
            mosei.stage(tree, "features", threads=2)
            self.trees[finetune, threads] = tree
        return self.trees[finetune, threads]


def environment(folder: Path) -> Path:
    """Install MMSA, with the PyTorch of this project; return its Python."""
    python = folder / "bin" / "python"
    if not (folder / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        for package in (TORCH, MMSA):
            subprocess.run([python, "-m", "pip", "install", "--quiet", package], check=True)
        (folder / "installed").touch()
    return python
