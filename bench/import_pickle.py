"""Import a simulated pickle of MOSEI's full shape: seconds and anonymous memory.

    python bench/import_pickle.py --folder /where/30/GB/are/free

Writes the file (13.5 GB, as MMSA's: 22,856 utterances, audio 500 x 74 and vision 500 x 35 in
float64, the text dump in float32), then runs the stage `prepare` on it, and beside it what any
import must do at least: read the file once (`sha256sum`) and write the result once (`cp`). All of
them in turn, warm (the file lies in the page cache, as far as it fits), then cold.
"""

import argparse
import os
import shutil
import sys
from pathlib import Path
from statistics import median

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in ("src", "")]

from bench import mosei  # noqa: E402
from bench.processes import run  # noqa: E402
from bench.results import record  # noqa: E402


def evict(folder: Path) -> None:
    """Ask the kernel to drop the files below the folder from its page cache."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="an empty folder to work in")
    parser.add_argument("--share", type=float, default=1.0, help="of MOSEI's utterances")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    path = arguments.folder / "full.pkl"
    mosei.write(path, mosei.sizes(arguments.share))
    tree = mosei.tree(arguments.folder / "tree", path)
    prepared, copy = tree / "data/prepared", tree / "data/copy"

    figures: dict[str, object] = {"bytes": path.stat().st_size}
    for state in ("warm", "cold"):
        seconds: dict[str, list[float]] = {"sha256sum": [], "copy": [], "import": []}
        memory = 0
        for repeat in range(arguments.repeats + 1):
            for name, command in (
                ("import", (sys.executable, "-m", "stages.prepare")),
                ("sha256sum", ("sha256sum", path.resolve())),
                ("copy", ("cp", "-r", prepared, copy)),
            ):
                if state == "cold":
                    evict(arguments.folder)
                took = run(*command, cwd=tree)
                if repeat:  # the first warms up
                    seconds[name].append(took.seconds)
                memory = max(memory, took.anonymous if name == "import" else 0)
            shutil.rmtree(copy)
        middle = {name: median(values) for name, values in seconds.items()}
        figures[state] = {
            **{f"{name}_seconds": round(value, 2) for name, value in middle.items()},
            "ratio": round(middle["import"] / (middle["sha256sum"] + middle["copy"]), 3),
            "import_anonymous_megabytes": round(memory / 1e6, 1),
        }
    sizes = [file.stat().st_size for file in prepared.rglob("*") if file.is_file()]
    record("import_pickle", {**figures, "result_bytes": sum(sizes), "data": "simulated"})


if __name__ == "__main__":
    main()
