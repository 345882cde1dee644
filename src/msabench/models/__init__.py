"""Models by name: one file each, imported by its name; nothing lists them.

A model file binds `Model` to its class, which is either

- a `Network` (see `training.network`), built as `Model(encoder, widths, **network)`, which the loop
  trains: encoder is None without text, widths are the features of each modality (of text: the
  encoder's); or
- a regressor of its own, built as `Model(**network)`, with `fit`, `predict`, `size`, `save` and
  `load`; its text is one frozen vector per utterance.

In params.yaml the settings of a model stand in one flat block. A run's config has them in groups,
one for each reader, and each setting is in one group:

- `encoder`: how the text is read;
- `network`: the keyword-only arguments of the class, checked against their annotations;
  `label_range` and `neutral`, where it has them, are those of the data set;
- `optimizer`: of the type that a Network names, by default AdamW;
- `schedule`: of the loop. A regressor of its own has neither of the last two.
"""

import json
from collections import Counter
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, ValidationError

from msabench.errors import DataError, ParamsError
from msabench.networks.text import build_encoder
from msabench.networks.torch_settings import Device
from msabench.params import Pooling, Strict, TextSettings, describe, settings_of
from msabench.training.loop import History, NetworkRegressor
from msabench.training.network import Network
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


def is_network(name: str) -> bool:
    """Tell whether the loop trains a model. Raises ParamsError for a name without a file."""
    return issubclass(_model(name), Network)


def reads_states(name: str) -> bool:
    """Tell whether a model reads the states of a text's tokens, not one vector of it."""
    return is_network(name) and bool(_model(name).reads_states)


def groups(name: str) -> dict[str, type[BaseModel]]:
    """Return the types of a model's groups of settings.

    Raises ParamsError for a name without a file in this folder, and for a setting in two groups.
    """
    model = _model(name)
    if not is_network(name):
        return {"encoder": FrozenText, "network": settings_of(model)}
    types = {
        "encoder": TextSettings,
        "network": settings_of(model),
        "optimizer": model.optimizer_settings,
        "schedule": Schedule,
    }
    keys = Counter(key for group in types.values() for key in group.model_fields)
    for key, count in keys.items():
        if count > 1:
            owners = [group for group, type_ in types.items() if key in type_.model_fields]
            raise ParamsError(f"models.{name}: {key} is a setting of {' and of '.join(owners)}")
    return types


def check_settings(
    name: str, settings: Mapping[str, Any], where: str, shared: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Return the complete settings of a model, checked, in their groups.

    settings, shared: flat. What `settings` leaves out is taken from `shared`, if the model has a
    setting of that name, or is the default. Raises ParamsError naming an unknown, missing or wrong
    setting and what is permitted.
    """
    types = groups(name)
    known = [key for group in types.values() for key in group.model_fields]
    for key, value in settings.items():
        if key not in known:
            raise ParamsError(
                f"{where}.{key}: unknown setting (value {value!r}); {name} has: {', '.join(known)}"
            )
    values = {**shared, **settings}
    checked: dict[str, dict[str, Any]] = {}
    for group, type_ in types.items():
        own = {key: value for key, value in values.items() if key in type_.model_fields}
        try:
            checked[group] = type_.model_validate(own).model_dump()
        except ValidationError as error:
            raise ParamsError(describe(error, where)) from error
    _try({"model": name, **checked}, where)
    return checked


def _try(config: Mapping[str, Any], where: str) -> None:
    """Build a network for one feature each of audio and vision: settings must fit each other."""
    if misfit := _misfit(json.dumps(config)):
        raise ParamsError(f"{where}: {misfit}")


@cache
def _misfit(config: str) -> str | None:
    """Return what does not fit of a config, as json; cached, as building takes 10 ms."""
    regressor = build(json.loads(config), {"audio": 1, "vision": 1})
    if isinstance(regressor, NetworkRegressor):
        try:
            regressor.build()
        except ValueError as error:
            return str(error)
    return None


def build(
    config: Mapping[str, Any], widths: Mapping[str, int], device: Device = "cpu"
) -> Regressor:
    """Build an untrained model for data of the given widths.

    config: a run of the plan, or run.json: `model` and the groups of its checked settings. Without
    `optimizer` and `schedule` a network predicts, but cannot be trained.
    Raises DataError for data without any modality.
    """
    name = config["model"]
    if not widths:
        raise DataError(f"{name}: the data set has none of the modalities that the run reads")
    model = _model(name)
    if not is_network(name):
        return model(**config["network"])

    def network() -> Network:
        if "text" not in widths:
            return model(None, widths, **config["network"])
        encoder = build_encoder(**config["encoder"], width=widths["text"])
        return model(encoder, {**widths, "text": encoder.width}, **config["network"])

    if "schedule" not in config:
        return NetworkRegressor(network, device=device)
    optimizer = model.optimizer_settings(**config["optimizer"])
    return NetworkRegressor(network, optimizer, Schedule(**config["schedule"]), device)


def about(name: str) -> str:
    """Return what a model says of itself: the first paragraph of its file's docstring."""
    paragraph, _, _ = (import_module(f"msabench.models.{name}").__doc__ or "").partition("\n\n")
    return " ".join(paragraph.split())


def files() -> dict[str, Path]:
    """Return the file of every model, by its name."""
    return {file.stem: file for file in sorted(Path(__file__).parent.glob("[!_]*.py"))}


def _model(name: str) -> Any:
    known = files()
    if name not in known:
        raise ParamsError(f"models.{name}: no such model; permitted: {', '.join(known)}")
    return import_module(f"msabench.models.{name}").Model
