"""Fitting a probe, and its measures, beside those of libraries."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score, root_mean_squared_error
from torchmetrics.regression import ConcordanceCorrCoef, PearsonCorrCoef

from tasks.probe.fit import concordance, fit
from tasks.probe.measure import RESAMPLES, class_measures, number_measures


def test_concordance_is_torchmetrics():
    torch.manual_seed(0)
    truth = torch.rand(50, 3, dtype=torch.float64) * 2 - 1
    answers = 0.6 * truth + 0.2 * torch.randn(50, 3) + torch.tensor([0.0, 0.5, -1.0])
    wanted = ConcordanceCorrCoef(num_outputs=3)
    wanted.update(answers, truth)
    # torchmetrics divides the variances by N - 1, Lin's estimate by N
    torch.testing.assert_close(concordance(answers, truth), wanted.compute().double(), atol=0.005, rtol=0)
    assert concordance(truth, truth).tolist() == pytest.approx([1, 1, 1])
    assert abs(concordance(torch.ones(50, 3).double(), truth)).max() < 1e-9


def test_classes_are_fitted_as_a_balanced_logistic_regression():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 12))
    y = (x[:, :3] @ [1.0, -1.0, 0.5] + rng.normal(size=200) > 1).astype(int) + (x[:, 4] > 1.5)
    penalty = 0.02
    weights, constants = fit(x, y, classes=3, penalty=penalty)
    model = LogisticRegression(C=1 / (penalty * len(y)), class_weight="balanced", tol=1e-8, max_iter=1000).fit(x, y)
    wanted = model.predict_proba(x)
    found = torch.softmax(torch.from_numpy(x @ weights + constants), dim=1).numpy()
    np.testing.assert_allclose(found, wanted, atol=2e-3)


def test_numbers_are_fitted_to_the_highest_concordance_there_can_be():
    """Least squares correlate best of all linear answers; with the right spread their concordance is as high."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 6))
    truth = np.stack([x[:, 0] + x[:, 1], 0.3 * x[:, 2] - 2], axis=1) + rng.normal(size=(300, 2)) * [2.0, 0.2]
    weights, constants = fit(x, truth, classes=0, penalty=1e-9)
    with_one = np.c_[x, np.ones(300)]
    squares = with_one @ np.linalg.lstsq(with_one, truth, rcond=None)[0]
    best = [np.corrcoef(a, b)[0, 1] for a, b in zip(squares.T, truth.T, strict=True)]
    found = concordance(torch.from_numpy(x @ weights + constants), torch.from_numpy(truth))
    np.testing.assert_allclose(found.numpy(), best, atol=1e-3)


@pytest.fixture
def grouped():
    """60 samples of five groups of different sizes."""
    rng = np.random.default_rng(0)
    return rng, np.repeat(np.arange(5), [4, 8, 12, 16, 20])


def test_measures_are_those_of_libraries(grouped):
    rng, groups = grouped
    classes, answers = rng.integers(0, 3, 60), rng.normal(size=(60, 3))
    best = answers.argmax(axis=1)
    recall, accuracy = class_measures(answers, classes, groups)
    assert recall.value == pytest.approx(balanced_accuracy_score(classes, best))
    assert accuracy.value == pytest.approx(accuracy_score(classes, best))
    truth = rng.normal(size=60)
    guessed = 0.5 * truth + rng.normal(size=60) + 0.3
    ccc, pearson, error = number_measures(guessed, truth, groups)
    a, b = torch.from_numpy(guessed), torch.from_numpy(truth)
    assert ccc.value == pytest.approx(float(concordance(a[:, None], b[:, None])))
    assert pearson.value == pytest.approx(float(PearsonCorrCoef()(a.float(), b.float())), abs=1e-4)
    assert error.value == pytest.approx(root_mean_squared_error(truth, guessed))


def test_intervals_are_those_of_groups_drawn_with_replacement(grouped):
    rng, groups = grouped
    truth = rng.normal(size=60) + groups
    guessed = truth + 2 * rng.normal(size=60)
    drawn = np.random.default_rng(0).multinomial(5, np.full(5, 0.2), size=RESAMPLES)
    scores = []
    for counts in drawn:
        rows = np.repeat(np.arange(60), counts[groups])
        pair = torch.from_numpy(guessed[rows])[:, None], torch.from_numpy(truth[rows])[:, None]
        scores.append(float(concordance(*pair)))
    found = number_measures(guessed, truth, groups)[0]
    assert [found.low, found.high] == pytest.approx(np.quantile(scores, [0.025, 0.975]).tolist())
    assert number_measures(guessed, truth, 0 * groups)[0].low is None
