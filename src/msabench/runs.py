"""One run: a model, its settings and a seed, from prepared data to predictions on disk."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msabench import models
from msabench.models import Regressor
from msabench.predictions import Predictions
from msabench.training import write_history
from msabench.utterances import Utterances


def fit_and_predict(
    config: Mapping[str, Any],
    splits: Mapping[str, Utterances],
    seed: int,
    *,
    scratch: Path,
    outcome: Path,
) -> Regressor:
    """Fit on train and valid; write predictions of valid and test, and the history, to outcome.

    config: a run of the plan. scratch: where an unfinished training keeps its checkpoint.
    """
    train = splits["train"]
    regressor = models.build(
        config["model"],
        config["settings"],
        train.widths,
        text_encoder=config["text_encoder"],
        device=config["device"],
    )
    history = regressor.fit(train, splits["valid"], seed=seed, scratch=scratch)
    outcome.mkdir(parents=True, exist_ok=True)
    for split in ("valid", "test"):
        data = splits[split]
        found = Predictions(data.ids, data.labels, regressor.predict(data))
        found.write(outcome / f"{split}.csv")
    write_history(outcome / "history.csv", history)
    return regressor
