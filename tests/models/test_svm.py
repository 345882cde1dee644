"""The SVM's own kernel sum against scikit-learn's."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from msabench import arithmetic
from msabench.models import svm
from msabench.models.svm import SVM
from msabench.utterances import Ragged
from tests.conftest import random_utterances


def features(data, frame_std):
    """One vector per utterance by a plain loop; the text is one vector and has no spread."""
    rows = []
    for i in range(len(data)):
        parts = []
        for name, ragged in data.sequences.items():
            parts.append(ragged[i].astype(np.float64).mean(axis=0))
            if frame_std and name != "text":
                parts.append(ragged[i].astype(np.float64).std(axis=0))
        rows.append(np.concatenate(parts))
    return np.array(rows)


@pytest.fixture(params=["portable", "portable, large", "native", "native, plain"])
def solver(request, monkeypatch):
    """Each way to solve the problem; of the native ones a machine without x86 has the plain one."""
    kind, _, how = request.param.partition(", ")
    monkeypatch.setattr(arithmetic, "in_use", kind)
    if how == "large":
        monkeypatch.setattr(svm, "MOST_IN_A_KERNEL", 10)
    elif how == "plain":
        monkeypatch.setitem(sys.modules, "sklearnex.svm", None)  # an import of it fails
    elif kind == "native":
        pytest.importorskip("sklearnex")
    return request.param


@pytest.mark.parametrize("frame_std", [False, True])
def test_the_saved_kernel_sum_is_the_prediction_of_scikit_learn(solver, frame_std, tmp_path):
    train, test = random_utterances(seed=1, n=80), random_utterances(seed=2, n=30)
    model = SVM(C=2.0, epsilon=0.05, frame_std=frame_std)
    assert model.fit(train, test, seed=1, scratch=tmp_path) == []
    model.save(tmp_path)
    loaded = SVM()
    loaded.frame_std = frame_std
    loaded.load(tmp_path)
    reference = make_pipeline(StandardScaler(), SVR(C=2.0, epsilon=0.05))
    reference.fit(features(train, frame_std), train.labels)
    expected = reference.predict(features(test, frame_std))
    # Each solver stops at a tolerance of 1e-3, at a point of its own.
    atol = 1e-3 if solver == "native" else 1e-6
    np.testing.assert_allclose(loaded.predict(test), expected, rtol=0, atol=atol)


@pytest.mark.usefixtures("solver")
def test_without_support_vectors_it_predicts_its_intercept(tmp_path):
    """All labels lie in the tube, whose middle is that of the lowest and the highest label."""
    train, test = random_utterances(seed=1, n=40), random_utterances(seed=2, n=7)
    model = SVM(epsilon=5.0)
    model.fit(train, test, seed=1, scratch=tmp_path)
    assert model.size() == {"support vectors": 0, "features of each": 17}
    model.save(tmp_path)
    loaded = SVM()
    loaded.load(tmp_path)
    assert loaded.size() == model.size()
    expected = np.float32(
        train.labels.astype(float)[[train.labels.argmin(), train.labels.argmax()]].mean()
    )
    for each in (model, loaded):
        np.testing.assert_array_equal(each.predict(test), np.full(7, expected))


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("value", [0.0, 0.1])
@pytest.mark.usefixtures("solver")
def test_where_nothing_varies_gamma_is_1(standardize, value, tmp_path):
    """As of scikit-learn's `scale`; the variance of features that are all 0.1 is of rounding."""
    data = random_utterances(seed=1, n=40)
    for ragged in data.sequences.values():
        ragged.values[:] = value
    model = SVM(standardize=standardize)
    model.fit(data, data, seed=1, scratch=tmp_path)
    assert model.fitted["gamma"] == [1.0]
    assert np.ptp(model.predict(data)) == 0


def test_the_spread_of_single_frames_is_0(tmp_path):
    """Not absent: a model has the same features of every split."""
    train, test = random_utterances(seed=1, n=40), random_utterances(seed=2, n=9)
    one = {
        name: Ragged.of([ragged[i][:1] for i in range(9)])
        for name, ragged in test.sequences.items()
    }
    model = SVM(frame_std=True)
    model.fit(train, test, seed=1, scratch=tmp_path)
    predictions = model.predict(replace(test, sequences=one))
    assert np.isfinite(predictions).all()
    assert np.ptp(predictions) > 0


def test_portable_arithmetic_solves_with_nothing_of_the_processor(tmp_path, monkeypatch):
    """oneDAL chooses its kernels by AVX-512, and no setting keeps it from that."""
    monkeypatch.setattr(arithmetic, "in_use", "portable")
    monkeypatch.setitem(sys.modules, "sklearnex.svm", None)
    monkeypatch.setitem(sys.modules, "daal4py", None)
    train = random_utterances(seed=1, n=20)
    SVM().fit(train, train, seed=1, scratch=tmp_path)


def test_the_faster_solver_keeps_to_its_threads(tmp_path, monkeypatch):
    """Of itself it would take all cores, beside other runs."""
    intelex = pytest.importorskip("sklearnex.svm").SVR
    fit, requested = intelex.fit, []

    def noted(self, *data):
        requested.append(self.n_jobs)
        return fit(self, *data)

    monkeypatch.setattr(intelex, "fit", noted)
    train = random_utterances(seed=1, n=20)
    SVM().fit(train, train, seed=1, scratch=tmp_path)
    assert requested == [torch.get_num_threads()]


def test_an_almost_constant_feature_is_only_centred(tmp_path):
    """Divided by a standard deviation that is rounding alone, it would outweigh all the others."""
    rng = np.random.default_rng(0)
    train, test = random_utterances(seed=1, n=40), random_utterances(seed=2, n=10)
    for data in (train, test):
        values = data.sequences["vision"].values
        values[:, 3] = 1e4 + 2.0**-10 * rng.integers(2, size=len(values))
    model = SVM()
    model.fit(train, test, seed=1, scratch=tmp_path)
    expected = model.predict(test)
    test.sequences["vision"].values[:, 3] += 2.0**-6
    np.testing.assert_allclose(model.predict(test), expected, rtol=0, atol=1e-3)
