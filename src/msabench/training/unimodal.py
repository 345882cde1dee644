"""Unimodal tasks beside the multimodal one, whose labels are generated while the network trains,
from where an utterance's features lie between the centres of positive and negative utterances
(Self-MM: Yu, Xu, Yuan and Wu, AAAI 2021).

`UnimodalTasks` is the network of these tasks, of which a model makes the vectors;
`UnimodalLabels(labels, widths, ...)` is the label generation, usable alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor, nn
from typing_extensions import TypedDict

from msabench.labels import LabelScale
from msabench.networks import parallel, precision
from msabench.networks.batches import Batch
from msabench.networks.layers import Output, varies
from msabench.params import Start, Strict
from msabench.training.network import Network
from msabench.utterances import Utterances

FUSION = "fusion"

T = TypeVar("T")


class OfTasks(TypedDict, Generic[T]):
    """A value for each of the four tasks."""

    fusion: T
    text: T
    audio: T
    vision: T


class OfGroups(TypedDict, Generic[T]):
    """A value for each group of parameters; `other`: heads, and what is of no modality alone."""

    text: T
    audio: T
    vision: T
    other: T


class AdamByGroup(Strict):
    """The settings of Adam, not AdamW: weight decay is coupled, as in the published code."""

    lr: OfGroups[PositiveFloat]
    weight_decay: OfGroups[NonNegativeFloat]


@dataclass(frozen=True)
class Outputs:
    """What the network makes of a batch, by task (fusion, and each modality present).

    predictions: (b,) each. features: (b, d) each, the first hidden layer of a task's head.
    """

    predictions: Mapping[str, Float[Tensor, " b"]]
    features: Mapping[str, Float[Tensor, "b _"]]


class Head(nn.Module):
    """Dropout, two hidden layers and a prediction; the published code has three linear layers."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.layer1 = nn.Linear(width, hidden)
        self.layer2 = nn.Linear(hidden, hidden)
        self.layer3 = Output(hidden)

    def forward(self, x: Float[Tensor, "b d"]) -> tuple[Float[Tensor, " b"], Float[Tensor, "b h"]]:
        features = torch.relu(self.layer1(self.dropout(x)))
        return self.layer3(torch.relu(self.layer2(features))), features


class UnimodalLabels(nn.Module):
    """The labels of every task for each training utterance, and how they are generated.

    labels: (n,) the multimodal labels, with which all tasks start, as distances from the neutral
    point. widths: the features of each task, `fusion` and the modalities. clamp: generated labels
    stay in -clamp..clamp, or between the two numbers of a pair. exclude_zero: the positive centre
    is made of labels > 0 (the paper, MMSA), else >= 0.

    `labels`, `features` and `centers` are dictionaries keyed by task; centers[task] has `pos` and
    `neg`, (d,). The tables are buffers that are no weights: checkpoints hold them, saved models do
    not. Works in the precision of the labels given.
    """

    EPSILON = 1e-8

    def __init__(
        self,
        labels: Float[Tensor, " n"],
        widths: Mapping[str, int],
        *,
        clamp: float | tuple[float, float] = 3.0,
        exclude_zero: bool = True,
    ) -> None:
        super().__init__()
        self.tasks = [FUSION, *(name for name in widths if name != FUSION)]
        self.clamp = clamp if isinstance(clamp, tuple) else (-clamp, clamp)
        self.exclude_zero = exclude_zero
        for task in self.tasks:
            zeros = labels.new_zeros(widths[task])
            self.register_buffer(f"label_{task}", labels.clone(), persistent=False)
            self.register_buffer(
                f"feature_{task}", labels.new_zeros(len(labels), widths[task]), persistent=False
            )
            self.register_buffer(f"pos_{task}", zeros.clone(), persistent=False)
            self.register_buffer(f"neg_{task}", zeros.clone(), persistent=False)

    @property
    def labels(self) -> dict[str, Float[Tensor, " n"]]:
        return {task: self.get_buffer(f"label_{task}") for task in self.tasks}

    @property
    def features(self) -> dict[str, Float[Tensor, "n _"]]:
        return {task: self.get_buffer(f"feature_{task}") for task in self.tasks}

    @property
    def centers(self) -> dict[str, dict[str, Float[Tensor, " _"]]]:
        return {
            task: {side: self.get_buffer(f"{side}_{task}") for side in ("pos", "neg")}
            for task in self.tasks
        }

    @torch.no_grad()
    def update(
        self, index: Int[Tensor, " b"], features: Mapping[str, Float[Tensor, "b _"]], epoch: int
    ) -> None:
        """Move the labels of a batch, then keep its features, then move the centres.

        index: (b,) rows of the batch in the training split. features: by task. epoch: from 1; the
        first only gathers features. The labels are generated with the centres as the batch before
        left them (self-supervised label generation; paper section "ULGM").
        """
        if epoch > 1:
            self._move_labels(index, features, epoch)
        with precision.without_tf32():
            for task in self.tasks:
                self.features[task][index] = features[task].detach()
                self._move_centers(task)

    def _move_labels(
        self, index: Int[Tensor, " b"], features: Mapping[str, Float[Tensor, "b _"]], epoch: int
    ) -> None:
        fusion_ratio = self._ratio(FUSION, features[FUSION])
        fusion_label = self.labels[FUSION][index]
        for task in self.tasks[1:]:
            ratio = self._ratio(task, features[task])
            # The mean of the paper's two estimates, by ratio and by difference.
            by_ratio = ratio / (fusion_ratio + self.EPSILON) * fusion_label
            by_difference = fusion_label + ratio - fusion_ratio
            generated = (0.5 * (by_ratio + by_difference)).clamp(*self.clamp)
            old = self.labels[task][index]
            self.labels[task][index] = ((epoch - 1) * old + 2 * generated) / (epoch + 1)

    def _ratio(self, task: str, features: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        """How much nearer to the positive than to the negative centre; plain Euclidean distance."""
        centers = self.centers[task]
        positive = (features - centers["pos"]).norm(dim=1)
        negative = (features - centers["neg"]).norm(dim=1)
        return (negative - positive) / (positive + self.EPSILON)

    def _move_centers(self, task: str) -> None:
        """Make the centres the means of all stored features of positive and negative utterances.

        A centre of a class that has no member stays where it is (the published code: NaN).
        """
        labels, features = self.labels[task], self.features[task]
        positive = labels > 0 if self.exclude_zero else labels >= 0
        members = torch.stack([positive, labels < 0]).to(features.dtype)  # (2, n)
        counts = members.sum(dim=1, keepdim=True)
        means = members @ features / counts.clamp(min=1)  # (2, d)
        for side, mean, count in zip(("pos", "neg"), means, counts, strict=True):
            if count > 0:
                self.centers[task][side].copy_(mean)


class UnimodalTasks(Network):
    """A multimodal task and one for each modality present; a head predicts the label of each.

    A model makes the vectors of the tasks, and the heads last, by `make_heads`. The text encoder is
    `encoder`, and what reads frames stands in `frames`, by modality.

    post_dim: hidden size of each task's head. dropout: before each head. label_range, neutral: of
    the labels; labels are generated as distances from the neutral point, or from the middle of the
    range where there is none. clamp: the largest such distance; None: what the range permits.
    start: the label that an output of 0 predicts, in all tasks. exclude_zero: see UnimodalLabels.
    """

    optimizer_settings = AdamByGroup
    frames: nn.ModuleDict
    heads: nn.ModuleDict

    def __init__(
        self,
        *,
        post_dim: OfTasks[int],
        exclude_zero: bool,
        clamp: float | None,
        label_range: Sequence[float],
        neutral: float | None,
        start: Start,
    ) -> None:
        scale = LabelScale.of(label_range, neutral)
        super().__init__(start, scale.centre)
        self.origin = scale.centre
        self.post_dim = post_dim
        self.clamp = clamp or (scale.low - self.origin, scale.high - self.origin)
        self.exclude_zero = exclude_zero

    def make_heads(self, widths: Mapping[str, int], dropout: OfTasks[float]) -> nn.ModuleDict:
        """Return a head for each task. widths: of their vectors, `fusion` and the modalities."""
        return nn.ModuleDict(
            {
                task: Head(width, self.post_dim[task], dropout[task])
                for task, width in widths.items()
            }
        )

    def vectors(self, batch: Batch) -> dict[str, Float[Tensor, "b _"]]:
        """Return what the head of each task reads."""
        raise NotImplementedError

    def fit_statistics(self, train: Utterances) -> None:
        """Compute offset and means, and start the label tables with the multimodal labels."""
        super().fit_statistics(train)
        self.unimodal = UnimodalLabels(
            self.label_offset.new_tensor(train.labels) - self.origin,
            {task: self.post_dim[task] for task in self.heads},
            clamp=self.clamp,
            exclude_zero=self.exclude_zero,
        )
        self.true_labels = {
            name: np.asarray(labels, dtype=np.float64) - self.origin
            for name, labels in train.unimodal_labels.items()
            if name in self.heads
        }

    def epoch_metrics(self) -> dict[str, float]:
        """Return how the generated labels fit the true unimodal labels, where the data has those.

        label_corr_<modality>: Pearson's correlation of the two. Epoch 1 moves no label: its value
        is that of the multimodal label. shift_corr_<modality>: the correlation of what was added
        to the multimodal label with what should have been; shift_ratio_<modality>: the standard
        deviation of the former over that of the latter, NaN where the latter is 0. Training never
        uses the true labels.
        Rounded, since the last digits are those of the machine's linear algebra.
        """
        labels = {  # in float64, which not every device has
            task: table.cpu().double().numpy() for task, table in self.unimodal.labels.items()
        }
        columns = {}
        for name, truth in self.true_labels.items():
            added, missing = labels[name] - labels[FUSION], truth - labels[FUSION]
            columns[f"label_corr_{name}"] = _correlation(labels[name], truth)
            columns[f"shift_corr_{name}"] = _correlation(added, missing)
            columns[f"shift_ratio_{name}"] = (
                float(added.std() / missing.std()) if _varies(missing) else np.nan
            )
        return {column: round(value, 6) for column, value in columns.items()}

    def outputs(self, batch: Batch) -> Outputs:
        """Return predictions and features of every task."""
        outputs = {task: self.heads[task](vector) for task, vector in self.vectors(batch).items()}
        return Outputs(
            predictions={
                task: self.label_offset + prediction for task, (prediction, _) in outputs.items()
            },
            features={task: features for task, (_, features) in outputs.items()},
        )

    def forward(self, batch: Batch) -> Float[Tensor, " b"]:
        """Predict the sentiment of each utterance from all its modalities."""
        return self.outputs(batch).predictions[FUSION]

    def terms(self, outputs: Outputs, index: Int[Tensor, " b"]) -> dict[str, Float[Tensor, ""]]:
        """Return the weighted L1 loss of each task, by the labels as they are.

        index: (b,) rows of the batch in the training split. A unimodal task weighs tanh |generated
        - multimodal label|: nothing in the first epoch.
        """
        labels = {task: table[index] for task, table in self.unimodal.labels.items()}
        terms = {}
        for task, prediction in outputs.predictions.items():
            error = (prediction - self.origin - labels[task]).abs()
            if task != FUSION:
                error = error * (labels[task] - labels[FUSION]).abs().tanh()
            terms[task] = error.mean()
        return terms

    def training_loss(self, batch: Batch, epoch: int) -> Float[Tensor, ""]:
        """Return the sum of the terms, and update the generated labels, for the next batches."""
        outputs = self.outputs(batch)
        terms = self.terms(outputs, batch.index)
        features = {task: values.detach() for task, values in outputs.features.items()}
        self.unimodal.update(*parallel.all_gather(batch.index, features), epoch)
        return sum(terms.values(), torch.zeros_like(self.label_offset))

    def parameter_groups(self, settings: AdamByGroup) -> list[dict[str, Any]]:
        """Return Adam's groups; the encoder's biases and LayerNorms, its vectors, do not decay."""
        groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            part, _, rest = name.partition(".")
            if part == "encoder":
                group = ("text", parameter.ndim > 1)
            else:
                group = (rest.partition(".")[0] if part == "frames" else "other", True)
            groups.setdefault(group, []).append(parameter)
        return [
            {
                "name": group if decays else f"{group} without decay",
                "params": parameters,
                "lr": settings.lr[group],
                "weight_decay": settings.weight_decay[group] if decays else 0.0,
                "decoupled_weight_decay": False,
            }
            for (group, decays), parameters in groups.items()
        ]


def _correlation(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"]) -> float:
    """Return Pearson's correlation; 0 where a side is constant."""
    return float(np.corrcoef(a, b)[0, 1]) if _varies(a) and _varies(b) else 0.0


def _varies(values: Float[np.ndarray, " n"]) -> bool:
    """Tell whether values differ by more than the rounding of the labels, which are float32."""
    return bool(varies(values.mean(), values.std()))
