"""How a run ended, by its history and its schedule."""

import json

import numpy as np
import pytest

from msabench.evaluation import fits
from msabench.predictions import Predictions
from msabench.training.loop import write_history


@pytest.mark.parametrize(
    ("decay", "kind", "limited"),
    [
        ("none", "none", True),
        ("linear", "linear", False),  # the smallest steps are nearly always the best
        ({"factor": 0.5, "patience": 2, "threshold": 1e-4}, "plateau", True),
    ],
)
def test_a_run_whose_last_permitted_epoch_was_the_best(decay, kind, limited, tmp_path):
    folder = tmp_path / "mine-1"
    folder.mkdir()
    labels = np.array([-1.0, 0.5, 2.0], np.float32)
    Predictions(["a", "b", "c"], labels, labels / 2).write(folder / "test.csv")
    losses = [{"epoch": epoch, "valid_loss": 1.0 / epoch} for epoch in (1, 2, 3)]
    write_history(folder / "history.csv", losses)
    schedule = {"batch_size": 4, "epochs": 3, "patience": 2, "decay": decay}
    (folder / "run.json").write_text(json.dumps({"schedule": schedule}))
    (fit,) = fits.measure(["mine-1"], tmp_path).values()
    assert json.loads(json.dumps(fit)) == {
        "spread": pytest.approx(0.5),
        "best_epoch": 3,
        "epochs": 3,
        "decay": kind,
    }
    assert fits.at_limit(fit) == limited
