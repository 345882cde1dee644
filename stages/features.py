"""data/prepared/ -> data/features/: tokens, and the frozen part of the text encoder, run once.

For runs that expect missing data also on corrupted copies of the training texts.
Without text only the files that say so: no text encoder is loaded.
"""

import json
import shutil
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from msabench import hashes
from msabench.execution import jobs
from msabench.utterances import Utterances, parts_of
from stages import run

PAGE = "docs/reliability.md"
PREPARED = Path("data/prepared")
OUT = Path("data/features")


def main() -> None:
    config = json.loads(Path("runs/plan/stages/features.json").read_text())
    shutil.rmtree(OUT, ignore_errors=True)
    splits = {split: Utterances.load(PREPARED / split) for split in parts_of(PREPARED)}
    has_text = any("text" in split.modalities for split in splits.values())
    if has_text:
        _encode(config, splits)
    # A run depends on what it reads alone: a small file that names its arrays and their hashes.
    (OUT / "runs").mkdir(parents=True)
    encoded = splits if has_text else ()
    of_file = cache(hashes.of_file)  # most arrays are read by several runs
    for name, reads in config["runs"].items():
        array = f"{reads['array']}.npy"
        reads["max_tokens"] = config["max_tokens"]
        reads["sha256"] = {split: of_file(OUT / split / array) for split in encoded}
        if "missing" in reads:
            reads["missing"]["sha256"] = {
                split: {name: of_file(OUT / split / f"{name}.npy") for name in copies}
                for split, copies in _copies(reads["missing"], encoded).items()
            }
        (OUT / "runs" / f"{name}.json").write_text(json.dumps(reads, indent=2) + "\n")


def _encode(config: dict[str, Any], splits: dict[str, Utterances]) -> None:
    """Write the tokens of each text, and the arrays that the runs and the probe read."""
    # Here, because torch takes seconds to import, which `--help` does not need.
    from msabench.networks import corrupted, text, torch_settings

    torch_settings.configure(config)
    tokenizer = text.load_tokenizer(**config["encoder"])
    model = text.load_model(**config["encoder"])
    text.check_length(model, config["max_tokens"])
    wanted = {
        reads["array"]: (reads["trainable_layers"], reads["pooling"])
        for reads in (config["probe"], *config["runs"].values())
        if reads["array"] != "tokens"
    }
    for split, data in splits.items():
        folder = OUT / split
        folder.mkdir(parents=True)
        whole = text.tokenize(tokenizer, data.texts)
        tokens = text.truncate(whole, config["max_tokens"])
        tokens.save(folder, "tokens")
        unknown = tokenizer.unk_token_id
        counts = text.count_differences(
            data.texts, whole, config["max_tokens"], unknown, data.given_tokens
        )
        (folder / "tokens.json").write_text(json.dumps(counts) + "\n")
        if losses := _losses(counts, config["max_tokens"], len(data)):
            print(f"{split}: texts {losses}", file=sys.stderr)
        if differ := counts.get("tokens_differ"):
            print(
                f"{split}: {differ} of {len(data)} texts came with other token ids: tokenized again"
            )
        device = torch_settings.choose_device(config["device"])
        workers = jobs.encoders(config["threads"], device.type)
        text.encode(model, tokens, wanted, folder, device=device, workers=workers)
        if split in corrupted.training_parts(splits):
            part, runs = list(splits).index(split), config["runs"].values()
            corrupted.encode_copies(
                model, tokenizer, tokens, runs, folder, part, device=device, workers=workers
            )


def _copies(missing: dict[str, Any], encoded: Iterable[str]) -> dict[str, list[str]]:
    """Name the corrupted copies that a run reads of each part of the data."""
    from msabench.networks import corrupted

    return dict.fromkeys(corrupted.training_parts(encoded), corrupted.names_of(missing))


def _losses(counts: dict[str, int], most: int, total: int) -> str:
    """Say of how many texts the models do not read all; nothing where they do."""
    unknown = f"with tokens unknown to the text encoder ({counts['tokens_unknown']} in all)"
    kinds = {f"cut to {most} tokens": counts["tokens_cut"], unknown: counts["texts_unknown"]}
    kinds["without a token"] = counts["text_missing"]
    return "; ".join(f"{kind}: {texts} of {total}" for kind, texts in kinds.items() if texts)


if __name__ == "__main__":
    run(main, *sys.argv[1:])
