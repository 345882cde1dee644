"""Tools to compare models of multimodal sentiment analysis and to trust the comparison."""

from importlib import import_module
from pathlib import Path
from typing import Any

from msabench import arithmetic

__version__ = "0.2.0"

arithmetic.set_numpy()


def load(run: str | Path, **options: Any) -> Any:
    """Return a saved run, which predicts: `load("runs/ours").predict(["I loved it"])`.

    See `msabench.inference.load`; it is imported here, because PyTorch takes seconds to import.
    """
    return import_module("msabench.inference").load(run, **options)
