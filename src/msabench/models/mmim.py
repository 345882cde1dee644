"""MMIM (Han, Chen and Poria, EMNLP 2021): fusion that maximizes mutual information, between
modalities, and of each with their fusion."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import l1_loss, normalize
from typing_extensions import TypedDict

from msabench.labels import LabelScale
from msabench.networks.batches import Batch
from msabench.networks.layers import DropoutRate, FinalStateEncoder, Output, StandardizeEach
from msabench.networks.precision import in_mixed_precision
from msabench.networks.text import TextEncoder, untrained
from msabench.params import OfFrames, Start, Strict
from msabench.training.network import Network, Phase
from msabench.utterances import MODALITIES, Utterances

T = TypeVar("T")


class OfGroups(TypedDict, Generic[T]):
    """A value for each group of parameters: of the text, of the estimators, and all others."""

    text: T
    estimators: T
    other: T


class AdamByGroup(Strict):
    """The settings of Adam, not AdamW: weight decay is coupled, as in the published code."""

    lr: OfGroups[PositiveFloat]
    weight_decay: OfGroups[NonNegativeFloat]


class Estimator(nn.Module):
    """The normal distribution q(v | v_t) of a modality's vector, given that of the text.

    full: with the logarithm of the variance, which is bounded by -1 and 1, as features shrink to
    please it without bounds.
    """

    def __init__(self, width: int, out: int, *, full: bool) -> None:
        super().__init__()
        self.full = full
        self.mean, self.log_variance = (
            nn.Sequential(nn.Linear(width, out), nn.ReLU(), nn.Linear(out, out)) for _ in range(2)
        )

    def forward(
        self, text: Float[Tensor, "b d"], vector: Float[Tensor, "b out"]
    ) -> Float[Tensor, ""]:
        """Return the mean of log q over a batch (paper, section 3.4), without its constant."""
        log_variance = self.log_variance(text)
        if self.full:
            log_variance = log_variance.tanh()
        distance = (self.mean(text) - vector).square() / 2 / log_variance.exp()
        summands = -distance - log_variance / 2 if self.full else -distance
        return summands.sum(dim=1).mean()


class MMIM(Network):
    """y = MLP([v_t; v_a; v_v]) (paper, section 3, Figure 1).

    v_t: the text's vector; v_a, v_v: of the final hidden states over frames. The loss is the MAE
    + contrast * nce     of each v_m with its prediction from the fusion (3.5)
    - information * (lld + H)    lower bound of I(v_t; v_m) (3.4): the likelihood of v_m given
                         v_t, and the entropy of v_m, of positive and of negative utterances.
    Each epoch begins with a pass that fits the estimators of q(v_m | v_t) by likelihood alone.
    Without text, or with text alone, there are no estimators.

    lstm_dim, out_dim: hidden size of the LSTMs, and size of v_a and v_v. fusion_dim: of the MLP.
    memory: so many batches before are remembered for H, which enters after one more.
    estimator_share: of the batches, in the estimators' pass. full_likelihood: log q with the
    logarithm of the variance; fit_entropy: train the projection of which H is the entropy; ridge:
    added to the diagonal of its covariances. Published: not, not, and 0. start: the label that is
    predicted before training; published: neutral. standardize: features that are not trained, by
    training statistics; published: not. MMSA's settings: `mmim_published` in params.yaml.
    """

    REDUCED = 4  # times smaller than v_m is the projection of which the entropy is taken
    optimizer_settings = AdamByGroup
    couples_utterances = True  # by contrast and entropy
    sides: Tensor  # (n,) of the neutral point, on which a training utterance lies: -1, 0, 1
    written: Tensor  # (n,) the main batch of the epoch, from 1, that wrote its projections; or 0
    batches: Tensor  # () main batches of the epoch so far

    def __init__(
        self,
        encoder: TextEncoder | None,
        widths: Mapping[str, int],
        *,
        lstm_dim: OfFrames[PositiveInt],
        out_dim: OfFrames[Annotated[int, Field(ge=REDUCED)]],
        fusion_dim: PositiveInt,
        dropout: DropoutRate,
        contrast: NonNegativeFloat,
        information: NonNegativeFloat,
        memory: NonNegativeInt,
        estimator_share: Annotated[float, Field(gt=0.0, le=1.0)],
        fit_entropy: bool = True,
        full_likelihood: bool = True,
        ridge: NonNegativeFloat = 1e-3,
        standardize: bool = False,
        start: Start = "median",
        label_range: Sequence[float] = (-3.0, 3.0),
        neutral: float | None = None,
    ) -> None:
        super().__init__(start, neutral)
        self.centre = LabelScale.of(label_range, neutral).centre
        self.contrast, self.information, self.memory = contrast, information, memory
        self.estimator_share, self.fit_entropy = estimator_share, fit_entropy
        self.ridge = ridge
        self.encoder = encoder
        self.standardize = StandardizeEach(untrained(encoder, widths) if standardize else {})
        frames = [name for name in widths if name != "text"]
        self.frames = nn.ModuleDict(
            {
                name: FinalStateEncoder(
                    widths[name], lstm_dim[name], out_dim[name], 0.0, bidirectional=True
                )
                for name in frames
            }
        )
        out = {name: widths[name] if name == "text" else out_dim[name] for name in widths}
        self.fusion = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(sum(out.values()), fusion_dim),
            nn.Tanh(),
            nn.Linear(fusion_dim, fusion_dim),
            nn.Tanh(),
        )
        self.output = Output(fusion_dim)
        self.predictions = nn.ModuleDict({name: nn.Linear(fusion_dim, out[name]) for name in out})
        estimated = frames if "text" in widths else []
        self.estimators = nn.ModuleDict(
            {name: Estimator(widths["text"], out[name], full=full_likelihood) for name in estimated}
        )
        self.reduced = {name: out[name] // self.REDUCED for name in estimated}
        self.entropy = nn.ModuleDict(
            {name: nn.Linear(out[name], size) for name, size in self.reduced.items()}
        )
        for name, weight in self.named_parameters():
            if weight.ndim > 1 and not name.startswith("encoder."):
                nn.init.xavier_normal_(weight)

    def fit_statistics(self, train: Utterances) -> None:
        """Compute offset and means, and make room for the projections of every utterance."""
        super().fit_statistics(train)
        sides = torch.from_numpy(np.sign(train.labels - self.centre)).long()
        self.register_buffer("sides", sides, persistent=False)
        self.register_buffer("written", torch.zeros_like(sides), persistent=False)
        self.register_buffer("batches", torch.zeros((), dtype=torch.long), persistent=False)
        for name, size in self.reduced.items():
            table = self.label_offset.new_zeros(len(train), size)
            self.register_buffer(f"memory_{name}", table, persistent=False)

    def begin_epoch(self) -> None:
        """Forget all batches."""
        self.batches.zero_()
        self.written.zero_()

    @in_mixed_precision
    def vectors(self, batch: Batch) -> dict[str, Float[Tensor, "b _"]]:
        """Return v_m of each modality, in the order text, audio, vision."""
        read = self.standardize(batch.sequences)
        encoders = {"text": self.encoder, **self.frames}
        return {name: encoders[name](read[name]) for name in MODALITIES if name in read}

    @in_mixed_precision
    def fuse(
        self, vectors: Mapping[str, Float[Tensor, "b _"]]
    ) -> tuple[Float[Tensor, " b"], Float[Tensor, "b d"]]:
        """Return the sentiment of each utterance, and the fusion from which it is predicted."""
        fused = self.fusion(torch.cat(list(vectors.values()), dim=1))
        return self.label_offset + self.output(fused), fused

    def forward(self, batch: Batch) -> Float[Tensor, " b"]:
        """Predict the sentiment of each utterance."""
        return self.fuse(self.vectors(batch))[0]

    def terms(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Return the terms of the main loss, unweighted, and remember the batch.

        entropy: 0 before there are as many batches as are remembered.
        """
        vectors = self.vectors(batch)
        sentiments, fused = self.fuse(vectors)
        contrasts = [
            contrastive_loss(vectors[name], predict(fused))
            for name, predict in self.predictions.items()
        ]
        return {
            "mae": l1_loss(sentiments, batch.labels),
            "contrast": torch.stack(contrasts).sum(),
            "likelihood": self.likelihood(vectors),
            "entropy": self._entropy(vectors, batch.index),
        }

    def training_loss(self, batch: Batch, epoch: int) -> Float[Tensor, ""]:
        """Return the weighted sum of the terms (paper, section 3.6)."""
        with_entropy = self.batches > self.memory  # a batch later than it could be, as published
        terms = self.terms(batch)
        bound = terms["likelihood"] + (terms["entropy"] if with_entropy else 0.0)
        return terms["mae"] + self.contrast * terms["contrast"] - self.information * bound

    def estimators_loss(self, batch: Batch, epoch: int) -> Float[Tensor, ""]:
        """Return the negative log-likelihood, which fits the estimators."""
        return -self.likelihood(self.vectors(batch))

    def phases(self) -> list[Phase]:
        """Return the estimators' pass, where there are any, and the main one."""
        moved = frozenset({"other", "encoder"} | ({"entropy"} if self.fit_entropy else set()))
        main = Phase(self.training_loss, moves=moved)
        if not self.estimators:
            return [main]
        own = frozenset({"estimators"})
        return [Phase(self.estimators_loss, self.estimator_share, own), main]

    def parameter_groups(self, settings: AdamByGroup) -> list[dict[str, Any]]:
        """Return Adam's groups; no schedule lowers the rates of estimators and entropy."""
        names = {"other": "other", "encoder": "text", "estimators": "estimators"}
        names["entropy"] = "estimators"
        groups = self.grouped(
            {part: settings.lr[name] for part, name in names.items()},
            {part: settings.weight_decay[name] for part, name in names.items()},
            decoupled=False,
        )
        return [group | {"scheduled": names[group["name"]] != "estimators"} for group in groups]

    def likelihood(self, vectors: Mapping[str, Float[Tensor, "b _"]]) -> Float[Tensor, ""]:
        """Return the log-likelihood of v_a and v_v given v_t; 0 without estimators."""
        likelihoods = (
            estimate(vectors["text"], vectors[name]) for name, estimate in self.estimators.items()
        )
        return sum(likelihoods, torch.zeros_like(self.label_offset))

    def _entropy(
        self, vectors: Mapping[str, Float[Tensor, "b _"]], index: Int[Tensor, " b"]
    ) -> Float[Tensor, ""]:
        """Return H of v_a and v_v, by normal distributions, and remember the batch's projections.

        Of the batch and those remembered, half of log det of the covariance for each side of the
        neutral point (paper, section 3.4), and the mean of both sides.
        """
        recent = self.written > self.batches - self.memory
        entropy = torch.zeros_like(self.label_offset)
        for name, project in self.entropy.items():
            memory = self.get_buffer(f"memory_{name}")
            projected = project(vectors[name]).tanh()
            for side in (1, -1) if self.batches >= self.memory else ():
                own = projected[self.sides[index] == side]
                members = torch.cat([own, memory[recent & (self.sides == side)]])
                if len(members) > 1:  # one has no covariance
                    entropy = entropy + log_determinant(members, self.ridge) / 4
            memory[index] = projected.detach()
        self.batches += 1
        self.written[index] = self.batches
        return entropy


def contrastive_loss(
    vectors: Float[Tensor, "b d"], predicted: Float[Tensor, "b d"]
) -> Float[Tensor, ""]:
    """Return the cross-entropy of finding each utterance's prediction among those of the batch."""
    scores = normalize(vectors, dim=1, eps=1e-8) @ normalize(predicted, dim=1, eps=1e-8).T
    return (scores.logsumexp(dim=1) - scores.diagonal()).mean()


def log_determinant(rows: Float[Tensor, "n d"], ridge: float) -> Float[Tensor, ""]:
    """Return log det of the covariance of rows (divided by n), ridge added to its diagonal."""
    centred = rows - rows.mean(dim=0)
    covariance = centred.T @ centred / len(rows)
    return torch.logdet(covariance + ridge * torch.eye(rows.shape[1]).to(rows))


Model = MMIM
