"""The data structure: ragged and padded, saved and loaded, every promise checked by name."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from msabench.errors import DataError
from msabench.utterances import (
    SPLITS,
    Ragged,
    Utterances,
    check_splits,
    load_prepared,
    load_splits,
    mean_frames,
    save_prepared,
    suggest_splits,
    video_of,
)
from tests.conftest import assert_same, random_ragged, random_utterances

RANGE = (-3.0, 3.0)
GOOD = random_utterances(n=6)

widths = st.integers(1, 4)
some_sequences = widths.flatmap(
    lambda width: st.lists(
        st.integers(1, 6).flatmap(
            lambda frames: arrays(np.float32, (frames, width), elements=st.floats(-9, 9, width=32))
        ),
        min_size=1,
        max_size=8,
    )
)


@settings(max_examples=40)
@given(some_sequences, st.randoms(use_true_random=False))
def test_ragged_holds_its_sequences(sequences, random):
    """Joined, taken in any order and padded, a sequence is still itself; padding is zero."""
    ragged = Ragged.of(sequences)
    assert len(ragged) == len(sequences)
    assert ragged.lengths.tolist() == [len(sequence) for sequence in sequences]
    index = random.sample(range(len(sequences)), random.randint(1, len(sequences)))
    taken = ragged.take(index)
    values, lengths = ragged.padded(index)
    assert values.shape == (len(index), max(lengths), ragged.width)
    for row, i in enumerate(index):
        np.testing.assert_array_equal(ragged[i], sequences[i])
        np.testing.assert_array_equal(taken[row], sequences[i])
        np.testing.assert_array_equal(values[row, : lengths[row]], sequences[i])
        assert not values[row, lengths[row] :].any()


def test_ragged_of_token_ids():
    ragged = Ragged.of([np.array(ids, dtype=np.int32) for ids in ([2, 3], [2, 5, 3])])
    values, lengths = ragged.padded(np.array([0, 1]))
    assert values.tolist() == [[2, 3, 0], [2, 5, 3]]
    assert (values.dtype, lengths.tolist(), ragged.width) == (np.int32, [2, 3], 1)


def test_loaded_frames_are_memory_mapped_and_read_only(tmp_path):
    ragged = random_ragged(np.random.default_rng(0), 5, 3)
    ragged.save(tmp_path, "audio")
    loaded = Ragged.load(tmp_path, "audio")
    assert isinstance(loaded.values, np.memmap)
    np.testing.assert_array_equal(loaded.values, ragged.values)
    np.testing.assert_array_equal(loaded.offsets, ragged.offsets)
    with pytest.raises(ValueError, match="read-only"):
        loaded.values[0] = 1


@settings(max_examples=25)
@given(text=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5))
def test_save_and_load(tmp_path_factory, text):
    """Every text comes back, whatever its characters; so do frames and labels of all kinds."""
    folder = tmp_path_factory.mktemp("saved") / "train"
    n = len(text)
    data = replace(random_utterances(n=n), texts=text)
    data = replace(data, unimodal_labels={"text": data.labels / 2, "audio": -data.labels})
    data = replace(data, given_tokens=data.sequences["audio"], repairs={"audio_missing": n})
    data = replace(data, not_finite={"audio": {1: 7}, "vision": {}})
    data.save(folder)
    loaded = Utterances.load(folder)
    assert_same(loaded, data)
    assert loaded.repairs == data.repairs
    assert loaded.not_finite == data.not_finite
    assert loaded.given_tokens is not None
    np.testing.assert_array_equal(loaded.given_tokens.values, data.sequences["audio"].values)


def test_other_schema_version(tmp_path):
    GOOD.save(tmp_path)
    schema = tmp_path / "schema.json"
    schema.write_text(schema.read_text().replace('"version": 4', '"version": 3'))
    with pytest.raises(DataError, match="schema version 3; this code reads 4"):
        Utterances.load(tmp_path)


def test_take():
    data = replace(GOOD, unimodal_labels={"text": GOOD.labels / 2})
    taken = data.take([4, 1])
    assert taken.ids == [GOOD.ids[4], GOOD.ids[1]]
    assert taken.texts == ["text 4", "text 1"]
    assert taken.labels.tolist() == GOOD.labels[[4, 1]].tolist()
    assert taken.unimodal_labels["text"].tolist() == (GOOD.labels[[4, 1]] / 2).tolist()
    np.testing.assert_array_equal(taken.sequences["vision"][1], GOOD.sequences["vision"][1])


def test_select_and_with_text():
    """Order stays that of MODALITIES whatever the order asked for; the absent stays absent."""
    frames = GOOD.select(["vision", "audio"])
    assert frames.widths == {"audio": 5, "vision": 4}
    assert frames.select(["text"]).widths == {}
    assert frames.with_text(GOOD.sequences["text"]).widths == {"text": 8, "audio": 5, "vision": 4}
    assert list(GOOD.sequences) == ["text", "audio", "vision"]  # unchanged


def test_videos():
    assert video_of("a_b$_$12") == "a_b"
    assert video_of("alone") == "alone"
    assert video_of("a$_$b$_$12") == "a$_$b"
    assert GOOD.videos == ["video0_0"] * 3 + ["video0_1"] * 3


NAMED = replace(GOOD, video_names=list("aabbcc"))


def test_videos_that_the_source_names_stand_above_the_ids(tmp_path):
    assert NAMED.videos == list("aabbcc")
    assert NAMED.take([4, 1]).videos == ["c", "a"]
    NAMED.save(tmp_path)
    assert Utterances.load(tmp_path).video_names == list("aabbcc")
    NAMED.check("train", RANGE)


def test_the_file_of_utterances_whose_videos_have_no_names_is_what_it_was(tmp_path):
    GOOD.save(tmp_path)
    text = json.dumps({"ids": GOOD.ids, "texts": GOOD.texts}, ensure_ascii=False, indent=0)
    assert (tmp_path / "text.json").read_text(encoding="utf-8") == text + "\n"
    assert Utterances.load(tmp_path).video_names is None


def test_load_splits(tmp_path):
    data = GOOD.select(["audio", "vision"])
    save_prepared(dict.fromkeys(SPLITS, data), tmp_path / "prepared")
    for name in SPLITS:
        (tmp_path / "features" / name).mkdir(parents=True)
        GOOD.sequences["text"].save(tmp_path / "features" / name, "pooled-mean")
    places = tmp_path / "prepared", tmp_path / "features", "pooled-mean"
    splits = load_splits(*places, ["text", "vision"])
    assert list(splits) == ["train", "valid", "test"]
    assert_same(splits["test"], GOOD.select(["text", "vision"]))


SOME = Ragged.of([np.full((t, 2), t, np.float32) for t in (2, 0, 3, 0)])
MEAN = np.array([0.5, -1], np.float32)


def test_a_sequence_without_frames_is_read_as_the_mean_frame():
    imputed = replace(SOME, mean_frame=MEAN)
    for ragged, taken in ((imputed, [0, 1, 2, 3]), (imputed.take([3, 2, 1]), [3, 2, 1])):
        assert len(ragged) == len(taken)
        for row, i in enumerate(taken):
            expected = [MEAN] if i % 2 else SOME[i]
            np.testing.assert_array_equal(ragged[row], expected)
            np.testing.assert_array_equal(ragged.over_frames(np.mean)[row], np.mean(expected, 0))
    assert imputed.lengths.tolist() == [2, 1, 3, 1]
    assert imputed.take([3, 2, 1]).stored_lengths.tolist() == [0, 3, 0]
    values, lengths = imputed.padded(np.array([1, 2]))
    assert (values[0].tolist(), lengths.tolist()) == ([MEAN.tolist(), [0, 0], [0, 0]], [1, 3])
    assert [len(SOME[i]) for i in range(4)] == SOME.lengths.tolist() == [2, 0, 3, 0]


def test_prepared_data_are_imputed_by_the_mean_of_the_real_frames_of_train(tmp_path):
    """The frames of other splits have no part in it; the files hold nothing that is imputed."""
    other = Ragged(SOME.values + 1, SOME.offsets)
    labels = np.zeros(4, np.float32)
    splits = {
        name: Utterances([f"{name}{i}" for i in range(4)], ["x"] * 4, labels, {"audio": ragged})
        for name, ragged in zip(SPLITS, (SOME, other, other), strict=True)
    }
    check_splits(splits, RANGE)
    save_prepared(splits, tmp_path)
    loaded = load_prepared(tmp_path)
    for name in SPLITS:
        np.testing.assert_array_equal(
            loaded[name].sequences["audio"][3], np.array([[2.6, 2.6]], np.float32)
        )
        stored = Utterances.load(tmp_path / name).sequences["audio"]
        assert stored.lengths.tolist() == [2, 0, 3, 0]
    third = replace(splits["train"], sequences={"audio": Ragged(SOME.values / 3, SOME.offsets)})
    assert mean_frames(third) == {"audio": [0.866667] * 2}  # the same digits on every processor


def labels_with(value, i=2):
    labels = GOOD.labels.copy()
    labels[i] = value
    return labels


def audio_with(**changes):
    return {"sequences": {**GOOD.sequences, "audio": replace(GOOD.sequences["audio"], **changes)}}


def frames_with(value, row):
    """Frames of which one has a value that no frame may have."""
    values = GOOD.sequences["audio"].values.copy()
    values[row, 1] = value
    return audio_with(values=values)


def without_frames(modality):
    """Utterance 2 gives its frames to utterance 3."""
    offsets = GOOD.sequences[modality].offsets.copy()
    offsets[3] = offsets[2]
    given = replace(GOOD.sequences[modality], offsets=offsets)
    return {"sequences": {**GOOD.sequences, modality: given}}


AUDIO = GOOD.sequences["audio"]
ID = r"'video0_0\$_\$2'"
BROKEN = {
    "empty": (
        {"ids": [], "texts": [], "labels": GOOD.labels[:0], "sequences": {}},
        "train: the split has no utterances; at least 1 is needed",
    ),
    "fewer texts": ({"texts": GOOD.texts[1:]}, "train: 6 ids, 5 texts and labels of shape"),
    "more labels": ({"labels": np.zeros(7, dtype=np.float32)}, r"labels of shape \(7,\)"),
    "id twice": ({"ids": [*GOOD.ids[:5], GOOD.ids[2]]}, f"id {ID} occurs twice"),
    "fewer videos": ({"video_names": ["a", "b"]}, "train: 2 videos for 6 ids; one each is needed"),
    "no video": (
        {"video_names": [*"ab", "", *"cde"]},
        rf"train: no name of a video for {ID}; ids are video\$_\$clip",
    ),
    "id without video": (
        {"ids": [*GOOD.ids[:5], "$_$5"]},
        r"train: no name of a video for '\$_\$5'; ids are video",
    ),
    "label NaN": ({"labels": labels_with(np.nan)}, f"labels: nan for {ID}; permitted: -3 to 3$"),
    "label infinite": ({"labels": labels_with(np.inf)}, f"labels: inf for {ID}; .* -3 to 3$"),
    "label too large": (
        {"labels": labels_with(3.1)},
        f"labels: 3.0999.* for {ID}; permitted: -3 to 3, the data set's label_range in params.yaml",
    ),
    "label too small": ({"labels": labels_with(-4)}, f"labels: -4.0 for {ID}; permitted"),
    "unimodal label": (
        {"unimodal_labels": {"text": labels_with(5)}},
        f"train: text: 5.0 for {ID}; permitted: -3 to 3",
    ),
    "order of modalities": (
        {"sequences": dict(reversed(GOOD.sequences.items()))},
        r"modalities \['vision', 'audio', 'text'\]; known, in this order: \('text', 'audio'",
    ),
    "unknown modality": (
        {"sequences": {**GOOD.sequences, "smell": AUDIO}},
        "modalities .*'smell'.*; known",
    ),
    "fewer sequences": (
        {"sequences": {"audio": AUDIO.take([0, 1])}},
        "train: audio has 2 sequences for 6 utterances",
    ),
    "no tokens": (without_frames("text"), f"train: text: 0 frames for {ID}; at least 1 is needed"),
    "no frames of any": (
        audio_with(values=AUDIO.values[:0], offsets=np.zeros(7, np.int64)),
        "train: audio: no utterance has a frame that is not zero; leave the modality out",
    ),
    "frames left over": (
        audio_with(values=np.concatenate([AUDIO.values, AUDIO.values])),
        "train: audio: offsets do not span",
    ),
    "first frame NaN": (
        frames_with(np.nan, AUDIO.offsets[2]),
        f"train: audio: a value of {ID} is not finite",
    ),
    "last frame infinite": (
        frames_with(-np.inf, AUDIO.offsets[3] - 1),
        f"train: audio: a value of {ID} is not finite",
    ),
}


@pytest.mark.parametrize("promise", BROKEN)
def test_each_broken_promise_is_named(promise):
    changes, message = BROKEN[promise]
    with pytest.raises(DataError, match=message) as caught:
        replace(GOOD, **changes).check("train", RANGE)
    assert "\n" not in str(caught.value)


def test_too_few_unimodal_labels():
    tables: dict[str, np.ndarray] = {}
    data = replace(GOOD, unimodal_labels=tables)
    tables["text"] = GOOD.labels[1:]  # later, because constructors check shapes in tests
    with pytest.raises(DataError, match=r"train: text have shape \(5,\); expected \(6,\)"):
        data.check("train", RANGE)


def test_the_split_that_is_meant_by_another_name():
    assert suggest_splits(["dev"]) == " (write 'valid' for 'dev')"
    assert suggest_splits(["Train", "val", "testing"]) == (
        " (write 'train' for 'Train', 'valid' for 'val', 'test' for 'testing')"
    )
    assert suggest_splits(["train", "valid", "test", "fold1", 7, None, "dev" + " " * 1000]) == ""


def test_good_utterances_pass():
    GOOD.check("train", RANGE)
    replace(GOOD, labels=labels_with(3.0)).check("train", RANGE)  # the ends are permitted
    tokens = Ragged.of([np.array([2, 3], dtype=np.int32)] * 6)
    replace(GOOD, sequences={"text": tokens}).check("train", RANGE)
    replace(GOOD, sequences={}).check("train", RANGE)
    replace(GOOD, **without_frames("audio")).check("train", RANGE)


def splits():
    return {
        name: random_utterances(seed=seed, n=6)
        for seed, name in enumerate(("train", "valid", "test"))
    }


def test_good_splits_pass():
    check_splits(splits(), RANGE)


@pytest.mark.parametrize("order", [["train", "valid"], ["train", "test", "valid"]])
def test_splits_that_are_missing_or_in_wrong_order(order):
    result = splits()
    with pytest.raises(DataError, match=r"needed, in this order: \['train', 'valid', 'test'\]"):
        check_splits({name: result[name] for name in order}, RANGE)


def test_splits_of_different_widths():
    result = splits()
    narrow = Ragged.of([np.ones((2, 3), dtype=np.float32)] * 6)
    result["test"] = replace(
        result["test"], sequences={**result["test"].sequences, "audio": narrow}
    )
    with pytest.raises(DataError, match=r"test: frame widths .*'audio': 3.* differ .*'audio': 5"):
        check_splits(result, RANGE)


def test_splits_of_different_modalities():
    result = splits()
    result["valid"] = result["valid"].select(["text", "audio"])
    with pytest.raises(DataError, match="valid: frame widths"):
        check_splits(result, RANGE)


def test_splits_that_share_an_utterance():
    result = splits()
    shared = result["train"].ids[1]
    result["test"] = replace(result["test"], ids=[*result["test"].ids[:5], shared])
    with pytest.raises(DataError, match=r"test: id 'video0_0\$_\$1' is also in train"):
        check_splits(result, RANGE)


def test_a_broken_promise_names_its_split():
    result = splits()
    result["valid"] = replace(result["valid"], labels=result["valid"].labels * np.float32(np.nan))
    with pytest.raises(DataError, match=r"^valid: labels: nan"):
        check_splits(result, RANGE)
