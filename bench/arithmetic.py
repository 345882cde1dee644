"""What portable arithmetic costs: CPU seconds of a training step, beside those of native.

    python bench/arithmetic.py [--pairs 5]

In the data of this tree, after `make repro`, on one thread: each network in a process of its own,
portable and native by turns, the median of its first steps; likewise forward and backward of
bert-base, on 32 texts of 25 tokens, and the fit of the SVM. Ratios are the median of the pairs,
with the lowest and the highest.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in ("src", "")]

from bench.processes import ROOT, run, wait_until_idle  # noqa: E402
from bench.results import record  # noqa: E402

STEPS = """
import json, sys, time
from statistics import median
from stages import train
from torch.optim import optimizer

ends = []
def ended(*_):
    ends.append(time.process_time())
    if len(ends) == 11:
        print(json.dumps({"seconds": median(b - a for a, b in zip(ends, ends[1:]))}))
        raise SystemExit
optimizer.register_optimizer_step_post_hook(ended)
train.main(sys.argv[1], 1)
"""
BERT = """
import json, sys, time
from statistics import median
import stages
from msabench.networks import torch_settings
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


def seconds(work: str, arithmetic: str) -> float:
    """Return the CPU seconds of a step, or of the fit, in that arithmetic."""
    with TemporaryDirectory() as folder:
        tree = Path(folder)
        for name in ("src", "stages", "data"):
            (tree / name).symlink_to(ROOT / name)
        shutil.copytree(ROOT / "runs/plan", tree / "runs/plan")
        if work == "bert-base":
            return run(sys.executable, "-c", BERT, arithmetic, cwd=tree).last["seconds"]
        plan = tree / f"runs/plan/{work}.json"
        plan.write_text(json.dumps(json.loads(plan.read_text()) | {"arithmetic": arithmetic}))
        program = SVM if work == "svm" else STEPS
        return run(sys.executable, "-c", program, work, cwd=tree).last["seconds"]


def main(pairs: int) -> None:
    load = wait_until_idle()
    figures: dict[str, dict[str, float]] = {}
    for work in ("ours", "self_mm", "cnn", "svm", "bert-base"):
        made = [(seconds(work, "portable"), seconds(work, "native")) for _ in range(pairs)]
        ratios = [portable / native for portable, native in made]
        figures[work] = {
            "portable": round(median(portable for portable, _ in made), 4),
            "native": round(median(native for _, native in made), 4),
            "ratio": round(median(ratios), 3),
            "lowest": round(min(ratios), 3),
            "highest": round(max(ratios), 3),
        }
    record("arithmetic", {"cpu_seconds": figures, "pairs": pairs, "load_before": load})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    main(parser.parse_args().pairs)
