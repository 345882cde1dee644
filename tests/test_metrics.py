import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import accuracy_score, f1_score

from msabench.evaluation import metrics
from msabench.evaluation.metrics import evaluate
from msabench.labels import MOSEI, SIMS, LabelScale, classes_of

GOLDEN = np.load(Path(__file__).parent / "golden" / "c_metrics.npz")
CASES = sorted({key.split("/")[0] for key in GOLDEN.files} - {"classification", "nan_pred"})
NAMES = {
    "mosei": {
        "MAE": "mae",
        "Corr": "corr",
        "Non0_acc_2": "acc_2",
        "Non0_F1_score": "f1",
        "Has0_acc_2": "acc_2_has0",
        "Has0_F1_score": "f1_has0",
        "Mult_acc_5": "acc_5",
        "Mult_acc_7": "acc_7",
    },
    "sims": {
        "MAE": "mae",
        "Corr": "corr",
        "Mult_acc_2": "acc_2",
        "F1_score": "f1",
        "Mult_acc_3": "acc_3",
        "Mult_acc_5": "acc_5",
    },
}
values = st.one_of(
    st.sampled_from([-3.0, -2.5, -1.5, -1.0, -0.5, 0.0, 0.5, 1.5, 2.5, 3.0]),
    st.floats(-4, 4, width=32),
)
both = st.integers(1, 30).flatmap(
    lambda n: st.tuples(*2 * [arrays(np.float32, n, elements=values)])
)


def defined(actual: dict[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in actual.items() if value is not None}


def floats(*numbers: float) -> np.ndarray:
    return np.array(numbers, dtype=np.float64)


@pytest.mark.parametrize("kind", ["mosei", "sims"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_metrics_agree_with_the_reference(case, kind, dtype):
    labels, predictions = GOLDEN[f"{case}/truth"], GOLDEN[f"{case}/pred"]
    actual = evaluate(labels.astype(dtype), predictions.astype(dtype), kind)
    compared = 0
    for theirs, ours in NAMES[kind].items():
        key = f"{case}/{kind}/{theirs}"
        if key not in GOLDEN:
            assert (case, kind) == ("all_truth_zero", "mosei")  # the reference raises there
            continue
        expected = float(GOLDEN[key])
        if np.isnan(expected):  # corr of a constant
            assert actual[ours] is None
        else:
            assert actual[ours] == pytest.approx(expected, abs=0.51e-4), ours
        compared += 1
    assert compared in (0, len(NAMES[kind]))


@settings(max_examples=50)
@given(both)
def test_accuracies_and_f1_agree_with_scikit_learn(pair):
    labels, predictions = pair
    actual = evaluate(labels, predictions)

    def weighted(truth, guess):
        return f1_score(truth, guess, average="weighted", zero_division=0)

    kept = labels != 0
    if kept.any():
        truth, guess = labels[kept] > 0, predictions[kept] > 0
        assert actual["acc_2"] == pytest.approx(accuracy_score(truth, guess))
        assert actual["f1"] == pytest.approx(weighted(truth, guess))
    truth, guess = labels >= 0, predictions >= 0
    assert actual["acc_2_has0"] == pytest.approx(accuracy_score(truth, guess))
    assert actual["f1_has0"] == pytest.approx(weighted(truth, guess))
    truth, guess = labels > 0, predictions > 0
    assert actual["acc_2_pos"] == pytest.approx(accuracy_score(truth, guess))
    if truth.any() or guess.any():
        assert actual["f1_pos"] == pytest.approx(f1_score(truth, guess, zero_division=0))


@given(both)
def test_corr_agrees_with_numpy(pair):
    labels, predictions = (side.astype(np.float64) for side in pair)
    assume(min(labels.std(), predictions.std()) > 1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = np.corrcoef(labels, predictions)[0, 1]
    assert metrics.corr(labels, predictions) == pytest.approx(expected, abs=1e-6)


@given(both, st.sampled_from(["mosei", "sims"]))
def test_metrics_stay_in_range_and_ignore_the_order(pair, kind):
    labels, predictions = pair
    actual = evaluate(labels, predictions, kind)
    turned = evaluate(labels[::-1], predictions[::-1], kind)
    assert turned == pytest.approx(actual)
    for name, value in defined(actual).items():
        low, high = {"mae": (0, 8), "corr": (-1, 1)}.get(name, (0, 1))
        assert low <= value <= high


@given(both)
def test_a_perfect_prediction_scores_1(pair):
    labels = np.append(pair[0], np.array([-1, 1], np.float32))
    for kind in ("mosei", "sims"):
        actual = evaluate(labels, labels, kind)
        assert actual.pop("mae") == 0
        assert actual == pytest.approx(dict.fromkeys(actual, 1.0))


@given(both)
def test_finer_classes_are_harder(pair):
    labels, predictions = pair
    actual = defined(evaluate(labels, predictions))
    assert actual["acc_7"] <= actual["acc_5"] <= actual["acc_3"]


def test_values_worked_by_hand():
    labels, predictions = floats(-2, -1, 0, 1, 3), floats(-1.5, 0.5, 0.1, 0.2, 2.6)
    actual = evaluate(labels, predictions)
    assert actual["mae"] == pytest.approx((0.5 + 1.5 + 0.1 + 0.8 + 0.4) / 5)
    assert actual["acc_2"] == pytest.approx(3 / 4)
    assert actual["f1"] == pytest.approx((0.8 + 2 / 3) / 2)  # two of each class
    assert actual["acc_2_has0"] == pytest.approx(4 / 5)
    assert actual["acc_2_pos"] == pytest.approx(3 / 5)
    assert actual["f1_pos"] == pytest.approx(2 * 2 / (2 + 4))
    assert actual["acc_7"] == pytest.approx(3 / 5)  # -1.5 rounds to -2, 0.2 to 0


def test_a_prediction_of_zero_is_negative_without_and_positive_with_the_zero_labels():
    labels, predictions = floats(1, -1), floats(0, 0)
    assert metrics.acc_2(labels, predictions) == 0.5
    assert metrics.f1(labels, predictions) == pytest.approx(1 / 3)
    assert metrics.acc_2_has0(labels, predictions) == 0.5
    assert metrics.f1_pos(labels, predictions) == 0


def test_what_is_not_defined_is_none_and_never_0_or_1():
    zeros = evaluate(floats(0, 0), floats(1, -1))
    assert zeros["acc_2"] is None
    assert zeros["f1"] is None
    assert evaluate(floats(0, -1), floats(-1, 0))["f1_pos"] is None
    assert metrics.corr(floats(0.1, 0.1, 0.1), floats(1, 2, 3)) is None
    assert metrics.corr(floats(1, 2, 3), floats(0.1, 0.1, 0.1)) is None
    assert metrics.corr(floats(2), floats(1)) is None


def test_a_correlation_of_tiny_numbers_is_defined():
    assert metrics.corr(floats(1e-200, 2e-200), floats(1, 2)) == pytest.approx(1)


def test_sims_puts_a_value_on_a_cut_into_the_lower_class():
    edges = floats(-0.7, -0.1, 0.0, 0.1, 0.7, 1.0).astype(np.float32)
    expected = [0, 1, 2, 2, 3, 4]
    classes = classes_of(edges, SIMS, "sims")
    assert classes.of(edges).tolist() == expected
    assert classes.of(edges.astype(np.float64)).tolist() == expected
    assert classes.of(floats(-0.7, -0.1, 0.0, 0.1, 0.7, 1.0)).tolist() == expected


def test_confusion_counts_labels_in_rows():
    sevenths = classes_of(np.linspace(-3, 3, 50), MOSEI, "mosei")
    counts = metrics.confusion(floats(-3, -3, 0.5, 2), floats(-5, 1, 0, 2.4), sevenths)
    assert counts.sum() == 4
    assert counts[0, 0] == counts[0, 4] == counts[3, 3] == counts[5, 5] == 1
    sims = classes_of(floats(-1, 1), SIMS, "sims")
    assert metrics.confusion(floats(-1), floats(1), sims)[0, 4] == 1


@given(both)
def test_metrics_follow_the_scale_of_the_labels(pair):
    """1 to 7 about 4 is -3 to 3 about 0, moved: halves are exact, so that every side stays."""
    labels, predictions = (np.rint(2 * side.clip(-3, 3).astype(np.float64)) / 2 for side in pair)
    expected = evaluate(labels, predictions)
    actual = evaluate(labels + 4, predictions + 4, scale=LabelScale.of([1, 7], 4))
    assert actual == pytest.approx(expected)


@pytest.mark.parametrize(
    ("scale", "without"),
    [
        (LabelScale.of([-3, 3], 0), set()),
        (LabelScale.of([1, 7], 4), set()),
        (LabelScale.of([1, 5], 3), {"acc_7"}),
        (LabelScale.of([-1, 1], 0), {"acc_5", "acc_7"}),
        (LabelScale.of([-3, 3], 1), {"acc_3", "acc_5", "acc_7"}),
        (LabelScale.of([0, 1], 0.5), {"acc_3", "acc_5", "acc_7"}),
        (LabelScale.of([0, 100], 50), {"acc_3", "acc_5", "acc_7"}),
        (LabelScale.of([0, 1]), set(metrics.METRICS["mosei"]) - {"mae", "corr"}),
    ],
)
def test_metrics_of_signs_and_classes_are_defined_where_they_mean_something(scale, without):
    random = np.random.default_rng(0)
    labels, predictions = random.uniform(scale.low, scale.high, (2, 50))
    actual = evaluate(labels, predictions, scale=scale)
    assert list(actual) == list(metrics.METRICS["mosei"])
    assert {name for name, value in actual.items() if value is None} == without
    why = metrics.why_undefined(without, "mosei", scale)
    assert (f"{scale.low:g} to {scale.high:g}" in why) == bool(without)


def test_a_neutral_point_that_float32_does_not_hold_is_neutral():
    """0.1 in the precision of the labels is not 0.1 in that of Python."""
    labels = floats(0.1, 0.1, 0.3).astype(np.float32)
    actual = evaluate(labels, floats(1, 0, 1), scale=LabelScale.of([0, 1], 0.1))
    assert actual["acc_2"] == 1.0


@pytest.mark.parametrize(
    ("names", "scale", "why"),
    [
        ((), MOSEI, ""),
        (
            ("acc_2", "f1", "acc_7"),
            LabelScale.of([0, 1]),
            "Acc and F1 are not defined: labels of 0 to 1 have no neutral point (`neutral` of the "
            "data set in params.yaml).",
        ),
        (
            ("acc_7",),
            LabelScale.of([1, 5], 3),
            "Not defined for labels of 1 to 5 about 3: acc_7; acc_k needs (k - 1) / 2 to 3 whole "
            "units on both sides of the neutral point.",
        ),
        (("corr",), MOSEI, "corr is not defined without labels and predictions that vary."),
        (("f1_pos",), MOSEI, "f1_pos is not defined without a positive label or prediction."),
    ],
)
def test_a_sentence_says_why_a_metric_is_not_defined(names, scale, why):
    assert metrics.why_undefined(names, "mosei", scale) == why


@pytest.mark.parametrize(
    ("labels", "predictions", "kind", "message"),
    [
        (floats(1), floats(1), "mosi", "'mosi' is unknown; known: mosei, sims"),
        (floats(), floats(), "mosei", "0 utterances; at least 1"),
        (floats(1, 1), floats(1, np.nan), "mosei", "prediction 1 is nan; permitted: finite"),
        (floats(np.inf, 1), floats(1, 1), "sims", "label 0 is inf"),
    ],
)
def test_what_cannot_be_measured_is_refused(labels, predictions, kind, message):
    with pytest.raises(ValueError, match=message):
        evaluate(labels, predictions, kind)
