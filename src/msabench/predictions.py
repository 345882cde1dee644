"""predictions.csv: all that evaluation and reporting know of a model."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from msabench.errors import DataError
from msabench.utterances import Utterances

COLUMNS = ("id", "label", "prediction")


@dataclass(frozen=True)
class Predictions:
    """The predictions of one run on one split, n utterances."""

    ids: list[str]
    labels: Float[np.ndarray, " n"]
    predictions: Float[np.ndarray, " n"]

    @classmethod
    def join(cls, parts: Sequence["Predictions"]) -> "Predictions":
        """Join the predictions of the folds of a cross-validation, in their order."""
        return cls(
            [id for part in parts for id in part.ids],
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.predictions for part in parts]),
        )

    def by_error(self) -> "Predictions":
        """Return these from the largest error to the smallest."""
        order = np.argsort(-np.abs(self.predictions - self.labels), kind="stable")
        ids = [self.ids[i] for i in order]
        return Predictions(ids, self.labels[order], self.predictions[order])

    def write(self, path: Path) -> None:
        """Write id,label,prediction, with as many digits as the float needs."""
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(zip(self.ids, self.labels, self.predictions, strict=True))

    @classmethod
    def read(cls, path: Path) -> "Predictions":
        """Read what write wrote. Raises DataError naming the line, FileNotFoundError."""
        ids, numbers = [], []
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise DataError(f"{path}: columns {reader.fieldnames}; expected {list(COLUMNS)}")
            for row in reader:
                try:
                    pair = float(row["label"]), float(row["prediction"])
                except (TypeError, ValueError):
                    pair = np.nan, np.nan
                if not np.isfinite(pair).all():
                    raise DataError(
                        f"{path}: line {reader.line_num}: label {row['label']!r}, "
                        f"prediction {row['prediction']!r}; permitted: finite numbers"
                    )
                ids.append(row["id"])
                numbers.append(pair)
        labels, predictions = np.array(numbers, dtype=np.float64).reshape(-1, 2).T
        return cls(ids, labels, predictions)

    def check(self, where: Path, data: Utterances) -> None:
        """Raise DataError where these are not predictions for this data."""
        if self.ids != data.ids or not np.allclose(self.labels, data.labels, atol=1e-4):
            raise DataError(
                f"{where}: ids and labels are not those of the prepared data; run again"
            )
