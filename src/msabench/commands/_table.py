"""Formatting for the terminal: sentiments, classes, and tables with aligned columns."""

import shutil
import sys
import unicodedata
from collections.abc import Sequence
from itertools import accumulate

from msabench.labels import MOSEI, NO_NEUTRAL, LabelScale


def signed(value: float, std: float | None = None, *, scale: LabelScale = MOSEI) -> str:
    """Format a difference of sentiments with its sign, and its spread if any."""
    shown = f"{value:+.{scale.decimals}f}"
    return shown if std is None else f"{shown} ± {std:.{scale.decimals}f}"


def sentiment(value: float, std: float | None = None, *, scale: LabelScale) -> str:
    """Format a sentiment, with a plus sign if labels may be negative, and its spread if any."""
    shown = signed(value, std, scale=scale)
    return shown if scale.low < 0 else shown.removeprefix("+")


def polarity(value: float, scale: LabelScale) -> str | None:
    """Return the class by the neutral point, both rounded as printed; None without one."""
    if scale.neutral is None:
        return None
    shown, neutral = (round(number, scale.decimals) for number in (value, scale.neutral))
    return "positive" if shown > neutral else "negative" if shown < neutral else "neutral"


def note_no_class(scale: LabelScale) -> None:
    """Print on stderr why predictions have no class, if they have none."""
    if scale.neutral is None:
        print(f"note: no class: {scale} {NO_NEUTRAL}", file=sys.stderr)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align rows of cells; the last column is text, truncated to the width of a terminal if any."""
    lines = [[one_line(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(_columns, column)) for column in list(zip(*lines, strict=True))[:-1]]
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    left = sum(width + 2 for width in widths)
    formatted = [
        "".join(
            cell + " " * (width - _columns(cell)) + "  "
            for cell, width in zip(cells, widths, strict=True)
        )
        + (text if room is None else _truncate(text, room - left))
        for *cells, text in lines
    ]
    return "\n".join(line.rstrip() for line in formatted)


def one_line(text: str) -> str:
    """Return a text without line breaks and control characters."""
    text = " ".join(text.split())
    unprintable = ("Cc", "Cs")  # control characters, and surrogates, which cannot be encoded
    return "".join("�" if unicodedata.category(c) in unprintable else c for c in text)


def _truncate(text: str, room: int) -> str:
    """Truncate a text to that many columns, but at least ten."""
    room = max(room, 10)
    if _columns(text) <= room:
        return text
    fits = sum(width < room for width in accumulate(map(_columns, text)))
    return text[:fits].rstrip() + "…"


def _columns(text: str) -> int:
    """Return the width of a text in columns of a terminal: Chinese characters take two."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)
