"""MMSA's label.csv: ids, transcripts and labels of a data set, without audio and vision."""

from pathlib import Path

from msabench.data.sources import _csv
from msabench.utterances import Utterances

UNIMODAL = {"text": "label_T", "audio": "label_A", "vision": "label_V"}


def read(path: Path) -> dict[str, Utterances]:
    """Read the three splits, which the column mode names; see `_csv.read`."""
    return _csv.read(path, id=["video_id", "clip_id"], split="mode", unimodal=UNIMODAL)
