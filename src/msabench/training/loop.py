"""The one training loop.

A network is given batches and returns predictions; everything else (length bucketing, gradient
accumulation, early stopping, the best weights, resuming) is here, once, for all of them.
"""

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import nn
from tqdm import tqdm

from msabench import errors
from msabench.errors import DataError, ProcessError
from msabench.execution import interruption
from msabench.networks import parallel
from msabench.networks.batches import (
    Batch,
    cost,
    length_bucketed,
    loaded,
    shuffled,
    sorted_by_length,
)
from msabench.networks.torch_settings import Device, choose_device
from msabench.params import Strict
from msabench.training import checkpoints
from msabench.training.checkpoints import Checkpoints, History, Progress
from msabench.training.missing import TrainingData
from msabench.training.network import Network, Phase
from msabench.training.schedule import Clip, Schedule
from msabench.utterances import Utterances

PREDICTION_BATCH_SIZE = 64  # of a network that is loaded without its schedule


class NetworkRegressor:
    """A network with the loop around it: fit, predict, save and load, as every model has them.

    build: makes the untrained network; called after the seed is set. optimizer: of the type that
    the network names. Without optimizer and schedule it predicts, but cannot be trained.
    """

    def __init__(
        self,
        build: Callable[[], Network],
        optimizer: Strict | None = None,
        schedule: Schedule | None = None,
        device: Device = "cpu",
    ) -> None:
        self.build = build
        self.optimizer = optimizer
        self._schedule = schedule
        self.batch_size = schedule.batch_size if schedule else PREDICTION_BATCH_SIZE
        self.device = choose_device(device)
        self.network: Network | None = None

    @property
    def schedule(self) -> Schedule:
        if self._schedule is None:
            raise RuntimeError("a network without optimizer and schedule cannot be trained")
        return self._schedule

    def fit(self, train: Utterances, valid: Utterances, *, seed: int, scratch: Path) -> History:
        """Train until validation stops improving and keep the best epoch's weights.

        Continues from the checkpoint in scratch, if there is one, with the very numbers of an
        uninterrupted training. With `missing` random parts of the training split are missing; valid
        is read as it is. Of several processes each trains on its part of every batch, and all
        end with the same weights.
        Returns one row per epoch: epoch, train_loss, valid_loss, valid_mae, and the network's
        own epoch_metrics.
        Raises FloatingPointError for a loss that is not finite, MemoryError with the batch size to
        try, OSError where scratch cannot be written, KeyboardInterrupt after a checkpoint where
        `interruption` asks for it, ProcessError for a loss that several processes cannot divide.
        What the last checkpoint holds stays in scratch.
        """
        with _out_of_memory_says(self.schedule.batch_size):
            return self._fit(train, valid, seed, scratch)

    def _fit(self, train: Utterances, valid: Utterances, seed: int, scratch: Path) -> History:
        torch.manual_seed(seed)
        network = self.network = self.build()
        _check_processes(network)
        network.fit_statistics(train)
        network.to(self.device)
        optimizer = self._optimizer(network)
        data = TrainingData(train, self.schedule.missing, seed)
        kept = Checkpoints(scratch, network, optimizer)
        with parallel.rank_zero_first():  # it sets a damaged checkpoint aside
            progress = kept.resume()
        history = progress.history
        while not self._finished(history):
            epoch = len(history) + 1
            # The RNG state is a function of seed and epoch alone.
            rng = np.random.default_rng([seed, epoch])
            torch.manual_seed(int(rng.integers(2**63)))
            batches = length_bucketed(cost(train), self.schedule.batch_size, rng)
            if progress.batches == 0:
                network.begin_epoch()
            elif not parallel.is_distributed():
                kept.restore_rng_state()
            row: dict[str, int | float] = {
                "epoch": epoch,
                "train_loss": self._train_epoch(data, batches, progress, optimizer, kept),
            }
            predictions = self._predict(valid)
            row["valid_loss"] = self._validation_loss(predictions, valid, rng)
            row["valid_mae"] = _mae(predictions, valid.labels)
            if not np.isfinite(row["valid_mae"]):
                raise FloatingPointError(
                    f"epoch {epoch}: not all predictions on valid are finite; "
                    + self._offending(valid)
                )
            row |= network.epoch_metrics()
            history.append(row)
            progress = Progress(history)
            if self._best_epoch(history) == epoch:
                kept.keep_best(epoch)  # before a checkpoint, which counts on it
            self._checkpoint(kept, progress)
        kept.restore_best()
        return history

    def _checkpoint(self, kept: Checkpoints, progress: Progress) -> None:
        """Write a checkpoint where one is due; the last one where the training is to end here."""
        stop, due = parallel.any_rank(interruption.stop_requested(), kept.due())
        if stop or due:
            kept.write(progress)
        if stop:
            raise KeyboardInterrupt

    def _optimizer(self, network: Network) -> torch.optim.Optimizer:
        # Fused: one pass over the memory, a fifth of the time of a step on a CPU.
        fused = self.device.type in ("cpu", "cuda")
        optimizer = torch.optim.Adam(network.parameter_groups(self.optimizer), fused=fused)
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        return optimizer

    def _train_epoch(
        self,
        data: TrainingData,
        batches: list[np.ndarray],
        progress: Progress,
        optimizer: torch.optim.Optimizer,
        kept: Checkpoints,
    ) -> float:
        """Train on the batches of each phase, but for those done.

        Returns the mean loss per utterance of the last phase, the one that fits the labels.
        """
        network = self._trained().train()
        epoch = len(progress.history) + 1
        losses = [float(row["valid_loss"]) for row in progress.history]
        steps = self._steps(network, batches)
        last = steps[-1].phase
        seen = sum(len(step.index) for step in steps[: progress.batches] if step.phase is last)
        epoch_seed = torch.initial_seed()
        optimizer.zero_grad()
        left = steps[progress.batches :]
        shards = [parallel.shard(step.index) for step in left]
        bar = _progress(left, epoch)
        load = partial(data.batch, epoch=epoch, device=self.device)
        inputs = loaded(load, [rows for rows, _ in shards], self.device)
        for number, (step, (rows, weight), batch) in enumerate(
            zip(bar, shards, inputs, strict=True), start=progress.batches + 1
        ):
            parallel.seed_rank(rows, epoch_seed)
            loss = weight * step.phase.loss(batch, epoch)
            mean_loss = parallel.all_reduce(loss.detach()).item()
            if not np.isfinite(mean_loss):
                raise FloatingPointError(
                    f"epoch {epoch}, batch {number} of {len(steps)}: the loss is {mean_loss}; "
                    + self._offending(data.of(step.index, epoch))
                )
            loss.backward()
            if self.schedule.clip:
                parallel.all_reduce_gradients(network)
                _clip_gradients(network, self.schedule.clip)
            progress.batches = number
            if step.phase is last:
                progress.loss += mean_loss * len(step.index)
                seen += len(step.index)
                bar.set_postfix(loss=f"{progress.loss / seen:.3f}", refresh=False)
            if step.ends_group:
                epochs = epoch - 1 + (number - 1) / len(steps)
                self._set_rates(optimizer, epochs, losses, len(steps))
                if not self.schedule.clip:
                    parallel.all_reduce_gradients(network)
                _drop_gradients(optimizer, step.phase)
                optimizer.step()
                optimizer.zero_grad()
                self._checkpoint(kept, progress)
            elif step.ends_phase or (self.schedule.clip and not parallel.is_rank_zero()):
                optimizer.zero_grad()  # of a dropped group, or what rank 0 holds the sum of
        return progress.loss / seen

    def _steps(self, network: Network, batches: list[np.ndarray]) -> list["_Step"]:
        """Return the batches of all phases of an epoch, in their order."""
        steps = []
        for phase in network.phases():
            own = [of for i, of in enumerate(batches) if i / len(batches) < phase.share]
            for number, index in enumerate(own, start=1):
                last = number == len(own)
                complete = number % self.schedule.accumulate == 0
                ends_group = complete or (last and not self.schedule.drop_incomplete)
                steps.append(_Step(phase, index, ends_group, last))
        return steps

    def _offending(self, batch: Utterances) -> str:
        """Say which of some utterances are to blame for a loss that is not finite."""
        for row, id in enumerate(batch.ids):
            for name, ragged in batch.sequences.items():
                if not np.isfinite(ragged[row]).all():
                    return f"{name} of {id} has a value that is not finite"
            if not np.isfinite(batch.labels[row]):
                return f"the label of {id} is {batch.labels[row]}"
        wrong = ~np.isfinite(self._predict(batch))
        if not wrong.any():
            return f"the inputs and predictions of its {len(batch)} utterances are finite"
        return (
            f"the inputs are finite, but {wrong.sum()} of {len(batch)} predictions are not (that "
            f"of {batch.ids[int(wrong.argmax())]} is the first), so the weights have diverged: "
            "try a smaller learning rate"
        )

    def _set_rates(
        self, optimizer: torch.optim.Optimizer, epochs: float, losses: Sequence[float], batches: int
    ) -> None:
        """Set the learning rates of a step by the schedule; see Schedule.rate."""
        for group in optimizer.param_groups:
            if group.get("scheduled", True):
                group["lr"] = self.schedule.rate(group["initial_lr"], epochs, losses, batches)

    def _validation_loss(
        self, predictions: np.ndarray, valid: Utterances, rng: np.random.Generator
    ) -> float:
        if self.schedule.validation_loss == "mae":
            return _mae(predictions, valid.labels)
        loss = _mse if self.schedule.validation_loss == "mse_of_batches" else _mae
        batches = shuffled(len(valid), self.schedule.batch_size, rng)
        means = [loss(predictions[i], valid.labels[i]) for i in batches]
        return round(float(np.mean(means)), 4)

    def _best_epoch(self, history: History) -> int:
        return self.schedule.best_epoch([row["valid_loss"] for row in history])

    def _finished(self, history: History) -> bool:
        if not history:
            return False
        waited = len(history) - self._best_epoch(history)
        return len(history) >= self.schedule.epochs or waited >= self.schedule.patience

    def predict(self, data: Utterances) -> Float[np.ndarray, " n"]:
        """Predict each utterance, in the order of the data. Raises MemoryError as fit does.

        Of several processes all must call it: each predicts a share.
        """
        with _out_of_memory_says(self.batch_size):
            return self._predict(data)

    @torch.inference_mode()
    def _predict(self, data: Utterances) -> Float[np.ndarray, " n"]:
        network = self._trained().eval()
        predictions = torch.zeros(len(data), dtype=network.label_offset.dtype)
        batches = sorted_by_length(cost(data), self.batch_size)
        shares = list(parallel.shard_batches(batches))
        load = partial(Batch.of, data, device=self.device)
        for index, batch in zip(shares, loaded(load, shares, self.device), strict=True):
            predictions[index] = network(batch).cpu()
        return parallel.all_reduce(predictions).numpy()

    def size(self) -> dict[str, int]:
        """Count the parameters that are trained: those of the text encoder, and the rest."""
        counts = {"parameters of the text encoder": 0, "other parameters": 0}
        of_encoder, rest = counts
        for name, parameter in self._trained().named_parameters():
            if parameter.requires_grad:
                counts[of_encoder if name.startswith("encoder.") else rest] += parameter.numel()
        return counts

    def save(self, folder: Path) -> None:
        """Write weights.safetensors."""
        checkpoints.write(folder / "weights.safetensors", self._trained().state_dict())

    def load(self, folder: Path) -> None:
        """Read weights.safetensors into a newly built network.

        Raises DataError for weights that lack some of the network's, as those of earlier versions.
        """
        self.network, path = self.build().to(self.device), folder / "weights.safetensors"
        weights = load_file(path)
        if missing := sorted(self.network.state_dict().keys() - weights.keys()):
            raise DataError(
                f"{path}: no {missing[0]}; an earlier version saved it: train again: `dvc repro`"
            )
        self.network.load_state_dict(weights)

    def _trained(self) -> Network:
        if self.network is None:
            raise RuntimeError("the network has no weights yet: call fit or load first")
        return self.network


@errors.see("docs/clusters.md")
def _check_processes(network: Network) -> None:
    if network.couples_utterances and parallel.is_distributed():
        raise ProcessError(
            f"{type(network).__name__}: its loss couples the utterances of a batch, which several "
            "processes would divide; permitted: one process for each training"
        )


@dataclass(frozen=True)
class _Step:
    """A batch of a phase. ends_group: whether the optimizer makes a step after it."""

    phase: Phase
    index: np.ndarray
    ends_group: bool
    ends_phase: bool


def _clip_gradients(network: nn.Module, clip: Clip) -> None:
    """Clip the gradients of all weights that have one, in place."""
    if clip.kind == "norm":
        nn.utils.clip_grad_norm_(network.parameters(), clip.limit)
    else:
        nn.utils.clip_grad_value_(network.parameters(), clip.limit)


def _drop_gradients(optimizer: torch.optim.Optimizer, phase: Phase) -> None:
    """Remove the gradients of the groups that a phase does not move: Adam passes these over."""
    for group in optimizer.param_groups:
        if phase.moves is not None and group["name"] not in phase.moves:
            for weight in group["params"]:
                weight.grad = None


@contextmanager
def _out_of_memory_says(batch_size: int) -> Iterator[None]:
    """Name the batch size to try where a device has no memory left."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        words = ("can't allocate memory", "out of memory")  # of a CPU and of Apple's MPS
        known = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if known or any(word in str(error) for word in words):
            smaller = f"try {batch_size // 2}" if batch_size > 1 else "train fewer layers"
            raise MemoryError(f"out of memory with batch_size {batch_size}; {smaller}") from error
        raise


def _progress(steps: list[_Step], epoch: int) -> "tqdm[_Step]":
    """Show a bar with loss, rate and remaining time on a terminal, nothing elsewhere."""
    hidden = None if parallel.is_rank_zero() else True
    return tqdm(steps, desc=f"epoch {epoch}", unit="batch", leave=False, disable=hidden)


def _mae(predictions: np.ndarray, labels: np.ndarray) -> float:
    return float(np.abs(predictions.astype(np.float64) - labels).mean())


def _mse(predictions: np.ndarray, labels: np.ndarray) -> float:
    return float(np.square(predictions.astype(np.float64) - labels).mean())


def write_history(path: Path, history: History) -> None:
    """Write the epochs as csv, NaN as nothing; no file for a model that is fitted in one go."""
    if not history:
        return
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, history[0].keys(), lineterminator="\n")
        writer.writeheader()
        for row in history:
            writer.writerow({k: "" if np.isnan(value) else value for k, value in row.items()})
