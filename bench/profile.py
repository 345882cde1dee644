"""Where the time of a training goes, in the default run, by PyTorch's operations.

An epoch of ours and of Self-MM with its validation, in the arithmetic of the default run, on one
thread. The rate of the products, (mm, addmm), is that of all of them together, small ones too;
beside it that of a plain product, tokens of a batch by the widest layer of the text encoder.
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from bench import trees
from bench.gemm import limit
from bench.harness import wait_until_idle
from msabench import models
from msabench.folds import splits_of
from msabench.networks import torch_settings
from msabench.utterances import load_splits

PRODUCTS = ("aten::mm", "aten::addmm")
LEAST = 0.01  # share of the time of an operation that is listed


def measure(folder: Path) -> dict[str, Any]:
    tree = trees.default_tree(folder / "tree")
    load = wait_until_idle()
    trained = {
        name: trees.script(tree, "bench.profile", name).result for name in ("ours", "self_mm")
    }
    return {"data": "simulated, the default run", "load_before": load, **trained}


def main(name: str) -> None:
    config = json.loads(Path(f"runs/plan/{name}.json").read_text())
    config["schedule"]["epochs"] = 1
    torch_settings.configure(config)
    read = json.loads(Path(f"data/features/runs/{name}.json").read_text())
    prepared, features = Path("data/prepared"), Path("data/features")
    splits = splits_of(load_splits(prepared, features, read["array"], config["modalities"]))
    train = splits["train"]
    regressor = models.build(config, train.widths, config["device"])
    tokens = config["schedule"]["batch_size"] * round(train.sequences["text"].lengths.mean())
    with (
        TemporaryDirectory() as scratch,
        profile(activities=[ProfilerActivity.CPU], with_flops=True) as profiled,
    ):
        regressor.fit(train, splits["valid"], seed=1, scratch=Path(scratch))
    operations = profiled.key_averages()
    total = sum(each.self_cpu_time_total for each in operations)
    ranked = sorted(operations, key=lambda each: -each.self_cpu_time_total)
    shares = {each.key: round(each.self_cpu_time_total / total, 3) for each in ranked}
    products = [each for each in operations if each.key in PRODUCTS]
    rate = sum(each.flops for each in products) / sum(each.self_cpu_time_total for each in products)
    width = train.widths["text"]
    result = {
        "seconds": round(total / 1e6, 1),
        "shares": {key: share for key, share in shares.items() if share >= LEAST},
        "products_gigaflops": round(rate / 1e3),
        "limit_gigaflops": round(limit(tokens, width, 4 * width, torch.device("cpu")) / 1e9),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1])
