"""An explanation is arithmetic with predictions, and a similarity that no model has a part in."""

import json
from dataclasses import replace

import numpy as np
import pytest

from msabench import inference
from msabench.errors import DataError
from msabench.inference import explanation
from msabench.utterances import Ragged, Utterances
from tests import trained_tree
from tests.conftest import random_utterances


@pytest.fixture(scope="module", params=[1, "all"], ids=lambda layers: f"{layers}-layers")
def tree(request, trained_with):
    return trained_with(request.param)


@pytest.fixture(scope="module")
def predictor(tree):
    return inference.load(tree / "runs/ours", device="cpu")


@pytest.fixture(scope="module")
def splits(predictor):
    return explanation.read_splits(predictor.folders[0], predictor.config)


def test_contributions_are_what_is_lost_without_a_modality(predictor, splits, tree):
    prepared = Utterances.load(tree / "data/prepared/test")
    actual = explanation.explain(predictor, splits, prepared.ids[5])
    whole = {
        "text": prepared.texts[5],
        "audio": trained_tree.frames(prepared, "audio", 5),
        "vision": trained_tree.frames(prepared, "vision", 5),
    }
    expected = predictor.predict_each(whole)[:, 0]
    assert expected.shape == (2,)
    np.testing.assert_allclose(actual.predictions, expected, rtol=0, atol=1e-5)
    assert list(actual.contributions) == ["text", "audio", "vision"]
    for modality, contribution in actual.contributions.items():
        left_out = {key: value for key, value in whole.items() if key != modality}
        lost = expected - predictor.predict_each(left_out)[:, 0]
        np.testing.assert_allclose(contribution, lost, rtol=0, atol=2e-5)
        assert np.abs(lost).min() > 1e-4
    assert (actual.text, actual.label) == (prepared.texts[5], float(prepared.labels[5]))


def test_the_nearest_are_the_most_similar_of_train(predictor, splits):
    actual = explanation.explain(predictor, splits, splits["test"].ids[2], neighbours=3)
    one = splits["test"].take([2])
    alike = explanation.similarities(splits["train"], one, predictor.config["encoder"])
    rows = [splits["train"].ids.index(near.id) for near in actual.nearest]
    assert rows == np.argsort(-alike).tolist()[:3]
    for near, row in zip(actual.nearest, rows, strict=True):
        assert near.similarity == alike[row]
        assert near.label == splits["train"].labels[row]
        assert near.text == splits["train"].texts[row]


def test_an_utterance_is_most_similar_to_itself(predictor, splits):
    encoder = predictor.config["encoder"]
    for i in (0, 7):
        alike = explanation.similarities(splits["train"], splits["train"].take([i]), encoder)
        assert alike.argmax() == i
        assert alike[i] == pytest.approx(1)
        assert (alike >= -1).all()


def test_similarity_by_hand():
    """Two modalities, one feature constant; means, then standardized, then cosines, then mean."""

    def data(audio, vision):
        n = len(audio)
        sequences = {
            name: Ragged.of([np.array(frames, np.float32) for frames in given])
            for name, given in {"audio": audio, "vision": vision}.items()
        }
        ids = [str(i) for i in range(n)]
        return Utterances(ids, ids, np.zeros(n, np.float32), sequences)

    # means over frames: (1, 0, 9), (-1, 0, 9), (0, 2, 9), (0, -2, 9): spreads 1/√2 and √2
    train = data(
        [[[0, 0, 9], [2, 0, 9]], [[-1, 0, 9]], [[0, 2, 9]], [[0, -2, 9]]],
        [[[1]], [[3]], [[1]], [[3]]],
    )
    one = data([[[3, 0, 5], [1, 0, 5], [2, 0, 5]]], [[[9], [1]]])  # (2, 0, 5) and 5
    actual = explanation.similarities(train, one, {})
    np.testing.assert_allclose(actual, [0, 0, -0.5, 0.5], atol=1e-12)


def test_similarity_has_no_unit():
    """Features in other units, as COVAREP's are, change nothing."""
    data, one = random_utterances(seed=1), random_utterances(seed=2).take([0])
    rng = np.random.default_rng(0)
    scales = {name: rng.uniform(0.1, 1000, width) for name, width in data.widths.items()}

    def scaled(split):
        sequences = {
            name: Ragged(ragged.values * scales[name] + 3, ragged.offsets)
            for name, ragged in split.sequences.items()
        }
        return replace(split, sequences=sequences)

    np.testing.assert_allclose(
        explanation.similarities(scaled(data), scaled(one), {}),
        explanation.similarities(data, one, {}),
        atol=1e-4,
    )


def test_an_utterance_that_is_not_there(predictor, splits):
    with pytest.raises(DataError, match=r"^'x' is no utterance of the test split, such as 'video2"):
        explanation.explain(predictor, splits, "x")


@pytest.mark.parametrize("file", ["data/prepared/sha256.json", "data/features/runs/ours.json"])
def test_other_data_than_the_run_had_are_refused(predictor, tree, file):
    before = (tree / file).read_text()
    content = json.loads(before)
    (tree / file).write_text(json.dumps({key: {} for key in content}))
    try:
        with pytest.raises(DataError) as caught:
            explanation.read_splits(predictor.folders[0], predictor.config)
    finally:
        (tree / file).write_text(before)
    place = tree / "/".join(file.split("/")[:2])
    assert str(caught.value) == (
        f"{place}: not the data that {predictor.folders[0]} was trained on; "
        "`dvc repro` updates both"
    )


def test_predictions_of_the_seeds_are_averaged(predictor, tree):
    actual = explanation.read_predictions(predictor.folders)
    test = Utterances.load(tree / "data/prepared/test")
    actual.check(tree, test)
    np.testing.assert_allclose(actual.predictions, predictor.predict(test), rtol=0, atol=1e-5)
    errors = np.abs(actual.by_error().predictions - actual.by_error().labels)
    assert (np.diff(errors) <= 0).all()
    assert sorted(actual.by_error().ids) == sorted(actual.ids)
