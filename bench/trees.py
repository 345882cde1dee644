"""Work trees to measure in, and simulated pickles in MMSA's format with MOSEI's widths and lengths.

Torch is imported where it is used: most benchmarks do not need it.
"""

import json
import pickle
import shutil
import sys
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from bench.harness import ROOT, Measured, run
from msabench.data.sources import simulated
from msabench.utterances import SPLITS

SIZES = {"train": 16326, "valid": 1871, "test": 4659}  # MOSEI's
PIECES, TEXT_WIDTH = 50, 768
# The runs of Table 2: on all modalities it is the SVM's of Table 6.
TABLE2 = ("svm", "svm-t", "svm-a", "svm-v", "svm-t+a", "svm-t+v", "svm-a+v")


def sizes(share: float) -> dict[str, int]:
    """Return that share of MOSEI's utterances in each split."""
    return {split: max(1, round(share * count)) for split, count in SIZES.items()}


def write_pickle(path: Path, counts: dict[str, int], *, text_dump: bool = False) -> Path:
    """Write a pickle of so many utterances by split, in a process that gives its memory back.

    Audio and vision are (n, 500, d) float64, token ids those of bert-base-uncased. text_dump: with
    BERT's states, (n, 50, 768) float32, which MMSA's file has and nobody here reads.
    """
    apart(_write, path, counts, text_dump)
    return path


def apart(write: Callable[..., object], path: Path, *arguments: Any) -> None:
    """Write to a path in a process that gives its memory back. Raises SystemExit if it fails."""
    writer = get_context("spawn").Process(target=write, args=(path, *arguments))
    writer.start()
    writer.join()
    if writer.exitcode:
        raise SystemExit(f"error: {path} could not be written")


def _write(path: Path, counts: dict[str, int], text_dump: bool) -> None:
    from msabench.networks import encoders, text

    data = simulated.simulate(full_length=True, **counts)  # type: ignore[arg-type]
    tokenizer = text.load_tokenizer(encoders.MINILM)  # of the same vocabulary
    states = np.random.default_rng(0).normal(size=(PIECES, TEXT_WIDTH)).astype(np.float32)
    for split in SPLITS:
        tokens = text.truncate(text.tokenize(tokenizer, data[split]["raw_text"]), PIECES)
        padded = np.zeros((len(tokens), 3, PIECES), np.float32)
        for i, row in enumerate(padded):
            row[0, : len(tokens[i])], row[1, : len(tokens[i])] = tokens[i], 1
        data[split]["text_bert"] = padded
        if text_dump:
            data[split]["text"] = np.broadcast_to(states, (len(tokens), PIECES, TEXT_WIDTH))
    with path.open("wb") as file:
        pickler = pickle.Pickler(file, protocol=4)
        pickler.fast = True  # a memo would keep the bytes of every array in memory
        pickler.dump(data)


def mosei_tree(folder: Path, file: Path, **changes: Any) -> Path:
    """Make a work tree whose data set is the file, as far as the stage `plan`.

    changes: of params.yaml, by dotted key with `__` for the dot.
    """
    # The stage `download`, which would check the hash, does not run.
    block = {"file": file.name, "sha256": "0" * 64}
    raw = tree_of(folder, block, **changes) / "data" / "raw" / file.name
    raw.parent.mkdir(parents=True)
    raw.symlink_to(file.resolve())
    return folder


def tree_of(folder: Path, block: dict[str, Any], **changes: Any) -> Path:
    """Make a work tree as far as the stage `plan`; block: of its data set, a pickle of MMSA's form.

    changes: see mosei_tree.
    """
    yaml = YAML()
    params = yaml.load(ROOT / "params.yaml")
    params["datasets"]["bench"] = {
        "source": "mmsa_pickle",
        "title": "simulated data of MOSEI's form",
        **block,
    }
    for key, value in {"dataset": "bench", **changes}.items():
        *path, name = key.split("__")
        part = params
        for step in path:
            part = part[step]
        part[name] = value
    yaml.dump(params, _with_code(folder) / "params.yaml")
    stage(folder, "plan")
    return folder


def default_tree(folder: Path) -> Path:
    """Make a work tree of the default settings and data, as far as the features."""
    shutil.copy(ROOT / "params.yaml", _with_code(folder))
    for name in ("plan", "download", "prepare", "features"):
        stage(folder, name)
    return folder


def _with_code(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for code in ("src", "stages"):
        (folder / code).symlink_to(ROOT / code)
    return folder


def clone(folder: Path) -> Path:
    """Clone the last commit into the folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    run("git", "clone", "--quiet", ROOT, folder.resolve(), cwd=folder.parent)
    return folder


def stage(
    folder: Path, name: str, *arguments: str, threads: int = 1, **environment: str
) -> Measured:
    """Run a stage in a work tree."""
    command = (sys.executable, "-m", f"stages.{name}", *arguments)
    return run(*command, cwd=folder, threads=threads, **environment)


def table2(folder: Path, *, threads: int = 1) -> float:
    """Run the SVM on each subset of the modalities; return the seconds of all."""
    return sum(stage(folder, "train", run, "1", threads=threads).seconds for run in TABLE2)


def script(folder: Path, program: str, *arguments: str | int, threads: int = 1) -> Measured:
    """Run a program, given as text or as `bench.<name>`, in a work tree."""
    option = "-m" if program.startswith("bench.") else "-c"
    return run(sys.executable, option, program, *arguments, cwd=folder, threads=threads)


def only(folder: Path, *runs: str) -> None:
    """Let the stage `features` make what these runs read, and nothing else."""
    path = folder / "runs/plan/stages/features.json"
    config = json.loads(path.read_text())
    config["runs"] = {name: config["runs"][name] for name in runs}
    config["probe"] = config["runs"][runs[0]]  # encodes no other layer for the check of the text
    path.write_text(json.dumps(config))


def random_encoder(folder: Path, kind: str = "bert", **sizes: int) -> Path:
    """Save an encoder with random weights, and a tokenizer; return its path.

    kind: its type in transformers. sizes: of its configuration, by default those of base size.
    """
    import torch
    from transformers import AutoConfig, AutoModel

    from msabench.networks import encoders, text

    torch.manual_seed(1)
    AutoModel.from_config(AutoConfig.for_model(kind, **sizes)).save_pretrained(folder)
    text.load_tokenizer(encoders.MINILM).save_pretrained(folder)
    return folder.resolve()
