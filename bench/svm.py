"""Table 2's seven SVMs by the stages of DVC, against plain scikit-learn (30 GB).

MOSEI's size and widths: 16,326 training utterances of 768 + 74 + 35 features, the text a random
projection of MiniLM's vectors of simulated texts. Plain: the mean of each modality, StandardScaler
and SVR, fitted, then applied to validation and test, one thread (it has no more).
"""

from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from bench import trees
from bench.harness import wait_until_idle
from msabench.utterances import SPLITS

TEXT_WIDTH = 768
PLAIN = """
from pathlib import Path
import stages
import numpy as np
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR
from msabench.plan import SUBSETS
from msabench.utterances import SPLITS, load_splits

def means(data):
    ragged = data.sequences.values()
    rows = [np.stack([one[i].mean(axis=0) for i in range(len(one))]) for one in ragged]
    return np.concatenate(rows, axis=1)

for modalities in SUBSETS.values():
    splits = load_splits(Path("data/prepared"), Path("data/features"), "pooled-mean", modalities)
    features = {split: means(data) for split, data in splits.items()}
    model = make_pipeline(StandardScaler(), SVR(C=1.0, epsilon=0.1, cache_size=1000))
    model.fit(features["train"], splits["train"].labels)
    for split in SPLITS[1:]:
        model.predict(features[split])
"""


def measure(folder: Path, *, share: float = 1.0, repeats: int = 1) -> dict[str, Any]:
    file = trees.write_pickle(folder / "svm.pkl", trees.sizes(share))
    work = {threads: tree_of(folder / f"svm-{threads}", file, threads) for threads in (1, 2)}
    file.unlink()
    load = wait_until_idle()
    seconds: dict[str, list[float]] = {"plain": [], "ours_1_threads": [], "ours_2_threads": []}
    for _ in range(repeats):
        seconds["plain"].append(trees.script(work[1], PLAIN).seconds)
        for threads, tree in work.items():
            seconds[f"ours_{threads}_threads"].append(trees.table2(tree, threads=threads))
        print(seconds, flush=True)
    middle = {name: round(median(values), 1) for name, values in seconds.items()}
    ratio = {f"{n}_threads": round(middle["plain"] / middle[f"ours_{n}_threads"], 2) for n in work}
    return {
        "data": "simulated",
        "training_utterances": trees.sizes(share)["train"],
        "widths": [TEXT_WIDTH, 74, 35],
        "repeats": repeats,
        "load_before": load,
        "seconds": middle,
        "ratio": ratio,
        "headlines": {"svm_vs_sklearn": ratio["2_threads"]},
    }


def tree_of(folder: Path, file: Path, threads: int) -> Path:
    """Return a work tree with prepared data, and text vectors of TEXT_WIDTH features."""
    tree = trees.mosei_tree(folder, file, threads=threads)
    trees.only(tree, *trees.TABLE2)
    trees.stage(tree, "prepare")
    trees.stage(tree, "features", threads=2)
    projection = np.random.default_rng(1).normal(size=(384, TEXT_WIDTH)) / TEXT_WIDTH**0.5
    for split in SPLITS:
        path = tree / f"data/features/{split}/pooled-mean.npy"
        np.save(path, np.load(path) @ projection.astype(np.float32))
    return tree
