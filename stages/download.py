"""data set -> data/raw/: found or fetched, and verified; or simulated."""

import json
import shutil
import sys
from pathlib import Path

from msabench import params
from msabench.data import download, sources
from stages import run

PAGE = "docs/data.md"
OUT = Path("data/raw")


def main() -> None:
    config = json.loads(Path("runs/plan/stages/download.json").read_text())
    target = OUT / config["file"]
    if config["sha256"] is None:
        _empty()
        sources.load(config["source"]).write(target, **config["settings"])
        return
    name, identity = config["dataset"], {key: config[key] for key in ("file", "sha256", "folder")}
    # Where the data lie is no part of their identity, so it is not in the plan.
    dataset = params.load(Path("params.yaml")).datasets[name]
    source = download.obtain(name, dataset, **identity)
    _empty()
    download.link(source, target)


def _empty() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)


if __name__ == "__main__":
    run(main, *sys.argv[1:])
