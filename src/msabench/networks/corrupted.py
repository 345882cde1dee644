"""Corrupted copies of the training texts, run through the frozen layers and cached.

A missing token changes the states of all others, so that a copy of a text is as large as its
states. `training.missing` takes one of a few copies in each epoch, and no frozen layer runs there.

A run names those that it reads, in the config of the stage `features` as `missing`: `arrays`, by
their names the shares of tokens that are missing, and `empty`, the array of one text without a
token, or None. In training the arrays are `copies` of the text of the utterances, (total, d) or
(total,) each, and the empty text is its `empty`, (t, d) or (t,).
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from msabench import errors
from msabench.corruption import drop_tokens
from msabench.errors import EncoderError
from msabench.networks.text import encode, tokenize
from msabench.params import Pooling, TrainableLayers
from msabench.utterances import Ragged, Utterances

PAGE = "docs/missing-data.md"
Settings = tuple[TrainableLayers, Pooling | None]  # of an array: see text.encode


def names_of(missing: Mapping[str, Any]) -> list[str]:
    """Return the names of all arrays of a run's copies; missing: as above."""
    return [*missing["arrays"], *([missing["empty"]] if missing["empty"] else [])]


def training_parts(parts: Iterable[str]) -> list[str]:
    """Name the parts of the data that a training may read: train, or every fold."""
    parts = list(parts)
    return ["train"] if "train" in parts else parts


@errors.see(PAGE)
def encode_copies(
    model: Any,
    tokenizer: Any,
    tokens: Ragged,
    runs: Iterable[Mapping[str, Any]],
    folder: Path,
    part: int,
    *,
    device: torch.device,
    workers: int = 1,
) -> None:
    """Save the copies that the runs name into the folder of a part of the data, each once.

    Copies are drawn from their number, from 1, and that of the part. runs: of the config of the
    stage `features`. workers: see text.encode. Raises EncoderError for a tokenizer without [UNK].
    """
    copies: dict[tuple[int, float], dict[str, Settings]] = {}
    empty: dict[str, Settings] = {}
    for reads in runs:
        settings = reads["trainable_layers"], reads["pooling"]
        missing = reads.get("missing", {"arrays": {}, "empty": None})
        for number, (name, share) in enumerate(missing["arrays"].items(), start=1):
            copies.setdefault((number, share), {})[name] = settings
        if missing["empty"]:
            empty[missing["empty"]] = settings
    unknown = tokenizer.unk_token_id
    if copies and unknown is None:
        raise EncoderError(f"text_encoder: {tokenizer.name_or_path} has no unknown token")
    for (number, share), arrays in copies.items():
        lost = drop_tokens(tokens, share, np.random.default_rng([number, part]), unknown)
        _save(model, lost, arrays, folder, device, workers)
    if empty:
        _save(model, tokenize(tokenizer, [""]), empty, folder, device)


def _save(
    model: Any,
    tokens: Ragged,
    arrays: Mapping[str, Settings],
    folder: Path,
    device: torch.device,
    workers: int = 1,
) -> None:
    """Save the tokens for arrays of a text whose encoder is all trained, else the states."""
    states = {name: settings for name, settings in arrays.items() if settings[0] != "all"}
    for name in arrays.keys() - states.keys():
        tokens.save(folder, name)
    encode(model, tokens, states, folder, device=device, workers=workers)


def with_copies(
    parts: Mapping[str, Utterances], features: Path, missing: Mapping[str, Any]
) -> dict[str, Utterances]:
    """Return the parts, those that a training may read with the copies of their texts, mapped.

    features: the folder of the stage. missing: of a run, as above; nothing in data without text.
    """
    read = dict(parts)
    for name in training_parts(parts):
        if "text" in parts[name].sequences:
            copies = [Ragged.load(features / name, array) for array in missing["arrays"]]
            empty = missing["empty"] and Ragged.load(features / name, missing["empty"])[0]
            text = replace(parts[name].sequences["text"], copies=copies, empty=empty)
            read[name] = parts[name].with_text(text)
    return read
