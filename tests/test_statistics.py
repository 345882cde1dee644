import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msabench.evaluation import statistics
from msabench.evaluation.statistics import bootstrap_means, compare, holm, two_sided_p


def test_mean_and_std():
    assert statistics.mean_and_std([1.0, 2.0, 3.0]) == (2.0, 1.0)
    assert statistics.mean_and_std([0.5]) == (0.5, None)


def test_bootstrap_agrees_with_a_naive_loop():
    random = np.random.default_rng(0)
    errors = random.random((2, 40))
    videos = [f"video{i}" for i in random.integers(9, size=40)]
    names = sorted(set(videos))
    naive = []
    for _ in range(2000):
        drawn = random.choice(names, size=len(names))
        rows = [i for name in drawn for i in range(40) if videos[i] == name]
        naive.append(errors[:, rows].mean(axis=1))
    means = bootstrap_means(errors, videos, draws=20_000)
    assert means.mean(axis=1) == pytest.approx(np.mean(naive, axis=0), abs=0.01)
    assert means.std(axis=1) == pytest.approx(np.std(naive, axis=0), rel=0.1)
    assert np.corrcoef(means)[0, 1] == pytest.approx(
        np.corrcoef(np.transpose(naive))[0, 1], abs=0.1
    )


def test_videos_are_drawn_whole():
    # Two videos of opposite errors: a sample of two videos can only give 0, 0.5 or 1.
    errors = np.array([[0.0] * 10 + [1.0] * 10])
    means = bootstrap_means(errors, ["a"] * 10 + ["b"] * 10, draws=1000)
    assert set(means[0]) == {0.0, 0.5, 1.0}


def test_bootstrap_is_the_same_in_every_run():
    errors, videos = np.random.default_rng(1).random((3, 50)), [str(i // 5) for i in range(50)]
    assert np.array_equal(bootstrap_means(errors, videos), bootstrap_means(errors, videos))


def test_bootstrap_is_fast_at_the_size_of_mosei():
    errors = np.random.default_rng(2).random((4, 4659))
    start = time.process_time()
    bootstrap_means(errors, [str(i // 7) for i in range(4659)])
    assert time.process_time() - start < 10


def test_the_interval_covers_the_truth_about_95_times_in_100():
    random, inside, trials = np.random.default_rng(3), 0, 200
    videos = [str(i // 4) for i in range(240)]
    for trial in range(trials):
        errors = random.normal(1, 0.3, 240) + np.repeat(random.normal(0, 0.3, 60), 4)
        low, high = statistics.interval(
            bootstrap_means(errors[None], videos, draws=400, seed=trial)[0]
        )
        inside += low <= 1 <= high
    assert 0.88 <= inside / trials <= 0.99  # clips drawn one by one would give about 0.77


def test_two_sided_p():
    assert two_sided_p(np.ones(999)) == pytest.approx(2 / 1000)
    assert two_sided_p(np.zeros(999)) == 1.0
    assert two_sided_p(np.array([-1.0] * 10 + [1.0] * 89)) == pytest.approx(0.22)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_p_and_bonferroni(p):
    adjusted = holm(p)
    for before, after in zip(p, adjusted, strict=True):
        assert before <= after <= min(1.0, before * len(p) + 1e-12)
    assert sorted(adjusted) == [adjusted[i] for i in np.argsort(p, kind="stable")]


def test_compare_finds_a_difference_and_only_that():
    random = np.random.default_rng(4)
    same = random.random(300)
    errors = {
        "a": same,
        "b": same + 0.2 + random.normal(0, 0.05, 300),
        "c": same + random.normal(0, 0.05, 300),
    }
    actual: dict[str, Any] = compare(errors, [str(i // 6) for i in range(300)])
    assert list(actual["pairs"]) == ["a - b", "a - c", "b - c"]
    assert actual["pairs"]["a - b"]["p_holm"] < 0.01
    assert actual["pairs"]["a - b"]["high"] < 0
    assert actual["pairs"]["a - c"]["p"] > 0.01
    assert actual["models"]["a"]["low"] < same.mean() < actual["models"]["a"]["high"]
    assert actual["pairs"]["a - b"]["difference"] == pytest.approx(-0.2, abs=0.02)


@pytest.mark.parametrize("v", range(1, 6))
def test_of_too_few_videos_intervals_and_p_are_undefined(v):
    """Model a is better in each of them, which a bootstrap would take for certain."""
    a = np.random.default_rng(5).random(60)
    videos = [str(i % v) for i in range(60)]
    actual = compare({"a": a, "b": a + 1}, videos)
    assert actual["models"]["a"] == {"mae": pytest.approx(a.mean()), "low": None, "high": None}
    unknown = dict.fromkeys(("low", "high", "p", "p_holm"))
    assert actual["pairs"]["a - b"] == {"difference": pytest.approx(-1), **unknown}


@pytest.mark.parametrize("v", [6, 8])
def test_p_is_none_that_so_few_videos_cannot_show(v):
    a = np.random.default_rng(5).random(60)
    videos = [str(i % v) for i in range(60)]
    pair = compare({"a": a, "b": a + 1}, videos)["pairs"]["a - b"]
    assert pair["p"] == pair["p_holm"] == 2 / 2**v
    assert pair["low"] == pytest.approx(-1)
    pairs = compare({"a": a, "b": a + 1, "c": a + 2}, videos)["pairs"]
    assert pairs["b - c"]["p_holm"] == 3 * 2 / 2**v


def test_compare_of_no_model_and_of_one():
    assert compare({}, []) == compare({}, list("abcdef")) == {"models": {}, "pairs": {}}
    assert compare({"a": np.ones(3)}, ["x", "y", "z"])["pairs"] == {}


def test_mean_history_ends_with_the_shortest_run():
    runs = [
        {"epoch": [1.0, 2.0, 3.0], "mae": [3.0, 2.0, 1.0]},
        {"epoch": [1.0, 2.0], "mae": [1.0, 1.0]},
    ]
    assert statistics.mean_history(runs) == {"epoch": [1.0, 2.0], "mae": [2.0, 1.5]}
