"""data/raw/ -> data/prepared/<split>/: checked, ragged, memory-mapped."""

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from msabench import hashes
from msabench.data import columns, sources
from msabench.evaluation import clusters
from msabench.utterances import check_splits, save_prepared
from stages import run

PAGE = "docs/data.md"
RAW = Path("data/raw")
OUT = Path("data/prepared")
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
    said = [f"{drawn} ({_listed(counts)})."] if drawn else []
    if "test" not in counts:  # folds, which have no video in common
        kinds = ("utterances", "videos")
        counts = {"all": {kind: sum(row[kind] for row in counts.values()) for kind in kinds}}
    for sentence in [*said, *clusters.notes(counts)]:
        print(f"note: {sentence}", file=sys.stderr)
    utterances = sum(map(len, splits.values()))
    if utterances < FEW and config["size"] is None and not sources.makes_data(config["source"]):
        print(
            f"note: the data have {utterances} utterances; `size: few` in datasets."
            f"{config['dataset']} of params.yaml takes settings for fewer than {FEW} "
            "(docs/small-data.md)",
            file=sys.stderr,
        )
    content = json.dumps(hashes.of_folder(OUT), indent=2)
    (OUT / "sha256.json").write_text(content + "\n")
    # After the hashes, on which trainings depend: neither is an input of a model.
    (OUT / "config.json").write_text(json.dumps(config) + "\n")
    (OUT / "split.json").write_text(json.dumps({"drawn": drawn}) + "\n")
    (OUT / "columns.json").write_text(
        json.dumps(named, indent=2, ensure_ascii=False) + "\n", "utf-8"
    )


def _listed(counts: Mapping[str, Mapping[str, int]]) -> str:
    return "; ".join(
        f"{name}: {row['utterances']} utterances of {row['videos']} videos"
        for name, row in counts.items()
    )


if __name__ == "__main__":
    run(main, *sys.argv[1:])
