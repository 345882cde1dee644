"""What a command shows: numbers, words and texts in aligned columns."""

import shutil
import sys
import unicodedata
from collections.abc import Sequence
from itertools import accumulate

from msabench.labels import MOSEI, NO_NEUTRAL, LabelScale


def signed(value: float, std: float | None = None, *, scale: LabelScale = MOSEI) -> str:
    """Write a difference of sentiments with its sign, and its spread where there is one."""
    shown = f"{value:+.{scale.decimals}f}"
    return shown if std is None else f"{shown} ± {std:.{scale.decimals}f}"


def sentiment(value: float, std: float | None = None, *, scale: LabelScale) -> str:
    """Write a sentiment, with a plus where the labels may be negative; and its spread, if any."""
    shown = signed(value, std, scale=scale)
    return shown if scale.low < 0 else shown.removeprefix("+")


def polarity(value: float, scale: LabelScale) -> str | None:
    """Name the side of the neutral point that a value is on, both as they are shown.

    None where the labels have no neutral point.
    """
    if scale.neutral is None:
        return None
    shown, neutral = (round(number, scale.decimals) for number in (value, scale.neutral))
    return "positive" if shown > neutral else "negative" if shown < neutral else "neutral"


def note_no_class(scale: LabelScale) -> None:
    """Say on stderr why there is no class, where there is none."""
    if scale.neutral is None:
        print(f"note: no class: {scale} {NO_NEUTRAL}", file=sys.stderr)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align rows of cells; the last column is text, cut to the width of the terminal.

    Without a terminal nothing is cut.
    """
    lines = [[one_line(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(_columns, column)) for column in list(zip(*lines, strict=True))[:-1]]
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    left = sum(width + 2 for width in widths)
    drawn = [
        "".join(
            cell + " " * (width - _columns(cell)) + "  "
            for cell, width in zip(cells, widths, strict=True)
        )
        + (text if room is None else _cut(text, room - left))
        for *cells, text in lines
    ]
    return "\n".join(line.rstrip() for line in drawn)


def one_line(text: str) -> str:
    """Return a text without line breaks, and without characters that steer a terminal."""
    text = " ".join(text.split())
    steers = ("Cc", "Cs")  # controls, and surrogates, which no terminal can be sent
    return "".join("�" if unicodedata.category(c) in steers else c for c in text)


def _cut(text: str, room: int) -> str:
    """Return so much of a text as fits into so many columns, but at least ten."""
    room = max(room, 10)
    if _columns(text) <= room:
        return text
    fits = sum(width < room for width in accumulate(map(_columns, text)))
    return text[:fits].rstrip() + "…"


def _columns(text: str) -> int:
    """Return the columns of a terminal that a text takes: Chinese characters take two."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)
