"""Corrupted test data as a run reads them, by the kinds and levels of evaluation.robustness.

Chance is that of the seed, so that every model is given the same corrupted data, and a higher level
corrupts a superset of what a lower one does.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np

from msabench import corruption
from msabench.errors import EncoderError
from msabench.evaluation.robustness import ALL, modalities_of
from msabench.networks.text import Reader
from msabench.utterances import MODALITIES, Ragged, Utterances, mean_and_std

Corrupt = Callable[[float, np.random.Generator], Ragged]  # level, RNG -> the modality


@dataclass(frozen=True)
class CorruptedData:
    """The test split of a run.

    whole: as it is, with the text as the run reads it. corrupt: what corrupts a modality, by the
    kinds of one modality, `<modality>_<how>`.
    """

    whole: Utterances
    corrupt: Mapping[str, Corrupt]
    seed: int

    @classmethod
    def of(
        cls, train: Utterances, test: Utterances, reader: Reader | None, seed: int
    ) -> "CorruptedData":
        """Prepare the corruptions of each modality of test.

        train: noise is in standard deviations of its frames. test: the frames that the run reads,
        and the texts. reader: of these; None where the run reads no text. Raises EncoderError for
        a tokenizer without an unknown token.
        """
        corrupt: dict[str, Corrupt] = {}
        for modality, frames in test.sequences.items():
            _, std = mean_and_std(train.sequences[modality])
            corrupt[f"{modality}_missing"] = partial(corruption.drop_frames, frames)
            corrupt[f"{modality}_noise"] = partial(corruption.add_noise, frames, std)
        if reader is not None:
            tokens = reader.tokens(test.texts)
            corrupt |= _of_text(reader, tokens)
            test = test.with_text(reader.read(tokens))
        return cls(test, corrupt, seed)

    def at(self, kind: str, level: float) -> Utterances:
        """Return the test split, corrupted.

        Where all modalities are, each has an RNG of its own, so that what one loses depends on no
        other that the run may read.
        """
        sequences = dict(self.whole.sequences)
        for modality in modalities_of(kind, sequences):
            own = [self.seed, MODALITIES.index(modality)] if kind == ALL else self.seed
            how = kind.partition("_")[2]
            corrupt = self.corrupt[f"{modality}_{how}"]
            sequences[modality] = corrupt(level, np.random.default_rng(own))
        return replace(self.whole, sequences=sequences)


def _of_text(reader: Reader, tokens: Ragged) -> dict[str, Corrupt]:
    """Return what corrupts the text: its token ids, which are then read."""
    unknown = reader.tokenizer.unk_token_id
    if unknown is None:
        raise EncoderError(f"text_encoder: {reader.name} has no unknown token")

    @lru_cache(maxsize=1)  # [seed, 0] is the RNG state of seed: both kinds lose the same tokens
    def read(values: bytes) -> Ragged:
        return reader.read(Ragged(np.frombuffer(values, tokens.values.dtype), tokens.offsets))

    def corrupt(how: Callable[..., Ragged], share: float, rng: np.random.Generator) -> Ragged:
        return read(how(tokens, share, rng).values.tobytes())

    lose = partial(corruption.drop_tokens, unknown=unknown)
    return {
        "text_missing": partial(corrupt, lose),
        "text_noise": partial(corrupt, corruption.replace_tokens),
    }
