"""Table 2's seven SVMs by the stages of DVC, against plain scikit-learn, end to end.

    python bench/svm.py --folder /where/30/GB/are/free

MOSEI's size and widths: 16,326 training utterances of 768 + 74 + 35 features, the text a random
projection of MiniLM's vectors of simulated texts. Plain: the mean of each modality, StandardScaler
and SVR, fitted and asked for validation and test, one thread (it has no more).
"""

import argparse
import json
import sys
import time
from pathlib import Path
from statistics import median

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in ("src", "")]

import msabench  # noqa: E402, F401  before NumPy

# isort: split
import numpy as np  # noqa: E402

from bench import mosei  # noqa: E402
from bench.processes import run, wait_until_idle  # noqa: E402
from bench.results import record  # noqa: E402
from msabench.plan import SUBSETS  # noqa: E402
from msabench.utterances import SPLITS, load_splits  # noqa: E402

TEXT_WIDTH = 768


def plain() -> None:
    """Fit and predict all subsets in this work tree with scikit-learn alone."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVR

    start = time.perf_counter()
    for modalities in SUBSETS.values():
        splits = load_splits(
            Path("data/prepared"), Path("data/features"), "pooled-mean", modalities
        )
        features = {
            split: np.concatenate(
                [
                    np.stack([ragged[i].mean(axis=0) for i in range(len(ragged))])
                    for ragged in data.sequences.values()
                ],
                axis=1,
            )
            for split, data in splits.items()
        }
        model = make_pipeline(StandardScaler(), SVR(C=1.0, epsilon=0.1, cache_size=1000))
        model.fit(features["train"], splits["train"].labels)
        for split in SPLITS[1:]:
            model.predict(features[split])
    print(json.dumps({"seconds": time.perf_counter() - start}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="a folder to work in")
    parser.add_argument("--share", type=float, default=1.0, help="of MOSEI's utterances")
    parser.add_argument("--repeats", type=int, default=1, help="each is the sum of seven SVMs")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    file = options.folder / "svm.pkl"
    mosei.write(file, mosei.sizes(options.share), text_dump=False)
    trees = {}
    rng = np.random.default_rng(1)
    projection = rng.normal(size=(384, TEXT_WIDTH)).astype(np.float32) / TEXT_WIDTH**0.5
    for threads in (1, 2):
        tree = trees[threads] = mosei.tree(options.folder / f"svm-{threads}", file, threads=threads)
        mosei.only(tree, *mosei.TABLE2)
        mosei.stage(tree, "prepare")
        mosei.stage(tree, "features", threads=2)
        for split in SPLITS:
            path = tree / f"data/features/{split}/pooled-mean.npy"
            vectors = np.load(path) @ projection
            np.save(path, vectors)
    file.unlink()
    load = wait_until_idle()
    seconds: dict[str, list[float]] = {"plain": [], "ours_1_threads": [], "ours_2_threads": []}
    for _ in range(options.repeats):
        took = run(sys.executable, __file__, "--plain", cwd=trees[1])
        seconds["plain"].append(took.seconds)
        for threads, tree in trees.items():
            seconds[f"ours_{threads}_threads"].append(mosei.table2(tree, threads=threads))
        print(seconds, flush=True)
    middle = {name: round(median(values), 1) for name, values in seconds.items()}
    ratio = {f"{n}_threads": round(middle["plain"] / middle[f"ours_{n}_threads"], 2) for n in trees}
    record(
        "svm",
        {
            "data": "simulated",
            "training_utterances": mosei.sizes(options.share)["train"],
            "widths": [TEXT_WIDTH, 74, 35],
            "repeats": options.repeats,
            "load_before": load,
            "seconds": middle,
            "ratio": ratio,
        },
        svm_vs_sklearn=ratio["2_threads"],
    )


if __name__ == "__main__":
    plain() if sys.argv[1:] == ["--plain"] else main()
