"""One trained run on corrupted test data -> predictions/robustness-<run>-<seed>/<kind>/<level>.csv.

Chance is that of the seed, so that every model is given the same corrupted data.
"""

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from msabench.errors import EncoderError
from stages import run

PAGE = "docs/results.md"
PREPARED = Path("data/prepared")


def main(name: str, seed: int) -> None:
    import numpy as np  # here, as `--help` needs none of these

    from msabench import corruption, runs
    from msabench.evaluation import robustness
    from msabench.networks import text, torch_settings
    from msabench.predictions import Predictions
    from msabench.utterances import SPLITS, load_prepared, mean_and_std, parts_of

    weights, out = Path(f"runs/{name}-{seed}"), Path(f"predictions/robustness-{name}-{seed}")
    shutil.rmtree(out, ignore_errors=True)
    if parts_of(PREPARED) != SPLITS:
        print(f"{name}: robustness is not measured over folds", file=sys.stderr)
        out.mkdir(parents=True)
        return
    config = runs.config(weights)
    torch_settings.configure(config)
    regressor = runs.restore(weights, config, config["device"])
    splits = load_prepared(PREPARED)
    train, test = splits["train"], splits["test"].select(config["widths"])
    corrupt: dict[str, Callable[..., Any]] = {}  # (level, rng) -> Ragged
    for modality, frames in test.sequences.items():
        _, std = mean_and_std(train.sequences[modality])
        corrupt[f"{modality}_missing"] = partial(corruption.drop_frames, frames)
        corrupt[f"{modality}_noise"] = partial(corruption.add_noise, frames, std)
    if "text" in config["widths"]:
        device = torch_settings.choose_device(config["device"])
        reader = text.Reader(config["encoder"], config["text"], device)
        tokens = reader.tokens(test.texts)
        unknown = reader.tokenizer.unk_token_id
        if unknown is None:
            raise EncoderError(f"text_encoder: {config['encoder']['name']} has no unknown token")
        lose = partial(corruption.drop_tokens, tokens, unknown=unknown)
        corrupt["text_missing"] = lambda share, rng: reader.read(lose(share, rng))
        wrong = partial(corruption.replace_tokens, tokens)
        corrupt["text_noise"] = lambda share, rng: reader.read(wrong(share, rng))
        test = test.with_text(reader.read(tokens))

    untouched = regressor.predict(test)
    for kind, levels in robustness.LEVELS.items():
        if kind not in corrupt:
            continue
        (out / kind).mkdir(parents=True)
        for level in levels:
            predictions = untouched
            if level > 0:
                corrupted = corrupt[kind](level, np.random.default_rng(seed))
                sequences = {**test.sequences, kind.partition("_")[0]: corrupted}
                predictions = regressor.predict(replace(test, sequences=sequences))
            Predictions(test.ids, test.labels, predictions).write(out / kind / f"{level:g}.csv")


if __name__ == "__main__":
    run(main, *sys.argv[1:])
