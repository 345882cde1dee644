"""A saved run, used: predictions for any utterance, and what they rest on."""

from msabench.inference.predictor import (
    NOTHING,
    Given,
    Losses,
    Prediction,
    Predictor,
    config,
    folders,
    load,
)

__all__ = ["NOTHING", "Given", "Losses", "Prediction", "Predictor", "config", "folders", "load"]
