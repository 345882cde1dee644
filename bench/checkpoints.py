"""What checkpoints cost: their share of the default run's trainings, and the seconds of one.

    python bench/checkpoints.py --folder /an/empty/folder

Default settings and data (simulated), seed 1 of each network, one thread. Counted is all that is
done for the sake of going on after an interruption: the best weights on disk, the checkpoints when
they are due, and the question whether they are. One checkpoint more is written at the end, to see
what one costs; it is not counted.
"""

import argparse
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in ("src", "")]

from bench import mosei  # noqa: E402
from bench.processes import run, wait_until_idle  # noqa: E402
from bench.results import record  # noqa: E402
from msabench import models, params  # noqa: E402
from msabench.training.schedule import Schedule  # noqa: E402

TRAIN = """
import json, sys, time
from msabench.training.checkpoints import Checkpoints, Progress
from stages import train

spent, last = [], []

def timed(name):
    method = getattr(Checkpoints, name)
    def measured(self, *arguments):
        start = time.perf_counter()
        try:
            return method(self, *arguments)
        finally:
            spent.append((name, time.perf_counter() - start))
    setattr(Checkpoints, name, measured)

def restore_best(self):
    start = time.perf_counter()
    write(self, Progress())
    last.append((time.perf_counter() - start, sum(p.stat().st_size for p in self.folder.iterdir())))
    restore(self)

write, restore = Checkpoints.write, Checkpoints.restore_best
for name in ("resume", "due", "write", "keep_best"):
    timed(name)
Checkpoints.restore_best = restore_best
start = time.perf_counter()
train.main(sys.argv[1], 1)
seconds = time.perf_counter() - start - last[0][0]
print(json.dumps({
    "training_seconds": round(seconds, 2),
    "written_when_due": sum(name == "write" for name, _ in spent),
    "share": round(sum(took for _, took in spent) / seconds, 5),
    "one_checkpoint_seconds": round(last[0][0], 3),
    "one_checkpoint_megabytes": round(last[0][1] / 1e6, 1),
}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="an empty folder to work in")
    options = parser.parse_args()
    tree = mosei.default_tree(options.folder)
    named = params.load(tree / "params.yaml").models
    networks = [name for name in named if Schedule in models.accepted_settings(name)]
    load = wait_until_idle()
    figures = {name: run(sys.executable, "-c", TRAIN, name, cwd=tree).last for name in networks}
    record(
        "checkpoints",
        {"data": "simulated, the default run", "load_before": load, **figures},
        checkpoint_share=max(made["share"] for made in figures.values()),
    )


if __name__ == "__main__":
    main()
