"""The benchmark of text encoders: what it counts, and a tiny run of the whole program."""

import json
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bench import __main__ as program
from bench import encoders, harness, trees
from bench.encoder_case import Shape, random_text
from msabench.networks import text
from msabench.networks.batches import Padded

CPU = torch.device("cpu")
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
