"""Use a saved run: the sentiment of any utterance, from its text and frames.

Frames are repaired as those were that the run learned from. What is not given, or has no frames, is
imputed, as in training. A text: by an empty one. Audio or vision: by one frame, the mean of the
training split's frames. On the default run (simulated data, test split, mean MAE of three seeds)
that frame is better than one of zeros where a model standardizes audio and vision (svm, cnn, ours),
and no worse within the spread of seeds where it does not (self_mm):

               all given   audio missing    vision missing    both missing
                           mean    zeros    mean    zeros     mean    zeros
    self_mm        0.424   0.496   0.514    0.517   0.505     0.643   0.635
    svm            0.527   0.554   0.811    0.598   0.751     0.642   0.831
    cnn            0.460   0.539   0.589    0.549   0.638     0.683   0.827
    ours           0.418   0.513   0.527    0.572   0.571     0.711   0.716
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
from jaxtyping import Float, Float32
from safetensors import SafetensorError

from msabench import runs
from msabench.data.sources._frames import map_frames, repair
from msabench.errors import DataError
from msabench.labels import LabelScale
from msabench.models import Regressor
from msabench.networks.text import Reader
from msabench.networks.torch_settings import Device, choose_device
from msabench.params import GROUPS
from msabench.utterances import MODALITIES, Ragged, Utterances, check_layout

Given: TypeAlias = str | Mapping[str, Any] | Sequence[Any] | Utterances  # see Predictor.predict
Losses: TypeAlias = dict[str, int]  # see Prediction
Read = TypeVar("Read")

# What the seeds of a run must have in common.
SHARED = ("model", *GROUPS, "modalities", "labels", "not_finite", "text", "data", "widths")
NOTHING = "no utterance is given; at least 1 is needed"
CHUNK = 1000  # utterances: bounds the memory of a text's hidden states


@dataclass(frozen=True)
class Prediction:
    """The prediction for one utterance.

    seeds: that of each seed, in units of the label. losses: what the models did not get as it was
    given, counted by kind; a kind that did not occur is left out:

    tokens_cut, tokens_unknown, text_missing: see text.Reader
    text_unread: 1 for a text that is given to a run that reads none
    <modality>_not_finite, <modality>_missing: see sources._frames.repair; what is missing is
        imputed too
    <modality>_imputed: 1 where none is given, and the mean frame is taken
    """

    seeds: Float[np.ndarray, " seeds"]
    losses: Losses


@dataclass(frozen=True)
class Prepared:
    """An utterance with checked, finite frames, (t, d), of each modality that the run reads."""

    id: str
    text: str
    frames: Mapping[str, Float32[np.ndarray, "_ _"]]
    losses: Losses


def load(run: str | Path, device: Device = "auto") -> "Predictor":
    """Return what predicts as a saved run does: `runs/ours-1`, or all seeds of one, `runs/ours`.

    Raises DataError where there is no whole run, or where its seeds do not belong together.
    """
    return Predictor(folders(Path(run)), device)


def config(run: Path) -> dict[str, Any]:
    """Return run.json of a saved run; of several seeds, that of the first. Raises as `load`."""
    return _config(folders(run)[0])


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
        known = sorted({path.name.rpartition("-")[0] for path in seeds}) or ["none"]
        raise DataError(f"{run}: no such run; in {run.parent} there are: {', '.join(known)}")
    return [_trained(path) for path in sorted(own, key=lambda path: int(_seed(path)))]


def _planned(folder: Path) -> list[str]:
    """Return the seeds that the plan beside a run has: others are left from other settings."""
    file = folder.parent / "plan/stages/tables.json"
    plan = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    seeds = (plan.get(key, []) for key in ("seeds", "sweep_seeds", "ablation_seeds"))
    return [str(seed) for of_stage in seeds for seed in of_stage]


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
            config = _config(folder)
            with _damage_named(folder):
                regressor = runs.restore(folder, config, device)
            if not self.regressors:
                self.config = config
            if different := [key for key in SHARED if config.get(key) != self.config.get(key)]:
                raise DataError(
                    f"{folder}: {', '.join(different)} in run.json differ from {self.folders[0]}, "
                    "so one is left from other settings: name the seed to use, or train both again"
                )
            self.regressors.append(regressor)
        with _damage_named(self.folders[0]):
            labels = self.config["labels"]
            self.scale = LabelScale.of(labels["range"], labels["neutral"])
        self.widths: dict[str, int] = self.config["widths"]

    def predict(self, utterances: Given) -> Float[np.ndarray, " n"]:
        """Return the sentiment of each utterance: the mean over the seeds, in units of the label.

        utterances: a text, or a mapping with `text`, `audio` and `vision`, or a list of those;
        frames are an array, (frames, features), or the path of a .npy file with one; an `id` is
        what errors call the utterance. Or the Utterances of prepared data. What was repaired for
        training is repaired here too: `attempt` counts it.
        Raises DataError for the first that the run cannot read, naming it and what is permitted.
        """
        return self.predict_each(utterances).mean(axis=0)

    def predict_each(self, utterances: Given) -> Float[np.ndarray, "seeds n"]:
        """Return the predictions of each seed; see predict."""
        predicted = [_or_raise(one) for one in self._predicted(self.gather(utterances))]
        return np.stack([one.seeds for one in predicted], axis=1)

    def attempt(self, utterances: Given) -> list[Prediction | DataError]:
        """Return the prediction for each utterance, or the error of one that cannot be read.

        utterances: see predict.
        """
        prepared = list(self._prepared(utterances))
        predicted = self._predicted([one for one in prepared if isinstance(one, Prepared)])
        return [one if isinstance(one, DataError) else next(predicted) for one in prepared]

    def gather(self, utterances: Given) -> list[Prepared]:
        """Return utterances with the frames of all that the run reads; see predict."""
        prepared = [_or_raise(one) for one in self._prepared(utterances)]
        if not prepared:
            raise DataError(NOTHING)
        return prepared

    def read(self, prepared: Sequence[Prepared]) -> tuple[Utterances, list[Losses]]:
        """Return utterances as the models read them, text included, and the losses of each."""
        data = Utterances(
            ids=[one.id for one in prepared],
            texts=[one.text for one in prepared],
            labels=np.full(len(prepared), np.nan, np.float32),
            sequences={
                name: Ragged.of([one.frames[name] for one in prepared]) for name in self._framed
            },
        )
        losses = [one.losses for one in prepared]
        if "text" in self.widths:
            tokens, of_texts = self._reader.tokens_and_losses(data.texts)
            data = data.with_text(self._reader.read(tokens))
            losses = [of_text | own for of_text, own in zip(of_texts, losses, strict=True)]
        return data, [{kind: n for kind, n in own.items() if n} for own in losses]

    def predict_read(self, data: Utterances) -> Float[np.ndarray, "seeds n"]:
        """Return the predictions of each seed for what `read` returned; some may not be finite."""
        return np.stack([regressor.predict(data) for regressor in self.regressors]).astype(float)

    def without(self, data: Utterances, modality: str) -> Utterances:
        """Return what `read` returned with one modality as if it had not been given."""
        if modality == "text":
            return data.with_text(self._reader.read(self._reader.tokens([""] * len(data))))
        absent = Ragged.of([self._mean_frames[modality]] * len(data))
        return replace(data, sequences={**data.sequences, modality: absent})

    @cached_property
    def _reader(self) -> Reader:
        return Reader(self.config["encoder"], self.config["text"], self.device)

    @cached_property
    def _mean_frames(self) -> dict[str, Float32[np.ndarray, "1 d"]]:
        file = self.folders[0] / runs.MEAN_FRAMES
        means = json.loads(file.read_text(encoding="utf-8"))
        return {name: np.array([mean], np.float32) for name, mean in means.items()}

    @property
    def _framed(self) -> list[str]:
        """The modalities that the run reads as frames."""
        return [name for name in self.widths if name != "text"]

    def _predicted(self, prepared: Sequence[Prepared]) -> Iterator[Prediction | DataError]:
        for start in range(0, len(prepared), CHUNK):
            data, losses = self.read(prepared[start : start + CHUNK])
            for id, seeds, own in zip(data.ids, self.predict_read(data).T, losses, strict=True):
                if np.isfinite(seeds).all():
                    yield Prediction(seeds, own)
                else:
                    yield DataError(f"{id}: the prediction is not finite")

    def _prepared(self, given: Given) -> Iterator[Prepared | DataError]:
        """Yield each utterance, or why it cannot be read."""
        if isinstance(given, str | Mapping):
            given = [given]
        ones: Iterable[Any] = _mappings(given) if isinstance(given, Utterances) else given
        for i, one in enumerate(ones, start=1):
            one = {"text": one} if isinstance(one, str) else one
            id = str(one["id"]) if isinstance(one, Mapping) and "id" in one else f"utterance {i}"
            try:
                if not isinstance(given, Utterances):  # a split may lack what these may not
                    self._check(id, one)
                yield self._prepare(id, one)
            except DataError as error:
                yield error

    def _check(self, id: str, one: object) -> None:
        """Raise DataError for what is no utterance that the run can read."""
        if not isinstance(one, Mapping):
            kind = type(one).__name__
            raise DataError(f"{id}: a {kind}; permitted: a text, or a mapping that has one")
        permitted = ["text", *self._framed]
        for key, value in one.items():
            if key not in ("id", *permitted) and not (key in MODALITIES and value is None):
                raise DataError(f"{id}: {key!r}; this run reads {', '.join(permitted)}")
        text = one.get("text")
        if not isinstance(text, str | None):
            raise DataError(f"{id}: text is a {type(text).__name__}; permitted: a string")
        spoken = "text" in self.widths and bool((text or "").strip())
        if not spoken and all(one.get(name) is None for name in self._framed):
            raise DataError(f"{id}: nothing is given; this run reads {', '.join(self.widths)}")

    def _prepare(self, id: str, one: Mapping[str, Any]) -> Prepared:
        text = one.get("text") or ""
        try:
            text.encode()
        except UnicodeEncodeError:
            raise DataError(f"{id}: text {text!a} is not Unicode") from None
        losses = {"text_unread": int("text" not in self.widths and bool(text.strip()))}
        frames = {}
        for name in self._framed:
            frames[name], counts = self._frames(id, name, one.get(name))
            losses |= {f"{name}_{kind}": count for kind, count in counts.items()}
        return Prepared(id, text, frames, losses)

    def _frames(self, id: str, name: str, given: Any) -> tuple[Float32[np.ndarray, "t d"], Losses]:
        """Return checked frames, and what was repaired; the mean frame where none are given.

        given: an array, or the path of a file with one.
        """
        if given is None:
            return self._mean_frames[name], {"imputed": 1}
        where = f"{id}: {name}"
        try:
            if isinstance(given, str | Path):
                frames = np.array(map_frames(Path(given)))  # a copy: a mapped file stays open
                where = f"{where} {given}"
            else:
                frames = np.ma.filled(given, np.nan)  # what is masked is not there
        except (OSError, RuntimeError, TypeError, ValueError) as error:  # as of uneven rows
            raise DataError(f"{where}: {error}") from None
        width = self.widths[name]
        if frames.dtype.kind not in "fiu" or frames.ndim != 2:
            raise DataError(
                f"{where}: {frames.dtype} of shape {frames.shape}; permitted: numbers, "
                f"(frames, {width})"
            )
        if frames.shape[1] != width:
            raise DataError(
                f"{where}: {frames.shape[1]} features in a frame; this run reads {width}"
            )
        try:
            frames, counts = repair(frames, self.config["not_finite"])
        except DataError as error:
            raise DataError(f"{where}: {error}") from None
        return (self._mean_frames[name] if counts["missing"] else frames), counts


def _mappings(data: Utterances) -> Iterator[dict[str, Any]]:
    """Yield what a split holds of each utterance, as views of its frames, none where imputed."""
    framed = {
        name: replace(ragged, mean_frame=None)
        for name, ragged in data.sequences.items()
        if name != "text"
    }
    for name, ragged in framed.items():
        check_layout(name, ragged, len(data))
    for i, (id, text) in enumerate(zip(data.ids, data.texts, strict=True)):
        yield {"id": id, "text": text, **{name: ragged[i] for name, ragged in framed.items()}}


def _or_raise(one: Read | DataError) -> Read:
    if isinstance(one, DataError):
        raise one
    return one


def _config(folder: Path) -> dict[str, Any]:
    with _damage_named(folder):
        return runs.config(folder)


@contextmanager
def _damage_named(folder: Path) -> Iterator[None]:
    """Raise DataError that names the folder for what cannot be read as a run."""
    try:
        yield
    except (KeyError, TypeError, RuntimeError, SafetensorError, json.JSONDecodeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{folder}: damaged, or of another version ({reason})") from error
