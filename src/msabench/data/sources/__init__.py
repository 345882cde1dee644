"""Sources: one file for each format of raw data, discovered by name.

A source has `read(path, **settings)`, which returns the splits train, valid and test (or folds, see
msabench.folds, where it is asked for them); one that
generates its data also has `simulate(**settings)` and `write(path, **settings)`. A data set's
settings in params.yaml are the keyword-only arguments of `simulate`, or else of `read`.
A source of data that is a folder binds `FOLDER = True`. One of data that may bring the names of
their features along has `names(path, widths)`, which returns them by modality and column. One that
draws a split where the data have none has `drawn(path, **settings)`, which says how.
"""

from collections.abc import Mapping
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from msabench import errors
from msabench.errors import ParamsError
from msabench.params import describe, settings_of
from msabench.utterances import Utterances


def load(source: str) -> Any:
    """Import the source of that name. Raises ParamsError for an unknown one."""
    known = sorted(file.stem for file in Path(__file__).parent.glob("[!_]*.py"))
    if source not in known:
        raise ParamsError(f"source: {source!r}; permitted: {', '.join(known)}")
    return import_module(f"msabench.data.sources.{source}")


def makes_data(source: str) -> bool:
    """Return whether the source generates its data, instead of reading a file."""
    return hasattr(load(source), "simulate")


def reads_folder(source: str) -> bool:
    """Return whether the raw data are a folder, instead of one file."""
    return getattr(load(source), "FOLDER", False)


def check_settings(source: str, settings: Mapping[str, Any], where: str) -> None:
    """Raise ParamsError for a source or a setting that does not exist or is not permitted."""
    module = load(source)
    accepted = settings_of(module.simulate if makes_data(source) else module.read)
    for key, value in settings.items():
        if key not in accepted.model_fields:
            known = ", ".join(accepted.model_fields) or "none"
            raise ParamsError(
                f"{where}.{key}: unknown setting (value {value!r}); permitted for {source}: {known}"
            )
    try:
        accepted.model_validate(settings)
    except ValidationError as error:
        raise ParamsError(describe(error, where)) from error


def not_finite(source: str, settings: Mapping[str, Any]) -> str:
    """Return how the source treats values that are not finite: see `_frames.repair`."""
    parameter = signature(load(source).read).parameters.get("not_finite")
    return settings.get("not_finite", parameter.default if parameter else "zero")


def folds(source: str, settings: Mapping[str, Any]) -> int | None:
    """Return the number of folds that the source is to draw; None for a split."""
    return settings.get("folds") if hasattr(load(source), "drawn") else None


@errors.see("docs/features.md")
def names(source: str, path: Path, widths: Mapping[str, int]) -> dict[str, dict[int, str]]:
    """Return the names of features that the raw data bring along, by modality and column.

    widths: features per frame by modality. Raises DataError for names that do not fit them.
    """
    module = load(source)
    return module.names(path, widths) if hasattr(module, "names") else {}


def drawn(source: str, path: Path, settings: Mapping[str, Any]) -> str:
    """Say how the split was drawn; nothing where it is that of the data."""
    module = load(source)
    return module.drawn(path, **settings) if hasattr(module, "drawn") else ""


@errors.see("docs/data.md")
def read(source: str, path: Path, settings: Mapping[str, Any]) -> dict[str, Utterances]:
    """Read raw data with the source of that name. Raises DataError for invalid data."""
    return load(source).read(path, **settings)
