"""The benchmarks of text encoders and of a GPU: what they count, and tiny runs of them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bench import __main__ as program
from bench import encoders, gpu, harness, trees
from bench.encoder_case import Shape, random_text
from msabench import models, params, plan
from msabench.networks import text
from msabench.networks.batches import Padded

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parents[1]
TINY = {"num_hidden_layers": 3, "hidden_size": 64, "num_attention_heads": 1}


@pytest.fixture(params=encoders.MODELS)
def folder(request, tmp_path):
    return trees.random_encoder(tmp_path / "encoder", request.param, intermediate_size=96, **TINY)


@pytest.mark.parametrize("trained", [0, 2, 3, "all"])
def test_operations_are_those_that_pytorch_counts(folder, trained, tmp_path):
    """Of texts of one length, so that nothing is padded."""
    shape, lengths = Shape.read(folder), np.full(4, 7)
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH):
        if trained == 0:
            settings: Any = {"pooled-mean": (0, "mean")}
            model = text.load_model(str(folder))
            text.encode(model, random_text(lengths), settings, tmp_path, device=CPU)
        else:
            ragged = random_text(lengths, 0 if trained == "all" else shape.width)
            encoder = text.build_encoder(str(folder), trained, "mean", shape.width)
            encoder(Padded.of(ragged, np.arange(4), CPU)).sum().backward()
    assert counter.get_total_flops() == shape.operations(lengths, trained)


def test_dvc_runs_the_stages_with_the_python_of_the_benchmark(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    asked = harness.run("python", "-c", "import sys; print(sys.executable)", cwd=tmp_path)
    assert Path(asked.lines[-1]).parent == Path(sys.executable).parent


@pytest.mark.slow
def test_encoders_are_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(harness, "trial", False)  # restored; the program sets it
    monkeypatch.setattr(encoders, "MODELS", ("mpnet",))
    settings = (("native", "float32", 1), ("native", "bfloat16", 1))
    monkeypatch.setattr(encoders, "SETTINGS", settings)
    sizes = ("--layers", "5", "--width", "64", "--batches", "3")
    command = ["bench", "encoders", "--folder", str(tmp_path / "work"), "--trial", *sizes]
    monkeypatch.setattr(sys, "argv", command)
    recorded = harness.RESULTS.read_bytes()
    program.main()
    assert harness.RESULTS.read_bytes() == recorded
    printed = json.loads("{\n" + capsys.readouterr().out.partition("\n{\n")[2])
    cases = printed["encoders"]["mpnet"]
    exact = {f"{trained}_native_float32_1_threads" for trained in encoders.LAYERS}
    assert set(cases) == exact | {f"{k}_native_bfloat16_1_threads" for k in ("top_4", "all")}
    for name, case in cases.items():
        assert case["gemm_share"] < 1 or "bfloat16" in name
        assert min(case.values()) > 0
    assert printed["base_encoder_peak_gigabytes"] == max(
        case["peak_gigabytes"] for case in cases.values()
    )


ON_A_GPU = """
import json, sys
from pathlib import Path
from bench import gpu
from msabench import plan
from msabench.estimation import sizes
folder = Path(sys.argv[1])
encoder = gpu.write_encoder(folder / "tiny", **gpu.TINY)
equality = gpu.equality(encoder, "cpu", folder)
params = gpu.settings(folder, encoder, "cpu", "mosei")
known = sizes.measure(params.datasets["mosei"], {}, plan.encoder(params), params.max_tokens)
config = plan.runs_of(params)["ours"].config
print(json.dumps([equality, gpu.epoch(config, known, "float32", 0.004, folder)]))
"""


@pytest.mark.slow
def test_what_is_measured_on_a_gpu_is_measured_of_every_network(tmp_path):
    """On the CPU, from which it does not differ there."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", ON_A_GPU, str(tmp_path)]
    printed = subprocess.run(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    equality, epoch = json.loads(printed.splitlines()[-1])
    settings = params.load(ROOT / "params.yaml")
    blocks = [plan.block_of(settings, name)["model"] for name in settings.models]
    assert set(equality) == {name for name in blocks if models.is_network(name)}
    assert all(value == 0 for kinds in equality.values() for value in kinds.values())
    assert epoch["utterances"] == 65
    assert epoch["extrapolated_seconds"] == pytest.approx(
        epoch["measured_seconds"] * 16326 / 65, rel=0.01
    )


def test_no_rate_of_dropout_is_left_in_the_comparison_with_a_gpu():
    config = {"dropout": 0.1, "heads": 4, "of": {"text_dropout": {"text": 0.2, "audio": 0.3}}}
    left = {"dropout": 0.0, "heads": 4, "of": {"text_dropout": {"text": 0.0, "audio": 0.0}}}
    assert gpu.without_dropout(config) == left
