"""What checkpoints cost: their share of the default run's trainings, and the seconds of one.

Default settings and data (simulated), seed 1 of each network, one thread. Counted is all that
makes a training resumable: the best weights on disk, the checkpoints when they are due, and the
test whether they are. One more checkpoint is written at the end, to see what one costs; it is not
counted.
"""

from pathlib import Path
from typing import Any

from bench import trees
from bench.harness import wait_until_idle

TRAIN = """
import json, sys, time
from msabench.training.checkpoints import Checkpoints, Progress
from stages import train

spent, last = [], []

def time_method(name):
    method = getattr(Checkpoints, name)
    def timed(self, *arguments):
        start = time.perf_counter()
        try:
            return method(self, *arguments)
        finally:
            spent.append((name, time.perf_counter() - start))
    setattr(Checkpoints, name, timed)

def restore_best(self):
    start = time.perf_counter()
    write(self, Progress())
    last.append((time.perf_counter() - start, sum(p.stat().st_size for p in self.folder.iterdir())))
    restore(self)

write, restore = Checkpoints.write, Checkpoints.restore_best
for name in ("resume", "due", "write", "keep_best"):
    time_method(name)
Checkpoints.restore_best = restore_best
start = time.perf_counter()
train.main(sys.argv[1], 1)
seconds = time.perf_counter() - start - last[0][0]
print(json.dumps({
    "training_seconds": round(seconds, 2),
    "written_when_due": sum(name == "write" for name, _ in spent),
    "share": round(sum(each for _, each in spent) / seconds, 5),
    "one_checkpoint_seconds": round(last[0][0], 3),
    "one_checkpoint_megabytes": round(last[0][1] / 1e6, 1),
}))
"""


def measure(folder: Path) -> dict[str, Any]:
    from msabench import models, params, plan

    tree = trees.default_tree(folder)
    settings = params.load(tree / "params.yaml")
    networks = [
        name
        for name in settings.compare
        if models.is_network(plan.block_of(settings, name)["model"])
    ]
    load = wait_until_idle()
    figures = {name: trees.script(tree, TRAIN, name).result for name in networks}
    return {
        "data": "simulated, the default run",
        "load_before": load,
        **figures,
        "headlines": {"checkpoint_share": max(row["share"] for row in figures.values())},
    }
