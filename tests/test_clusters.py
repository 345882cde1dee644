"""What the number of videos lets the statistics say, and when a user is told of it."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from msabench.evaluation import clusters, statistics

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("videos", range(1, 8))
def test_no_sign_flip_test_has_a_smaller_p(videos):
    differences = np.arange(1.0, videos + 1)
    sums = [abs(differences @ signs) for signs in product((-1, 1), repeat=videos)]
    p = np.mean(np.isclose(sums, differences.sum()) | (sums > differences.sum()))
    assert clusters.least_p(videos) == p
    assert (p < 1 - statistics.LEVEL) == (videos >= clusters.FEWEST)


def row(utterances: int, videos: int) -> dict[str, int]:
    return {"utterances": utterances, "videos": videos}


def test_fewer_than_thirty_test_videos_are_called_few():
    noted = {videos: clusters.notes({"test": row(100, videos)}) for videos in (1, 5, 6, 29, 30)}
    assert noted[30] == []
    assert noted[1][0].startswith("1 test video: ")
    assert "5 test videos: with fewer than 6, intervals and p are undefined" in noted[5][0]
    assert "(here 0.0625 at least)" in noted[5][0]
    for videos in (6, 29):
        (sentence,) = noted[videos]
        assert f"{videos} test videos, fewer than about 30: " in sentence
        assert "too narrow" in sentence
        assert "Cameron, Gelbach and Miller 2008" in sentence


def test_splits_in_which_utterances_hardly_share_a_video_are_named():
    splits = {"train": row(100, 90), "valid": row(100, 89), "test": row(40, 40)}
    (sentence,) = clusters.notes(splits)
    assert "(train: 90 videos in 100 utterances; test: 40 videos in 40 utterances)" in sentence
    assert "column `video`" in sentence
    assert clusters.notes({"train": row(1, 1), "test": row(100, 50)}) == []


@pytest.mark.parametrize("folder", ["metrics", "metrics/mosei_text"])
def test_of_the_recorded_data_there_is_nothing_to_note(folder):
    table = json.loads((ROOT / folder / "table1.json").read_text(encoding="utf-8"))
    assert clusters.notes(table) == []
