"""data set -> data/raw/: found and verified, or simulated."""

import json
import shutil
from pathlib import Path

from msabench import download, params, sources
from stages import run

OUT = Path("data/raw")


def main() -> None:
    config = json.loads(Path("runs/plan/stages/download.json").read_text())
    target = OUT / config["file"]
    if config["sha256"] is None:
        _empty()
        sources.load(config["source"]).write(target, **config["settings"])
        return
    # Where the file lies is no part of the data's identity, so it is not in the plan.
    dataset = params.load(Path("params.yaml")).datasets[config["dataset"]]
    found = download.locate(config["dataset"], config["file"], dataset.path, dataset.path_variable)
    download.verify(found, config["sha256"])
    _empty()
    download.link(found, target)


def _empty() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)


if __name__ == "__main__":
    run(main)
