"""Models by name: one file each, found by import; nothing lists them.

A model file binds `Model` to its class. The settings that params.yaml may give it are the
keyword-only arguments of the constructor, checked against their annotations; `label_range` and
`neutral`, where it has them, are those of the data set. A class is either

- a `Network` (see `training`), built as `Model(encoder, widths, **settings)`, which the loop
  trains and whose block also holds the settings of the text encoder and of the loop: encoder is
  None without text, widths are the features of each modality (of text: the encoder's); or
- a regressor of its own, built as `Model(**settings)`, with `fit`, `predict`, `size`, `save` and
  `load`; its text is one frozen vector per utterance.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, ValidationError

from msabench.errors import DataError, ParamsError
from msabench.networks.encoders import MINILM
from msabench.networks.text import build_encoder
from msabench.networks.torch_settings import Device
from msabench.params import Pooling, Strict, TextSettings, describe, settings_of
from msabench.training.loop import History, Network, NetworkRegressor
from msabench.training.schedule import Schedule
from msabench.utterances import Utterances


@runtime_checkable
class Regressor(Protocol):
    """What every model is to a stage."""

    def fit(self, train: Utterances, valid: Utterances, *, seed: int, scratch: Path) -> History:
        """Train on train, choose on valid; scratch outlives an interruption."""

    def predict(self, data: Utterances) -> Float[np.ndarray, " n"]:
        """Predict the sentiment of each utterance."""

    def size(self) -> dict[str, int]:
        """Return in numbers what training has fitted, each by what it counts."""

    def save(self, folder: Path) -> None:
        """Write the weights into the folder."""

    def load(self, folder: Path) -> None:
        """Read the weights that save wrote."""


class FrozenText(Strict):
    """How a model that trains no encoder reads the text."""

    pooling: Pooling


def accepted_settings(name: str) -> list[type[BaseModel]]:
    """Return the groups of settings of a model: text, own, and those of the loop for a network.

    Raises ParamsError for a name without a file in this folder.
    """
    model = _model(name)
    own = settings_of(model)
    return [TextSettings, own, Schedule] if issubclass(model, Network) else [FrozenText, own]


def check_settings(
    name: str, settings: Mapping[str, Any], where: str, shared: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the complete settings of a model, checked.

    What `settings` leaves out is taken from `shared`, if the model has a setting of that name, or
    is the default. Raises ParamsError naming an unknown, missing or wrong setting and what is
    permitted.
    """
    groups = accepted_settings(name)
    known = [key for group in groups for key in group.model_fields]
    for key, value in settings.items():
        if key not in known:
            raise ParamsError(
                f"{where}.{key}: unknown setting (value {value!r}); {name} has: {', '.join(known)}"
            )
    settings = {key: value for key, value in shared.items() if key in known} | dict(settings)
    checked: dict[str, Any] = {}
    for group in groups:
        part = {key: value for key, value in settings.items() if key in group.model_fields}
        try:
            checked |= group.model_validate(part).model_dump()
        except ValidationError as error:
            raise ParamsError(describe(error, where)) from error
    _try(name, checked, where)
    return checked


def _try(name: str, settings: Mapping[str, Any], where: str) -> None:
    """Build a network for one feature each of audio and vision: settings must fit each other."""
    regressor = build(name, settings, {"audio": 1, "vision": 1})
    if isinstance(regressor, NetworkRegressor):
        try:
            regressor.build()
        except ValueError as error:
            raise ParamsError(f"{where}: {error}") from error


def build(
    name: str,
    settings: Mapping[str, Any],
    widths: Mapping[str, int],
    *,
    text_encoder: str = MINILM,
    device: Device = "cpu",
) -> Regressor:
    """Build an untrained model for data of the given widths from checked settings.

    Raises DataError for data without any modality.
    """
    if not widths:
        raise DataError(f"{name}: the data set has none of the modalities that the run reads")
    model = _model(name)
    groups = [
        {key: settings[key] for key in group.model_fields} for group in accepted_settings(name)
    ]
    if not issubclass(model, Network):
        return model(**groups[1])
    text, own, loop = groups

    def network() -> Network:
        if "text" not in widths:
            return model(None, widths, **own)
        encoder = build_encoder(text_encoder, width=widths["text"], **text)
        return model(encoder, {**widths, "text": encoder.width}, **own)

    return NetworkRegressor(network, Schedule(**loop), device)


def about(name: str) -> str:
    """Return what a model says of itself: the first paragraph of its file's docstring."""
    paragraph, _, _ = (import_module(f"msabench.models.{name}").__doc__ or "").partition("\n\n")
    return " ".join(paragraph.split())


def _model(name: str) -> Any:
    known = sorted(file.stem for file in Path(__file__).parent.glob("[!_]*.py"))
    if name not in known:
        raise ParamsError(f"models.{name}: no such model; there are: {', '.join(known)}")
    return import_module(f"msabench.models.{name}").Model
