"""The scale of labels, and the classes that they fall into."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msabench.labels import MOSEI, SIMS, LabelScale, about_classes, classes_of


@pytest.mark.parametrize(
    ("label_range", "neutral", "expected"),
    [
        ([-3, 3], None, 0.0),
        ([-1, 5], None, 0.0),
        ([0, 1], None, None),
        ([-1, 0], None, None),
        ([1, 7], 4, 4),
        ([-3, 3], 1, 1),
    ],
)
def test_the_neutral_point_is_0_where_0_lies_inside_and_none_is_given(
    label_range, neutral, expected
):
    scale = LabelScale.of(label_range, neutral)
    assert scale.neutral == expected
    assert LabelScale.of(label_range, scale.neutral) == scale
    assert scale.centre == (sum(label_range) / 2 if expected is None else expected)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (([1, 0], None), r"label_range: \[1, 0\]; permitted: the lowest label, then a higher one"),
        (([2, 2], None), r"label_range: \[2, 2\]"),
        (([np.nan, 2], None), r"label_range: \[nan, 2\]"),
        (([0, 1], 0), r"neutral: 0; permitted: above 0 and below 1, the label_range"),
        (([0, 1], 7), r"neutral: 7; permitted: above 0 and below 1"),
    ],
)
def test_numbers_that_are_no_scale_are_refused(numbers, message):
    with pytest.raises(ValueError, match=message):
        LabelScale.of(*numbers)


def test_at_most_seven_labels_are_the_classes_themselves():
    classes = classes_of(np.array([5, 0, 1, 0], np.float32), LabelScale.of([0, 5]), "mosei")
    assert classes.values == (0, 1, 5)
    assert classes.names == ("0", "1", "5")
    assert classes.of(np.array([-9, 0.4, 0.6, 2.9, 3.1, 99.0])).tolist() == [0, 0, 1, 1, 2, 2]
    assert classes.signed_names == ["0", "1", "5"]


def test_more_than_seven_labels_fall_into_seven_even_steps():
    classes = classes_of(np.linspace(0, 100, 50), LabelScale.of([0, 100], 50), "mosei")
    assert classes.names == ("0", "16.7", "33.3", "50", "66.7", "83.3", "100")
    assert classes.of(np.array([-5.0, 8, 9, 50, 1e6])).tolist() == [0, 0, 1, 3, 6]


@given(st.lists(st.floats(-5, 5, width=32), min_size=1))
def test_the_classes_of_mosei_are_those_of_acc_7(values):
    """Whether all labels are whole or not: names, clipping and the rounding of halves."""
    array = np.array(values, np.float32)
    expected = np.rint(array.clip(-3, 3)).astype(int) + 3
    for labels in (np.linspace(-3, 3, 19), np.arange(-3.0, 4.0)):
        classes = classes_of(labels, MOSEI, "mosei")
        assert classes.names == ("-3", "-2", "-1", "0", "1", "2", "3")
        assert classes.signed_names == ["-3", "-2", "-1", "0", "+1", "+2", "+3"]
        assert classes.of(array).tolist() == expected.tolist()


def test_halves_round_to_even_as_in_acc_7():
    classes = classes_of(np.linspace(-3, 3, 19), MOSEI, "mosei")
    halves = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])
    assert classes.of(halves).tolist() == [1, 1, 3, 3, 5, 5]


def test_ch_sims_keeps_its_five_classes():
    classes = classes_of(np.array([-1, 1], np.float32), SIMS, "sims")
    assert classes.signed_names == ["-2", "-1", "0", "+1", "+2"]
    assert "-0.7, -0.1, 0.1, 0.7" in about_classes("sims")


def test_labels_that_three_digits_do_not_tell_apart_have_names_of_more():
    classes = classes_of(np.array([1.0001, 1.0002]), LabelScale.of([0, 2], 1), "mosei")
    assert classes.names == ("1.0001", "1.0002")


def test_one_label_is_one_class():
    classes = classes_of(np.zeros(3), MOSEI, "mosei")
    assert classes.of(np.array([-1.0, 0.0, 9.0])).tolist() == [0, 0, 0]
