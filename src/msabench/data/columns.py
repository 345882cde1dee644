"""The names of the columns of published features, as far as they are known: features.csv.

certainty says who says so. sure: the makers of the file, or their code; likely: the makers, and one
step of reasoning; inferred: the values alone; given: a file of the data. Sources: docs/features.md.
"""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("features.csv")

Named = dict[str, Any]  # names: by column, from 0; tool: what made them, or None; certainty


def published(corpus: str | None, widths: Mapping[str, int]) -> dict[str, Named]:
    """Return what is known of the columns of each modality that has this width in the corpus.

    widths: features per frame by modality. A modality is absent where nothing is known.
    """
    named: dict[str, Named] = {}
    with TABLE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            modality = row["modality"]
            if row["corpus"] == corpus and int(row["width"]) == widths.get(modality):
                about: Named = {"names": {}, "tool": row["tool"], "certainty": row["certainty"]}
                names = named.setdefault(modality, about)["names"]
                names[int(row["column"])] = row["name"]
    return named


def of_data(names: Mapping[str, Mapping[int, str]]) -> dict[str, Named]:
    """Return the same of names that the data bring along, by modality and column."""
    return {
        modality: {"names": dict(own), "tool": None, "certainty": "given"}
        for modality, own in names.items()
    }
