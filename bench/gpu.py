"""The report's setting on a GPU: bert-base, all of it trained, at MOSEI's size; five minutes.

It needs neither a network nor data: frames and labels are random, of simulated lengths, and so are
the weights of the encoder. PyTorch 2.11 or newer does. `--trial` tries it without a GPU.

equality: the largest difference of a prediction from that of the CPU, after one epoch of each
network on a few utterances, without dropout, whose random numbers are others there. In `float32`,
where it must not exceed TOLERANCE, and with products in `tf32`, the default on a GPU.
epochs: seconds of an epoch on a share of the training utterances, as measured, and for all of them,
extrapolated; `busy`: the share of that time in which the GPU computes or copies; peak memory.
gemm: of the forward and backward pass of bert-base, FLOP/s and share of a plain product's.
tables_2_to_6_seconds: of one seed of all runs, by `msabench estimate`.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from bench import harness, trees
from bench.harness import ROOT

TOLERANCE = 0.01  # of a label in -3..3
NETWORKS = ("ours", "self_mm", "cnn")  # of Table 6
PRECISIONS = ("float32", "bfloat16")
FEW = {"train": 48, "valid": 16, "test": 16}
MOST = {"text": 20, "audio": 30, "vision": 30}  # steps of those
WIDTHS, WIDTH = {"audio": 74, "vision": 35}, 768
TINY = {
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "intermediate_size": 128,
}


def measure(folder: Path, *, share: float = 1 / 16) -> dict[str, Any]:
    import torch

    from bench.encoder_case import random_text
    from msabench import plan
    from msabench.estimation import estimate, sizes

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not harness.trial:
        sys.exit("error: no GPU here; --trial measures on the CPU and records nothing")
    tiny, base = write_encoder(folder / "tiny", **TINY), write_encoder(folder / "base")
    figures: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "torch": torch.__version__,
        "tolerance": TOLERANCE,
        "equality": equality(tiny, device, folder),
    }
    print(figures, flush=True)
    worst = max(difference["float32"] for difference in figures["equality"].values())
    if worst > TOLERANCE:
        sys.exit(f"error: a prediction differs by {worst} from the CPU's; permitted: {TOLERANCE}")

    params = settings(folder, base, device, "mosei")
    runs = plan.runs_of(params)
    known = sizes.measure(params.datasets["mosei"], {}, plan.encoder(params), params.max_tokens)
    figures["utterances"] = known.utterances
    figures["epochs"] = {
        f"{name}_{precision}": epoch(runs[name].config, known, precision, share, folder)
        for name in NETWORKS
        for precision in PRECISIONS
    }
    print(figures["epochs"], flush=True)
    random_text(known.lengths["train"]["text"]).save(folder / "data/features/train", "tokens")
    figures["gemm"] = {
        precision: trees.script(folder, "bench.gemm", 1, device, precision).result
        for precision in PRECISIONS
    }
    gpus = ["0"] if device == "cuda" else []
    rows = estimate.estimate(params, plan.resolve(params, runs), known, 1, gpus)
    figures["tables_2_to_6_seconds"] = round(estimate.total(rows, 1).work)
    return figures


def write_encoder(folder: Path, **sizes: Any) -> Path:
    """Save a BERT with random weights, by default of base size, that knows the simulated words."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    from msabench.data.sources import simulated

    torch.manual_seed(1)
    texts = simulated.simulate(train=200, valid=1, test=1)["train"]["raw_text"]
    words = sorted({word for text in texts for word in text.lower().split()})
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    BertModel(BertConfig(**sizes)).save_pretrained(folder)
    vocabulary = {word: number for number, word in enumerate([*special, *words])}
    BertTokenizer(vocab=vocabulary).save_pretrained(folder)
    return folder.resolve()


def settings(folder: Path, encoder: Path, device: str, dataset: str, **changes: Any) -> Any:
    """Return the settings of params.yaml for an encoder and a data set, with one seed."""
    from msabench import params

    yaml = YAML()
    content = yaml.load(ROOT / "params.yaml")
    content |= {"dataset": dataset, "text_encoder": str(encoder), "device": device, "seeds": [1]}
    yaml.dump(content | changes, folder / "params.yaml")
    return params.load(folder / "params.yaml")


def equality(encoder: Path, device: str, folder: Path) -> dict[str, dict[str, float]]:
    """Train each network of params.yaml on both devices; return how their predictions differ."""
    from msabench import models, plan
    from msabench.networks import torch_settings

    blocks = YAML(typ="safe").load(ROOT / "params.yaml")["models"]
    named = [name for name, block in blocks.items() if not {"like", "model"} & block.keys()]
    networks = [name for name in named if models.is_network(name)]
    runs = plan.runs_of(settings(folder, encoder, device, "simulated", compare=networks))
    rng = np.random.default_rng(1)
    differences: dict[str, dict[str, float]] = {}
    lengths = {
        split: {name: rng.integers(3, most, count) for name, most in MOST.items()}
        for split, count in FEW.items()
    }
    for name in networks:
        config = without_dropout(runs[name].config)
        torch_settings.configure({**config, "arithmetic": "native"})
        on_cpu = predictions(config, lengths, "cpu", folder)
        differences[name] = {}
        for kind in ("float32", "tf32"):
            with tf32(kind == "tf32"):
                on_device = predictions(config, lengths, device, folder)
            differences[name][kind] = round(float(np.abs(on_device - on_cpu).max()), 6)
        print(name, differences[name], flush=True)
    return differences


def without_dropout(config: Any) -> Any:
    """Return settings in which every rate of dropout, also of a modality or a task, is 0."""
    if not isinstance(config, Mapping):
        return config

    def zero(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: zero(of) for name, of in value.items()}
        return 0.0

    return {
        name: zero(value) if "dropout" in name else without_dropout(value)
        for name, value in config.items()
    }


@contextmanager
def tf32(permitted: bool) -> Iterator[None]:
    """Permit TF32 in products, convolutions and LSTMs, or none of them."""
    import torch

    cudnn: Any = torch.backends.cudnn
    backends: list[Any] = [torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn]
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "tf32" if permitted else "ieee"
    try:
        yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision


def shapes_of(
    config: Mapping[str, Any],
    lengths: Mapping[str, Mapping[str, Any]],
    widths: Mapping[str, int],
) -> Any:
    """Return splits of these lengths as a run reads them; widths: of the text its encoder's."""
    from msabench.estimation.measure import Shapes, without_values

    tokens = config["encoder"]["trainable_layers"] == "all"
    own_widths = {name: widths[name] for name in config["modalities"]}
    own_widths["text"] = 0 if tokens else own_widths["text"]
    splits = {}
    for split, own in lengths.items():
        read = {name: own[name] for name in config["modalities"]}
        read["text"] = read["text"] if tokens else np.ones_like(read["text"])  # one vector
        splits[split] = without_values(read, own_widths)
    return Shapes(splits, (-3.0, 3.0), np.random.default_rng(0))


def predictions(
    config: Mapping[str, Any], lengths: Mapping[str, Any], device: Any, folder: Path
) -> np.ndarray:
    """Train an epoch with one seed, and predict the utterances of test."""
    from msabench import models

    shapes = shapes_of(config, lengths, {"text": TINY["hidden_size"], **WIDTHS})
    train, valid, test = (shapes.sample(split, np.arange(count)) for split, count in FEW.items())
    schedule = {**config["schedule"], "epochs": 1}
    regressor: Any = models.build({**config, "schedule": schedule}, train.widths, device)
    with TemporaryDirectory(dir=folder) as scratch:
        regressor.fit(train, valid, seed=1, scratch=Path(scratch))
    return regressor.predict(test)


def epoch(
    config: Mapping[str, Any], sizes: Any, precision: str, share: float, folder: Path
) -> dict[str, float]:
    """Measure an epoch of a network on a share of the training utterances."""
    import torch

    from msabench import models
    from msabench.estimation.measure import second_epoch
    from msabench.networks import torch_settings

    torch_settings.configure({**config, "arithmetic": "native", "precision": precision})
    lengths = {"train": sizes.lengths["train"]}
    shapes = shapes_of(config, lengths, {"text": WIDTH, **sizes.widths})
    count = sizes.utterances["train"]
    trained = max(round(share * count), 1)
    sample = shapes.sample("train", np.random.default_rng(1).permutation(count)[:trained])
    schedule = {**config["schedule"], "epochs": 2, "patience": 2}
    regressor: Any = models.build({**config, "schedule": schedule}, sample.widths, config["device"])
    with TemporaryDirectory(dir=folder) as scratch:
        seconds = second_epoch(regressor, sample, Path(scratch) / "timed")
        figures = {
            "utterances": trained,
            "measured_seconds": round(seconds, 3),
            "extrapolated_seconds": round(seconds * count / trained, 1),
        }
        if regressor.device.type == "cuda":
            figures["peak_gigabytes"] = round(torch.cuda.max_memory_reserved() / 1e9, 2)
            figures["busy"] = busy(regressor, sample, Path(scratch) / "profiled", seconds)
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
    return figures


def busy(network: Any, sample: Any, folder: Path, seconds: float) -> float:
    """Return the share of an epoch's seconds in which the GPU computes or copies, by a profile."""
    from torch.profiler import ProfilerActivity, profile

    folder.mkdir()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        network.fit(sample, sample.take([0]), seed=0, scratch=folder)
    total = sum(event.self_device_time_total for event in profiler.key_averages())
    return round(total / 1e6 / 2 / seconds, 3)  # of two epochs
