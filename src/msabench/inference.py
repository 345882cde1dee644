"""Use a saved run: the sentiment of any utterance, from its text and frames.

What is not given is stood in for. A text: by an empty one. Audio or vision: by one frame, the mean
of the training split's frames. On the default run (simulated data, test split, mean MAE of three
seeds) that frame is better than one of zeros where a model standardizes audio and vision (svm,
cnn, ours), and no worse within the spread of seeds where it does not (self_mm):

               all given   audio missing    vision missing    both missing
                           mean    zeros    mean    zeros     mean    zeros
    self_mm        0.424   0.496   0.514    0.517   0.505     0.643   0.635
    svm            0.527   0.554   0.811    0.598   0.751     0.642   0.831
    cnn            0.460   0.539   0.589    0.549   0.638     0.683   0.827
    ours           0.418   0.513   0.527    0.572   0.571     0.711   0.716
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError

from msabench import runs
from msabench.errors import DataError
from msabench.labels import LabelScale
from msabench.models import Regressor
from msabench.sources._frames import map_frames
from msabench.text import Reader
from msabench.training import Device, choose_device
from msabench.utterances import MODALITIES, Ragged, Utterances, check_sequences

Given: TypeAlias = str | Mapping[str, Any] | Sequence[Any] | Utterances  # see Predictor.predict

# What the seeds of a run must have in common.
SHARED = ("model", "settings", "modalities", "labels", "text_encoder", "text", "data", "widths")
NOTHING = "no utterance is given; at least 1 is needed"
CHUNK = 1000  # utterances: bounds the memory of a text's hidden states


def load(run: str | Path, device: Device = "auto") -> "Predictor":
    """Return what predicts as a saved run does: `runs/ours-1`, or all seeds of one, `runs/ours`.

    Raises DataError where there is no whole run, or where its seeds do not belong together.
    """
    return Predictor(folders(Path(run)), device)


def folders(run: Path) -> list[Path]:
    """Return the folder of a run and seed, or of each seed of a run, in their order.

    A row of the sweep that trained nothing leads to the run that it equals.
    """
    if run.is_dir():
        return [_trained(run)]
    seeds = [path for path in run.parent.glob("*-*") if re.fullmatch(r".+-\d+", path.name)]
    own = [path for path in seeds if path.name.rpartition("-")[0] == run.name]
    own = [path for path in own if _seed(path) in _planned(path)] or own
    if not own:
        there = sorted({path.name.rpartition("-")[0] for path in seeds}) or ["none"]
        raise DataError(f"{run}: no such run; in {run.parent} there are: {', '.join(there)}")
    return [_trained(path) for path in sorted(own, key=lambda path: int(_seed(path)))]


def _planned(folder: Path) -> list[str]:
    """Return the seeds that the plan beside a run has: others are left from other settings."""
    file = folder.parent / "plan/stages/tables.json"
    plan = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return [str(seed) for seed in {*plan.get("seeds", []), *plan.get("sweep_seeds", [])}]


def _seed(folder: Path) -> str:
    return folder.name.rpartition("-")[2]


def _trained(folder: Path) -> Path:
    alias = folder / "same_as.json"
    if not alias.is_file():
        return folder
    return folder.with_name(f"{json.loads(alias.read_text())['same_as']}-{_seed(folder)}")


class Predictor:
    """The trained models of a run, one for each seed; their mean is its prediction.

    folders: of each seed. config: run.json of the first. scale: of the labels that it learned.
    widths: by modality that the run reads, the features of a frame.
    """

    def __init__(self, folders: Sequence[Path], device: Device = "auto") -> None:
        self.folders = list(folders)
        self.device = choose_device(device)
        self.regressors: list[Regressor] = []
        for folder in self.folders:
            config, regressor = _restore(folder, device)
            if not self.regressors:
                self.config = config
            if different := [key for key in SHARED if config[key] != self.config[key]]:
                raise DataError(
                    f"{folder}: {', '.join(different)} in run.json differ from {self.folders[0]}, "
                    "so one is left from other settings: name the seed to use, or train both anew"
                )
            self.regressors.append(regressor)
        labels = self.config["labels"]
        self.scale = LabelScale.of(labels["range"], labels["neutral"])
        self.widths: dict[str, int] = self.config["widths"]

    def predict(self, utterances: Given) -> Float[np.ndarray, " n"]:
        """Return the sentiment of each utterance: the mean over the seeds, in units of the label.

        utterances: a text, or a mapping with `text`, `audio` and `vision`, or a list of those;
        frames are an array, (frames, features), or the path of a .npy file with one; an `id` is
        what errors call the utterance. Or the Utterances of prepared data.
        Raises DataError for what the run cannot read, naming it and what is permitted.
        """
        return self.predict_each(utterances).mean(axis=0)

    def predict_each(self, utterances: Given) -> Float[np.ndarray, "seeds n"]:
        """Return the predictions of each seed; see predict."""
        data = self.gather(utterances)
        chunks = [np.arange(len(data))[i : i + CHUNK] for i in range(0, len(data), CHUNK)]
        return np.hstack([self.predict_read(self.read(data.take(chunk))) for chunk in chunks])

    def predict_read(self, data: Utterances) -> Float[np.ndarray, "seeds n"]:
        """Return the predictions of each seed for what `read` returned."""
        found = np.stack([regressor.predict(data) for regressor in self.regressors])
        finite = np.isfinite(found).all(axis=0)
        if not finite.all():
            raise DataError(f"{data.ids[int(finite.argmin())]}: the prediction is not finite")
        return found.astype(np.float64)

    def gather(self, given: Given) -> Utterances:
        """Return utterances with the frames of all that the run reads, checked, but no text."""
        data = given if isinstance(given, Utterances) else self._gather(given)
        if len(data) == 0:
            raise DataError(NOTHING)
        sequences = {}
        for name in self.widths:
            if name != "text":
                ragged = data.sequences.get(name)
                sequences[name] = self._absent(name, len(data)) if ragged is None else ragged
        data = replace(data, sequences=sequences, given_tokens=None)
        for name, ragged in data.sequences.items():
            self._check_width(name, name, ragged.width)
            check_sequences(name, ragged, len(data), data.ids)
        return data

    def read(self, data: Utterances) -> Utterances:
        """Add the text of utterances, as the run reads it."""
        return self._with_text(data, data.texts) if "text" in self.widths else data

    def without(self, data: Utterances, modality: str) -> Utterances:
        """Return what `read` returned with one modality as if it had not been given."""
        if modality == "text":
            return self._with_text(data, [""] * len(data))
        absent = self._absent(modality, len(data))
        return replace(data, sequences={**data.sequences, modality: absent})

    @cached_property
    def _reader(self) -> Reader:
        return Reader(self.config["text_encoder"], self.config["text"], self.device)

    @cached_property
    def _mean_frames(self) -> dict[str, list[float]]:
        file = self.folders[0] / runs.MEAN_FRAMES
        return json.loads(file.read_text(encoding="utf-8"))

    def _with_text(self, data: Utterances, texts: list[str]) -> Utterances:
        return data.with_text(self._reader.read(self._reader.tokens(texts)))

    def _absent(self, modality: str, n: int) -> Ragged:
        frame = np.array(self._mean_frames[modality], np.float32)
        return Ragged(np.tile(frame, (n, 1)), np.arange(n + 1))

    def _check_width(self, where: str, modality: str, width: int) -> None:
        if width != self.widths[modality]:
            raise DataError(
                f"{where}: {width} features in a frame; this run reads {self.widths[modality]}"
            )

    def _gather(self, given: str | Mapping[str, Any] | Sequence[Any]) -> Utterances:
        listed = [given] if isinstance(given, str | Mapping) else list(given)
        if not listed:
            raise DataError(NOTHING)
        ones = [{"text": one} if isinstance(one, str) else one for one in listed]
        ids = [
            str(one["id"]) if isinstance(one, Mapping) and "id" in one else f"utterance {i}"
            for i, one in enumerate(ones, start=1)
        ]
        for id, one in zip(ids, ones, strict=True):
            self._check(id, one)
        sequences = {
            name: Ragged.of(
                [self._frames(id, name, one.get(name)) for id, one in zip(ids, ones, strict=True)]
            )
            for name in self.widths
            if name != "text"
        }
        texts = [one.get("text") or "" for one in ones]
        return Utterances(ids, texts, np.full(len(ones), np.nan, np.float32), sequences)

    def _check(self, id: str, one: object) -> None:
        """Raise DataError for what is no utterance that the run can read."""
        if not isinstance(one, Mapping):
            kind = type(one).__name__
            raise DataError(f"{id}: a {kind}; permitted: a text, or a mapping that has one")
        permitted = ["id", "text", *(name for name in self.widths if name != "text")]
        for key, value in one.items():
            if key not in permitted and not (key in MODALITIES and value is None):
                raise DataError(f"{id}: {key!r}; this run reads {', '.join(permitted[1:])}")
        text = one.get("text")
        if not isinstance(text, str | None):
            raise DataError(f"{id}: text is a {type(text).__name__}; permitted: a string")
        try:
            (text or "").encode()
        except UnicodeEncodeError:
            raise DataError(f"{id}: text {text!a} is not Unicode") from None
        spoken = "text" in self.widths and bool((text or "").strip())
        if not spoken and all(one.get(name) is None for name in permitted[2:]):
            raise DataError(f"{id}: nothing is given; this run reads {', '.join(self.widths)}")

    def _frames(self, id: str, name: str, given: Any) -> Float[np.ndarray, "t d"]:
        """Return checked frames; the mean frame where none are given. given: an array, or path."""
        if given is None:
            return self._absent(name, 1).values
        if isinstance(given, str | Path):
            where, frames = f"{id}: {name} {given}", self._from_file(f"{id}: {name}", Path(given))
        else:
            where, frames = f"{id}: {name}", self._from_values(f"{id}: {name}", given)
        if frames.dtype.kind not in "fiu" or frames.ndim != 2 or len(frames) == 0:
            raise DataError(
                f"{where}: {frames.dtype} of shape {frames.shape}; permitted: numbers, "
                f"(frames, {self.widths[name]}), with at least 1 frame"
            )
        self._check_width(where, name, frames.shape[1])
        with np.errstate(over="ignore", invalid="ignore"):  # becomes infinite, and is seen as such
            converted = np.asarray(frames, np.float32)
        if not np.isfinite(converted).all():
            row, column = np.argwhere(~np.isfinite(converted))[0]
            raise DataError(
                f"{where}: frame {row}, feature {column} is {frames[row, column]}; "
                "permitted: finite numbers of float32"
            )
        return converted

    def _from_values(self, where: str, given: Any) -> np.ndarray:
        try:
            return np.asarray(given)
        except ValueError as error:  # as of rows of different lengths
            raise DataError(f"{where}: {error}") from None

    def _from_file(self, where: str, file: Path) -> np.ndarray:
        try:
            return map_frames(file)
        except DataError as error:
            raise DataError(f"{where}: {error}") from None


def _restore(folder: Path, device: Device) -> tuple[dict[str, Any], Regressor]:
    try:
        config, regressor = runs.restore(folder, device)
        complete = "max_tokens" in config["text"] and "labels" in config
        if not complete or not (folder / runs.MEAN_FRAMES).is_file():
            raise DataError(f"{folder}: made by an earlier version; train it again: `dvc repro`")
        return config, regressor
    except (KeyError, TypeError, RuntimeError, SafetensorError, json.JSONDecodeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{folder}: damaged, or of another version ({reason})") from error
