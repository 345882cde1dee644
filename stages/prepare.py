"""data/raw/ -> data/prepared/<split>/: checked, ragged, memory-mapped."""

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msabench import hashes
from msabench.data import columns, sources
from msabench.evaluation import clusters
from msabench.utterances import check_splits, save_prepared
from stages import run

PAGE = "docs/data.md"
RAW = Path("data/raw")
OUT = Path("data/prepared")
Counts = Mapping[str, Mapping[str, int]]  # utterances and videos, by split or fold
FEW = 5000  # utterances: with fewer, the presets for few are better


def main() -> None:
    config = json.loads(Path("runs/plan/stages/prepare.json").read_text())
    raw = RAW / config["file"]
    splits = sources.read(config["source"], raw, config["settings"])
    check_splits(splits, tuple(config["label_range"]))
    first = next(iter(splits.values()))
    widths = first.widths
    if "text" not in first.modalities:
        print("note: the data have no text: no utterance has one", file=sys.stderr)
    named = columns.published(config["corpus"], widths)
    named |= columns.of_data(sources.names(config["source"], raw, widths))
    shutil.rmtree(OUT, ignore_errors=True)
    save_prepared(splits, OUT)
    for name, split in splits.items():
        for kind, count in split.repairs.items():
            if count:
                print(f"{name}: {kind}: {count}")
    counts = {
        name: {"utterances": len(split), "videos": len(set(split.videos))}
        for name, split in splits.items()
    }
    drawn = sources.drawn(config["source"], raw, config["settings"])
    for sentence in _notes(config, counts, drawn):
        print(f"note: {sentence}", file=sys.stderr)
    content = json.dumps(hashes.of_folder(OUT), indent=2)
    (OUT / "sha256.json").write_text(content + "\n")
    # After the hashes, on which trainings depend: none is an input of a model.
    (OUT / "config.json").write_text(json.dumps(config) + "\n")
    (OUT / "split.json").write_text(json.dumps({"drawn": drawn}) + "\n")
    (OUT / "columns.json").write_text(
        json.dumps(named, indent=2, ensure_ascii=False) + "\n", "utf-8"
    )


def _notes(config: Mapping[str, Any], counts: Counts, drawn: str) -> list[str]:
    """Return one sentence for how the split was drawn, and for each limit of so few data."""
    listed = "; ".join(
        f"{name}: {row['utterances']} utterances of {row['videos']} videos"
        for name, row in counts.items()
    )
    notes = [f"{drawn} ({listed})."] if drawn else []
    kinds = ("utterances", "videos")
    every = {kind: sum(row[kind] for row in counts.values()) for kind in kinds}
    # Folds are tested on all of them, and have no video in common.
    notes += clusters.notes(counts if "test" in counts else {"all": every})
    few, made = every["utterances"] < FEW, sources.makes_data(config["source"])
    if few and config["size"] is None and not made:
        notes.append(
            f"the data have {every['utterances']} utterances; `size: few` in datasets."
            f"{config['dataset']} of params.yaml takes settings for fewer than {FEW} "
            "(docs/small-data.md)"
        )
    return notes


if __name__ == "__main__":
    run(main, *sys.argv[1:])
