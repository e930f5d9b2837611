"""The measures against others that compute the same."""

import importlib.util

import numpy as np
import pytest

from tasks.forecasting.metrics import judge
from tests.support.data import SHARED

SCORER = SHARED / "tasks" / "future" / "score_future.py"


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    truth = rng.random((2, 3, 20, 24, 1)).cumsum(axis=3) % 1
    return (truth + rng.normal(0, 0.1, truth.shape)).clip(0, 1), truth


def naive_ssim(one: np.ndarray, other: np.ndarray) -> float:
    found = []
    for y in range(one.shape[0] - 6):
        for x in range(one.shape[1] - 6):
            a, b = one[y : y + 7, x : x + 7].ravel(), other[y : y + 7, x : x + 7].ravel()
            cov = np.cov(a, b)
            first = (2 * a.mean() * b.mean() + 1e-4) / (a.mean() ** 2 + b.mean() ** 2 + 1e-4)
            found.append(first * (2 * cov[0, 1] + 9e-4) / (cov[0, 0] + cov[1, 1] + 9e-4))
    return float(np.mean(found))


def test_each_measure_is_what_it_is_called(pair):
    forecast, truth = pair
    scores = judge(forecast, truth)
    for window in range(2):
        for step in range(3):
            one, other = forecast[window, step, ..., 0], truth[window, step, ..., 0]
            assert scores.mse[window, step] == pytest.approx(np.linalg.norm(one - other) ** 2)
            assert scores.mae[window, step] == pytest.approx(np.abs(one - other).sum())
            assert scores.psnr[window, step] == pytest.approx(10 * np.log10(1 / np.mean((one - other) ** 2)))
            assert scores.ssim[window, step] == pytest.approx(naive_ssim(one, other), abs=1e-9)
    same = judge(truth, truth)
    assert (same.mse == 0).all() and (same.psnr == 100).all() and np.allclose(same.ssim, 1)


@pytest.mark.skipif(not SCORER.exists(), reason="the scorer of the shared data is not here")
def test_they_are_those_of_the_scorer(pair):
    spec = importlib.util.spec_from_file_location("score_future", SCORER)
    scorer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(scorer)
    forecast, truth = (np.repeat(one, 4, axis=1)[..., 0] for one in pair)  # it wants ten steps
    theirs = scorer.numbers(forecast, truth, truth)
    ours = judge(forecast[..., None], truth[..., None]).means()
    assert {name: theirs[name] for name in ours} == pytest.approx(ours)
