"""The weighted mean of separate opinions."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax

from fusion.weighting import PRIOR, Weighting, fit_weighting, log_probabilities


def opinions(strengths: dict[str, float], *, rows: int = 400, classes: int = 5, seed: int = 0):
    """Logits in which the right class stands out by so much, all streams present, and the labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (rows,), generator=generator)
    right = torch.nn.functional.one_hot(labels, classes).double()
    logits = {
        name: strength * right + torch.randn(rows, classes, generator=generator, dtype=torch.float64)
        for name, strength in strengths.items()
    }
    return logits, {name: torch.ones(rows, dtype=torch.bool) for name in strengths}, labels


def pooled_by_hand(logits, present, strengths: dict[str, float], row: int) -> np.ndarray:
    """One row's answer: the mean over the streams that are there, sharpened by the sum of all strengths."""
    here = [name for name in logits if present[name][row]]
    mean = sum(strengths[name] * log_softmax(logits[name][row].numpy()) for name in here)
    return log_softmax(sum(strengths.values()) * mean / sum(strengths[name] for name in here))


def test_the_fit_is_the_likeliest_that_scipy_finds():
    logits, present, labels = opinions({"a": 2.0, "b": 0.7, "c": 0.2}, rows=150)
    present["b"][::3] = False
    present["c"][::4] = False

    def loss(logarithms: np.ndarray) -> float:
        strengths = dict(zip(logits, np.exp(logarithms), strict=True))
        right = [pooled_by_hand(logits, present, strengths, row)[label] for row, label in enumerate(labels)]
        return -np.mean(right) + PRIOR * np.square(logarithms + np.log(3)).sum()

    best = np.exp(minimize(loss, np.full(3, -np.log(3))).x)
    found = fit_weighting(logits, present, labels)
    assert list(found.weights.values()) == pytest.approx(best / best.sum(), rel=1e-3)
    assert found.temperature == pytest.approx(1 / best.sum(), rel=1e-3)


def test_of_unit_noise_the_logits_count_by_how_far_the_right_class_stands_out():
    """Then the best pool has each stream's logits times its strength: that is Bayes' rule."""
    logits, present, labels = opinions({"a": 2.0, "b": 1.0}, rows=40_000)
    found = fit_weighting(logits, present, labels)
    assert found.weights == pytest.approx({"a": 2 / 3, "b": 1 / 3}, abs=0.02)
    assert found.temperature == pytest.approx(1 / 3, abs=0.02)


def test_noise_gets_next_to_no_weight():
    logits, present, labels = opinions({"good": 3.0, "noise": 0.0}, rows=2000)
    assert fit_weighting(logits, present, labels).weights["noise"] < 0.05


def test_a_row_is_answered_from_the_streams_that_it_has():
    logits, present, _ = opinions({"a": 1.0, "b": 1.0}, rows=4)
    present["a"][0] = present["b"][1] = False
    present["a"][2] = present["b"][2] = False
    answers = Weighting({"a": 0.75, "b": 0.25}, 0.5)(logits, present)
    strengths = {"a": 1.5, "b": 0.5}
    for row in (0, 1, 3):
        np.testing.assert_allclose(answers[row], pooled_by_hand(logits, present, strengths, row))
    np.testing.assert_allclose(answers[2].exp(), np.full(5, 0.2))
    np.testing.assert_allclose(answers[0], log_softmax(2 * log_softmax(logits["b"][0].numpy())))


def test_what_an_absent_stream_holds_does_not_matter():
    logits, present, labels = opinions({"a": 1.0, "b": 1.0})
    present["b"][:100] = False
    first = fit_weighting(logits, present, labels)
    logits["b"] = logits["b"].clone()
    logits["b"][:100] = float("nan")
    assert fit_weighting(logits, present, labels) == first


def test_the_fit_is_finite_where_all_is_right_and_where_there_is_nothing():
    logits, present, labels = opinions({"a": 50.0, "b": 50.0}, rows=20)
    found = fit_weighting(logits, present, labels)
    assert 0 < found.temperature < 10 and found.weights["a"] == pytest.approx(0.5, abs=0.1)
    nothing = {name: torch.zeros(20, dtype=torch.bool) for name in logits}
    none = fit_weighting(logits, nothing, labels)
    assert none.weights == pytest.approx({"a": 0.5, "b": 0.5}) and none.temperature == pytest.approx(1)


def test_a_class_without_any_chance_has_a_finite_logarithm():
    assert torch.isfinite(log_probabilities(torch.tensor([[1.0, 0.0]]))).all()
