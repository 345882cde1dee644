"""Cross-validation by video: which parts of the prepared data are train, valid and test.

The parts are those splits themselves; or fold1, fold2 and so on, whole videos each. Then a model is
trained for each fold, which it is tested on: the next fold is valid, the others are train. Every
utterance is predicted once as test and once as valid, by models that were not trained on its video.
"""

from collections.abc import Iterable, Mapping, Sequence

from msabench.utterances import SPLITS, Utterances, mean_frames

Fold = Mapping[str, Sequence[str]]  # by split, the parts that it is made of
FIRST = "fold1"  # whose model is saved


def folds_of(parts: Iterable[str]) -> dict[str, Fold]:
    """Return each fold by its name; the one of parts that are the splits has the name ""."""
    names = tuple(parts)
    if names == SPLITS:
        return {"": {split: [split] for split in SPLITS}}
    following = (*names[1:], names[0])
    return {
        test: {
            "train": [name for name in names if name not in (test, valid)],
            "valid": [valid],
            "test": [test],
        }
        for test, valid in zip(names, following, strict=True)
    }


def splits_of(parts: Mapping[str, Utterances], fold: str = "") -> dict[str, Utterances]:
    """Return train, valid and test of a fold, by default the first.

    Of several parts as a copy; what an utterance lacks of audio and vision is imputed by train.
    """
    folds = folds_of(parts)
    chosen = folds[fold or next(iter(folds))]
    splits = {split: Utterances.join([parts[name] for name in chosen[split]]) for split in SPLITS}
    if FIRST not in folds:
        return splits
    means = mean_frames(splits["train"])
    return {split: data.imputed(means) for split, data in splits.items()}


def held_out(parts: Mapping[str, Utterances]) -> dict[str, Utterances]:
    """Return valid and test of all folds, one after the other, without frames.

    So do the files of predictions.
    """
    folds = folds_of(parts).values()
    return {
        split: Utterances.join([parts[name].select([]) for fold in folds for name in fold[split]])
        for split in ("valid", "test")
    }
