"""The loop by hand: accumulation, early stopping, validation, checkpoints, weight decay."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from msabench.errors import ProcessError
from msabench.networks import torch_settings
from msabench.networks.batches import Batch
from msabench.training import checkpoints, loop
from msabench.training.loop import NetworkRegressor, write_history
from msabench.training.network import Network, Phase
from msabench.training.schedule import AdamW, Schedule
from msabench.utterances import Ragged, Utterances

ROOT = Path(__file__).resolve().parents[1]


def utterances(labels):
    """One frame of two features each, a function of the row alone."""
    n = len(labels)
    frames = np.random.default_rng(0).normal(size=(n, 1, 2)).astype(np.float32)
    return Utterances(
        ids=[f"video{i}$_$0" for i in range(n)],
        texts=[""] * n,
        labels=np.array(labels, dtype=np.float32),
        sequences={"audio": Ragged.of(list(frames))},
    )


class Line(Network):
    """A linear map of the first frame, trained on the sum of squared errors."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 1)

    def forward(self, batch):
        return self.linear(batch.sequences["audio"].values[:, 0]).squeeze(1)

    def training_loss(self, batch, *_):
        return (self(batch) - batch.labels).square().sum()


class Given(Network):
    """A network whose error in each epoch is given: it predicts errors[epoch - 1] everywhere.

    Made for labels of zero. Its weight `value` changes without a gradient.
    """

    def __init__(self, errors):
        super().__init__()
        self.errors = errors
        self.value = nn.Parameter(torch.tensor(0.0))
        self.idle = nn.Parameter(torch.tensor(1.0))

    def forward(self, batch):
        return self.value.expand(len(batch.labels))

    def training_loss(self, batch, epoch):
        with torch.no_grad():
            self.value.fill_(self.errors[epoch - 1])
        return 0.0 * self.idle * batch.labels.sum()


OPTIMIZER = AdamW(lr=0.01, bert_lr=1.0, weight_decay=0.1)


def schedule(**changes):
    return Schedule(**{"batch_size": 4, "epochs": 3, "patience": 9} | changes)


def fit(build, data, scratch, seed=1, valid=None, optimizer=OPTIMIZER, **changes):
    regressor = NetworkRegressor(build, optimizer, schedule(**changes))
    history = regressor.fit(data, valid or data, seed=seed, scratch=scratch)
    return regressor, history


@pytest.fixture
def in_order(monkeypatch):
    """Batches in the order of the data."""

    def cut(lengths, batch_size, rng):  # noqa: ARG001
        rows = np.arange(len(lengths))
        return [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]

    monkeypatch.setattr(loop, "length_bucketed", cut)


@pytest.fixture
def steps():
    """Of each step of an optimizer, its groups: name, rate, and the gradients of their weights."""
    taken: list[list[dict[str, Any]]] = []

    def record(optimizer, *_):
        taken.append(
            [
                {
                    "name": group["name"],
                    "lr": group["lr"],
                    "gradients": [w.grad.clone() for w in group["params"] if w.grad is not None],
                }
                for group in optimizer.param_groups
            ]
        )

    handle = register_optimizer_step_pre_hook(record)
    yield taken
    handle.remove()


LABELS = np.linspace(-3, 3, 32)


@pytest.mark.usefixtures("in_order")
def test_four_accumulated_batches_are_one_large_one(tmp_path):
    """For a sum over utterances, gradients add up: the same steps, the same weights."""
    data = utterances(LABELS)
    small, history = fit(Line, data, tmp_path / "small", batch_size=4, accumulate=4)
    large, expected = fit(Line, data, tmp_path / "large", batch_size=16)
    torch.testing.assert_close(small.network.state_dict(), large.network.state_dict())
    for row, other in zip(history, expected, strict=True):
        assert row["valid_mae"] == pytest.approx(other["valid_mae"], rel=1e-5)


@pytest.mark.parametrize(
    ("decay", "factors"), [("none", [1, 1, 1, 1]), ("linear", [0.875, 0.625, 0.375, 0.125])]
)
def test_learning_rate_schedule(decay, factors, tmp_path, steps):
    """Two epochs of four batches, a step every second: the rate of each step by hand."""
    fit(Line, utterances(np.arange(16)), tmp_path, epochs=2, accumulate=2, decay=decay)
    rates = [[group["lr"] for group in groups] for groups in steps]
    np.testing.assert_allclose(rates, [[OPTIMIZER.lr * factor] for factor in factors])


@pytest.mark.usefixtures("in_order")
@pytest.mark.parametrize(("batches", "used"), [(7, 4), (8, 8), (9, 8)])
def test_an_incomplete_group_is_dropped_or_kept(batches, used, tmp_path):
    """Dropped: as if the last batches were not there. Kept: a step like every other."""
    data = utterances(LABELS[:18] if batches == 9 else LABELS[: 2 * batches])
    group = {"batch_size": 2, "accumulate": 4, "epochs": 1}
    dropped, _ = fit(Line, data, tmp_path / "dropped", drop_incomplete=True, **group)
    kept, _ = fit(Line, data, tmp_path / "kept", **group)
    first = data.take(np.arange(2 * used))
    without, _ = fit(Line, first, tmp_path / "without", **group)
    after_drop, expected = (
        dict(fitted.network.named_parameters()) for fitted in (dropped, without)
    )
    torch.testing.assert_close(after_drop, expected, rtol=0, atol=0)
    same = torch.equal(kept.network.linear.weight, without.network.linear.weight)
    assert same == (used == batches)


@pytest.mark.parametrize(
    ("errors", "changes", "epochs", "best"),
    [
        ([4, 3, 2, 1], {"epochs": 4}, 4, 4),
        ([4, 3, 2, 1], {"epochs": 2}, 2, 2),
        ([3, 2, 4, 4, 1], {"patience": 2}, 4, 2),
        ([3, 2, 4, 1, 4, 4, 4], {"patience": 2}, 6, 4),
        ([2, 2, 2, 2], {"patience": 1}, 2, 1),  # an equal loss is no improvement
        ([3, 2.75, 2.5, 2.25], {"patience": 2, "minimum_improvement": 0.25}, 4, 4),
        ([3, 2.5, 2.25, 2.25], {"patience": 2, "minimum_improvement": 0.25}, 4, 3),
        ([3, 2.875, 2.875, 2.75], {"patience": 2, "minimum_improvement": 0.25}, 3, 1),
        ([3, 2.875, 2.8125, 2.625], {"patience": 9, "minimum_improvement": 0.25}, 4, 4),
    ],
)
def test_early_stopping(errors, changes, epochs, best, tmp_path):
    """Improvements are measured against the best epoch; its weights are kept."""
    data = utterances(np.zeros(4))
    changes = {"epochs": len(errors)} | changes
    regressor, history = fit(lambda: Given(errors), data, tmp_path, **changes)
    assert [row["valid_loss"] for row in history] == errors[:epochs]
    assert [row["epoch"] for row in history] == list(range(1, epochs + 1))
    assert regressor.network.value.item() == errors[best - 1]


@pytest.mark.usefixtures("in_order")
@pytest.mark.parametrize("kind", ["value", "norm"])
def test_gradients_are_clipped_after_every_batch(kind, tmp_path, steps):
    """Those accumulated so far: of the first batch, then of its clipped ones with the second's."""
    data, limit = utterances(LABELS[:8]), 0.5
    fit(Line, data, tmp_path, accumulate=2, epochs=1, clip={"kind": kind, "limit": limit})
    torch.manual_seed(1)
    network = Line()
    network.fit_statistics(data)
    expected = [torch.zeros_like(weight) for weight in network.parameters()]
    for rows in np.arange(8).reshape(2, 4):
        loss = network.training_loss(Batch.of(data, rows, torch.device("cpu")))
        sums = zip(expected, torch.autograd.grad(loss, list(network.parameters())), strict=True)
        accumulated = [before + gradient for before, gradient in sums]
        size = torch.cat([gradient.flatten() for gradient in accumulated]).norm()
        assert size > 2 * limit
        expected = [
            gradient.clamp(-limit, limit) if kind == "value" else gradient * limit / size
            for gradient in accumulated
        ]
    ((group,),) = steps
    torch.testing.assert_close(group["gradients"], expected)


class TwoPhases(Line):
    """Half of the batches move the bias by a loss of 10, then all of them the weights, by 1."""

    def __init__(self):
        super().__init__()
        self.events = []

    def begin_epoch(self):
        self.events.append("begin")

    def phases(self):
        def of(name, size, share):
            def loss(batch, epoch):
                self.events.append((name, len(batch.labels)))
                return self.training_loss(batch, epoch) * 0 + self(batch).sum() * 0 + size

            return Phase(loss, share, frozenset({name}))

        return [of("bias", 10.0, 0.5), of("weight", 1.0, 1.0)]

    def parameter_groups(self, settings):
        (group,) = super().parameter_groups(settings)
        bias, weight = self.linear.bias, self.linear.weight
        return [
            group | {"name": "bias", "params": [bias], "scheduled": False},
            group | {"name": "weight", "params": [weight]},
        ]


@pytest.mark.usefixtures("in_order")
def test_phases_pass_over_their_share_and_move_their_groups(tmp_path, steps):
    """Five batches of 4, 4, 4, 4 and 2; the mean loss is that of the last phase."""
    regressor, history = fit(
        TwoPhases, utterances(LABELS[:18]), tmp_path, epochs=2, accumulate=2, decay="linear"
    )
    first = ["begin", *[("bias", 4)] * 3, *[("weight", 4)] * 4, ("weight", 2)]
    assert regressor.network.events == first * 2
    moved = [(of["name"], of["lr"]) for groups in steps for of in groups if of["gradients"]]
    assert [name for name, _ in moved] == ["bias", "bias", "weight", "weight", "weight"] * 2
    rates = {name: {rate for other, rate in moved if other == name} for name in ("bias", "weight")}
    assert rates["bias"] == {OPTIMIZER.lr}  # spared by the schedule
    assert len(rates["weight"]) == 6
    assert history[0]["train_loss"] == pytest.approx(1.0)


def test_rates_fall_on_a_plateau_of_the_validation_loss(tmp_path, steps):
    """From the epoch after the second one without improvement."""
    errors = [3.0, 3.0, 3.0, 2.0, 2.0]
    decay = {"factor": 0.5, "patience": 1}
    fit(lambda: Given(errors), utterances(np.zeros(4)), tmp_path, epochs=5, decay=decay)
    rates = [groups[0]["lr"] for groups in steps]
    assert rates == pytest.approx([0.01, 0.01, 0.01, 0.005, 0.005])


def test_a_loss_that_couples_utterances_is_refused_by_several_processes(tmp_path, monkeypatch):
    class Coupled(Line):
        couples_utterances = True

    data, regressor = utterances(LABELS), NetworkRegressor(Coupled, OPTIMIZER, schedule())
    monkeypatch.setattr(loop.parallel, "is_distributed", lambda: True)
    with pytest.raises(ProcessError, match=r"^Coupled: its loss couples .*; permitted: one proc"):
        regressor.fit(data, data, seed=1, scratch=tmp_path)


def test_mean_of_batches(tmp_path):
    """Of errors 0, 0, 3 in batches of two, one is last: means 1.5 or 0.75, while the MAE is 1."""
    data = utterances([0.0, 0.0, 3.0])
    epochs = {"epochs": 12, "patience": 12, "batch_size": 2}
    constant = Given([0.0] * 12)
    _, by_batch = fit(
        lambda: constant, data, tmp_path / "a", validation_loss="mean_of_batches", **epochs
    )
    _, by_utterance = fit(lambda: constant, data, tmp_path / "b", **epochs)
    _, squared = fit(
        lambda: constant, data, tmp_path / "c", validation_loss="mse_of_batches", **epochs
    )
    assert {row["valid_loss"] for row in squared} == {4.5, 2.25}
    assert {row["valid_loss"] for row in by_batch} == {1.5, 0.75}
    assert {row["valid_loss"] for row in by_utterance} == {1.0}
    assert {row["valid_mae"] for row in by_batch + by_utterance} == {1.0}


def test_the_mean_of_batches_is_rounded_as_published(tmp_path):
    _, history = fit(
        lambda: Given([1 / 3]),
        utterances([0.0] * 4),
        tmp_path,
        epochs=1,
        validation_loss="mean_of_batches",
    )
    assert history[0]["valid_loss"] == 0.3333


def test_the_best_epoch_is_that_of_the_validation_loss():
    rows = [
        {"epoch": 1, "valid_loss": 2.0, "valid_mae": 1.0},
        {"epoch": 2, "valid_loss": 1.0, "valid_mae": 2.0},
    ]
    assert NetworkRegressor(Line, OPTIMIZER, schedule())._best_epoch(rows) == 2


def test_train_loss_is_the_mean_per_utterance(tmp_path):
    """A short last batch weighs as many utterances as it has."""

    class Fixed(Line):
        def training_loss(self, batch, epoch):
            return super().training_loss(batch, epoch) * 0 + batch.labels.mean()

    _, history = fit(Fixed, utterances([1.0, 2.0, 3.0, 0.0, 0.5]), tmp_path, epochs=1)
    assert history[0]["train_loss"] == pytest.approx(1.3)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite(value, tmp_path, monkeypatch):
    """The run fails and names epoch and batch; the checkpoint before is good."""
    monkeypatch.setenv(checkpoints.SECONDS, "0")

    class Failing(Line):
        def training_loss(self, batch, epoch):
            return super().training_loss(batch, epoch) * (value if epoch == 2 else 1.0)

    with pytest.raises(FloatingPointError, match=f"epoch 2, batch 1 of 8: the loss is {value}; "):
        fit(Failing, utterances(LABELS), tmp_path)
    _, resumed = fit(Line, utterances(LABELS), tmp_path)
    _, whole = fit(Line, utterances(LABELS), tmp_path / "whole")
    assert resumed == whole


@pytest.mark.usefixtures("in_order")
@pytest.mark.parametrize(
    ("spoil", "blamed"),
    [
        (lambda data: data.sequences["audio"].values.__setitem__((9, 0, 1), np.inf), "audio of"),
        (lambda data: data.labels.__setitem__(9, np.nan), "the label of"),
    ],
)
def test_the_offending_input_is_named(spoil, blamed, tmp_path):
    data = utterances(LABELS)
    data.sequences["audio"].values.shape = (32, 1, 2)
    spoil(data)
    with pytest.raises(FloatingPointError, match=rf"batch 3 of 8: .*{blamed} video9\$_\$0 "):
        fit(Line, data, tmp_path)


def test_finite_inputs_say_that_the_weights_have_diverged(tmp_path):
    steep = AdamW(lr=1e38, bert_lr=1.0, weight_decay=0.1)
    with pytest.raises(FloatingPointError, match=r"4 of 4 predictions.*a smaller learning rate"):
        fit(Line, utterances(LABELS), tmp_path, optimizer=steep)


def test_a_loss_alone_that_is_not_finite_blames_no_utterance(tmp_path):
    class Lost(Line):
        def training_loss(self, batch, epoch):
            return super().training_loss(batch, epoch) * float("nan")

    message = r"batch 1 of 8: the loss is nan; the inputs and predictions of its 4 utterances are f"
    with pytest.raises(FloatingPointError, match=message):
        fit(Lost, utterances(LABELS), tmp_path)


def test_predictions_on_valid_that_are_not_finite(tmp_path):
    """They would be no worse than the best: a comparison with NaN is never true."""
    data = utterances(np.zeros(4))
    with pytest.raises(
        FloatingPointError, match=r"epoch 2: not all predictions on valid.*of video0\$"
    ):
        fit(lambda: Given([1.0, float("nan")]), data, tmp_path, epochs=2)


def test_without_memory_the_error_names_a_batch_size_to_try(tmp_path):
    """A batch larger than any memory, asked for by the network."""

    class Large(Line):
        def training_loss(self, batch, epoch):
            return super().training_loss(batch, epoch) + torch.empty(2**60).sum()

    with pytest.raises(MemoryError, match=r"^out of memory with batch_size 4; try 2$"):
        fit(Large, utterances(LABELS), tmp_path)


def test_other_errors_are_not_taken_for_want_of_memory(tmp_path):
    class Broken(Line):
        def training_loss(self, batch, epoch):
            raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match=r"^shapes differ$"):
        fit(Broken, utterances(LABELS), tmp_path)


@pytest.mark.parametrize("decoupled", [True, False])
def test_weight_decay(decoupled, tmp_path):
    """Without a gradient, AdamW shrinks a weight by lr * decay; Adam steps by lr all the same."""

    class Idle(Line):
        def training_loss(self, batch, epoch):
            return super().training_loss(batch, epoch) * 0

        def parameter_groups(self, settings):
            groups = super().parameter_groups(settings)
            return [{**group, "decoupled_weight_decay": decoupled} for group in groups]

    regressor, _ = fit(Idle, utterances([0.0] * 4), tmp_path, epochs=1)
    torch.manual_seed(1)
    before, after = Line().linear.weight, regressor.network.linear.weight
    expected = before * (1 - 0.01 * 0.1) if decoupled else before - 0.01 * before.sign()
    torch.testing.assert_close(after, expected, rtol=0, atol=1e-6)


def test_the_groups_of_a_network_decay_decoupled():
    """AdamW unless a network says otherwise; a network without encoder has one group."""
    (group,) = Line().parameter_groups(OPTIMIZER)
    assert group["decoupled_weight_decay"] is True
    assert (group["lr"], group["weight_decay"], len(group["params"])) == (0.01, 0.1, 2)


def test_prediction_without_weights():
    with pytest.raises(RuntimeError, match="call fit or load first"):
        NetworkRegressor(Line).predict(utterances([0.0]))


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"patience": 0}, {"batch_size": "4"}, {"lr": 1}])
def test_wrong_schedule(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        schedule(**wrong)


def test_write_history(tmp_path):
    path = tmp_path / "history.csv"
    write_history(path, [])
    assert not path.exists()
    write_history(path, [{"epoch": 1, "valid_mae": 0.5}, {"epoch": 2, "valid_mae": 0.25}])
    assert path.read_bytes() == b"epoch,valid_mae\n1,0.5\n2,0.25\n"
    write_history(path, [{"epoch": 1, "shift_ratio_text": float("nan")}])
    assert path.read_bytes() == b"epoch,shift_ratio_text\n1,\n"


@pytest.mark.parametrize(
    ("able", "expected"),
    [
        ({"cpu_name": "AMD EPYC 9R14", "avx512_f": True, "amx_tile": False}, True),
        ({"cpu_name": "AMD EPYC 7R13", "avx512_f": False}, False),
        ({"cpu_name": "AMD of tomorrow", "avx512_f": True, "amx_tile": True}, False),
        ({"cpu_name": "Intel Xeon", "avx512_f": True, "amx_tile": False}, False),
        ({}, False),
    ],
)
def test_prefers_onednn_where_it_is_exact_and_faster(monkeypatch, able, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert torch_settings._prefers_onednn() is expected


@pytest.mark.parametrize(
    ("able", "words"),
    [({"cpu_name": "AMD EPYC 9R14"}, "cpu AMD EPYC 9R14 AVX512"), ({}, "cpu AVX512")],
)
def test_a_machine_is_its_processor_and_instructions(monkeypatch, able, words):
    """Each decides the last digits, so none resumes from a native checkpoint of another."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert torch_settings.machine("cpu") == words
    assert torch_settings.identity("cpu") == f"{words}, native"


def run_apart(program):
    """Run a program in a process of its own, all of which `configure` changes."""
    lines = f"from msabench.networks import torch_settings\nimport torch\n{program}"
    environment = os.environ | {"PYTHONPATH": "src"}
    subprocess.run([sys.executable, "-c", lines], cwd=ROOT, env=environment, check=True)


@pytest.mark.parametrize("by_onednn", [True, False])
def test_with_onednn_attention_is_no_many_small_products(by_onednn):
    run_apart(f"""
torch_settings._prefers_onednn = lambda: {by_onednn}
torch_settings.configure({{"arithmetic": "native", "device": "cpu", "threads": 1}})
assert (torch.backends.mkldnn.matmul.fp32_precision == "bf16") is {by_onednn}
assert torch.backends.cuda.flash_sdp_enabled() is not {by_onednn}
""")


@pytest.mark.parametrize("setting", ["auto", "native"])
def test_products_are_those_of_float32(setting):
    """Whatever the processor: on some, the fastest product rounds its factors to bfloat16."""
    run_apart(f"""
torch_settings.configure({{"arithmetic": "{setting}", "device": "cpu", "threads": 1}})
left, right = torch.randn(2, 300, 400)
exact = left.double() @ right.double().T
assert (left @ right.T - exact).abs().max() < 1e-4 * exact.abs().max()
""")


@pytest.mark.parametrize(
    ("able", "expected"),
    [
        ({"architecture": "x86_64", "avx512_bf16": True, "amx_bf16": False}, True),
        ({"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": True}, True),
        ({"architecture": "x86_64", "avx512_f": True, "avx512_bf16": False}, False),
        ({"architecture": "aarch64"}, True),
        ({}, True),
    ],
)
def test_which_processors_multiply_bfloat16(monkeypatch, able, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert torch_settings._has_bfloat16() is expected


@pytest.mark.parametrize("able", [True, False])
def test_bfloat16_is_multiplied_in_float32_where_the_processor_cannot(able):
    """The sum has float32's digits and is rounded once; other types and errors are PyTorch's."""
    run_apart(f"""
from collections import Counter
from msabench.networks import kernels
def counted(name, kernel):
    def product(*tensors, **factors):
        calls[name] += 1
        return kernel(*tensors, **factors)
    return product
calls = Counter()
for name, kernel in kernels.BFLOAT16.items():
    kernels.BFLOAT16[name] = counted(name, kernel)
torch_settings._has_bfloat16 = lambda: {able}
config = {{"arithmetic": "native", "precision": "bfloat16", "device": "cpu", "threads": 1}}
torch_settings.configure(config)
left, right = torch.randn(2, 3, 20, 400).bfloat16()
addend = torch.randn(3, 20, 20).bfloat16()
exact = left.double() @ right.double().mT
for product, expected in (
    (left[0] @ right[0].T, exact[0]),
    (left @ right.mT, exact),
    (torch.addmm(addend[0], left[0], right[0].T), addend[0] + exact[0]),
    (torch.baddbmm(addend, left, right.mT, beta=0.5, alpha=2), 0.5 * addend + 2 * exact),
):
    assert product.dtype == torch.bfloat16
    torch.testing.assert_close(product.double(), expected, rtol=2**-8, atol=1e-3)
assert (left[0].float() @ right[0].float().T).dtype == torch.float32
with torch.autocast("cpu", torch.bfloat16):
    layer, values = torch.nn.Linear(400, 5), torch.randn(4, 400, requires_grad=True)
    layer(values).sum().backward()
assert values.grad.dtype == torch.float32 and values.grad.any()
assert set(calls) == {set() if able else {"mm", "bmm", "addmm", "baddbmm"}}
assert not torch.backends.mha.get_fastpath_enabled()
try:
    torch.mm(left[0], right[0])
except RuntimeError as error:
    assert "cannot be multiplied" in str(error)
else:
    raise AssertionError
""")
