"""Text encoders of base size, MPNet and BERT, at MOSEI's lengths: speed and memory (2 GB).

Both have random weights, on which speed does not depend, so that no network is needed. Texts are
random tokens, as many in each as in the simulated texts that stand for MOSEI's, 50 at most.
Measured are the frozen pass over all layers (`text.encode`), and the loop's training of Self-MM on
text alone, with its published batches and steps: of the top 4 layers, on given states, and of all.
Batches are 32 texts of similar length, spread from the longest to the shortest.

utterances_per_second: of these batches, after some that warm up. gemm_share: the time that their
matrix products would take at the limit, over the time that they took; the limit, gemm_gigaflops,
is that of bench/gemm.py in float32, measured between the batches, so that the share in mixed
precision can exceed 1. bench/encoder_case.py counts the products.
peak_gigabytes: resident memory of the process, which has had a batch of the longest texts too.
"""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from bench import trees
from bench.harness import ROOT, wait_until_idle

MODELS = ("mpnet", "bert")  # types of transformers
# Arithmetic, precision and threads.
SETTINGS = (
    ("portable", "float32", 1),
    ("native", "float32", 1),
    ("native", "float32", 2),
    ("native", "bfloat16", 1),
)
LAYERS = {"frozen": "0", "top_4": "4", "all": "all"}  # that are trained
DATASET = "mosei_text"


def measure(
    folder: Path, *, batches: int = 4, layers: int = 12, width: int = 768
) -> dict[str, Any]:
    tree = trees.tree_of(folder / "tree", {}, dataset=DATASET)
    trees.apart(write, tree, layers, width)
    load = wait_until_idle()
    figures: dict[str, dict[str, Any]] = {model: {} for model in MODELS}
    peaks = []
    for (arithmetic, precision, threads), trained, model in product(SETTINGS, LAYERS, MODELS):
        if trained == "frozen" and precision == "bfloat16":  # which is that of trained layers
            continue
        case = (model, LAYERS[trained], arithmetic, precision, threads, batches)
        one = trees.script(tree, "bench.encoder_case", *case, threads=threads).result
        name = f"{trained}_{arithmetic}_{precision}_{threads}_threads"
        figures[model][name] = one
        peaks.append(one["peak_gigabytes"])
        print(model, name, one, flush=True)
    return {
        "data": "random tokens, MOSEI's lengths as simulated",
        "tokens_per_text": round(float(np.load(tree / "lengths.npy").mean()), 1),
        "batches": batches,
        "load_before": load,
        **figures,
        "headlines": {"base_encoder_peak_gigabytes": max(peaks)},
    }


def write(tree: Path, layers: int, width: int) -> None:
    """Save the encoders in a work tree, and the tokens of each training text as lengths.npy."""
    from msabench import params
    from msabench.estimation import sizes

    shape = {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": width // 64,
        "intermediate_size": 4 * width,
    }
    for model in MODELS:
        trees.random_encoder(tree / model, model, **shape)
    settings = params.load(ROOT / "params.yaml")
    tokenizer = {"name": str(tree / MODELS[0])}
    dataset = settings.datasets[DATASET]
    measured = sizes.measure(dataset, {}, tokenizer, settings.max_tokens)
    np.save(tree / "lengths.npy", measured.lengths["train"]["text"])
