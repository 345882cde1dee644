"""params.yaml as typed, validated settings. Knows no model: blocks of models are checked there."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    create_model,
    model_validator,
)
from ruamel.yaml import YAML, YAMLError
from typing_extensions import TypedDict

from msabench import errors
from msabench.arithmetic import Setting
from msabench.errors import ParamsError
from msabench.labels import SIMS, LabelScale

RunName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$")]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


# A run's settings, by who reads them. No key is in two groups; a regressor that is no network has
# the first two alone.
GROUPS = ("encoder", "network", "optimizer", "schedule")
AUTO = "auto"  # a setting's value: that of the preset

T = TypeVar("T")


class OfModalities(TypedDict, Generic[T]):
    """A value for each modality."""

    text: T
    audio: T
    vision: T


class OfFrames(TypedDict, Generic[T]):
    """A value for each modality that is a sequence of frames."""

    audio: T
    vision: T


# The label that a network predicts before training: of the training split the median, also where
# the labels have no neutral point.
Start = Literal["neutral", "median"]
TrainableLayers = NonNegativeInt | Literal["all"]
Pooling = Literal["cls", "mean"]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Size = Literal["few"]  # of data sets, by which presets are chosen
SIZES = get_args(Size)
EncoderSize = Literal["base"]  # of text encoders, by which presets are chosen too
ENCODER_SIZES = get_args(EncoderSize)


class Strict(BaseModel):
    """No unknown key, no silent conversion."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Dataset(Strict):
    """A data set: which source reads it, which file it is, and where that lies.

    source: file in src/msabench/data/sources. title: its name in tables and figures. file, sha256:
    identity of the file, or of the folder (`make hash DATA=...`); both null where the source makes
    the data. path: absolute path of it on this machine, or else the environment variable
    path_variable names it, or else it is fetched from url: hf://datasets/<owner>/<name>/<file> on
    the Hugging Face hub, or whatever fsspec opens (https, s3, gs). by_hand: where a person gets
    it. None of these is part of the data's identity. metrics: which set of metrics. text_encoder:
    the one for its texts, where params.yaml says auto at the top. corpus: which entry of
    corpora.json says what the data are, who labelled them and on what terms they are given. size:
    few, for the presets of few utterances. label_range: the lowest and the highest label. neutral:
    the label that is neither positive nor negative; by default 0 where it lies inside the range,
    else there is none. settings: of the source.
    """

    source: str
    title: str
    label_range: list[float] = Field(default=[-3.0, 3.0], min_length=2, max_length=2)
    neutral: float | None = None
    metrics: Literal["mosei", "sims"] = "mosei"
    file: RunName | None = None
    sha256: Sha256 | None = None
    path: str | None = None
    path_variable: str | None = None
    url: str | None = None
    by_hand: str | None = None
    text_encoder: str = "sentence-transformers/all-MiniLM-L6-v2"
    corpus: str | None = None
    size: Size | None = None
    settings: dict[str, Any] = {}

    @model_validator(mode="after")
    def _complete(self) -> "Dataset":
        if self.path is not None and not Path(self.path).is_absolute():
            # Queued experiments run in other folders, where a relative path means something else.
            raise ValueError(f"path: {self.path!r} is relative; it must be absolute")
        if (self.file is None) != (self.sha256 is None):
            raise ValueError("file and sha256 belong together: give both or neither")
        scale = self.scale
        if self.metrics == "sims" and scale != SIMS:
            raise ValueError(f"metrics: 'sims' is for {SIMS}; these are {scale}")
        return self

    @property
    def scale(self) -> LabelScale:
        """Range and neutral point of the labels. Raises ValueError where they are none."""
        return LabelScale.of(self.label_range, self.neutral)


class Ablation(Strict):
    """Models that are trained on every subset of the modalities too, and with which seeds."""

    models: list[str]
    seeds: list[Seed]


class Grid(BaseModel):
    """What `make tune` tries: seeds, and the values of each setting by its name."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    __pydantic_extra__: dict[str, Annotated[list[Any], Field(min_length=1)]]

    seeds: list[Seed] = Field(min_length=1)


class Tune(Strict):
    """Candidates of `make tune`: changes of a model's block, by name, trained with all seeds."""

    model: RunName
    seeds: list[Seed]
    candidates: dict[RunName, dict[str, Any]]


class TextSettings(Strict):
    """How a model reads the text of an encoder.

    trainable_layers: the top layers that it trains. pooling: of the last layer's states into one
    vector, that of the first token or the mean over all real ones.
    """

    trainable_layers: TrainableLayers
    pooling: Pooling


class KnownEncoder(TextSettings):
    """A text encoder: how models read it, and perhaps its files on the Hugging Face hub.

    size: base, for the presets of larger encoders. commit, sha256: of the repository and of each
    file that is read, for an encoder that the code does not name. licence, language: for the cards.
    """

    size: EncoderSize | None = None
    commit: Annotated[str, Field(pattern="^[0-9a-f]{40}$")] | None = None
    sha256: dict[Annotated[str, Field(pattern=r"^[\w-][\w.-]*$")], Sha256] = {}
    licence: str | None = None
    language: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> "KnownEncoder":
        if (self.commit is None) != (not self.sha256):
            raise ValueError("commit and sha256 belong together: give both or neither")
        if self.sha256 and not any(file.endswith(".safetensors") for file in self.sha256):
            raise ValueError("sha256: no file of weights, *.safetensors; a pickle is not read")
        if self.sha256 and "config.json" not in self.sha256:
            raise ValueError("sha256: config.json is missing")
        return self

    @property
    def published(self) -> dict[str, Any] | None:
        """What is published of its files; None where the code knows them, or none are needed."""
        keys = {"commit", "sha256", "licence", "language"}
        return self.model_dump(include=keys, exclude_none=True) if self.commit else None


LISTS = ("compare", "seeds", "sweep_seeds", "robustness_seeds")  # at the top of params.yaml


class Params(Strict):
    """The whole of params.yaml; what each setting means stands there beside it."""

    dataset: str
    text_encoder: str
    text_encoders: dict[str, KnownEncoder]
    max_tokens: Annotated[int, Field(ge=3, le=512)]
    compare: list[str] = Field(min_length=1)
    seeds: list[Seed] = Field(min_length=1)
    batch_size: PositiveInt | Literal["auto"]
    lr: PositiveFloat | Literal["auto"]
    bert_lr: PositiveFloat | Literal["auto"]
    transformer_dim: PositiveInt | Literal["auto"]
    arithmetic: Setting
    precision: Literal["float32", "bfloat16"]
    device: Literal["auto", "cpu", "cuda", "mps"]
    threads: PositiveInt
    sweep_seeds: list[Seed]
    sweep: dict[RunName, dict[str, Any]]
    ablation: Ablation
    grids: dict[RunName, Grid] = {}
    tune: Tune
    robustness_seeds: list[Seed]
    models: dict[RunName, dict[str, Any]] = Field(min_length=1)
    presets: dict[RunName, dict[str, Any]] = {}
    datasets: dict[RunName, Dataset]

    @model_validator(mode="after")
    def _consistent(self) -> "Params":
        if self.dataset not in self.datasets:
            raise ValueError(f"dataset: {self.dataset!r}; permitted: {', '.join(self.datasets)}")
        if self.precision == "bfloat16" and self.arithmetic == "portable":
            raise ValueError(
                "arithmetic: 'portable' with precision: bfloat16, whose products differ between "
                "processors; permitted: auto, native"
            )
        if "default" not in self.text_encoders:
            raise ValueError("text_encoders: default is missing, for encoders that have no entry")
        lists = {key: getattr(self, key) for key in LISTS}
        lists |= {f"ablation.{key}": values for key, values in self.ablation}
        lists["tune.seeds"] = self.tune.seeds
        for key, values in lists.items():
            if twice := [value for value in values if values.count(value) > 1]:
                raise ValueError(f"{key}: {values} names {twice[0]!r} twice")
        known = ", ".join(self.models)
        for key in ("compare", "ablation.models"):
            if unknown := [name for name in lists[key] if name not in self.models]:
                raise ValueError(f"{key}: {unknown[0]!r}; permitted: some of {known}")
        if self.tune.model not in self.models:
            raise ValueError(f"tune.model: {self.tune.model!r}; permitted: {known}")
        if not set(self.robustness_seeds) <= set(self.seeds):
            raise ValueError(
                f"robustness_seeds: {self.robustness_seeds}; permitted: some of seeds, {self.seeds}"
            )
        return self


# What dvc.yaml expands to stages, and the form in which DVC reads it.
LIST, MAPPING = (list, "a list of plain values, as [1, 2]"), (dict, "a mapping")
EXPANDED = {
    "dataset": (str, "the name of a data set"),
    "compare": LIST,
    "seeds": LIST,
    "sweep": MAPPING,
    "sweep_seeds": LIST,
    "robustness_seeds": LIST,
    "ablation.models": LIST,
    "ablation.seeds": LIST,
    "tune.seeds": LIST,
    "tune.candidates": MAPPING,
}


@errors.see("docs/experiments.md")
def load(path: Path) -> Params:
    """Read and check params.yaml. Raises ParamsError naming the first wrong setting."""
    content = _read(path)
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise ParamsError(describe(error, str(path))) from error


@errors.see("docs/experiments.md")
def check_expanded(path: Path) -> None:
    """Raise ParamsError where DVC cannot expand dvc.yaml by what params.yaml holds."""
    content = _read(path)
    for key, (kind, form) in EXPANDED.items():
        value = content
        for part in key.split("."):
            if not isinstance(value, dict) or part not in value:
                raise ParamsError(f"{path.name}: {key}: missing; it should be {form}")
            value = value[part]
        nested = isinstance(value, list) and any(isinstance(item, list | dict) for item in value)
        if nested or not isinstance(value, kind):
            raise ParamsError(f"{path.name}: {key}: {value!r}; it should be {form}")


def _read(path: Path) -> object:
    try:
        # YAML 1.2, as DVC reads it: 2e-5 is a number, which in YAML 1.1 is a string.
        return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ParamsError(f"{path}: {error.strerror}; run in the folder that has it") from error
    except UnicodeDecodeError as error:
        place = f"byte {error.start}, {error.object[error.start : error.start + 1]!r}"
        raise ParamsError(f"{path}: {place} is not UTF-8; save the file as UTF-8") from error
    except (YAMLError, ValueError) as error:  # the latter of a date that is none
        raise ParamsError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error


def settings_of(function: Callable[..., Any]) -> type[BaseModel]:
    """Return the keyword-only arguments of a function or class as a model that checks them."""
    fields: dict[str, Any] = {
        parameter.name: (
            parameter.annotation,
            ... if parameter.default is parameter.empty else parameter.default,
        )
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    return create_model(function.__name__, __base__=Strict, **fields)


def flat(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a run's model as its block has them: flat, without their groups."""
    settings = {key: value for group in GROUPS for key, value in run.get(group, {}).items()}
    for key in ("name", "published"):  # the text encoder's, which no block has
        settings.pop(key, None)
    return settings


def describe(error: ValidationError, where: str) -> str:
    """Return the first failure of a validation as one line: place, value, what is permitted.

    Where several kinds of value are permitted, each of them fails, with the same value.
    """
    first = error.errors()[0]
    # Below a place with several kinds of value, pydantic names the kind: "constrained-int".
    *above, last = [str(part) for part in first["loc"]] or [""]
    place = ".".join([*above, last])
    messages = [first["msg"].removeprefix("Value error, ")]
    same = [
        other
        for other in error.errors()
        if other["loc"][:-1] == first["loc"][:-1] and other["input"] is first["input"]
    ]
    if len(same) > 1 and not last.isidentifier():
        place, messages = ".".join(above), [other["msg"] for other in same]
    message = ", or ".join(messages).replace("Input should", "it should", 1)
    message = message.replace("Input should be ", "")
    if first["type"] == "extra_forbidden":
        return f"{where}: {place}: unknown setting"
    if first["type"] == "missing":
        return f"{where}: {place}: missing"
    if first["type"] == "value_error":
        return f"{where}: {place + ': ' if place else ''}{message}"
    return f"{where}: {place}: {first['input']!r}; {message}"
