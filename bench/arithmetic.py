"""What portable arithmetic costs: CPU seconds of a training step, beside those of native.

Default settings and data (simulated), one thread: each network in a process of its own, portable
and native alternately, the median of its first steps; likewise forward and backward of bert-base,
on 32 texts of 25 tokens, and the fit of the SVM. Ratios are the median of the pairs, with the
lowest and the highest.
"""

import json
import shutil
from pathlib import Path
from statistics import median
from typing import Any

from bench import trees
from bench.harness import wait_until_idle

STEPS = """
import json, sys, time
from statistics import median
from stages import train
from torch.optim import optimizer

ends = []
def after_step(*_):
    ends.append(time.process_time())
    if len(ends) == 11:
        print(json.dumps({"seconds": median(b - a for a, b in zip(ends, ends[1:]))}))
        raise SystemExit
optimizer.register_optimizer_step_post_hook(after_step)
train.main(sys.argv[1], 1)
"""
BERT = """
import json, sys, time
from statistics import median
import stages
from msabench.networks import torch_settings
import torch
from transformers import BertConfig, BertModel

torch_settings.configure({"arithmetic": sys.argv[1], "device": "cpu", "threads": 1})
torch.manual_seed(1)
bert = BertModel(BertConfig(), add_pooling_layer=False)
tokens = torch.randint(1000, (32, 25))
seconds = []
for _ in range(5):
    start = time.process_time()
    bert(tokens).last_hidden_state.sum().backward()
    seconds.append(time.process_time() - start)
print(json.dumps({"seconds": median(seconds[1:])}))
"""
SVM = """
import json, time
from stages import train
from msabench.models.svm import SVM

fit = SVM.fit
def timed(*arguments, **options):
    start = time.process_time()
    fit(*arguments, **options)
    print(json.dumps({"seconds": time.process_time() - start}))
    raise SystemExit
SVM.fit = timed
train.main("svm", 1)
"""


def measure(folder: Path, *, pairs: int = 5) -> dict[str, Any]:
    tree = trees.default_tree(folder)
    load = wait_until_idle()
    figures: dict[str, dict[str, float]] = {}
    for name in ("ours", "self_mm", "cnn", "svm", "bert-base"):
        seconds = [
            (cpu_seconds(tree, name, "portable"), cpu_seconds(tree, name, "native"))
            for _ in range(pairs)
        ]
        ratios = [portable / native for portable, native in seconds]
        figures[name] = {
            "portable": round(median(portable for portable, _ in seconds), 4),
            "native": round(median(native for _, native in seconds), 4),
            "ratio": round(median(ratios), 3),
            "lowest": round(min(ratios), 3),
            "highest": round(max(ratios), 3),
        }
    return {"cpu_seconds": figures, "pairs": pairs, "load_before": load}


def cpu_seconds(tree: Path, name: str, arithmetic: str) -> float:
    """Return the CPU seconds of a step, or of the fit, in that arithmetic."""
    if name == "bert-base":
        return trees.script(tree, BERT, arithmetic).result["seconds"]
    plan = tree / f"runs/plan/{name}.json"
    plan.write_text(json.dumps(json.loads(plan.read_text()) | {"arithmetic": arithmetic}))
    shutil.rmtree(tree / "runs/scratch", ignore_errors=True)  # what the step before left there
    return trees.script(tree, SVM if name == "svm" else STEPS, name).result["seconds"]
