"""The report's own setting on a GPU: bert-base fully fine-tuned at MOSEI's size.

    python bench/gpu.py --folder /where/15/GB/are/free

Simulated data of MOSEI's form, 22,856 utterances; a BERT of bert-base's size with random weights,
so that the figures say how long the trainings take, and nothing of their results. Prints where the
time of an epoch goes, and records seconds per epoch of the networks, the share of the limit of the
matrix products, and the time of one seed of all that Tables 2 to 6 train.
--device cpu --share 0.005 tries the script without a GPU.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in ("src", "")]

import msabench  # noqa: E402, F401  before NumPy

# isort: split
import torch  # noqa: E402

from bench import mosei  # noqa: E402
from bench.processes import ROOT, run  # noqa: E402
from bench.results import record  # noqa: E402

PROFILE = """
import torch
from torch.profiler import ProfilerActivity, profile
from msabench.training import loop
from stages import train

shuffled = loop.shuffled
loop.shuffled = lambda *arguments: shuffled(*arguments)[:30]
used = [ProfilerActivity.CPU]
if torch.cuda.is_available():
    used.append(ProfilerActivity.CUDA)
with profile(activities=used) as profiler:
    train.main("ours", 1)
order = "self_cuda_time_total" if len(used) > 1 else "self_cpu_time_total"
print(profiler.key_averages().table(sort_by=order, row_limit=25, max_name_column_width=60))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="an empty folder to work in")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--share", type=float, default=1.0, help="of MOSEI's utterances")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("error: --device: 'cuda' is not available here; there is: cpu")
    options.folder.mkdir(parents=True, exist_ok=True)
    file = options.folder / "mosei.pkl"
    mosei.write(file, mosei.sizes(options.share), text_dump=False)
    bert = mosei.random_bert((options.folder / "bert").resolve())
    settings = {"text_encoder": str(bert), "device": options.device, "seeds": [1]}
    tree = mosei.tree(options.folder / "tree", file, **settings)
    seconds = {name: mosei.stage(tree, name).seconds for name in ("prepare", "features")}

    epochs = {}
    start = time.perf_counter()
    for path in sorted((tree / "runs/plan").glob("*.json")):
        name, config = path.stem, json.loads(path.read_text())
        if "same_as" in config:
            continue
        if name in ("self_mm", "cnn", "ours"):
            took = run(sys.executable, ROOT / "bench" / "our_side.py", name, 0, cwd=tree)
            epochs[name] = [round(value, 2) for value in took.last["epochs"]]
            seconds[name] = took.seconds
        else:
            seconds[name] = mosei.stage(tree, "train", name, "1").seconds
        print(f"{name}: {seconds[name]:.0f} s", flush=True)
    seconds["table 2"] = mosei.table2(tree)
    total = time.perf_counter() - start

    program = ROOT / "bench" / "gemm.py"
    gemm = run(sys.executable, program, tree.resolve(), 1, options.device, cwd=tree)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    subprocess.run([sys.executable, "-c", PROFILE], cwd=tree, env=environment, check=True)
    record(
        "gpu" if options.device == "cuda" else "gpu_script_on_a_cpu",
        {
            "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
            "utterances": sum(mosei.sizes(options.share).values()),
            "epoch_seconds": epochs,
            "stage_seconds": {name: round(value, 1) for name, value in seconds.items()},
            "tables_2_to_6_seconds": round(total, 1),
            "gemm": {name: round(value, 3) for name, value in gemm.last.items()},
        },
    )


if __name__ == "__main__":
    main()
