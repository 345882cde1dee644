"""Videos as clusters of utterances: how their number limits the statistics."""

from collections.abc import Mapping
from typing import Any

Row = Mapping[str, Any]

FEWEST = 6  # with fewer videos no p can fall below .05 (least_p)
FEW = 30  # with fewer, intervals may be too narrow
SINGLE = 0.9  # videos per utterance; at or above, hardly any utterances share a video


def least_p(videos: int) -> float:
    """Return the least two-sided p of an exact sign-flip test of the videos: 2 / 2**videos."""
    return 2.0 ** (1 - videos)


def notes(splits: Mapping[str, Row]) -> list[str]:
    """Return one sentence for each limit of intervals and p.

    splits: by name, what is tested on among them, the number of `utterances` and of `videos`, as in
    Table 1.
    """
    return _single(splits) + _few(tested(splits)["videos"])


def tested(splits: Mapping[str, Row]) -> dict[str, Any]:
    """Return the row of what is tested on: all utterances where folds stand in place of splits."""
    return dict(splits.get("test") or splits["all"])


def _single(splits: Mapping[str, Row]) -> list[str]:
    """Name the splits in which (nearly) every utterance is a video of its own.

    A split of one utterance is no evidence of it.
    """
    counts = [
        f"{name}: {row['videos']} videos in {row['utterances']} utterances"
        for name, row in splits.items()
        if row["utterances"] > 1 and row["videos"] >= SINGLE * row["utterances"]
    ]
    if not counts:
        return []
    return [
        f"Every or nearly every utterance is a video of its own ({'; '.join(counts)}), and "
        "intervals take it for independent of all others. If clips share a recording, intervals "
        "are too narrow and shared_videos is too low: name it in the ids (`video$_$clip`) or in a "
        "column `video` (source `folder`)."
    ]


def _few(videos: int) -> list[str]:
    count = f"{videos} test {'video' if videos == 1 else 'videos'}"
    if videos < FEWEST:
        return [
            f"{count}: with fewer than {FEWEST}, intervals and p are undefined, as not even an "
            f"exact sign-flip test can give a p below .05 (here {least_p(videos):.4g} at least)."
        ]
    if videos < FEW:
        return [
            f"{count}, fewer than about {FEW}: where a few clusters differ much from the others, "
            "intervals are too narrow and p is too small (Cameron, Gelbach and Miller 2008, "
            "Bootstrap-based improvements for inference with clustered errors)."
        ]
    return []
