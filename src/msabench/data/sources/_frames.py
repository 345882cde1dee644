"""Validation and repair of all frames, in training and inference: finite float32."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32, Integer, Shaped

from msabench.errors import DataError
from msabench.utterances import Ragged, Utterances

NotFinite = Literal["zero", "refuse"]


class Frames:
    """The frames of one modality of one split, added utterance by utterance; a context manager.

    They are written to an unnamed temporary file in the folder, so that only the disk bounds their
    number. `repairs` sums the counts of `repair`: <modality>_not_finite and <modality>_missing;
    `columns`, (d,), those of the former by column.
    """

    def __init__(
        self, modality: str, width: int, folder: Path, *, not_finite: NotFinite = "zero"
    ) -> None:
        self.modality = modality
        self.folder = folder
        self.width = width
        self.not_finite = not_finite
        self.lengths = [0]
        self.repairs = {f"{modality}_not_finite": 0, f"{modality}_missing": 0}
        self.columns = np.zeros(width, np.int64)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed on exit)

    def __enter__(self) -> "Frames":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, id: str, frames: Shaped[np.ndarray, "t d"]) -> None:
        """Append the real frames of the next utterance.

        Raises DataError for another width, and for values that are not finite if they are refused.
        """
        if frames.shape[1:] != (self.width,):
            raise DataError(
                f"{self.modality}: {id!r} has frames of {frames.shape[1:]} features; "
                f"expected {self.width}, as in the utterances before"
            )
        try:
            frames, counts = repair(frames, self.not_finite, self.columns)
        except DataError as error:
            raise DataError(f"{self.modality}: {id!r}: {error}") from None
        for kind, count in counts.items():
            self.repairs[f"{self.modality}_{kind}"] += count
        try:
            self._file.write(frames.data)
        except OSError as error:  # a full disk: name it
            error.filename = str(self.folder)
            raise
        self.lengths.append(len(frames))

    def added_to(self, utterances: Utterances) -> Utterances:
        """Return the utterances with these frames and their repairs."""
        columns = {int(i): int(self.columns[i]) for i in np.flatnonzero(self.columns)}
        return replace(
            utterances,
            sequences={**utterances.sequences, self.modality: self.finish()},
            repairs={**utterances.repairs, **self.repairs},
            not_finite={**utterances.not_finite, self.modality: columns},
        )

    def finish(self) -> Ragged:
        """Return all frames, mapped from the file, which is deleted with the last reference."""
        offsets = np.cumsum(self.lengths)
        shape = (int(offsets[-1]), self.width)
        self._file.flush()
        if shape[0] == 0:  # an empty file cannot be mapped
            return Ragged(np.zeros(shape, np.float32), offsets)
        return Ragged(np.memmap(self._file, np.float32, "r", shape=shape), offsets)


def repair(
    frames: Shaped[np.ndarray, "t d"],
    not_finite: NotFinite,
    columns: Integer[np.ndarray, " d"] | None = None,
) -> tuple[Float32[np.ndarray, "_ d"], dict[str, int]]:
    """Return the frames of one utterance, finite, and counts of repairs:

    not_finite: values that were NaN, infinite or too large for float32, set to 0
    missing: 1 for no frames or only zeros, which are no measurement: no frames are returned

    not_finite: "zero" sets such values to 0 (as Self-MM does for -inf in audio), "refuse" raises
    DataError naming the first. columns: where given, the values set to 0 of frames that are
    returned are added to it by column.
    """
    # Overflow gives infinity, which is found below; a signalling NaN warns too.
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.ascontiguousarray(frames, np.float32)
    finite = np.isfinite(values)
    wrong = values.size - int(np.count_nonzero(finite))
    if wrong:
        if not_finite == "refuse":
            row, column = np.argwhere(~finite)[0]
            raise DataError(
                f"frame {row}, feature {column} is {frames[row, column]}; "
                "permitted: finite numbers of float32"
            )
        values = np.where(finite, values, np.float32(0))
    missing = not values.any()
    if columns is not None and not missing:
        columns += np.count_nonzero(~finite, axis=0)
    return values[: 0 if missing else None], {"not_finite": wrong, "missing": int(missing)}


def map_frames(file: Path) -> Shaped[np.ndarray, "t d"]:
    """Memory-map the frames in a .npy file. Raises DataError unless they are numbers, (t, d)."""
    frames = map_array(file)
    if frames.dtype.kind not in "fiu" or frames.ndim != 2 or frames.shape[1] == 0:
        raise DataError(
            f"{file}: {frames.dtype} of shape {frames.shape}; expected numbers, (frames, features)"
        )
    return frames


def map_array(file: Path) -> np.ndarray:
    """Memory-map the array in a .npy file, so that a false size in it allocates nothing.

    No code in it is run: an array of Python objects is refused. Raises DataError.
    """
    if not file.is_file():
        raise DataError(f"{file}: {'a folder, no .npy file' if file.is_dir() else 'missing'}")
    try:
        with np.errstate(over="ignore"):  # the product of an impossible shape
            return np.lib.format.open_memmap(file, mode="r")
    except Exception as error:  # NumPy's parser raises many types for a damaged header
        raise DataError(f"{file}: no array can be read: {' '.join(str(error).split())}") from None
