"""Support vector regression on the mean of each modality (report 4.3, Table 2)."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from pydantic import NonNegativeFloat, PositiveFloat
from safetensors.numpy import load_file, save_file

from msabench import arithmetic
from msabench.networks.layers import varies
from msabench.training.checkpoints import errors_of_the_disk
from msabench.training.loop import History
from msabench.utterances import Utterances

# Else where it is used: importing scikit-learn takes a second, and plans import every model.
if TYPE_CHECKING:
    from sklearn.svm import SVR

MOST_IN_A_KERNEL = 20_000  # utterances: 3.2 GB, and 1.6 more while it is computed


class SVM:
    """RBF support vector regression of the standardized [F_t ; mean of I_a ; mean of I_v].

    The report does not give the kernel, nor how frames become one vector: both are our reading.
    Its sentiment class is the side of the neutral label, as for every other model.
    C, epsilon: as in scikit-learn. frame_std: add each feature's standard deviation over the
    real frames beside its mean. standardize: all features, by training statistics. C and epsilon
    in params.yaml were chosen on validation: see docs/models.md.
    """

    def __init__(
        self,
        *,
        C: PositiveFloat = 1.0,
        epsilon: NonNegativeFloat = 0.1,
        frame_std: bool = False,
        standardize: bool = True,
    ) -> None:
        self.C = C
        self.epsilon = epsilon
        self.frame_std = frame_std
        self.standardize = standardize
        self.fitted: dict[str, np.ndarray] = {}

    def fit(self, train: Utterances, valid: Utterances, *, seed: int, scratch: Path) -> History:
        """Fit on train; the solution is unique, so it depends on neither valid nor seed."""
        features = self._features(train)
        mean, std = features.mean(axis=0), features.std(axis=0)
        varying = varies(mean, std)
        std[~varying] = 1.0  # a constant feature: only centred
        if not self.standardize:
            mean, std = np.zeros_like(mean), np.ones_like(std)
        standardized = (features - mean) / std
        # scikit-learn's gamma="scale", for which a variance of rounding alone is none
        gamma = 1.0 / (standardized.shape[1] * standardized.var()) if varying.any() else 1.0
        regression = self._solved(standardized, train.labels, gamma)
        vectors, coefficients = standardized[regression.support_], regression.dual_coef_
        intercept = regression.intercept_
        if not len(vectors):  # all labels within epsilon of their middle, which sklearnex omits
            vectors, coefficients = np.empty((0, len(mean))), np.empty((1, 0))
            ends = [train.labels.min(), train.labels.max()]
            intercept = np.mean(ends, dtype=np.float64, keepdims=True)
        self.fitted = {
            "mean": mean,
            "std": std,
            "gamma": np.array([gamma]),
            "support_vectors": vectors,
            "dual_coef": coefficients[0].copy(),
            "intercept": intercept.copy(),
        }
        return []

    def _solved(
        self, features: Float[np.ndarray, "n d"], labels: Float[np.ndarray, " n"], gamma: float
    ) -> "SVR":
        """Return the fitted regression, of one and the same problem whatever solves it."""
        from sklearn.metrics.pairwise import rbf_kernel
        from sklearn.svm import SVR

        settings = {"C": self.C, "epsilon": self.epsilon, "cache_size": 1000}
        if arithmetic.in_use == "native" and (intelex := _intelex()):
            threads = torch.get_num_threads()
            return intelex(**settings, gamma=gamma, n_jobs=threads).fit(features, labels)
        if len(features) > MOST_IN_A_KERNEL:
            return SVR(**settings, gamma=gamma).fit(features, labels)
        # One product for all pairs of utterances, where the solver would make one for each. Single
        # precision is what the solver keeps of the kernel in either case.
        kernel = rbf_kernel(features.astype(np.float32), gamma=gamma).astype(np.float64)
        return SVR(**settings, kernel="precomputed").fit(kernel, labels)

    def predict(self, data: Utterances) -> Float[np.ndarray, " n"]:
        """Sum the kernel over the support vectors; without any it is the intercept."""
        from sklearn.metrics.pairwise import rbf_kernel

        fitted = self.fitted
        predictions = np.full(len(data), fitted["intercept"], dtype=np.float32)
        if not len(fitted["support_vectors"]):
            return predictions
        standardized = (self._features(data) - fitted["mean"]) / fitted["std"]
        for start in range(0, len(data), 1000):  # bounds the memory of the kernel
            rows = slice(start, start + 1000)
            kernel = rbf_kernel(
                standardized[rows], fitted["support_vectors"], gamma=fitted["gamma"].item()
            )
            predictions[rows] = kernel @ fitted["dual_coef"] + fitted["intercept"]
        return predictions

    def size(self) -> dict[str, int]:
        """Count the support vectors, each of which has a coefficient, and their features."""
        vectors, features = self.fitted["support_vectors"].shape
        return {"support vectors": vectors, "features of each": features}

    def save(self, folder: Path) -> None:
        """Write weights.safetensors."""
        path = folder / "weights.safetensors"
        with errors_of_the_disk(path):
            save_file(self.fitted, path)

    def load(self, folder: Path) -> None:
        """Read weights.safetensors."""
        self.fitted = load_file(folder / "weights.safetensors")

    def _features(self, data: Utterances) -> Float[np.ndarray, "n d"]:
        parts = []
        # The statistics see imputed mean frames: the mean hardly moves, and what is standardized is
        # what the regression is fitted on.
        for name, ragged in data.sequences.items():
            parts.append(ragged.over_frames(np.mean))
            if self.frame_std and name != "text":  # which is one vector and has no spread
                parts.append(ragged.over_frames(np.std))
        return np.concatenate(parts, axis=1)


def _intelex() -> "type[SVR] | None":
    """Return the solver of scikit-learn-intelex, whose kernels are those of the processor.

    None where it is not installed: it is for x86 alone.
    """
    try:
        from sklearnex.svm import SVR
    except ImportError:
        return None
    return SVR


Model = SVM
