"""The share of the machine's matrix products that training BERT reaches: prints it as JSON.

    python -m bench.gemm THREADS DEVICE PRECISION

FLOP/s of the forward and backward pass of bert-base, in native arithmetic, on length-bucketed
batches of the texts of this work tree, over those of the plain product in the same precision that
most of the time goes into, (tokens, 768) by (768, 3072), measured between the batches. A
multiplication and an addition are two FLOP; weights count three products (forward, two backward),
attention likewise; what is recomputed does not count.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from transformers import BertConfig, BertModel

from msabench.networks import batches, torch_settings
from msabench.networks.batches import Padded
from msabench.networks.text import TextEncoder
from msabench.utterances import Ragged

BATCH_SIZE, REPEATS, WIDTH, INNER = 32, 16, 768, 3072


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of some work, waiting for the device to end it."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - start


def limit(
    rows: int, width: int, inner: int, device: torch.device, kind: torch.dtype = torch.float32
) -> float:
    """Return the FLOP/s of the plain product (rows, width) by (width, inner), the median of ten."""
    left = torch.randn(rows, width, device=device, dtype=kind)
    right = torch.randn(inner, width, device=device, dtype=kind)

    def product() -> torch.Tensor:
        return torch.nn.functional.linear(left, right)

    return 2 * rows * width * inner / median(timed(product, device) for _ in range(10))


def main(threads: int, name: torch_settings.Device, precision: torch_settings.Precision) -> None:
    config = {"arithmetic": "native", "threads": threads, "device": name, "precision": precision}
    torch_settings.configure(config)
    torch.manual_seed(1)
    device = torch_settings.choose_device(name)
    bert = BertModel(BertConfig(), add_pooling_layer=False)
    layers, embeddings = bert.encoder.layer, bert.embeddings
    encoder = TextEncoder(WIDTH, layers=layers, embeddings=embeddings, pooling="cls")
    encoder.to(device).train()
    weights = sum(p.numel() for p in encoder.layers.parameters() if p.dim() == 2)
    tokens = Ragged.load(Path("data/features/train"), "tokens")
    order = batches.length_bucketed(tokens.lengths, BATCH_SIZE, np.random.default_rng(1))

    trained, limits = [], []
    for number in range(REPEATS):
        text = Padded.of(tokens, order[number % len(order)], device)
        b, t = text.values.shape

        def step(text: Padded = text) -> None:
            encoder(text).sum().backward()

        seconds = timed(step, device)
        attention = 2 * len(layers) * b * t * t * WIDTH
        trained.append(6 * (weights * b * t + attention) / seconds)

        limits.append(limit(b * t, WIDTH, INNER, device, getattr(torch, precision)))
    del trained[:2], limits[:2]  # they warm up
    share = median(a / b for a, b in zip(trained, limits, strict=True))
    gigaflops = {"train": median(trained) / 1e9, "gemm": median(limits) / 1e9}
    print(json.dumps({**gigaflops, "share": share}))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])  # type: ignore[arg-type]
