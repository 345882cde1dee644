"""Corrupted inputs, by hand and by their properties, and trained models on them."""

import itertools
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from msabench import corruption, models, runs
from msabench.errors import EncoderError
from msabench.evaluation.corrupted_data import CorruptedData
from msabench.evaluation.robustness import (
    ALL,
    LEVELS,
    SHARES,
    TENTHS,
    kinds_by_level,
    modalities_of,
)
from msabench.networks import text
from msabench.params import Pooling
from msabench.predictions import Predictions
from msabench.utterances import SPLITS, Ragged, load_prepared, mean_and_std, save_prepared
from stages import robustness as stage
from tests.conftest import random_ragged, random_utterances
from tests.test_every_model import NAMES, config_of, in_tiers

CLS, SEP, UNK = 2, 3, 1
FRAMES = random_ragged(np.random.default_rng(0), 40, 5, high=30)
STD = np.array([1.0, 10.0, 0.0, 1e-3, 1e3])
TOKENS = Ragged.of(
    [
        np.array([CLS, *range(100 * i + 10, 100 * i + 10 + i % 23), SEP], dtype=np.int32)
        for i in range(40)
    ]
)
CORRUPTIONS: dict[str, tuple[Ragged, Callable[..., Ragged]]] = {
    "drop_frames": (FRAMES, corruption.drop_frames),
    "add_noise": (FRAMES, lambda frames, *rest: corruption.add_noise(frames, STD, *rest)),
    "drop_tokens": (TOKENS, partial(corruption.drop_tokens, unknown=UNK)),
    "replace_tokens": (TOKENS, corruption.replace_tokens),
}


def rng_of(seed=1):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_nothing_but_values_changes_and_the_input_is_only_read(name, tmp_path):
    """Also where it is mapped from disk, read-only."""
    given, corrupt = CORRUPTIONS[name]
    given.save(tmp_path, "given")
    mapped = Ragged.load(tmp_path, "given")
    for level in (0.0, 0.4, 1.0):
        result = corrupt(mapped, level, rng_of())
        np.testing.assert_array_equal(result.offsets, given.offsets)
        assert (result.values.shape, result.values.dtype) == (
            given.values.shape,
            given.values.dtype,
        )
        assert np.array_equal(result.values, given.values) == (level == 0)
        np.testing.assert_array_equal(result.values, corrupt(given, level, rng_of()).values)
        np.testing.assert_array_equal(mapped.values, given.values)
    other = corrupt(given, 0.4, rng_of(2)).values
    assert not np.array_equal(other, corrupt(given, 0.4, rng_of()).values)


@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=20),
    share=st.floats(0, 1),
    less=st.floats(0, 1),
    seed=st.integers(0, 100),
)
def test_the_share_is_that_of_each_sequence_and_a_smaller_one_lies_in_it(
    lengths, share, less, seed
):
    chosen = corruption.random_mask(np.array(lengths), share, rng_of(seed))
    for length, part in zip(lengths, np.split(chosen, np.cumsum(lengths)[:-1]), strict=True):
        assert len(part) == length
        assert abs(part.sum() - share * length) < 1
    smaller = corruption.random_mask(np.array(lengths), share * less, rng_of(seed))
    assert not (smaller & ~chosen).any()


def test_every_place_is_chosen_as_often():
    counts = sum(
        corruption.random_mask(np.array([3, 5]), 0.4, rng_of(seed)) for seed in range(2000)
    )
    assert counts / 2000 == pytest.approx([2 / 5] * 8, abs=0.05)


@pytest.mark.parametrize("length", [1, 2, 7])
def test_the_share_is_met_on_average_by_short_sequences_too(length):
    """One frame each: with rounding to the nearest, all would be lost at once."""
    lengths = np.full(4000 // length, length)
    lost = [corruption.random_mask(lengths, share, rng_of()).mean() for share in SHARES]
    assert lost == pytest.approx(SHARES, abs=0.03)


def test_missing_frames_are_zeros_and_the_others_as_they_were():
    result = corruption.drop_frames(FRAMES, 0.6, rng_of())
    zeros = (result.values == 0).all(axis=1)
    np.testing.assert_array_equal(result.values[~zeros], FRAMES.values[~zeros])
    for i, length in enumerate(FRAMES.lengths):
        lost = zeros[FRAMES.offsets[i] : FRAMES.offsets[i + 1]].sum()
        assert abs(lost - 0.6 * length) < 1


def test_noise_is_in_standard_deviations_of_each_feature():
    frames = Ragged.of([np.full((500, 5), 7, np.float32), np.full((1500, 5), 7, np.float32)])
    for level in (0.5, 4.0):
        noise = corruption.add_noise(frames, STD, level, rng_of()).values.astype(float) - 7
        assert noise.std(axis=0) == pytest.approx(level * STD, rel=0.1)
        assert (np.abs(noise.mean(axis=0)) <= 0.1 * level * STD).all()
        np.testing.assert_array_equal(noise[:, 2], 0)  # a constant feature stays constant
    half, whole = (
        corruption.add_noise(FRAMES, STD, level, rng_of()).values - FRAMES.values
        for level in (1.0, 2.0)
    )
    np.testing.assert_allclose(2 * half, whole, rtol=1e-3, atol=1e-3)  # the same noise, larger


def test_the_standard_deviation_is_that_of_all_frames():
    frames = random_ragged(rng_of(), 200, 3, low=900, high=1100)  # more than one chunk
    mean, std = mean_and_std(frames)
    np.testing.assert_allclose(mean, frames.values.mean(axis=0, dtype=np.float64), rtol=1e-9)
    np.testing.assert_allclose(std, frames.values.std(axis=0, dtype=np.float64), rtol=1e-9)


def test_what_is_imputed_stays():
    mean = np.array([1, 2, 3, 4, 5], np.float32)
    none = np.empty((0, 5), np.float32)
    frames = replace(Ragged.of([FRAMES[0], none, FRAMES[1]]), mean_frame=mean)
    for corrupted in (
        corruption.drop_frames(frames, 1.0, rng_of()),
        corruption.add_noise(frames, STD, 4.0, rng_of()),
    ):
        np.testing.assert_array_equal(corrupted[1], [mean])
        assert (corrupted[0][:, :2] != FRAMES[0][:, :2]).all()
        assert corrupted.lengths.tolist() == frames.lengths.tolist()


@pytest.mark.parametrize("name", ["drop_tokens", "replace_tokens"])
def test_the_first_and_the_last_token_stay(name):
    _, corrupt = CORRUPTIONS[name]
    for share in SHARES:
        result = corrupt(TOKENS, share, rng_of())
        assert (result.values[result.offsets[:-1]] == CLS).all()
        assert (result.values[result.offsets[1:] - 1] == SEP).all()


def test_missing_tokens_are_unknown_and_the_others_as_they_were():
    _, corrupt = CORRUPTIONS["drop_tokens"]
    result = corrupt(TOKENS, 0.4, rng_of())
    lost = result.values == UNK
    np.testing.assert_array_equal(result.values[~lost], TOKENS.values[~lost])
    for i, length in enumerate(TOKENS.lengths):
        assert abs((result[i] == UNK).sum() - 0.4 * (length - 2)) < 1
    assert (corrupt(TOKENS, 1.0, rng_of())[22] == [CLS, *[UNK] * 22, SEP]).all()


def test_wrong_tokens_are_those_of_all_texts():
    """All wrong, they are the same tokens in other places."""
    result = corruption.replace_tokens(TOKENS, 1.0, rng_of())
    assert sorted(result.values) == sorted(TOKENS.values)
    changed = (corruption.replace_tokens(TOKENS, 0.4, rng_of()).values != TOKENS.values).mean()
    assert 0.25 < changed < 0.45
    fewer, more = (corruption.replace_tokens(TOKENS, s, rng_of()).values for s in (0.4, 0.8))
    wrong = fewer != TOKENS.values
    np.testing.assert_array_equal(more[wrong], fewer[wrong])


def corrupted(kind, level, modalities=("text", "audio", "vision"), encoder=None, seed=1):
    """What a kind and level make of two splits, of which the second is test."""
    train, test = (random_utterances(seed=i, n=20).select(modalities) for i in (0, 1))
    texts = [WORDS[i % len(WORDS)] for i in range(len(test))]
    test = replace(test.select(m for m in modalities if m != "text"), texts=texts)
    reader = None
    if "text" in modalities:
        reads = {"array": "tokens", "max_tokens": 6}
        reader = text.Reader({"name": encoder}, reads, torch.device("cpu"))
    data = CorruptedData.of(train, test, reader, seed)
    return {name: ragged.values for name, ragged in data.at(kind, level).sequences.items()}


def test_the_shares_of_all_modalities_are_the_ten_of_the_protocol():
    assert [f"{share:g}" for share in LEVELS[ALL]] == ["0", *(f"0.{i}" for i in range(1, 10))]


@pytest.mark.parametrize(
    ("kind", "present", "modalities"),
    [
        ("all_missing", ["text", "audio", "vision"], ["text", "audio", "vision"]),
        ("all_missing", ["vision"], ["vision"]),
        ("text_noise", ["text", "audio"], ["text"]),
        ("vision_missing", ["text", "audio"], []),
    ],
)
def test_a_kind_corrupts_what_there_is_of_its_modalities(kind, present, modalities):
    assert modalities_of(kind, present) == modalities


def test_all_modalities_lose_the_share_by_the_corruptions_of_one(tiny_bert):
    """By RNGs of their own, so that the others which a model reads change nothing."""
    whole, half = (corrupted(ALL, share, encoder=tiny_bert) for share in (0.0, 0.5))
    test = random_utterances(seed=1, n=20)
    for i, name in enumerate(("audio", "vision"), start=1):
        frames, rng = test.sequences[name], np.random.default_rng([1, i])
        expected = corruption.drop_frames(frames, 0.5, rng).values
        np.testing.assert_array_equal(half[name], expected)
        np.testing.assert_array_equal(whole[name], frames.values)
        np.testing.assert_array_equal(corrupted(ALL, 0.5, [name])[name], half[name])
        assert (half[name] == 0).all(axis=1).mean() == pytest.approx(0.5, abs=0.1)
    lost = (half["text"] != whole["text"]).sum() / (len(whole["text"]) - 2 * len(test))
    assert lost == pytest.approx(0.5, abs=0.1)
    alone = corrupted(ALL, 0.5, ["text"], tiny_bert)
    np.testing.assert_array_equal(alone["text"], half["text"])
    other = corrupted(ALL, 0.5, ["audio"], seed=2)
    assert not np.array_equal(other["audio"], half["audio"])


def test_a_text_is_read_once_for_the_kinds_that_lose_the_same_of_it(tiny_bert, monkeypatch):
    """At the shares that the text alone has too; what all frozen layers cost most."""
    counted = []
    read = text.Reader.read

    def counting(self, tokens):
        counted.append(tokens)
        return read(self, tokens)

    monkeypatch.setattr(text.Reader, "read", counting)
    train, test = (random_utterances(seed=i, n=20) for i in (0, 1))
    test = replace(test.select(["audio"]), texts=[WORDS[i % len(WORDS)] for i in range(20)])
    reads = {"array": "tokens", "max_tokens": 6}
    reader = text.Reader({"name": tiny_bert}, reads, torch.device("cpu"))
    data = CorruptedData.of(train, test, reader, 1)
    for level, kinds in kinds_by_level(data.whole.sequences).items():
        for kind in kinds if level > 0 else ():
            data.at(kind, level)
    corrupted_texts = {*TENTHS, *SHARES} - {0.0}
    assert len(counted) == 1 + len(corrupted_texts) + len(SHARES[1:])  # and the noise


def test_no_two_modalities_lose_the_same_places():
    """Sequences of the same lengths, which one RNG would corrupt alike."""
    frames = dict.fromkeys(("audio", "vision"), FRAMES)
    test = replace(random_utterances(n=40), sequences=frames)
    lost = CorruptedData.of(test, test, None, 1).at(ALL, 0.5).sequences
    audio, vision = ((lost[name].values == 0).all(axis=1) for name in frames)
    assert (audio != vision).mean() == pytest.approx(0.5, abs=0.1)


def test_a_higher_share_of_all_modalities_lacks_what_a_lower_one_does(tiny_bert):
    shares = [corrupted(ALL, share, encoder=tiny_bert) for share in TENTHS]
    for name, whole in shares[0].items():
        lost = [(share[name] != whole).reshape(len(whole), -1).any(axis=1) for share in shares]
        for less, more in itertools.pairwise(lost):
            assert (more & less == less).all()
            assert more.sum() > less.sum()


@pytest.mark.parametrize("kind", ["audio_missing", "vision_noise", "text_missing", "text_noise"])
def test_one_modality_is_corrupted_by_the_seed_and_the_others_are_as_they_were(kind, tiny_bert):
    modality = kind.partition("_")[0]
    whole, changed = (corrupted(kind, level, encoder=tiny_bert) for level in (0.0, 0.6))
    for name, values in whole.items():
        assert np.array_equal(changed[name], values) == (name != modality)
    if kind == "audio_missing":
        frames = random_utterances(seed=1, n=20).sequences["audio"]
        expected = corruption.drop_frames(frames, 0.6, rng_of(1)).values
        np.testing.assert_array_equal(changed["audio"], expected)


def test_a_tokenizer_without_an_unknown_token_is_refused(tiny_bert, monkeypatch):
    tokenizer = text.load_tokenizer(tiny_bert)
    tokenizer.unk_token = None
    monkeypatch.setattr(text, "load_tokenizer", lambda *_: tokenizer)
    with pytest.raises(EncoderError, match=rf"text_encoder: {tiny_bert} has no unknown token$"):
        corrupted("text_missing", 0.2, encoder=tiny_bert)


WORDS = ["good", "bad", "very good film", "the film was not bad", "the film was good but"]


def trained(model, encoder, modalities):
    """Train a model on small random data in the working folder, as the stages before leave it."""
    states = models.reads_states(model)  # of a frozen text
    trainable_layers = 0 if model == "svm" or states else 1
    pooling: Pooling | None = None if states else "mean"
    reads = {
        "array": text.cache_name(trainable_layers, pooling),
        "trainable_layers": trainable_layers,
        "pooling": pooling,
        "max_tokens": 6,
    }
    reader = text.Reader({"name": encoder}, reads, torch.device("cpu"))
    splits = {}
    for seed, split in enumerate(SPLITS):
        data = random_utterances(seed=seed, n=20).select(modalities)
        data = replace(data, texts=[WORDS[i % len(WORDS)] for i in range(len(data))])
        splits[split] = data
    save_prepared(splits, Path("data/prepared"))
    splits = load_prepared(Path("data/prepared"))
    for split, data in splits.items():
        splits[split] = data.with_text(reader.read(reader.tokens(data.texts)))
    config = {
        **config_of(model, encoder, trainable_layers=trainable_layers, pooling="mean", epochs=1),
        "device": "cpu",
        "threads": 1,
    }
    weights, outcome = Path(f"runs/{model}-1"), Path(f"predictions/{model}-1")
    weights.mkdir(parents=True)
    regressor = runs.fit_and_predict(config, splits, 1, scratch=Path("scratch"), outcome=outcome)
    regressor.save(weights)
    saved = {"msabench": "0.2.0", **config, "text": reads, "widths": splits["train"].widths}
    (weights / "run.json").write_text(json.dumps(saved))
    shutil.copy(Path("data/prepared", runs.MEAN_FRAMES), weights)
    return Predictions.read(outcome / "test.csv").predictions


@pytest.mark.parametrize("modalities", [("audio", "vision"), ()], ids=["all", "text alone"])
@pytest.mark.parametrize("model", in_tiers(NAMES))
def test_a_trained_model_on_every_level_of_what_it_reads(
    model, modalities, tiny_bert, tmp_path, monkeypatch
):
    """Level 0 is its own prediction on test, and every other level another."""
    monkeypatch.chdir(tmp_path)
    clean = trained(model, tiny_bert, modalities)
    out = Path(f"predictions/robustness-{model}-1")
    (out / "text_missing").mkdir(parents=True)
    (out / "text_missing/0.1.csv").write_text("of other levels")
    stage.main(model, 1)
    result = {path.relative_to(out).as_posix(): path for path in out.rglob("*.csv")}
    assert set(result) == {
        f"{kind}/{level:g}.csv"
        for kind, levels in LEVELS.items()
        for level in levels
        if kind == ALL or kind.startswith(("text", *modalities))
    }
    read = {name: Predictions.read(path).predictions for name, path in result.items()}
    for name, predictions in read.items():
        if name.endswith("/0.csv"):
            np.testing.assert_allclose(predictions, clean, atol=1e-5)
        else:
            assert np.abs(predictions - clean).max() > 1e-5, name
