"""What the results do not show is said of the results that it limits, and of no others."""

from typing import Any

import pytest

from msabench.evaluation import cautions
from tests.conftest import results_of

VALIDATION = {"ours": (0.68, 0.83), "svm": (0.72, 0.82), "cnn": (0.76, 0.79)}  # MAE, Corr


def results(
    test: dict[str, tuple[float, float]], utterances: int = 250, p: float = 0.001, **counts
):
    """Return results of models with these MAE and Corr on test, and counts of each split."""
    rows: dict[str, Any] = {
        name: {"mae": mae, "corr": corr, "valid_mae": valid[0], "valid_corr": valid[1]}
        for (name, valid), (mae, corr) in zip(VALIDATION.items(), test.values(), strict=True)
    }
    constants = {"train_mean": {"mae": 2.0}, "train_median": {"mae": 2.0}}
    models = {name: {"value": row["mae"]} for name, row in rows.items()}
    pairs = {names: {"p_holm": p} for names in ("ours - svm", "ours - cnn", "svm - cnn")}
    return results_of(
        plan={"simulated": False},
        rows={"6": {name: [] for name in rows}},
        comparison={"mae": {"models": models, "pairs": pairs}},
        tables={
            "1": {
                split: {"utterances": utterances, "audio_missing": 0, **counts}
                for split in ("train", "valid", "test")
            },
            "6": rows | constants,
        },
    )


HONEST = {"ours": (0.7, 0.81), "svm": (0.74, 0.8), "cnn": (0.78, 0.77)}
REVERSED = {"ours": (0.8, 0.81), "svm": (0.74, 0.8), "cnn": (0.78, 0.77)}
LEAKED = {"ours": (1.02, 0.55), "svm": (0.95, 0.65), "cnn": (0.98, 0.58)}
WRONG = "So what was chosen on validation (epochs, settings, models) may be chosen wrongly."


def test_of_a_validation_split_that_is_like_test_nothing_is_said():
    assert cautions.of_models(results(HONEST)) == []


def test_a_contaminated_validation_split_is_named_with_what_follows():
    (sentence,) = cautions.of_models(results(LEAKED))
    corr = "SVM (0.82 and 0.65), CNN (0.79 and 0.58)."
    assert f"Corr on validation is far above that on test: Ours (0.83 and 0.55), {corr}" in sentence
    assert "Ours has the lowest MAE of all models on validation (0.680) and the highest" in sentence
    assert sentence.endswith(WRONG)


@pytest.mark.parametrize(("p", "said"), [(0.001, 1), (0.06, 0), (None, 0)])
def test_the_order_of_models_is_no_evidence_where_chance_explains_it(p, said):
    sentences = cautions.of_models(results(REVERSED, p=p))
    assert len(sentences) == said
    assert all("on test (0.800), by more than chance." in sentence for sentence in sentences)


def test_of_few_utterances_a_fall_of_corr_is_no_evidence():
    small = {"ours": (0.7, 0.7), "svm": (0.74, 0.7), "cnn": (0.78, 0.66)}
    assert cautions.of_models(results(small, utterances=30)) == []
    assert len(cautions.of_models(results(small, utterances=1000))) == 1


@pytest.mark.parametrize(("missing", "said"), [(25, 0), (26, 1)])
def test_a_modality_that_a_tenth_of_the_utterances_lack_limits_the_results(missing, said):
    sentences = cautions.of_data(results(HONEST, vision_missing=missing))
    assert len(sentences) == said
    counts = f"({missing} of 250 of train, {missing} of 250 of valid, {missing} of 250 of test)"
    assert all(f"Vision is missing in many utterances {counts}" in s for s in sentences)
