"""Import a simulated pickle of MOSEI's full shape: seconds and anonymous memory (30 GB).

Writes the file (13.5 GB, as MMSA's: 22,856 utterances, audio 500 x 74 and vision 500 x 35 in
float64, the text dump in float32), then runs the stage `prepare` on it, and beside it what any
import must do at least: read the file once (`sha256sum`) and write the result once (`cp`). All of
them in turn, warm (the file lies in the page cache, as far as it fits), then cold.
"""

import os
import shutil
import sys
from pathlib import Path
from statistics import median
from typing import Any

from bench import trees
from bench.harness import run


def measure(folder: Path, *, share: float = 1.0, repeats: int = 3) -> dict[str, Any]:
    path = trees.write_pickle(folder / "full.pkl", trees.sizes(share), text_dump=True)
    tree = trees.mosei_tree(folder / "tree", path)
    prepared, copy = tree / "data/prepared", tree / "data/copy"

    figures: dict[str, Any] = {"bytes": path.stat().st_size}
    for state in ("warm", "cold"):
        seconds: dict[str, list[float]] = {"sha256sum": [], "copy": [], "import": []}
        memory = 0
        for repeat in range(repeats + 1):
            for name, command in (
                ("import", (sys.executable, "-m", "stages.prepare")),
                ("sha256sum", ("sha256sum", path.resolve())),
                ("copy", ("cp", "-r", prepared.resolve(), copy.resolve())),
            ):
                if state == "cold":
                    evict(folder)
                measured = run(*command, cwd=tree)
                if repeat:  # the first warms up
                    seconds[name].append(measured.seconds)
                memory = max(memory, measured.memory if name == "import" else 0)
            shutil.rmtree(copy)
        middle = {name: median(values) for name, values in seconds.items()}
        figures[state] = {
            **{f"{name}_seconds": round(value, 2) for name, value in middle.items()},
            "ratio": round(middle["import"] / (middle["sha256sum"] + middle["copy"]), 3),
            "import_anonymous_megabytes": round(memory / 1e6, 1),
        }
    sizes = [file.stat().st_size for file in prepared.rglob("*") if file.is_file()]
    return {**figures, "result_bytes": sum(sizes), "data": "simulated"}


def evict(folder: Path) -> None:
    """Ask the kernel to drop the files below the folder from its page cache."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
