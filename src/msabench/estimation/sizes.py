"""How much data a data set has: the length of every utterance, without the utterances."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Integer

from msabench.data import download, sources
from msabench.errors import DataError
from msabench.folds import folds_of, splits_of
from msabench.networks import text
from msabench.params import Dataset, settings_of
from msabench.utterances import MODALITIES, SPLITS, Utterances, load_prepared

PREPARED = Path("data/prepared")
SAMPLE = 200  # simulated utterances, whose lengths stand for those of data that are not here
FRAMES = 500  # of the longest simulated utterance
TEXT_DUMP = 50 * (768 + 3) * 4  # bytes of an utterance of MMSA's files that are not audio or vision

Lengths = Mapping[str, Integer[np.ndarray, " _"]]  # by modality, of the same utterances


class Published(NamedTuple):
    """What MMSA's files of a corpus hold. frames: by modality, the width and the most frames."""

    utterances: dict[str, int]
    frames: dict[str, tuple[int, int]]


# By MMSA's config_regression.json; but MOSEI's vision by the size of its file, 500 frames, not 375.
PUBLISHED = {
    "mosei": Published(
        {"train": 16326, "valid": 1871, "test": 4659}, {"audio": (74, 500), "vision": (35, 500)}
    ),
    "mosi": Published(
        {"train": 1284, "valid": 229, "test": 686}, {"audio": (5, 500), "vision": (20, 375)}
    ),
    "sims": Published(
        {"train": 1368, "valid": 456, "test": 457}, {"audio": (33, 400), "vision": (709, 55)}
    ),
}
ALIGNED = 50  # frames, at most, of an utterance of MMSA's aligned files


@dataclass(frozen=True)
class Sizes:
    """The lengths of all utterances of a data set, and what its data stages take.

    lengths: by split and modality, (n,) tokens or frames. widths: features per frame of audio and
    vision. origin: where the lengths come from, in words. raw: bytes of data/raw, of which a link
    has none. folds: for each of which a run trains a model; their lengths are those of the first.
    download, prepare: seconds of these stages; None where that depends on the network.
    """

    lengths: Mapping[str, Lengths]
    widths: Mapping[str, int]
    origin: str
    folds: int = 1
    raw: float = 0.0
    download: float | None = 0.0
    prepare: float = 0.0

    @property
    def utterances(self) -> dict[str, int]:
        """Utterances by split."""
        return {split: len(next(iter(own.values()))) for split, own in self.lengths.items()}

    @property
    def prepared(self) -> float:
        """Bytes of the frames in data/prepared, float32."""
        total = sum(
            4 * width * own[name].sum()
            for own in self.lengths.values()
            for name, width in self.widths.items()
        )
        return float(total)


def measure(
    dataset: Dataset, config: Mapping[str, Any], encoder: Mapping[str, Any], max_tokens: int
) -> Sizes:
    """Return the sizes of a data set, from the best that is here.

    That is the prepared data, a simulated sample, what is known of a published file, or the raw
    data, which are read. config: of the stage `prepare`. encoder: whose tokens are counted.
    Raises DataError where there is none of these, and for invalid raw data.
    """
    if _is_prepared(config):
        return _of_parts(load_prepared(PREPARED), encoder, max_tokens, "of data/prepared")
    if sources.makes_data(dataset.source):
        return _simulated(config["source"], config["settings"], encoder, max_tokens)
    if dataset.corpus in PUBLISHED and dataset.source in ("mmsa_pickle", "label_csv"):
        return _published(dataset, encoder, max_tokens)
    start = time.perf_counter()
    path = download.locate(config["dataset"], dataset, config["file"], folder=config["folder"])
    if path is None:
        raise DataError(
            f"datasets.{config['dataset']}: no size is known of data that are not here; "
            "`dvc repro prepare` fetches them, or give their absolute path"
        )
    parts = sources.read(config["source"], path, config["settings"])
    measured = _of_parts(parts, encoder, max_tokens, f"of {path}")
    return replace(measured, prepare=time.perf_counter() - start)


def _is_prepared(config: Mapping[str, Any]) -> bool:
    """Tell whether data/prepared was made by this very configuration."""
    try:
        return bool(json.loads((PREPARED / "config.json").read_text("utf-8")) == config)
    except (OSError, ValueError):
        return False


def _of_parts(
    parts: Mapping[str, Utterances], encoder: Mapping[str, Any], max_tokens: int, origin: str
) -> Sizes:
    """Return the sizes of data; parts: the splits, or folds."""
    splits = splits_of(parts)
    lengths: dict[str, dict[str, Any]] = {name: {} for name in splits}
    if "text" in splits["train"].modalities:
        tokenizer = text.load_tokenizer(**encoder)
        for name, split in splits.items():
            tokens = text.tokenize(tokenizer, split.texts).lengths
            lengths[name]["text"] = tokens.clip(max=max_tokens)
    for name, split in splits.items():  # one without frames is read as the mean frame
        frames = {modality: ragged.lengths for modality, ragged in split.sequences.items()}
        lengths[name] |= {modality: own.clip(min=1) for modality, own in frames.items()}
    return Sizes(lengths, splits["train"].widths, origin, len(folds_of(parts)))


def _simulated(
    source: str, settings: Mapping[str, Any], encoder: Mapping[str, Any], max_tokens: int
) -> Sizes:
    """Return the sizes of data that a source makes, from a sample that it makes now."""
    simulate = sources.load(source)
    complete = settings_of(simulate.simulate).model_validate(settings).model_dump()
    counts = {split: complete[split] for split in SPLITS}
    few = {"train": min(counts["train"], SAMPLE), "valid": 1, "test": 1}
    with TemporaryDirectory() as folder:
        raw, start = Path(folder) / "raw", time.perf_counter()
        simulate.write(raw, **{**settings, **few})
        written = time.perf_counter()
        sources.read(source, raw, settings)  # the first imports what it needs
        warm = time.perf_counter()
        splits = sources.read(source, raw, settings)
        read = time.perf_counter()
        sample = _of_parts(splits, encoder, max_tokens, "of a simulated sample")
        encoded = time.perf_counter()
        for name, split in splits.items():
            split.save(Path(folder) / name)
        prepare = read - warm + time.perf_counter() - encoded
        size = raw.stat().st_size
    scale = sum(counts.values()) / sum(few.values())
    rng = np.random.default_rng(0)
    return Sizes(
        lengths={split: _drawn(sample.lengths["train"], counts[split], rng) for split in SPLITS},
        widths=sample.widths,
        origin=sample.origin,
        raw=scale * size,
        download=scale * (written - start),
        prepare=scale * prepare,
    )


def _published(dataset: Dataset, encoder: Mapping[str, Any], max_tokens: int) -> Sizes:
    """Return the sizes of a file of MMSA's: known counts and widths, lengths as simulated ones."""
    corpus = PUBLISHED[dataset.corpus or ""]
    settings = {"full_length": True, "train": SAMPLE, "valid": 1, "test": 1}
    sample = _simulated("simulated", settings, encoder, max_tokens)
    of_text = dataset.source == "label_csv"
    frames = {} if of_text else corpus.frames
    most = {
        name: ALIGNED if dataset.settings.get("aligned") else longest
        for name, (_, longest) in frames.items()
    }
    rng = np.random.default_rng(0)
    lengths = {}
    for split, count in corpus.utterances.items():
        drawn = _drawn(sample.lengths["train"], count, rng)
        scaled = {name: np.ceil(drawn[name] * most[name] / FRAMES).astype(int) for name in most}
        lengths[split] = {"text": drawn["text"], **scaled}
    widths = {name: width for name, (width, _) in frames.items()}
    padded = sum(8 * width * most[name] for name, width in widths.items())
    total = sum(corpus.utterances.values())
    raw = float(total * (padded + (0 if of_text else TEXT_DUMP)))
    prepare = sample.prepare * raw / sample.raw
    known = "those known of the published file, with simulated lengths"
    return Sizes(lengths, widths, known, raw=raw, download=None, prepare=prepare)


def _drawn(sample: Lengths, count: int, rng: np.random.Generator) -> Lengths:
    """Return the lengths of `count` utterances of the sample, drawn with replacement.

    An utterance keeps its modalities together: a long text has many frames.
    """
    index = rng.integers(len(sample["text"]), size=count)
    return {name: sample[name][index] for name in MODALITIES if name in sample}
