"""Walk the path of MOSEI's file of 13.65 GB on a simulated one of its size (32 GB of disk).

Writes the file (22,856 utterances, audio 500 x 74 and vision 500 x 35 in float64, the text dump in
float32), serves it from a local hub, and runs the stages as a user's: `download` with the real
client into a cache, `prepare` on all of it; then, on a sample of what was prepared, `features`, one
epoch of each model of Table 6, `tables`, `report` and `cards`. Records the wall time and the peak
of the anonymous memory of each, and what `msabench estimate` says of the whole run on MOSEI, with
all models, seeds, sweep and ablation of params.yaml. The served copy is removed once it is
downloaded. With `--share 0.05` the file has that share of the utterances.
"""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

from bench import trees
from bench.harness import Measured, run, wait_until_idle
from msabench import hashes
from msabench.utterances import SPLITS, Utterances
from tests.hub_server import Server

URL = "hf://datasets/owner/name/data.pkl"  # what the local hub has
UTTERANCE = 500 * (74 + 35) * 8 + 50 * (768 + 3) * 4  # bytes in the file
DISK = 2.4  # sizes of the file: served, downloaded, and what is made of it
MODELS = ("self_mm", "svm", "cnn", "ours")


def measure(folder: Path, *, share: float = 1.0, sample: int = 512) -> dict[str, Any]:
    counts = trees.sizes(share)
    check_space(folder, DISK * UTTERANCE * sum(counts.values()))
    load = wait_until_idle()
    file = trees.write_pickle(folder / "data.pkl", counts, text_dump=True)
    size = file.stat().st_size
    block = {"file": file.name, "sha256": hashes.of_file(file), "url": URL}
    small: dict[str, Any] = {"seeds": [1], "sweep_seeds": [], "ablation__models": []}
    small |= {f"models__{name}__epochs": 1 for name in MODELS if name != "svm"}
    tree = trees.tree_of(folder / "tree", block, **small)
    stages: dict[str, dict[str, float]] = {}

    def step(name: str, *arguments: str, **environment: str) -> None:
        measured = trees.stage(tree, name, *arguments, **environment)  # type: ignore[arg-type]
        figures = {"seconds": round(measured.seconds, 1), "megabytes": round(measured.memory / 1e6)}
        stages[" ".join((name, *arguments[:1]))] = figures
        print(name, *arguments, figures, flush=True)

    with served(file, block["sha256"]) as address:
        step("download", HF_ENDPOINT=address, HF_HOME=str((folder / "cache").resolve()))
    file.unlink()
    step("prepare")
    keep(tree / "data/prepared", sample)
    step("features")
    for name in MODELS:
        step("train", name, "1")
    for name in ("tables", "report", "cards"):
        step(name)
    estimate = ("-m", "msabench", "estimate", "--json", "-S", "dataset=mosei")
    estimated = run(sys.executable, *estimate, cwd=tree_of_params(folder / "params"))
    return {
        "data": "simulated, MOSEI's form",
        "share_of_mosei": share,
        "bytes": size,
        "utterances": sum(counts.values()),
        "sample": sample,
        "load_before": load,
        "stages": stages,
        "estimate_of_mosei": rounded(estimated),
    }


def check_space(folder: Path, needed: float) -> None:
    """End with one line where the disk of the folder has less than so many bytes free."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        sys.exit(
            f"error: {folder}: {needed / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free; "
            f"free some, or rehearse a share of it: --share {free / needed:.1g}"
        )


@contextmanager
def served(file: Path, sha256: str) -> Iterator[str]:
    """Serve the file as a hub does; yield the hub's address."""
    with file.open("rb") as opened, mmap(opened.fileno(), 0, access=ACCESS_READ) as content:
        server = Server(content)
        server.etag = sha256  # else the server would hash the content for each request
        try:
            yield server.address
        finally:
            server.shutdown()
            server.server_close()


def keep(prepared: Path, most: int) -> None:
    """Keep the first so many utterances of each split of prepared data."""
    for split in SPLITS:
        data = Utterances.load(prepared / split)
        sample = data.take(range(min(most, len(data))))
        shutil.rmtree(prepared / split)
        sample.save(prepared / split)


def tree_of_params(folder: Path) -> Path:
    """Make a folder with nothing but params.yaml."""
    folder.mkdir()
    shutil.copy(trees.ROOT / "params.yaml", folder)
    return folder


def rounded(estimate: Measured) -> dict[str, Any]:
    """Return what the estimate says of each row that runs, and of all together."""
    result = estimate.result
    rows = {
        " ".join(filter(None, (row["stage"], row["run"]))): {
            "times": row["times"],
            "seconds": None if row["seconds"] is None else round(row["seconds"]),
            "megabytes": round(row["memory"] / 1e6),
        }
        for row in result["rows"]
        if row["times"]
    }
    total = {key: round(value) for key, value in result["total"].items()}
    seconds = round(estimate.seconds, 1)
    return {"jobs": result["jobs"], "total": total, "rows": rows, "measured_in_seconds": seconds}
