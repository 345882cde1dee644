"""Import a simulated pickle of MOSEI's full shape: seconds and anonymous memory.

    python bench/import_pickle.py --folder /where/30/GB/are/free

Writes the file (13.5 GB, as MMSA's: 22,856 utterances, audio 500 x 74 and vision 500 x 35 in
float64, the text dump in float32), then runs the stage `prepare` on it, and beside it what any
import must do at least: read the file once (`sha256sum`) and write the result once (`cp`). All of
them in turn, warm (the file lies in the page cache, as far as it fits), then cold.
"""

import argparse
import json
import os
import pickle
import shutil
import statistics
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

from bench.results import record  # noqa: E402
from msabench.sources import simulated  # noqa: E402
from msabench.utterances import SPLITS  # noqa: E402

SIZES = {"train": 16326, "valid": 1871, "test": 4659}
PIECES, TEXT_WIDTH = 50, 768


def write(path: Path, share: float) -> None:
    """Write the pickle; share: of MOSEI's number of utterances."""
    sizes: dict[str, Any] = {split: max(1, int(n * share)) for split, n in SIZES.items()}
    data = simulated.simulate(full_length=True, **sizes)
    states = np.random.default_rng(0).normal(size=(PIECES, TEXT_WIDTH)).astype(np.float32)
    for split in SPLITS:
        n = sizes[split]
        tokens = np.zeros((n, 3, PIECES), np.float32)
        for row, text in zip(tokens, data[split]["raw_text"], strict=True):
            length = min(PIECES, len(text.split()) + 2)
            row[0, :length], row[1, :length] = np.arange(100, 100 + length), 1
        data[split]["text_bert"] = tokens
        data[split]["text"] = np.broadcast_to(states, (n, PIECES, TEXT_WIDTH))
    with open(path, "wb") as file:
        pickler = pickle.Pickler(file, protocol=4)
        pickler.fast = True  # a memo would keep the bytes of every array in memory
        pickler.dump(data)


def anonymous(process: int) -> int:
    """Return the anonymous memory of a process in bytes; 0 once it has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    found = [line for line in status.splitlines() if line.startswith("RssAnon")]
    return int(found[0].split()[1]) * 1024 if found else 0


def timed(*command: str, cwd: Path) -> tuple[float, int]:
    """Run a command; return its seconds and its peak of anonymous memory, sampled."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    start, peak = time.perf_counter(), 0
    process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        peak = max(peak, anonymous(process.pid))
        time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: status {process.returncode}")
    return time.perf_counter() - start, peak


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
    tree = arguments.folder
    raw, prepared, copy = (tree / name for name in ("data/raw", "data/prepared", "data/copy"))
    raw.mkdir(parents=True)
    path = raw / "full.pkl"
    # In a process of its own, which gives the memory back.
    writer = get_context("spawn").Process(target=write, args=(path, arguments.share))
    writer.start()
    writer.join()
    if writer.exitcode:
        raise SystemExit(f"{path} could not be written")
    plan = tree / "runs/plan/stages/prepare.json"
    plan.parent.mkdir(parents=True)
    config = {"source": "mmsa_pickle", "file": path.name, "settings": {}}
    plan.write_text(json.dumps({**config, "label_range": [-3.0, 3.0]}))

    figures: dict[str, object] = {"bytes": path.stat().st_size}
    for state in ("warm", "cold"):
        seconds: dict[str, list[float]] = {"sha256sum": [], "copy": [], "import": []}
        memory = 0
        for repeat in range(arguments.repeats + 1):
            for name, command in (
                ("import", (sys.executable, "-m", "stages.prepare")),
                ("sha256sum", ("sha256sum", str(path))),
                ("copy", ("cp", "-r", str(prepared), str(copy))),
            ):
                if state == "cold":
                    evict(tree / "data")
                took, peak = timed(*command, cwd=tree)
                if repeat:  # the first warms up
                    seconds[name].append(took)
                memory = max(memory, peak if name == "import" else 0)
            shutil.rmtree(copy)
        median = {name: statistics.median(values) for name, values in seconds.items()}
        figures[state] = {
            **{f"{name}_seconds": round(value, 2) for name, value in median.items()},
            "ratio": round(median["import"] / (median["sha256sum"] + median["copy"]), 3),
            "import_anonymous_megabytes": round(memory / 1e6, 1),
        }
    sizes = [file.stat().st_size for file in prepared.rglob("*") if file.is_file()]
    record("import_pickle", {**figures, "result_bytes": sum(sizes), "data": "simulated"})


if __name__ == "__main__":
    main()
