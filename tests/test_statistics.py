"""Intervals and p-values: by hand, against simple formulas, and by simulation under a true null."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from msabench.evaluation import metrics, statistics
from msabench.evaluation.statistics import Replicates, change, compare, holm, replicates
from msabench.reporting.content import verdict
from tests.conftest import results_of


def test_mean_and_std():
    assert statistics.mean_and_std([1.0, 2.0, 3.0]) == (2.0, 1.0)
    assert statistics.mean_and_std([0.5]) == (0.5, None)


def of_errors(errors, videos):
    """The replicates of the mean of errors (k, n), in closed form: sums over videos."""
    _, video = np.unique(np.asarray(videos), return_inverse=True)
    sizes, sums = np.bincount(video), np.bincount(video, weights=errors.mean(axis=0))
    without = (sums.sum() - sums) / (sizes.sum() - sizes)
    return Replicates(errors.mean(axis=1), without)


def test_replicates_of_a_mean_are_those_of_sums():
    random = np.random.default_rng(0)
    labels, predictions = random.normal(size=60), random.normal(size=(3, 60))
    videos = [f"video{i}" for i in random.integers(9, size=60)]
    actual = replicates(metrics.mae, labels, predictions, videos)
    expected = of_errors(np.abs(predictions - labels), videos)
    assert actual.seeds == pytest.approx(expected.seeds)
    assert actual.without == pytest.approx(expected.without)


def test_replicates_leave_out_whole_videos_of_any_metric():
    labels = np.array([1.0, -1.0, 2.0, 0.5, -2.0])
    predictions = np.array([[0.9, -0.5, 1.0, 1.0, 1.0]])
    actual = replicates(metrics.acc_2, labels, predictions, ["a", "b", "a", "c", "b"])
    assert actual.seeds.tolist() == [0.8]
    assert actual.without.tolist() == pytest.approx([2 / 3, 1.0, 0.75])


def test_replicates_are_nan_where_the_metric_is_not_defined():
    labels, predictions = np.array([1.0, 1.0, 2.0]), np.array([[0.1, 0.2, 0.3]])
    actual = replicates(metrics.corr, labels, predictions, list("abc"))
    assert np.isfinite(actual.seeds).all()
    assert np.isnan(actual.without).tolist() == [False, False, True]  # labels 1, 1
    row = compare({"a": actual}, 30)["models"]["a"]
    assert row["low"] is None
    assert row["value"] == actual.seeds[0]


def test_many_videos_are_left_out_in_groups(monkeypatch):
    monkeypatch.setattr(statistics, "GROUPS", 40)
    random = np.random.default_rng(1)
    labels, predictions = np.zeros(2000), random.normal(size=(1, 2000))
    grouped = replicates(metrics.mae, labels, predictions, [f"{i:04d}" for i in range(2000)])
    assert grouped.without.shape == (40,)
    of_each = of_errors(np.abs(predictions), [f"{i:04d}" for i in range(2000)])
    rows = [compare({"a": one}, 2000)["models"]["a"] for one in (grouped, of_each)]
    assert rows[0]["se_videos"] == pytest.approx(rows[1]["se_videos"], rel=0.3)


def test_of_one_utterance_per_video_and_one_seed_the_interval_is_that_of_a_t_test():
    random = np.random.default_rng(2)
    a, b = random.normal(1.0, 0.3, 40), random.normal(1.1, 0.3, 40)
    videos = [str(i) for i in range(40)]
    compared = compare({name: of_errors(e[None], videos) for name, e in (("a", a), ("b", b))}, 40)
    test = stats.ttest_rel(a, b)
    low, high = test.confidence_interval(statistics.LEVEL)
    pair = compared["pairs"]["a - b"]
    assert (pair["p"], pair["low"], pair["high"]) == pytest.approx((test.pvalue, low, high))
    assert pair["p_holm"] == pair["p"]
    assert pair["se_seeds"] is None
    assert pair["se_videos"] == pytest.approx(stats.sem(a - b))
    low, high = stats.ttest_1samp(a, 0.0).confidence_interval(statistics.LEVEL)
    assert (compared["models"]["a"]["low"], compared["models"]["a"]["high"]) == pytest.approx(
        (low, high)
    )


def test_of_seeds_alone_the_interval_is_that_of_welch():
    random = np.random.default_rng(3)
    seeds = {"a": random.normal(0.40, 0.02, 3), "b": random.normal(0.45, 0.01, 5)}
    models = {name: Replicates(k, np.full(50, k.mean())) for name, k in seeds.items()}
    pair = compare(models, 50)["pairs"]["a - b"]
    test = stats.ttest_ind(seeds["a"], seeds["b"], equal_var=False)
    low, high = test.confidence_interval(statistics.LEVEL)
    assert (pair["p"], pair["low"], pair["high"]) == pytest.approx((test.pvalue, low, high))
    assert pair["se_videos"] == pytest.approx(0, abs=1e-12)


def test_paired_seeds_are_compared_one_by_one():
    a = np.array([0.40, 0.44, 0.42])
    models = {name: Replicates(k, np.full(50, 0.0)) for name, k in (("a", a), ("b", a + 0.01))}
    apart, paired = (compare(models, 50, paired=p)["pairs"]["a - b"] for p in (False, True))
    assert apart["p"] > 0.5
    assert paired["se_seeds"] == pytest.approx(0, abs=1e-12)
    assert paired["p"] < 0.001


TRIALS, VIDEOS = 1000, 160
OF_VIDEOS, OF_SEEDS = 0.0106, 0.014  # standard error of a difference in MAE; std over seeds


@pytest.mark.parametrize("k", [3, 5])
def test_under_a_true_null_five_per_cent_of_p_lie_below_05(k):
    """Of two models that differ by chance alone; by the chance of videos alone it is far more."""
    random = np.random.default_rng(k)
    below, errors_of_videos = {"videos": 0, "videos and seeds": 0}, []
    for _ in range(TRIALS):
        clips = random.integers(1, 10, VIDEOS)
        videos = np.repeat([f"{i:03d}" for i in range(VIDEOS)], clips)
        # What a video adds to the difference, all its clips alike, is not normal.
        spread = OF_VIDEOS * clips.sum() / math.sqrt((clips**2).sum())
        own = np.repeat(random.exponential(spread, VIDEOS) - spread, clips)
        errors = random.normal(0, OF_SEEDS, (2, k, 1)) + np.stack([own, 0 * own])[:, None]
        models = {name: of_errors(error, videos) for name, error in zip("ab", errors, strict=True)}
        pair = compare(models, VIDEOS)["pairs"]["a - b"]
        errors_of_videos.append(pair["se_videos"])
        below["videos and seeds"] += pair["p"] < 1 - statistics.LEVEL
        alone = 2 * stats.t.sf(abs(pair["difference"]) / pair["se_videos"], VIDEOS - 1)
        below["videos"] += alone < 1 - statistics.LEVEL
    assert np.mean(errors_of_videos) == pytest.approx(OF_VIDEOS, rel=0.05)
    share = {name: count / TRIALS for name, count in below.items()}
    assert 0.03 <= share["videos and seeds"] <= 0.08
    assert share["videos"] > {3: 0.15, 5: 0.10}[k]


@pytest.mark.parametrize("metric", [metrics.corr, metrics.f1], ids=lambda metric: metric.__name__)
def test_the_jackknife_has_the_spread_over_videos_of_metrics_that_are_no_means(metric):
    random, values, errors = np.random.default_rng(6), [], []
    videos = [str(i // 6) for i in range(240)]
    for _ in range(150):
        of_video = np.repeat(random.normal(size=(2, 40)), 6, axis=1)
        labels = random.normal(size=240) + of_video[0]
        predictions = labels + random.normal(size=240) + of_video[1]
        row = compare({"a": replicates(metric, labels, predictions[None], videos)}, 40)
        values.append(row["models"]["a"]["value"])
        errors.append(row["models"]["a"]["se_videos"])
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.15)


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


# Test predictions of one code on one simulated data set, three seeds of four models, on an Intel
# Xeon and on an AMD EPYC, before arithmetic was portable.
TWO_PROCESSORS = Path(__file__).with_name("golden") / "two_processors.csv"
PROCESSORS, MODELS = ("intel_xeon", "amd_epyc"), ("self_mm", "svm", "cnn", "ours")


@pytest.fixture(scope="module")
def two_processors():
    with TWO_PROCESSORS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    videos = [row["id"].rpartition("$_$")[0] for row in rows]
    labels = np.array([float(row["label"]) for row in rows])

    def of(processor, model):
        columns = (f"{processor}/{model}-{seed}" for seed in (1, 2, 3))
        predictions = np.array([[float(row[column]) for row in rows] for column in columns])
        return replicates(metrics.mae, labels, predictions, videos)

    return {(p, m): of(p, m) for p in PROCESSORS for m in MODELS}, len(set(videos))


@pytest.mark.parametrize("model", MODELS)
def test_no_model_differs_from_itself_on_another_processor(two_processors, model):
    """By the chance of videos alone Self-MM does: training amplified the rounding."""
    measured, videos = two_processors
    models = {processor: measured[processor, model] for processor in PROCESSORS}
    pair = compare(models, videos)["pairs"]["intel_xeon - amd_epyc"]
    assert pair["p"] > 0.2
    if model == "self_mm":
        of_videos = pair["difference"] / pair["se_videos"]
        assert 2 * stats.t.sf(of_videos, videos - 1) == pytest.approx(0.0007, abs=0.0001)
        assert pair["p"] == pytest.approx(0.226, abs=0.001)


def test_the_verdicts_on_two_processors_do_not_contradict_each_other(two_processors):
    measured, videos = two_processors
    both = [compare({m: measured[p, m] for m in MODELS}, videos) for p in PROCESSORS]
    same = {"ours": {"difference": -0.4, "p_holm": 0.0}}
    table6 = {"train_mean": {"mae": 0.84}, "train_median": {"mae": 0.83}}
    for compared in both:
        results = results_of(
            comparison={"mae": compared}, tables={"6": table6}, constants={"train_median": same}
        )
        sentence = verdict(results)
        assert sentence.startswith("Ours has the lowest MAE on test")
        assert "and beats a constant by more than chance: the median" in sentence
        assert "it beats SVM and CNN by more than chance" in sentence
        assert "no difference to Self-MM is shown" in sentence
    for pair in both[0]["pairs"]:
        intel, amd = (compared["pairs"][pair] for compared in both)
        assert intel["low"] <= amd["difference"] <= intel["high"]
        assert amd["low"] <= intel["difference"] <= amd["high"]
    self_mm = [compared["pairs"]["self_mm - ours"]["p"] for compared in both]
    assert self_mm == pytest.approx([0.238, 0.814], abs=0.001)  # by videos alone .087 and .736
    cnn = [compared["pairs"]["cnn - ours"]["p"] for compared in both]
    assert cnn == pytest.approx([0.0084, 0.0052], abs=0.0001)


def test_compare_finds_a_difference_and_only_that():
    random = np.random.default_rng(4)
    same = random.random(300)
    errors = {
        "a": same,
        "b": same + 0.2 + random.normal(0, 0.05, 300),
        "c": same + random.normal(0, 0.05, 300),
    }
    videos = [str(i // 6) for i in range(300)]
    actual = compare({name: of_errors(e[None], videos) for name, e in errors.items()}, 50)
    assert list(actual["pairs"]) == ["a - b", "a - c", "b - c"]
    assert actual["pairs"]["a - b"]["p_holm"] < 0.01
    assert actual["pairs"]["a - b"]["high"] < 0
    assert actual["pairs"]["a - c"]["p"] > 0.01
    assert actual["models"]["a"]["low"] < same.mean() < actual["models"]["a"]["high"]
    assert actual["pairs"]["a - b"]["difference"] == pytest.approx(-0.2, abs=0.02)


@pytest.mark.parametrize("v", range(1, 6))
def test_of_too_few_videos_intervals_and_p_are_undefined(v):
    """Model a is better in each of them, and by as much."""
    a = np.random.default_rng(5).random((1, 60))
    videos = [str(i % v) for i in range(60)]
    models = {
        name: replicates(metrics.mae, np.zeros(60), e, videos)
        for name, e in (("a", a), ("b", a + 1))
    }
    actual = compare(models, v)
    unknown = dict.fromkeys(("low", "high", "se_videos", "se_seeds"))
    assert actual["models"]["a"] == {"value": pytest.approx(a.mean()), **unknown}
    unknown |= dict.fromkeys(("p", "p_holm"))
    assert actual["pairs"]["a - b"] == {"difference": pytest.approx(-1), **unknown}


@pytest.mark.parametrize("v", [6, 8])
def test_p_is_none_that_so_few_videos_cannot_show(v):
    a = np.random.default_rng(5).random((1, 60))
    videos = [str(i % v) for i in range(60)]
    errors = {"a": a, "b": a + 1, "c": a + 2}
    pairs = compare({name: of_errors(e, videos) for name, e in errors.items()}, v)["pairs"]
    assert pairs["a - b"]["p"] == 2 / 2**v
    assert pairs["a - b"]["low"] == pytest.approx(-1)
    assert pairs["b - c"]["p_holm"] == 3 * 2 / 2**v


def test_compare_of_no_model_of_one_and_of_equal_ones():
    assert compare({}, 30) == {"models": {}, "pairs": {}}
    one = Replicates(np.ones(1), np.ones(30))
    assert compare({"a": one}, 30)["pairs"] == {}
    pair = compare({"a": one, "b": one}, 30)["pairs"]["a - b"]
    assert (pair["p"], pair["low"], pair["high"]) == (1, 0, 0)


def test_a_change_is_paired_by_seed():
    before, after = {"1": 0.40, "2": 0.44, "3": 0.42}, {"1": 0.41, "2": 0.45, "3": 0.44}
    actual = change(before, after)
    assert actual is not None
    test = stats.ttest_rel([*after.values()], [*before.values()])
    low, high = test.confidence_interval(statistics.LEVEL)
    assert actual.difference == pytest.approx(0.04 / 3)
    assert actual.half == pytest.approx((high - low) / 2)
    assert (actual.before, actual.paired) == (pytest.approx(0.42), ["1", "2", "3"])
    alike = change(before, {seed: value + 0.02 for seed, value in before.items()})
    assert alike is not None
    assert (alike.difference, alike.half) == pytest.approx((0.02, 0.0))


@pytest.mark.parametrize(
    ("before", "after", "paired"),
    [
        ("12", "213", "12"),
        ("12", "1234", "12"),
        ("12345", "34567", "345"),
        ("1234", "3456", ""),  # two of four
        ("123", "345", ""),
    ],
)
def test_a_change_pairs_seeds_where_enough_are_on_both_sides(before, after, paired):
    values = {seed: 0.4 + 0.01 * int(seed) ** 2 for seed in "1234567"}
    actual = change({s: values[s] for s in before}, {s: values[s] + 0.01 for s in after})
    assert actual is not None
    assert actual.paired == list(paired)
    if paired:
        assert (actual.difference, actual.half) == pytest.approx((0.01, 0.0))
    else:
        assert actual.half > 0.02


def test_a_change_of_other_seeds_is_that_of_the_means():
    before, after = {"1": 0.40, "2": 0.44, "3": 0.42}, {"4": 0.41, "5": 0.45, "3": 0.46}
    actual = change(before, after)
    assert actual is not None
    test = stats.ttest_ind([*after.values()], [*before.values()], equal_var=False)
    low, high = test.confidence_interval(statistics.LEVEL)
    assert (actual.difference, actual.half) == pytest.approx((0.02, (high - low) / 2))


def test_the_spread_of_a_change_is_unknown_with_one_seed():
    assert change({"1": 0.4}, {"1": 0.5}) is None
    assert change({"1": 0.4, "2": 0.4}, {"1": 0.5}) is None
    assert change({}, {"1": 0.5}) is None


def test_mean_history_ends_with_the_shortest_run():
    runs = [
        {"epoch": [1.0, 2.0, 3.0], "mae": [3.0, 2.0, 1.0]},
        {"epoch": [1.0, 2.0], "mae": [1.0, 1.0]},
    ]
    assert statistics.mean_history(runs) == {"epoch": [1.0, 2.0], "mae": [2.0, 1.5]}
