"""The share of the machine's matrix products that training BERT reaches: prints it as JSON.

    python bench/gemm.py THREADS

FLOP/s of the forward and backward pass of bert-base, on batches by length of MOSEI's lengths in
order of chance, over those of the plain product that most of the time goes into, (tokens, 768) by
(768, 3072), measured between the batches. A multiplication and addition are two FLOP; weights count
three products (forward, two backward), attention likewise; what is run again does not count.
"""

import json
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from transformers import BertConfig, BertModel

from msabench import batches, training
from msabench.batches import Padded
from msabench.text import TextEncoder

BATCH_SIZE, REPEATS = 32, 16


def main(threads: int) -> None:
    training.settle(threads)
    torch.manual_seed(1)
    bert = BertModel(BertConfig(), add_pooling_layer=False)
    encoder = TextEncoder(
        768, layers=bert.encoder.layer, embeddings=bert.embeddings, pooling="cls"
    ).train()
    weights = sum(p.numel() for p in encoder.layers.parameters() if p.dim() == 2)
    lengths = np.load(Path("tree-small-True-2/data/features/train/tokens.offsets.npy"))
    lengths = np.diff(lengths)
    order = batches.shuffled(lengths, BATCH_SIZE, np.random.default_rng(1))

    trained, limit = [], []
    for index in [order[i % len(order)] for i in range(REPEATS)]:
        b, t = len(index), int(lengths[index].max())
        text = Padded(torch.randint(1000, 20000, (b, t)), torch.from_numpy(lengths[index]))
        start = time.perf_counter()
        encoder(text).sum().backward()
        seconds = time.perf_counter() - start
        attention = 2 * len(encoder.layers) * b * t * t * 768
        trained.append(6 * (weights * b * t + attention) / seconds)

        left, right = torch.randn(b * t, 768), torch.randn(3072, 768)
        products = []
        for _ in range(10):
            start = time.perf_counter()
            torch.nn.functional.linear(left, right)
            products.append(2 * b * t * 768 * 3072 / (time.perf_counter() - start))
        limit.append(median(products))
    used = trained[2:]  # the first ones warm up
    result = {"train": median(used) / 1e9, "gemm": median(limit[2:]) / 1e9}
    result["share"] = median(a / b for a, b in zip(used, limit[2:], strict=True))
    print(json.dumps(result))


if __name__ == "__main__":
    main(int(sys.argv[1]))
