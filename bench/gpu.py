"""The report's own setting on a GPU: bert-base fully fine-tuned at MOSEI's size (15 GB).

Simulated data of MOSEI's form, 22,856 utterances; a BERT of bert-base's size with random weights,
so that the figures say how long the trainings take, and nothing of their results. Prints where the
time of an epoch goes, and records seconds per epoch of the networks, the share of the limit of the
matrix products, and the time of one seed of all that Tables 2 to 6 train.
`--share 0.005 --trial` tries it without a GPU.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from bench import harness, trees

PROFILE = """
import torch
from torch.profiler import ProfilerActivity, profile
from msabench.training import loop
from stages import train

length_bucketed = loop.length_bucketed
loop.length_bucketed = lambda *arguments: length_bucketed(*arguments)[:30]
used = [ProfilerActivity.CPU]
if torch.cuda.is_available():
    used.append(ProfilerActivity.CUDA)
with profile(activities=used) as profiler:
    train.main("ours", 1)
order = "self_cuda_time_total" if len(used) > 1 else "self_cpu_time_total"
print(profiler.key_averages().table(sort_by=order, row_limit=25, max_name_column_width=60))
"""


def measure(folder: Path, *, share: float = 1.0) -> dict[str, Any]:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not harness.trial:
        sys.exit("error: no GPU here; --trial measures on the CPU and records nothing")
    file = trees.write_pickle(folder / "mosei.pkl", trees.sizes(share))
    bert = trees.random_encoder(folder / "bert")
    tree = trees.mosei_tree(folder / "tree", file, text_encoder=str(bert), device=device, seeds=[1])
    seconds = {name: trees.stage(tree, name).seconds for name in ("prepare", "features")}

    epochs = {}
    start = time.perf_counter()
    for path in sorted((tree / "runs/plan").glob("*.json")):
        name, config = path.stem, json.loads(path.read_text())
        if "same_as" in config:
            continue
        if name in ("self_mm", "cnn", "ours"):
            measured = trees.script(tree, "bench.our_side", name, 0)
            epochs[name] = [round(value, 2) for value in measured.result["epochs"]]
        else:
            measured = trees.stage(tree, "train", name, "1")
        seconds[name] = measured.seconds
        print(f"{name}: {seconds[name]:.0f} s", flush=True)
    total = time.perf_counter() - start

    gemm = trees.script(tree, "bench.gemm", 1, device).result
    print(*trees.script(tree, PROFILE).lines, sep="\n")
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "utterances": sum(trees.sizes(share).values()),
        "epoch_seconds": epochs,
        "stage_seconds": {name: round(value, 1) for name, value in seconds.items()},
        "tables_2_to_6_seconds": round(total, 1),
        "gemm": {name: round(value, 3) for name, value in gemm.items()},
    }
