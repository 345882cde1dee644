"""Utterances: the one data structure that every source fills and every model reads.

An utterance is one spoken clip: an id, its text, one label, and for each modality a sequence of
frames (or tokens). Sequences of different lengths are stored end to end, without padding, and
memory-mapped when they are read back.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Integer, Shaped

from msabench.errors import DataError, StorageError

MODALITIES = ("text", "audio", "vision")
SPLITS = ("train", "valid", "test")
SYNONYMS = {
    "train": ("training", "trn", "tr"),
    "valid": ("validation", "validate", "val", "dev", "development"),
    "test": ("testing", "tst", "te"),
}

SCHEMA_VERSION = 4
MEAN_FRAMES = "mean_frames.json"
LONGEST_ID = 100  # characters


@dataclass(frozen=True)
class Ragged:
    """Sequences of different lengths, stored end to end.

    values: one row per frame, (total, d) float32; or one token id per row, (total,) int32.
    offsets: (n + 1,) int64; sequence i is values[offsets[i]:offsets[i + 1]].
    mean_frame: (d,), the one frame that a sequence without frames is read as, which is not among
        the values. None: such a sequence is read as it is, of length 0.
    copies, empty: of texts that are trained on; see networks.corrupted.
    """

    values: Shaped[np.ndarray, "total *d"]
    offsets: Integer[np.ndarray, " n_plus_1"]
    mean_frame: Float32[np.ndarray, " d"] | None = None
    copies: Sequence["Ragged"] = ()
    empty: Shaped[np.ndarray, "_ *d"] | None = None

    @classmethod
    def of(cls, sequences: Sequence[Shaped[np.ndarray, "_ *d"]]) -> "Ragged":
        """Join sequences, each (t_i, d) or (t_i,), into one ragged array."""
        lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
        return cls(np.concatenate(sequences), np.concatenate([[0], np.cumsum(lengths)]))

    @classmethod
    def join(cls, parts: Sequence["Ragged"]) -> "Ragged":
        """Join ragged arrays, the sequences of one after those of the other; none is imputed."""
        lengths = np.concatenate([part.stored_lengths for part in parts])
        values = np.concatenate([part.values for part in parts])
        copies = [cls.join(same) for same in zip(*(part.copies for part in parts), strict=True)]
        joined = cls(values, np.concatenate([[0], np.cumsum(lengths)]), copies=copies)
        return replace(joined, empty=parts[0].empty)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int | np.integer) -> Shaped[np.ndarray, "t *d"]:
        frames = self.values[self.offsets[i] : self.offsets[i + 1]]
        return frames if len(frames) or self.mean_frame is None else self.mean_frame[None]

    @property
    def lengths(self) -> Integer[np.ndarray, " n"]:
        """Return the lengths as the sequences are read."""
        stored = self.stored_lengths
        return stored if self.mean_frame is None else np.maximum(stored, 1)

    @property
    def stored_lengths(self) -> Integer[np.ndarray, " n"]:
        """Return the lengths without what is imputed: 0 for a sequence without frames."""
        return np.diff(self.offsets)

    def over_frames(
        self, statistic: Callable[..., Float[np.ndarray, " d"]]
    ) -> Float[np.ndarray, "n d"]:
        """Return a statistic of each sequence over its frames, in float64; np.mean, for one."""
        return np.stack(
            [statistic(np.asarray(self[i], dtype=np.float64), axis=0) for i in range(len(self))]
        )

    @property
    def width(self) -> int:
        """Features per frame; 1 for a sequence of token ids."""
        return self.values.shape[1] if self.values.ndim == 2 else 1

    def take(self, index: Sequence[int] | np.ndarray) -> "Ragged":
        """Return the chosen sequences, in the order of the index, as a copy without `copies`."""
        stored = replace(self, mean_frame=None)
        return replace(Ragged.of([stored[i] for i in index]), mean_frame=self.mean_frame)

    def padded(
        self, index: Sequence[int] | np.ndarray
    ) -> tuple[Shaped[np.ndarray, "b t *d"], Integer[np.ndarray, " b"]]:
        """Return the chosen sequences, padded with zeros to the longest, and their lengths."""
        lengths = self.lengths[index]
        padded = np.zeros((len(index), lengths.max(), *self.values.shape[1:]), self.values.dtype)
        for row, i, length in zip(padded, index, lengths, strict=True):
            row[:length] = self[i]
        return padded, lengths

    def save(self, folder: Path, name: str) -> None:
        """Write name.npy and name.offsets.npy, without what is imputed."""
        save_array(folder / f"{name}.npy", self.values)
        save_array(folder / f"{name}.offsets.npy", self.offsets)

    @classmethod
    def load(cls, folder: Path, name: str) -> "Ragged":
        """Read what save wrote; the values are memory-mapped, read-only."""
        return cls(
            np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False),
            np.load(folder / f"{name}.offsets.npy", allow_pickle=False),
        )


@dataclass(frozen=True)
class Utterances:
    """One split of a data set: n utterances.

    ids: `video$_$clip`, unique. texts: the transcript of each, all blank in data without text.
    video_names: the video that each was cut from, where the source names it apart from the ids.
    labels: (n,) float32, sentiment in the range of the data set (MOSEI: -3..3).
    sequences: the frames of each modality that the data set has, in the order of MODALITIES.
        Prepared data holds audio and vision, of which single utterances may have no frames; text
        joins them as tokens or hidden states.
    unimodal_labels: true labels by modality, each (n,), where the data set has them (CH-SIMS,
        simulated data). No model may learn from them: they are for evaluation only.
    given_tokens: token ids of each text in the raw data. They are compared with those of the text
        encoder, which tokenizes the texts again.
    repairs: counts of defects that the source has repaired, by kind.
    not_finite: the values set to 0 because they were not finite, by modality and column.
    """

    ids: list[str]
    texts: list[str]
    labels: Float[np.ndarray, " n"]
    sequences: Mapping[str, Ragged] = field(default_factory=dict)
    unimodal_labels: Mapping[str, Float[np.ndarray, " n"]] = field(default_factory=dict)
    given_tokens: Ragged | None = None
    repairs: Mapping[str, int] = field(default_factory=dict)
    not_finite: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    video_names: list[str] | None = None

    @classmethod
    def join(cls, parts: Sequence["Utterances"]) -> "Utterances":
        """Join parts of a data set, the utterances of one after those of the other.

        Of several as a copy, and without what `take` leaves out.
        """
        if len(parts) == 1:
            return parts[0]
        first = parts[0]
        named = [part.video_names for part in parts if part.video_names is not None]
        return cls(
            ids=[id for part in parts for id in part.ids],
            texts=[text for part in parts for text in part.texts],
            labels=np.concatenate([part.labels for part in parts]),
            sequences={
                name: Ragged.join([part.sequences[name] for part in parts])
                for name in first.sequences
            },
            unimodal_labels={
                name: np.concatenate([part.unimodal_labels[name] for part in parts])
                for name in first.unimodal_labels
            },
            video_names=[video for names in named for video in names] or None,
        )

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def videos(self) -> list[str]:
        """The video (speaker) that each utterance was cut from: its name, or what its id says."""
        if self.video_names is not None:
            return self.video_names
        return [video_of(id) for id in self.ids]

    @property
    def modalities(self) -> list[str]:
        """The modalities of prepared data: text unless all texts are blank, those with frames."""
        text = ["text"] if any(text.strip() for text in self.texts) else []
        return [*text, *(name for name in self.sequences if name != "text")]

    @property
    def widths(self) -> dict[str, int]:
        """Features per frame of each modality present, in the order of MODALITIES."""
        return {name: sequence.width for name, sequence in self.sequences.items()}

    def with_text(self, text: Ragged) -> "Utterances":
        """Add the text modality: token ids, hidden states, or one pooled vector each."""
        others = {name: value for name, value in self.sequences.items() if name != "text"}
        return replace(self, sequences={"text": text, **others})

    def select(self, modalities: Iterable[str]) -> "Utterances":
        """Keep some modalities only; those that are absent stay absent."""
        wanted = set(modalities)
        kept = {name: value for name, value in self.sequences.items() if name in wanted}
        return replace(self, sequences=kept)

    def imputed(self, means: Mapping[str, Sequence[float]]) -> "Utterances":
        """Read an utterance without frames of a modality as its mean frame; means: by modality."""
        sequences = {
            name: replace(ragged, mean_frame=np.array(means[name], np.float32))
            if name in means
            else ragged
            for name, ragged in self.sequences.items()
        }
        return replace(self, sequences=sequences)

    def take(self, index: Sequence[int] | np.ndarray) -> "Utterances":
        """Return the chosen utterances, in the order of the index, as a copy.

        Without given tokens and counts of repairs, which belong to a whole split.
        """
        return Utterances(
            ids=[self.ids[i] for i in index],
            texts=[self.texts[i] for i in index],
            labels=self.labels[index],
            sequences={name: ragged.take(index) for name, ragged in self.sequences.items()},
            unimodal_labels={name: labels[index] for name, labels in self.unimodal_labels.items()},
            video_names=self.video_names and [self.video_names[i] for i in index],
        )

    def check(self, where: str, label_range: tuple[float, float]) -> None:
        """Raise DataError naming the first violation of the invariants of a split."""
        n = len(self)
        if n == 0:
            raise DataError(f"{where}: the split has no utterances; at least 1 is needed")
        if len(self.texts) != n or self.labels.shape != (n,):
            raise DataError(
                f"{where}: {n} ids, {len(self.texts)} texts and labels of shape "
                f"{self.labels.shape}; all three need one entry per utterance"
            )
        check_ids(where, self.ids)
        _check_videos(where, self.videos, self.ids)
        for name, labels in {"labels": self.labels, **self.unimodal_labels}.items():
            _check_labels(f"{where}: {name}", labels, n, label_range, self.ids)
        if list(self.sequences) != [name for name in MODALITIES if name in self.sequences]:
            raise DataError(
                f"{where}: modalities {list(self.sequences)}; known, in this order: {MODALITIES}"
            )
        for name, ragged in self.sequences.items():
            check_sequences(f"{where}: {name}", ragged, n, self.ids, least=int(name == "text"))
        if self.given_tokens is not None:
            check_sequences(f"{where}: given tokens", self.given_tokens, n, self.ids)

    def save(self, folder: Path) -> None:
        """Write the split into a folder of .npy and .json files, which load reads back."""
        folder.mkdir(parents=True, exist_ok=True)
        schema = {
            "version": SCHEMA_VERSION,
            "utterances": len(self),
            "modalities": {
                name: {"width": ragged.width, "frames": len(ragged.values)}
                for name, ragged in self.sequences.items()
            },
            "unimodal_labels": list(self.unimodal_labels),
            "given_tokens": self.given_tokens is not None,
            "repairs": dict(self.repairs),
            "not_finite": {name: dict(columns) for name, columns in self.not_finite.items()},
        }
        (folder / "schema.json").write_text(json.dumps(schema, indent=2) + "\n")
        text = {"ids": self.ids, "texts": self.texts}
        if self.video_names is not None:
            text["videos"] = self.video_names
        content = json.dumps(text, ensure_ascii=False, indent=0) + "\n"
        (folder / "text.json").write_text(content, encoding="utf-8")
        save_array(folder / "labels.npy", self.labels)
        for name, labels in self.unimodal_labels.items():
            save_array(folder / f"labels.{name}.npy", labels)
        for name, ragged in self.sequences.items():
            ragged.save(folder, name)
        if self.given_tokens is not None:
            self.given_tokens.save(folder, "given_tokens")

    @classmethod
    def load(cls, folder: Path) -> "Utterances":
        """Read a split that save wrote; frames are memory-mapped. Raises DataError."""
        schema = json.loads((folder / "schema.json").read_text())
        if schema["version"] != SCHEMA_VERSION:
            raise DataError(
                f"{folder}: schema version {schema['version']}; this code reads {SCHEMA_VERSION}"
            )
        text = json.loads((folder / "text.json").read_text(encoding="utf-8"))
        return cls(
            ids=text["ids"],
            texts=text["texts"],
            labels=np.load(folder / "labels.npy", allow_pickle=False),
            sequences={name: Ragged.load(folder, name) for name in schema["modalities"]},
            unimodal_labels={
                name: np.load(folder / f"labels.{name}.npy", allow_pickle=False)
                for name in schema["unimodal_labels"]
            },
            given_tokens=Ragged.load(folder, "given_tokens") if schema["given_tokens"] else None,
            repairs=schema["repairs"],
            not_finite={
                name: {int(column): count for column, count in columns.items()}
                for name, columns in schema["not_finite"].items()
            },
            video_names=text.get("videos"),
        )


def save_array(path: Path, array: Shaped[np.ndarray, "..."]) -> None:
    """Write a .npy file. Raises StorageError for a partial write, of which NumPy gives no errno."""
    try:
        np.save(path, array)
    except OSError as error:
        if error.errno is None:
            raise StorageError(f"{path}: {error}; is the disk full?") from error
        raise


def video_of(id: str) -> str:
    """Return the video of an utterance id, `video$_$clip`; an id without clip is its own video.

    The clip is what follows the last `$_$`: a video may have such a name itself.
    """
    return id.rsplit("$_$", 1)[0]


def suggest_splits(names: Iterable[object]) -> str:
    """Return for a message which splits these synonyms probably mean, or ""."""
    suggestions = [
        f"{split!r} for {name!r}"
        for name in names
        if isinstance(name, str) and name not in SPLITS and len(name) < 20
        for split, synonyms in SYNONYMS.items()
        if name.strip().lower() in (split, *synonyms)
    ]
    return f" (write {', '.join(suggestions)})" if suggestions else ""


def fold_names(count: int) -> tuple[str, ...]:
    """Name the parts of data for cross-validation: see msabench.folds."""
    return tuple(f"fold{number}" for number in range(1, count + 1))


def parts_of(prepared: Path) -> tuple[str, ...]:
    """Name the parts of prepared data: train, valid and test, or the folds."""
    return fold_names(len([*prepared.glob("fold*")])) or SPLITS


def save_prepared(splits: Mapping[str, Utterances], folder: Path) -> None:
    """Write prepared data: each split, and the mean frame of each modality; or each fold."""
    for name, split in splits.items():
        split.save(folder / name)
    if "train" in splits:
        (folder / MEAN_FRAMES).write_text(json.dumps(mean_frames(splits["train"])) + "\n")


def load_prepared(folder: Path) -> dict[str, Utterances]:
    """Read prepared data as models read them: without frames, an utterance has the mean frame.

    Folds are read as they are, as each has a mean frame of its own: see msabench.folds.
    """
    parts = {name: Utterances.load(folder / name) for name in parts_of(folder)}
    if "train" not in parts:
        return parts
    means = json.loads((folder / MEAN_FRAMES).read_text(encoding="utf-8"))
    return {name: part.imputed(means) for name, part in parts.items()}


def mean_frames(train: Utterances) -> dict[str, list[float]]:
    """Return the mean over the frames of audio and vision, by which those missing are imputed.

    To six digits, which are the same on every processor.
    """
    frames = train.select(name for name in train.sequences if name != "text").sequences
    means = {name: mean_frame(ragged).tolist() for name, ragged in frames.items()}
    return {name: [float(f"{value:.6g}") for value in mean] for name, mean in means.items()}


def mean_frame(frames: Ragged) -> Float[np.ndarray, " d"]:
    """Return the mean of each feature over all frames, but none that is imputed, in float64."""
    values = frames.values
    sums = [np.sum(values[chunk], axis=0, dtype=np.float64) for chunk in _chunks(frames)]
    return np.sum(sums, axis=0) / len(values)


def mean_and_std(frames: Ragged) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]]:
    """Return mean_frame and the standard deviation of each feature over the same frames."""
    values, mean = frames.values, mean_frame(frames)
    squares = [np.square(values[chunk] - mean).sum(axis=0) for chunk in _chunks(frames)]
    return mean, np.sqrt(np.sum(squares, axis=0) / len(values))


def _chunks(frames: Ragged) -> list[slice]:
    """Return parts of the values: they are mapped from disk and need not fit into memory."""
    return [slice(start, start + 100_000) for start in range(0, len(frames.values), 100_000)]


def load_splits(
    prepared: Path, features: Path, text: str, modalities: Iterable[str]
) -> dict[str, Utterances]:
    """Read a run's input of each split: prepared data, the array `text` as text, its modalities.

    Or of each fold: see msabench.folds.
    Modalities that the data set lacks stay absent; those that an utterance lacks are imputed.
    """
    parts = load_prepared(prepared)
    if any("text" in part.modalities for part in parts.values()):
        for name, part in parts.items():
            parts[name] = part.with_text(Ragged.load(features / name, text))
    return {name: part.select(modalities) for name, part in parts.items()}


def check_splits(splits: Mapping[str, Utterances], label_range: tuple[float, float]) -> None:
    """Raise DataError where a split violates an invariant, or splits are inconsistent.

    splits: or the folds of a cross-validation.
    """
    if tuple(splits) not in (SPLITS, fold_names(len(splits))):
        raise DataError(f"splits {list(splits)}; needed, in this order: {list(SPLITS)}")
    for name, split in splits.items():
        split.check(name, label_range)
    first, *_ = splits
    widths = splits[first].widths
    for name, split in splits.items():
        if split.widths != widths:
            raise DataError(
                f"{name}: frame widths {split.widths} differ from those of {first}, {widths}"
            )
    _check_modalities(splits)
    seen: dict[str, str] = {}
    for name, split in splits.items():
        for id in split.ids:
            if id in seen:
                raise DataError(f"{name}: id {id!r} is also in {seen[id]}; splits must not overlap")
            seen[id] = name


def _check_modalities(splits: Mapping[str, Utterances]) -> None:
    """Raise DataError where a split lacks the text of the others, or all of them any modality."""
    without = [name for name, split in splits.items() if "text" not in split.modalities]
    if 0 < len(without) < len(splits):
        raise DataError(
            f"{without[0]}: all texts are blank, those of other splits are not; needed: texts in "
            "every split, or in none"
        )
    if not next(iter(splits.values())).modalities:
        raise DataError(f"all texts are blank, and there are no frames; needed: {MODALITIES}, any")


def check_ids(where: str, ids: list[str]) -> None:
    """Raise DataError for an id that occurs twice, or is too long to be printed."""
    seen: set[str] = set()
    for id in ids:
        if len(id) > LONGEST_ID:
            raise DataError(
                f"{where}: id {id[:40]!a}... has {len(id)} characters; permitted: {LONGEST_ID}"
            )
        if id in seen:
            raise DataError(f"{where}: id {id!r} occurs twice; ids must be unique")
        seen.add(id)


def _check_videos(where: str, videos: list[str], ids: list[str]) -> None:
    if len(videos) != len(ids):
        raise DataError(f"{where}: {len(videos)} videos for {len(ids)} ids; one each is needed")
    if "" in videos:
        id = ids[videos.index("")]
        raise DataError(f"{where}: no name of a video for {id!r}; ids are video$_$clip")


def _check_labels(
    where: str, labels: np.ndarray, n: int, label_range: tuple[float, float], ids: list[str]
) -> None:
    low, high = label_range
    if labels.shape != (n,):
        raise DataError(f"{where} have shape {labels.shape}; expected {(n,)}")
    wrong = ~((labels >= low) & (labels <= high))  # true for NaN as well
    if wrong.any():
        i = int(wrong.argmax())
        setting = ", the data set's label_range in params.yaml" if np.isfinite(labels[i]) else ""
        raise DataError(
            f"{where}: {labels[i]} for {ids[i]!r}; permitted: {low:g} to {high:g}{setting}"
        )


def check_layout(where: str, ragged: Ragged, n: int) -> None:
    """Raise DataError where the offsets are not those of n sequences that span the values."""
    if len(ragged) != n:
        raise DataError(f"{where} has {len(ragged)} sequences for {n} utterances")
    if ragged.offsets[0] != 0 or ragged.offsets[-1] != len(ragged.values):
        raise DataError(f"{where}: offsets do not span the {len(ragged.values)} stored frames")


def check_sequences(where: str, ragged: Ragged, n: int, ids: list[str], *, least: int = 1) -> None:
    """Raise DataError where these are not n sequences of at least so many finite frames.

    Not all of them may be without frames.
    """
    check_layout(where, ragged, n)
    lengths = ragged.stored_lengths
    if (short := lengths < least).any():
        i = int(short.argmax())
        raise DataError(f"{where}: {lengths[i]} frames for {ids[i]!r}; at least {least} is needed")
    if not len(ragged.values):
        raise DataError(
            f"{where}: no utterance has a frame that is not zero; leave the modality out of the "
            "data if they have none"
        )
    chunk = max(1, 10_000_000 // ragged.width)  # bounds the memory of the check
    for start in range(0, len(ragged.values), chunk):
        finite = np.isfinite(ragged.values[start : start + chunk]).reshape(-1, ragged.width)
        if not finite.all():
            row = start + int((~finite.all(axis=1)).argmax())
            i = int(np.searchsorted(ragged.offsets, row, side="right")) - 1
            raise DataError(f"{where}: a value of {ids[i]!r} is not finite")
