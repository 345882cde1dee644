"""Training that expects missing data: what it reads, its cached copies, and what it learns."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML

from msabench import hashes, params, plan, runs
from msabench.corruption import drop_frames, drop_tokens
from msabench.errors import EncoderError, ParamsError
from msabench.folds import splits_of
from msabench.networks import corrupted, text
from msabench.networks.batches import Batch
from msabench.reporting.content import provenance
from msabench.training import checkpoints
from msabench.training.missing import TrainingData, _frames, cached_copies
from msabench.training.schedule import Missing, Schedule
from msabench.utterances import SPLITS, Ragged, Utterances, load_splits, mean_frames
from stages import features, train
from stages import plan as plan_stage
from tests.conftest import broken_off, random_utterances
from tests.test_every_model import NETWORKS, build, in_tiers, weights
from tests.test_plan import BASE, resolve, resolved, with_model
from tests.trained_tree import ROOT, WORDS

CPU = torch.device("cpu")
COPIES = 4
HALF = Missing(share=0.5, copies=COPIES)
DROPOUT = Missing(share=0.5, copies=COPIES, absent=0.4)


def with_copies(data: Utterances, copies: int = COPIES) -> Utterances:
    """Give the text copies: number k adds 100 k to all values; an empty text is of -1."""
    own = data.sequences["text"]
    shifted = [Ragged(own.values + np.float32(100 * k), own.offsets) for k in range(1, copies + 1)]
    absent = np.full((1, own.width), -1, np.float32)
    return data.with_text(replace(own, copies=shifted, empty=absent))


def long_utterances(n: int = 400, frames: int = 40) -> Utterances:
    """Utterances of so many frames of audio and vision, none of them zero."""
    data = random_utterances(n=n)
    rng = np.random.default_rng(1)
    for name, width in {"audio": 5, "vision": 4}.items():
        values = rng.uniform(1, 2, size=(n * frames, width)).astype(np.float32)
        offsets = np.arange(n + 1) * frames
        data = replace(data, sequences={**data.sequences, name: Ragged(values, offsets)})
    return with_copies(data)


LONG = long_utterances()
MEANS = {name: np.array(mean, np.float32) for name, mean in mean_frames(LONG).items()}


def lost(read: Utterances, name: str) -> np.ndarray:
    """Return what is missing of each utterance: the share of frames, or the number of the copy."""
    own = read.sequences[name]
    if name == "text":
        return np.array(
            [round((own[i] - LONG.sequences["text"][i]).mean() / 100) for i in range(len(own))]
        )
    return np.array([(own[i] == 0).all(axis=1).mean() for i in range(len(own))])


def absent(read: Utterances) -> np.ndarray:
    """Return which of its modalities each utterance has not, (n, modalities)."""
    columns = []
    for name, own in read.sequences.items():
        whole = np.full(own.width, -1) if name == "text" else MEANS[name]
        columns.append([np.array_equal(own[i], whole[None]) for i in range(len(own))])
    return np.transpose(columns)


def read(data: Utterances, missing: Missing | None, epoch: int = 1, seed: int = 1) -> Utterances:
    return TrainingData(data, missing, seed).of(np.arange(len(data)), epoch)


def assert_equal(actual: Utterances, expected: Utterances) -> None:
    assert actual.ids == expected.ids
    np.testing.assert_array_equal(actual.labels, expected.labels)
    assert list(actual.sequences) == list(expected.sequences)
    for name, ragged in expected.sequences.items():
        for i in range(len(ragged)):
            np.testing.assert_array_equal(actual.sequences[name][i], ragged[i])


def test_levels_are_as_frequent_and_independent_of_each_other():
    """0 is intact; of 40 frames the shares 0.125, 0.25, ... are 5, 10, 15 and 20."""
    levels = []
    for epoch in range(1, 9):
        of_epoch = read(LONG, HALF, epoch)
        levels.append(
            [lost(of_epoch, "text"), *(lost(of_epoch, n) * 8 for n in ("audio", "vision"))]
        )
    together = np.concatenate(levels, axis=1)  # (3, 3200)
    for of_modality in together:
        values, counts = np.unique(of_modality, return_counts=True)
        assert values.tolist() == [0, 1, 2, 3, 4]
        assert counts / len(of_modality) == pytest.approx([1 / 5] * 5, abs=0.03)
    assert np.abs(np.corrcoef(together)[np.triu_indices(3, 1)]).max() < 0.06


def test_missing_frames_are_zeros_and_all_else_is_as_it_was():
    actual = read(LONG, HALF)
    assert actual.ids == LONG.ids
    for name in ("audio", "vision"):
        own, before = actual.sequences[name], LONG.sequences[name]
        np.testing.assert_array_equal(own.offsets, before.offsets)
        zeros = (own.values == 0).all(axis=1)
        np.testing.assert_array_equal(own.values[~zeros], before.values[~zeros])
        assert 0.2 < zeros.mean() < 0.3
    assert (LONG.sequences["audio"].values > 0).all()  # the split itself is not changed


def test_frames_are_dropped_as_the_robustness_test_drops_them():
    """From the same RNG state the same ones."""
    one = LONG.take([7]).sequences["audio"]
    expected = drop_frames(one, 0.3, np.random.default_rng(3))
    here = np.array([False])
    actual = _frames(one.take([0]), np.array([0.3]), here, [np.random.default_rng(3)])
    np.testing.assert_array_equal(actual.values, expected.values)
    assert (actual.values == 0).any()


@pytest.mark.parametrize("missing", [HALF, DROPOUT])
def test_what_is_missing_is_a_function_of_seed_epoch_and_row(missing):
    """Not of the batch, its order or its size; of another seed, epoch or row it is another."""
    whole = read(LONG, missing)
    assert_equal(read(LONG, missing), whole)
    data = TrainingData(LONG, missing, 1)
    order = np.random.default_rng(0).permutation(len(LONG))
    for batch in (order[:7], order[7:8], order[8:100]):
        assert_equal(data.of(batch, 1), whole.take(batch))
    others = [read(LONG, missing, epoch=2), read(LONG, missing, seed=2)]
    others.append(whole.take(np.roll(np.arange(len(LONG)), 1)))
    for other in others:
        for name in ("text", "audio"):
            same = lost(other, name) == lost(whole, name)
            assert same.mean() < 0.4


def test_what_is_missing_has_no_part_in_the_numbers_that_shuffle_the_batches():
    data = TrainingData(LONG, HALF, 1)
    assert data._rng(0, 2).random() != np.random.default_rng([1, 2]).random()


def test_a_batch_knows_its_rows_and_labels():
    rows = np.array([9, 2, 30])
    batch = TrainingData(LONG, DROPOUT, 1).batch(rows, 3, CPU)
    assert batch.index.tolist() == [9, 2, 30]
    np.testing.assert_array_equal(batch.labels, LONG.labels[rows])
    expected = read(LONG, DROPOUT, 3).take(rows)
    for name, padded in batch.sequences.items():
        values, lengths = expected.sequences[name].padded(np.arange(3))
        np.testing.assert_array_equal(padded.values, values)
        np.testing.assert_array_equal(padded.lengths, lengths)


def test_without_the_setting_a_batch_is_that_of_the_split():
    rows = np.array([9, 2, 30])
    data = TrainingData(LONG, None, 1)
    actual, expected = data.batch(rows, 1, CPU), Batch.of(LONG, rows, CPU)
    torch.testing.assert_close(actual.index, expected.index)
    for name, padded in expected.sequences.items():
        assert torch.equal(actual.sequences[name].values, padded.values)
    assert_equal(data.of(rows, 1), LONG.take(rows))


def test_a_modality_is_absent_as_in_prediction_and_never_all_of_them():
    """Audio and vision as the mean frame, text as the empty one."""
    which = np.concatenate([absent(read(LONG, DROPOUT, epoch)) for epoch in range(1, 6)])
    assert not which.all(axis=1).any()
    patterns = {tuple(row) for row in which.tolist()}
    assert len(patterns) == 7
    # All three at once have 0.4^3, of which each modality stays in a third.
    assert which.mean(axis=0) == pytest.approx([0.4 - 0.4**3 / 3] * 3, abs=0.03)
    assert not absent(read(LONG, HALF)).any()


def test_of_two_modalities_one_stays_and_of_one_it_stays():
    most = Missing(share=0.5, copies=COPIES, absent=0.99)
    for modalities in (["audio", "vision"], ["text", "vision"], ["audio"], ["text"]):
        actual = read(LONG.select(modalities), most)
        assert list(actual.sequences) == modalities
        gone = absent(actual).sum(axis=1)
        assert gone.max() == len(modalities) - 1
        assert gone.mean() > 0.95 * (len(modalities) - 1) - 0.01


def test_what_an_utterance_lacks_is_none_of_those_that_may_be_absent():
    """Else nothing of it would be left: here audio and text of each, and vision is all it has."""
    none = Ragged(np.empty((0, 5), np.float32), np.zeros(len(LONG) + 1, np.int64))
    imputed = replace(none, mean_frame=np.ones(5, np.float32))
    data = replace(LONG, sequences={**LONG.sequences, "audio": imputed}, texts=[" "] * len(LONG))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("msabench.training.missing.mean_frames", lambda _: {"vision": [5.0] * 4})
        actual = read(data, Missing(share=0.5, absent=0.9))
    assert actual.sequences["vision"].stored_lengths.tolist() == [40] * len(LONG)
    np.testing.assert_array_equal(actual.sequences["audio"][3], [np.ones(5)])


def test_texts_need_as_many_copies_as_there_are_levels():
    with pytest.raises(ValueError, match="have 4 corrupted copies, and an empty text"):
        TrainingData(LONG, Missing(share=0.5, copies=3), 1)
    bare = LONG.with_text(replace(LONG.sequences["text"], empty=None))
    TrainingData(bare, HALF, 1)
    with pytest.raises(ValueError, match="have 4 corrupted copies, and no empty text"):
        TrainingData(bare, DROPOUT, 1)
    TrainingData(LONG.select(["audio"]), DROPOUT, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"share": 0.0},
        {"share": 1.1},
        {"share": 0.5, "copies": 0},
        {"share": 0.5, "absent": 1.0},
        {},
    ],
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValueError, match="missing"):
        Schedule(batch_size=1, epochs=1, patience=1, missing=wrong)


def test_the_shares_are_those_of_the_levels_to_six_digits():
    assert HALF.shares == [0, 0.125, 0.25, 0.375, 0.5]
    assert Missing(share=1, copies=3).shares == [0, 0.333333, 0.666667, 1]


# --- the loop

TRAIN = with_copies(random_utterances(seed=1, n=24))
VALID = random_utterances(seed=2, n=16)
SETTING = {"missing": {"share": 0.5, "copies": COPIES, "absent": 0.3}}


@pytest.mark.parametrize("name", in_tiers(NETWORKS))
def test_resumed_equals_uninterrupted(name, tmp_path, monkeypatch):
    """Bit for bit, after a stop in the middle of an epoch and at its end."""
    monkeypatch.setenv(checkpoints.SECONDS, "0")
    whole = build(name, TRAIN, **SETTING)
    history = whole.fit(TRAIN, VALID, seed=1, scratch=tmp_path / "whole")
    for done in (2, 3):
        scratch = tmp_path / str(done)
        with broken_off(done):
            build(name, TRAIN, **SETTING).fit(TRAIN, VALID, seed=1, scratch=scratch)
        resumed = build(name, TRAIN, **SETTING)
        assert resumed.fit(TRAIN, VALID, seed=1, scratch=scratch) == history
        assert weights(resumed, tmp_path / "b") == weights(whole, tmp_path / "a")
    other = build(name, TRAIN)
    other.fit(TRAIN, VALID, seed=1, scratch=tmp_path / "other")
    assert weights(other, tmp_path / "c") != weights(whole, tmp_path / "a")


def of_text(data: Utterances, copies: list[Ragged]) -> Utterances:
    own = replace(data.sequences["text"], copies=copies)
    return data.select([]).with_text(own)


def test_training_reads_the_copies_and_else_nothing_changes(tmp_path):
    """Where they equal the text, the weights are those of a training without the setting."""
    own = TRAIN.sequences["text"]
    plain = {"missing": {"share": 0.5, "copies": COPIES}}

    def trained(copies, **settings):
        data = of_text(TRAIN, copies)
        regressor = build("ours", data, **settings)
        scratch = tmp_path / str(len(list(tmp_path.iterdir())))
        regressor.fit(data, of_text(VALID, []), seed=1, scratch=scratch)
        return weights(regressor, scratch)

    without = trained([])
    assert trained([own] * COPIES, **plain) == without
    assert trained([own] * 3 + [own.copies[0]], **plain) != without


@pytest.mark.parametrize("name", in_tiers(["self_mm", "mmim"]))
def test_both_phases_and_every_batch_size_read_the_same(name, tmp_path, monkeypatch):
    seen: list[dict[tuple[int, int], bytes]] = []
    phases: list[int] = []
    batch_of = TrainingData.batch

    def recorded(data, rows, epoch, device):
        batch = batch_of(data, rows, epoch, device)
        phases[-1] += len(rows)
        for i, row in enumerate(rows.tolist()):
            one = [p.values[i, : p.lengths[i]].numpy().tobytes() for p in batch.sequences.values()]
            assert seen[-1].setdefault((epoch, row), b"".join(one)) == b"".join(one)
        return batch

    monkeypatch.setattr(TrainingData, "batch", recorded)
    for batch_size in (8, 5):
        seen.append({})
        phases.append(0)
        regressor = build(name, TRAIN, **SETTING, batch_size=batch_size, epochs=2)
        regressor.fit(TRAIN, VALID, seed=1, scratch=tmp_path / str(batch_size))
    assert seen[0] == seen[1]
    assert len(seen[0]) == 2 * len(TRAIN)
    assert phases[0] > len(seen[0]) or name != "mmim"


def test_validation_reads_the_data_as_they_are(tmp_path):
    """Its copies are not needed, and the MAE recorded is that of its prediction."""
    regressor = build("cnn", TRAIN, **SETTING, epochs=1)
    history = regressor.fit(TRAIN, VALID, seed=1, scratch=tmp_path)
    mae = np.abs(regressor.predict(VALID).astype(float) - VALID.labels).mean()
    assert history[0]["valid_mae"] == pytest.approx(mae, abs=1e-9)


def test_an_utterance_to_blame_is_named(tmp_path):
    data = TRAIN.take(np.arange(24))
    data.sequences["audio"].values[data.sequences["audio"].offsets[17]] = np.nan
    data = data.with_text(TRAIN.sequences["text"])
    regressor = build("cnn", data, missing={"share": 0.1, "copies": COPIES}, standardize=False)
    with pytest.raises(FloatingPointError, match=r"audio of video1_5\$_\$2 has a value"):
        regressor.fit(data, VALID, seed=1, scratch=tmp_path)


def test_a_model_that_expects_an_absent_text_predicts_better_without_it(tmp_path):
    """Intact, the text is the label; audio and vision tell it with noise."""
    train, valid, test = (random_utterances(seed=s, n=n) for s, n in ((1, 96), (2, 32), (3, 100)))
    for data in (train, valid, test):
        data.sequences["text"].values[:] = data.labels[:, None]
    own = train.sequences["text"]
    empty = np.zeros((1, 8), np.float32)
    train = train.with_text(replace(own, copies=[own] * COPIES, empty=empty))
    blank = test.with_text(Ragged(np.zeros_like(test.sequences["text"].values), np.arange(101)))
    errors: list[float] = []
    for settings in ({}, {"missing": {"share": 0.1, "copies": COPIES, "absent": 0.5}}):
        regressor = build("cnn", train, **settings, epochs=20, patience=20, lr=0.003)
        regressor.fit(train, valid, seed=1, scratch=tmp_path / str(len(errors)))
        errors.append(float(np.abs(regressor.predict(blank) - test.labels).mean()))
    assert errors[1] < 0.6 * errors[0]


# --- plan and features


def test_provenance_lists_the_copies_beside_what_all_read():
    reads = {"array": "below-1", "sha256": {"train": "a", "test": "b"}}
    copies = {"train": {"below-1-missing-0.5-1": "c", "below-1-empty": "d"}}
    whole = [("below-1", "train", "a"), ("below-1", "test", "b")]
    assert list(provenance._arrays(reads)) == whole
    assert list(provenance._arrays(reads | {"missing": {"sha256": copies}})) == [
        *whole,
        ("below-1-missing-0.5-1", "train", "c"),
        ("below-1-empty", "train", "d"),
    ]


def planned_missing(configs: Mapping[str, Any], name: str) -> Any:
    return configs["stages/features"]["runs"][name].get("missing")


def test_the_setting_reaches_plan_and_features():
    """By -S, which needs a + as the block does not have the key; and by a block that is like it."""
    configs = resolved("+models.ours.missing={share: 0.5}")
    assert configs["ours"]["schedule"]["missing"] == {"share": 0.5, "copies": 4, "absent": 0.0}
    array = configs["stages/features"]["runs"]["ours"]["array"]
    shares = (0.125, 0.25, 0.375, 0.5)
    assert planned_missing(configs, "ours") == {
        "arrays": {f"{array}-missing-{s:g}-{n}": s for n, s in enumerate(shares, start=1)},
        "empty": None,
    }
    assert planned_missing(configs, "self_mm") is None
    before = resolve(BASE)
    assert before["ours"]["schedule"]["missing"] is None
    changed = {name for name in before if before[name] != configs[name]}
    rows = {name for name, run in plan.runs_of(BASE).items() if run.stage == "sweep"}
    assert changed <= rows | {"ours", "stages/features", "stages/tables"}


def test_settings_merge_over_a_block_and_null_turns_them_off():
    models = with_model("ours", missing={"share": 0.5, "absent": 0.2})
    models |= {
        "fewer": {"like": "ours", "missing": {"copies": 2}},
        "off": {"like": "ours", "missing": None},
        "own": {"model": "cnn", **BASE.models["cnn"], "missing": {"share": 1.0}},
    }
    compare = [*BASE.compare, "fewer", "off", "own"]
    configs = resolve(BASE.model_copy(update={"models": models, "compare": compare}))
    assert configs["fewer"]["schedule"]["missing"] == {"share": 0.5, "copies": 2, "absent": 0.2}
    assert configs["off"]["schedule"]["missing"] is None
    assert configs["own"]["schedule"]["missing"]["share"] == 1.0
    assert planned_missing(configs, "fewer")["empty"].endswith("-empty")
    assert planned_missing(configs, "off") is None


def test_a_run_that_reads_no_text_has_no_copies():
    models = with_model("ours", missing={"share": 0.5}, modalities=["audio", "vision"])
    configs = resolve(BASE.model_copy(update={"models": models}))
    assert configs["ours"]["schedule"]["missing"]["share"] == 0.5
    assert planned_missing(configs, "ours") is None


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("svm", {"share": 0.5}, r"models\.svm\.missing: unknown setting"),
        ("ours", {"share": 2.0}, r"^models\.ours: missing\.share: 2\.0; it should be less than"),
        ("ours", {"copies": 2}, r"^models\.ours: missing\.share: missing"),
        ("ours", {"share": 0.5, "shares": 1}, r"^models\.ours: missing\.shares: unknown setting"),
    ],
)
def test_what_is_not_permitted_is_named(name, value, message):
    with pytest.raises(ParamsError, match=message):
        plan.runs_of(BASE.model_copy(update={"models": with_model(name, missing=value)}))


ENCODED = {"below-1": (1, "mean"), "pooled-mean": (0, "mean"), "tokens": ("all", "mean")}


def prepare(parts: Mapping[str, int], with_texts: bool = True) -> None:
    """Write prepared data of so many utterances of each part."""
    for seed, (name, n) in enumerate(parts.items()):
        data = random_utterances(seed=seed, n=n).select(["audio"])
        rng = np.random.default_rng(seed)
        texts = [" ".join(rng.choice(WORDS, rng.integers(2, 9))) for _ in range(n)]
        replace(data, texts=texts if with_texts else [""] * n).save(Path("data/prepared") / name)
    means = mean_frames(Utterances.load(Path("data/prepared") / next(iter(parts))))
    Path("data/prepared/mean_frames.json").write_text(json.dumps(means))


def reads_of(array: str, missing: Missing | None) -> dict[str, Any]:
    trainable_layers, pooling = ENCODED[array]
    reads = {"array": array, "trainable_layers": trainable_layers, "pooling": pooling}
    if missing is not None:
        config = {"schedule": {"missing": missing.model_dump()}, "modalities": ["text", "audio"]}
        reads |= cached_copies(config, array)
    return reads


def run_features(encoder: str, of_runs: Mapping[str, Any]) -> dict[str, Any]:
    """Run the stage for these runs; return what it says that they read."""
    config = {"encoder": {"name": encoder}, "max_tokens": 6, "device": "cpu", "threads": 1}
    config |= {"runs": of_runs, "probe": reads_of("pooled-mean", None)}
    Path("runs/plan/stages").mkdir(parents=True, exist_ok=True)
    Path("runs/plan/stages/features.json").write_text(json.dumps(config))
    features.main()
    written = {name: Path(f"data/features/runs/{name}.json").read_text() for name in of_runs}
    return {name: json.loads(content) for name, content in written.items()}


SIZES = {"train": 12, "valid": 4, "test": 4}


def test_the_features_stage_writes_each_copy_once_and_names_it_with_its_hash(
    tiny_bert, tmp_path, monkeypatch
):
    """Of the training split alone; what others read is what it was."""
    monkeypatch.chdir(tmp_path)
    prepare(SIZES)
    plain = {"plain": reads_of("below-1", None)}
    before = run_features(tiny_bert, plain)["plain"]
    dropout = Missing(share=0.5, copies=2, absent=0.2)
    expecting = {f"{array}-{i}": reads_of(array, dropout) for array in ENCODED for i in (1, 2)}
    expecting["more"] = reads_of("below-1", Missing(share=1.0, copies=2))
    calls: list[int] = []
    encode = text.encode

    def counted(*arguments, **settings):
        calls.append(len(arguments[2]))
        encode(*arguments, **settings)

    monkeypatch.setattr(corrupted, "encode", counted)
    written = run_features(tiny_bert, plain | expecting)
    assert written["plain"] == before
    assert len(calls) == 2 + 2 + 1  # shares 0.25 and 0.5, 0.5 and 1.0, and the empty text
    folder = Path("data/features/train")
    for name, reads in written.items():
        if name == "plain":
            continue
        missing = reads["missing"]
        names = [*missing["arrays"], *([missing["empty"]] if missing["empty"] else [])]
        assert list(missing["sha256"]) == ["train"]
        assert missing["sha256"]["train"] == {
            own: hashes.of_file(folder / f"{own}.npy") for own in names
        }
        assert len(names) == (2 if name == "more" else 3)
        assert len(set(missing["sha256"]["train"].values())) == len(names)
    for split in ("valid", "test"):
        assert not list(Path("data/features", split).glob("*-missing-*"))
    assert len(list(folder.glob("below-1-missing-*[0-9].npy"))) == 4
    again = run_features(tiny_bert, plain | {"more": expecting["more"]})["more"]
    assert again["missing"]["sha256"] == written["more"]["missing"]["sha256"]


@pytest.mark.parametrize("array", ENCODED)
def test_a_copy_is_the_corrupted_tokens_through_the_frozen_layers(
    array, tiny_bert, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    prepare(SIZES)
    reads = run_features(tiny_bert, {"a": reads_of(array, DROPOUT)})["a"]
    places = Path("data/prepared"), Path("data/features")
    parts = load_splits(*places, array, ["text", "audio"])
    parts = corrupted.with_copies(parts, places[1], reads["missing"])
    own = parts["train"].sequences["text"]
    assert own.empty is not None
    assert (len(own.copies), len(parts["test"].sequences["text"].copies)) == (COPIES, 0)
    settings = {"array": array, "max_tokens": 6}
    settings |= {"trainable_layers": reads["trainable_layers"], "pooling": reads["pooling"]}
    reader = text.Reader({"name": tiny_bert}, settings, CPU)
    tokens = reader.tokens(parts["train"].texts)
    np.testing.assert_allclose(own.values, reader.read(tokens).values, atol=1e-6)
    for number, copy in enumerate(own.copies, start=1):
        np.testing.assert_array_equal(copy.offsets, own.offsets)
        rng = np.random.default_rng([number, 0])
        corrupt = drop_tokens(tokens, number / 8, rng, reader.tokenizer.unk_token_id)
        np.testing.assert_allclose(copy.values, reader.read(corrupt).values, atol=1e-6)
        assert not np.allclose(copy.values, own.values)
    expected = reader.read(reader.tokens([""]))[0]
    np.testing.assert_allclose(own.empty, expected, atol=1e-6)
    # What prediction reads of an absent text is what training did.
    predicted = reader.read(reader.tokens(["", "good"]))[0]
    np.testing.assert_allclose(own.empty, predicted, atol=1e-6)


def test_over_folds_every_fold_has_copies_and_train_joins_them(tiny_bert, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepare({"fold1": 6, "fold2": 7, "fold3": 8, "fold4": 9})
    Path("data/prepared/mean_frames.json").unlink()
    reads = run_features(tiny_bert, {"a": reads_of("below-1", DROPOUT)})["a"]
    assert list(reads["missing"]["sha256"]) == ["fold1", "fold2", "fold3", "fold4"]
    places = Path("data/prepared"), Path("data/features")
    parts = load_splits(*places, "below-1", ["text", "audio"])
    parts = corrupted.with_copies(parts, places[1], reads["missing"])
    joined = splits_of(parts, "fold1")["train"]
    assert len(joined) == 8 + 9
    own = joined.sequences["text"]
    for number, copy in enumerate(own.copies):
        for i, fold, row in ((2, "fold3", 2), (8 + 5, "fold4", 5)):
            expected = parts[fold].sequences["text"].copies[number][row]
            np.testing.assert_array_equal(copy[i], expected)
    np.testing.assert_array_equal(own.empty, parts["fold3"].sequences["text"].empty)
    assert len(read(joined, DROPOUT)) == len(joined)


def test_equal_texts_of_two_parts_lose_other_tokens(tiny_bert, tmp_path):
    tokenizer, model = text.load_tokenizer(tiny_bert), text.load_model(tiny_bert)
    tokens = text.tokenize(tokenizer, ["good film but very bad"] * 20)
    copies = []
    for part in (0, 1):
        folder = tmp_path / str(part)
        folder.mkdir()
        of_run = [reads_of("tokens", Missing(share=0.5, copies=2))]
        corrupted.encode_copies(model, tokenizer, tokens, of_run, folder, part, device=CPU)
        copies += [Ragged.load(folder, f"tokens-missing-{s}") for s in ("0.25-1", "0.5-2")]
    unknown = [copy.values == tokenizer.unk_token_id for copy in copies]
    assert (unknown[0] != unknown[2]).any()
    assert (unknown[1] != unknown[3]).any()
    assert (unknown[0] & ~unknown[1]).any()  # nor is the second the first with more missing


def test_data_without_text_have_no_copies(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepare(SIZES, with_texts=False)
    reads = run_features(str(tmp_path / "none"), {"a": reads_of("below-1", DROPOUT)})["a"]
    assert (reads["sha256"], reads["missing"]["sha256"]) == ({}, {})
    places = Path("data/prepared"), Path("data/features")
    parts = load_splits(*places, "below-1", ["text", "audio"])
    parts = corrupted.with_copies(parts, places[1], reads["missing"])
    assert list(read(parts["train"], DROPOUT).sequences) == ["audio"]


def test_an_encoder_without_an_unknown_token_is_refused(tiny_bert, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepare(SIZES)
    load = text.load_tokenizer

    def without(*args, **kwargs):
        tokenizer = load(*args, **kwargs)
        tokenizer.unk_token = None
        return tokenizer

    monkeypatch.setattr(text, "load_tokenizer", without)
    run_features(tiny_bert, {"a": reads_of("below-1", None)})
    with pytest.raises(EncoderError, match=r"^text_encoder: .* has no unknown token$"):
        run_features(tiny_bert, {"a": reads_of("below-1", HALF)})


def test_the_stages_train_a_model_that_expects_missing_data(tiny_bert, tmp_path, monkeypatch):
    """Beside the same one that does not, whose weights are others."""
    monkeypatch.chdir(tmp_path)
    prepare(SIZES)
    (tmp_path / "src").symlink_to(ROOT / "src")
    Path("data/prepared/sha256.json").write_text("{}")
    yaml = YAML()
    settings = yaml.load(ROOT / "params.yaml")
    settings |= {"text_encoder": tiny_bert, "max_tokens": 6, "seeds": [1], "sweep_seeds": []}
    settings |= {"transformer_dim": 16, "batch_size": 8, "compare": ["cnn", "robust"]}
    settings["ablation"]["models"] = []
    settings["models"]["cnn"] |= {"epochs": 1, "patience": 1}
    settings["models"]["robust"] = {"like": "cnn", "missing": {"share": 0.8, "absent": 0.2}}
    yaml.dump(settings, Path("params.yaml"))
    plan_stage.main()
    features.main()
    for name in ("cnn", "robust"):
        train.main(name, 1)
    facts = {name: runs.config(Path(f"runs/{name}-1")) for name in ("cnn", "robust")}
    assert "missing" not in facts["cnn"]["text"]
    assert len(facts["robust"]["text"]["missing"]["sha256"]["train"]) == 5
    assert facts["robust"]["schedule"]["missing"]["share"] == 0.8
    assert facts["robust"]["weights"] != facts["cnn"]["weights"]
    assert params.load(Path("params.yaml")).compare == ["cnn", "robust"]
    assert tuple(SIZES) == SPLITS
