"""Hashes of what portable arithmetic computes, which are the same on every x86-64 processor:

    python -m tests.same_bytes kernels     single kernels, forward and backward, and the settings
    python -m tests.same_bytes pipeline    a small default run: two steps of each network, each file

tests/golden/ holds what they print; `test_same_bytes.py` compares. A new version of PyTorch, NumPy
or scikit-learn may change it, and then the recorded default run as well.
"""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import stages  # noqa: F401  before NumPy

# isort: split
import numpy as np
import torch
from ruamel.yaml import YAML
from sklearn.metrics.pairwise import rbf_kernel
from threadpoolctl import threadpool_info
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import optimizer as optimizers

from msabench import arithmetic
from msabench.evaluation import statistics
from msabench.evaluation.metrics import corr
from msabench.networks import torch_settings
from msabench.plan import SUBSETS
from stages import download, features, plan, prepare, train

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = {"arithmetic": "portable", "device": "cpu", "threads": 1}
Lines = Iterator[tuple[str, str]]


def digest(*arrays: Any) -> str:
    """Return the hash of the values of arrays or tensors."""
    result = hashlib.sha256()
    for array in arrays:
        values = array.detach().numpy() if isinstance(array, Tensor) else np.asarray(array)
        result.update(np.ascontiguousarray(values).tobytes())
    return result.hexdigest()[:16]


def given(*shape: int, kind: str = "float32", low: float = -4.0) -> np.ndarray:
    """Return numbers in low..4 that no kernel has a part in: whole ones, over a power of two."""
    rng = np.random.default_rng(len(shape) + sum(shape))
    whole = rng.integers(int(low * 2**20), 4 * 2**20, size=shape)
    return np.asarray(whole / 2.0**20).astype(kind)


def kernels() -> Lines:
    """Yield the settings, then the hash of what each kernel returns, gradients included."""
    torch_settings.configure(SETTINGS)
    yield from _settings()
    torch.manual_seed(1)
    yield "torch.randn", digest(torch.randn(1000))
    yield "torch.bernoulli", digest(F.dropout(torch.ones(1000), 0.1))
    yield "torch.randperm", digest(torch.randperm(1000))
    for name, function, shapes in _of_pytorch():
        for kind in ("float32", "float64"):
            inputs = [torch.from_numpy(given(*s, kind=kind)).requires_grad_() for s in shapes]
            out = function(*inputs)
            out.backward(torch.from_numpy(given(*out.shape)).to(out.dtype))
            shown = " ".join("x".join(map(str, shape)) for shape in shapes)
            yield f"{name} {kind} {shown}", digest(out, *(i.grad for i in inputs))
    for name, module, shape in _modules():
        values = torch.from_numpy(given(*shape)).requires_grad_()
        for weight in module.parameters():
            weight.data = torch.from_numpy(given(*weight.shape)) / 16
        out = module(values)
        out = out[0] if isinstance(out, tuple) else out
        out.backward(torch.from_numpy(given(*out.shape)))
        gradients = [weight.grad for weight in module.parameters() if weight.grad is not None]
        yield f"{name} {'x'.join(map(str, shape))}", digest(out, values.grad, *gradients)
    yield "Adam, fused", digest(*_adam())
    yield from _of_numpy()


def _settings() -> Lines:
    for name in (*arithmetic.NUMPY, *arithmetic.PYTORCH):
        yield name, os.environ[name]
    libraries = {
        (one["architecture"], one["num_threads"])
        for one in threadpool_info()
        if one["user_api"] == "blas"
    }
    yield "OpenBLAS", ", ".join(f"{core} x {threads}" for core, threads in sorted(libraries))
    yield "NumPy", " ".join(np.show_config(mode="dicts")["SIMD Extensions"]["found"])
    yield "ATen", torch.backends.cpu.get_cpu_capability()
    yield "flash attention", str(torch.backends.cuda.flash_sdp_enabled())
    yield "fused encoder layer", str(torch.backends.mha.get_fastpath_enabled())


def _of_pytorch() -> Iterator[tuple[str, Callable[..., Tensor], tuple[tuple[int, ...], ...]]]:
    """Yield functions with the shapes of their inputs."""
    sizes = [(3, 5, 2), (1, 128, 128), (64, 224, 32), (40, 400, 24), (50, 2, 70)]
    for m, k, n in sizes:
        yield "mm", torch.mm, ((m, k), (k, n))
        yield "mm, transposed", lambda a, b: torch.mm(a.T, b.T), ((k, m), (n, k))
        scaled = partial(torch.addmm, beta=0.5, alpha=2)
        yield "addmm", scaled, ((n,), (m, k), (k, n))
        yield "linear", F.linear, ((m, k), (n, k), (n,))
        yield "mv", torch.mv, ((m, k), (k,))
    for b, m, k, n in [(1, 4, 8, 4), (12, 25, 32, 25), (8, 50, 16, 50)]:
        yield "bmm", torch.bmm, ((b, m, k), (b, k, n))
        yield "bmm, transposed", lambda x, y: x @ y.transpose(1, 2), ((b, m, k), (b, n, k))
        yield "baddbmm", torch.baddbmm, ((b, 1, n), (b, m, k), (b, k, n))
        yield "attention", F.scaled_dot_product_attention, ((2, b, m, k),) * 3
        mask = torch.from_numpy(given(2, 1, 1, m) > -3)
        masked = partial(F.scaled_dot_product_attention, attn_mask=mask)
        yield "attention, masked", masked, ((2, b, m, k),) * 3
    yield "dot", torch.dot, ((1000,), (1000,))
    for function in (
        *(torch.exp, torch.erf, torch.tanh, torch.sigmoid, torch.sin, torch.logsumexp),
        *(F.silu, F.relu, F.softmax, F.log_softmax, torch.sum, torch.mean),
        *(torch.std, torch.cumsum, F.layer_norm, F.normalize),
    ):
        yield function.__name__, _last_axis(function), ((4, 7),)
        yield function.__name__, _last_axis(function), ((33, 130),)
    yield "gelu", lambda x: F.gelu(x.float()), ((33, 130),)  # that of float64 is the C library's
    yield "log", lambda x: torch.log(x.abs() + 0.125), ((33, 130),)
    yield "sqrt", lambda x: torch.sqrt(x.abs() + 0.125), ((33, 130),)
    yield "pow", lambda x: torch.pow(x.abs() + 0.125, 1.7), ((33, 130),)
    yield "norm", torch.linalg.vector_norm, ((33, 130),)
    yield "l1_loss", F.l1_loss, ((64,), (64,))
    yield "cosine_similarity", F.cosine_similarity, ((64, 40), (64, 40))


def _last_axis(function: Callable[..., Tensor]) -> Callable[[Tensor], Tensor]:
    if function is F.layer_norm:
        return lambda x: function(x, x.shape[-1:])
    of_axis = ("softmax", "log_softmax", "logsumexp", "sum", "mean", "std", "cumsum", "normalize")
    return lambda x: function(x, dim=-1) if function.__name__ in of_axis else function(x)


def _modules() -> Iterator[tuple[str, nn.Module, tuple[int, ...]]]:
    """Yield modules with the shape of their input."""
    for width, hidden in ((5, 16), (74, 32), (128, 64)):
        yield f"LSTM {hidden}", nn.LSTM(width, hidden, batch_first=True), (8, 20, width)
        both = nn.LSTM(width, hidden, batch_first=True, bidirectional=True)
        yield f"LSTM {hidden}, both directions", both, (3, 50, width)
        yield f"GRU {hidden}", nn.GRU(width, hidden, batch_first=True), (8, 20, width)
    for width in (3, 4, 5):
        yield f"convolution of {width}", nn.Conv1d(93, 32, width), (4, 93, 20)
    yield "convolution 3 x 3", nn.Conv2d(3, 16, 3), (4, 3, 20, 20)
    for width in (32, 128):
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True)
        yield "encoder layer", layer, (5, 12, width)
        yield "encoder layer, predicting", layer.eval(), (5, 12, width)


def _adam() -> list[Tensor]:
    weights = [torch.from_numpy(given(*shape)).requires_grad_() for shape in ((7,), (64, 40))]
    for decoupled in (False, True):
        adam = torch.optim.Adam(
            weights, lr=1e-3, weight_decay=0.01, decoupled_weight_decay=decoupled, fused=True
        )
        for step in (1, 2):
            for weight in weights:
                weight.grad = torch.from_numpy(given(*weight.shape)) / step
            adam.step()
    return weights


def _of_numpy() -> Lines:
    """Yield what NumPy computes itself, and exp, log and power, of which glibc's are of 2018."""
    for kind in ("float32", "float64"):
        values, positive = given(1001, kind=kind), given(1001, kind=kind, low=0.125)
        for name in ("exp", "tanh"):
            yield f"np.{name} {kind}", digest(getattr(np, name)(values))
        for name in ("log", "sqrt", "reciprocal"):
            yield f"np.{name} {kind}", digest(getattr(np, name)(positive))
        yield f"np.power {kind}", digest(np.power(positive, values), positive**3)
        for m, k, n in ((3, 5, 2), (64, 224, 32), (60, 493, 50), (1, 300, 7)):
            left, right = given(m, k, kind=kind), given(k, n, kind=kind)
            products = left @ right, left @ left.T, left[0] @ right
            yield f"np.matmul {kind} {m}x{k} {k}x{n}", digest(*products)
        square = given(40, 40, kind=kind) + 40 * np.eye(40, dtype=kind)
        yield f"np.linalg.solve {kind}", digest(np.linalg.solve(square, square[0]))
        yield f"np.linalg.svd {kind}", digest(*np.linalg.svd(square))
        yield f"np.linalg.eigh {kind}", digest(*np.linalg.eigh(square + square.T))
        table = given(77, 130, kind=kind)
        for name in ("sum", "mean", "std"):
            yield f"np.{name} {kind}", digest(getattr(np, name)(table, axis=0))
        yield f"rbf_kernel {kind}", digest(rbf_kernel(given(90, 50, kind=kind), gamma=0.01))
    values = given(2, 500, kind="float64")
    yield "np.corrcoef", digest(np.corrcoef(*values))
    yield "np.percentile", digest(np.percentile(values, [2.5, 97.5]))
    labels, videos = given(90, kind="float64"), [str(i // 3) for i in range(90)]
    models = {
        name: statistics.replicates(corr, labels, given(2, 90 + n, kind="float64")[:, :90], videos)
        for n, name in enumerate("abc")
    }
    yield "statistics.compare", digest(json.dumps(statistics.compare(models, 30)))
    rng = np.random.default_rng(1)
    yield "np.random", digest(rng.normal(size=500), rng.exponential(size=500), rng.permutation(500))


def pipeline() -> Lines:
    """Yield the hash of gradients and weights in each step, then of each file that has numbers."""
    torch_settings.configure(SETTINGS)
    yaml = YAML()
    params = yaml.load(ROOT / "params.yaml")
    params |= SETTINGS | {"seeds": [1], "sweep_seeds": [], "batch_size": 4}
    params["datasets"]["simulated"]["settings"] |= {"train": 8, "valid": 2, "test": 2}
    params["max_tokens"] = 6
    models = params["models"]
    for block in models.values():
        block |= {key: value for key, value in (("epochs", 1), ("batch_size", 4)) if key in block}
    models["self_mm"] |= {"batch_size": 2, "accumulate": 2}
    with TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("src").symlink_to(ROOT / "src")
        yaml.dump(params, Path("params.yaml"))
        plan.main()
        download.main()
        prepare.main()
        yield from _files("data/prepared/*/*.npy")
        features.main()
        yield from _files("data/features/*/*.npy")
        for subset in SUBSETS:
            train.main(f"svm-{subset}", 1)
        yield from _files("predictions/svm-*-1/*.csv")
        steps: list[tuple[str, str]] = []
        _record_steps(steps)
        for name in params["compare"]:
            steps.clear()
            train.main(name, 1)
            yield from ((f"{name}, {what}", result) for what, result in steps)
            yield from _files(f"predictions/{name}-1/*.csv")


def _files(*patterns: str) -> Lines:
    for pattern in patterns:
        for file in sorted(Path().glob(pattern)):
            yield str(file), digest(np.fromfile(file, np.uint8))


def _record_steps(steps: list[tuple[str, str]]) -> None:
    def weights(optimizer: torch.optim.Optimizer) -> list[Tensor]:
        return [weight for group in optimizer.param_groups for weight in group["params"]]

    def before(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        gradients = [weight.grad for weight in weights(optimizer) if weight.grad is not None]
        steps.append((f"step {len(steps) // 2 + 1}, gradients", digest(*gradients)))

    def after(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        steps.append((f"step {len(steps) // 2 + 1}, weights", digest(*weights(optimizer))))

    optimizers.register_optimizer_step_pre_hook(before)
    optimizers.register_optimizer_step_post_hook(after)


if __name__ == "__main__":
    for name, value in {"kernels": kernels, "pipeline": pipeline}[sys.argv[1]]():
        print(f"{name}: {value}", flush=True)
