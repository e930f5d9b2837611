"""The weighted mean of separate opinions."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax
from torch.nn.functional import nll_loss

from fusion.heads.weighted import PRIOR, Weighting, fit_weighting, log_probabilities


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
    logits, present, labels = opinions({"a": 2.0, "b": 0.7, "c": 0.2}, rows=60)
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


def drawn(weights: list[float], temperature: float, *, rows: int = 40_000, share: float = 0.8, seed: int = 0):
    """Logits of three streams, each present in that share of the rows, and labels drawn from their pool."""
    generator = torch.Generator().manual_seed(seed)
    logits = {name: 3 * torch.randn(rows, 6, generator=generator) for name in "abc"}
    present = {name: torch.rand(rows, generator=generator) < share for name in "abc"}
    pool = Weighting(dict(zip("abc", weights, strict=True)), temperature)(logits, present)
    return logits, present, torch.multinomial(pool.exp(), 1, generator=generator)[:, 0]


@pytest.mark.parametrize(
    ("weights", "temperature"), [([1 / 3, 1 / 3, 1 / 3], 1.0), ([0.5, 0.4, 0.1], 0.5), ([0.07, 0.13, 0.8], 2.0)]
)
def test_the_fit_recovers_the_weights_and_the_temperature_that_answers_were_drawn_with(weights, temperature):
    found = fit_weighting(*drawn(weights, temperature))
    assert list(found.weights.values()) == pytest.approx(weights, abs=0.02) and list(found.weights) == [*"abc"]
    assert sum(found.weights.values()) == pytest.approx(1)
    assert found.temperature == pytest.approx(temperature, rel=0.04)


@pytest.mark.parametrize("rows", [1, 20])
def test_the_fit_is_never_worse_than_the_mean_on_what_it_was_fitted_on(rows):
    plain = Weighting(dict.fromkeys("abc", 1 / 3), 1.0)
    for seed in range(8):
        logits, present, labels = drawn([0.5, 0.4, 0.1], 0.2 + seed / 4, rows=rows, share=0.6, seed=seed)
        there = torch.stack([*present.values()]).any(dim=0)
        if not there.any():
            continue
        found = fit_weighting(logits, present, labels)
        fitted, mean = (nll_loss(one(logits, present)[there], labels[there]).item() for one in (found, plain))
        assert fitted <= mean + 1e-12


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


def test_what_absent_streams_hold_and_rows_that_have_nothing_do_not_count():
    logits, present, labels = drawn([0.5, 0.4, 0.1], 0.7, rows=300, share=0.5)
    there = torch.stack([*present.values()]).any(dim=0)
    assert not there.all()
    found = fit_weighting(logits, present, labels)
    spoilt = {name: part.masked_fill(~present[name][:, None], torch.nan) for name, part in logits.items()}
    assert fit_weighting(spoilt, present, labels) == found
    few = ({name: part[there] for name, part in given.items()} for given in (logits, present))
    assert fit_weighting(*few, labels[there]) == found
    torch.testing.assert_close(found(spoilt, present), found(logits, present), rtol=0, atol=0)


def test_logits_and_log_probabilities_do_the_same():
    logits, present, labels = drawn([0.5, 0.4, 0.1], 0.7, rows=300, share=0.5)
    of_logits = fit_weighting(logits, present, labels)
    logarithms = {name: log_probabilities(part.softmax(dim=1)) for name, part in logits.items()}
    assert fit_weighting(logarithms, present, labels).weights == pytest.approx(of_logits.weights, rel=1e-4)
    torch.testing.assert_close(of_logits(logarithms, present), of_logits(logits, present), rtol=1e-4, atol=1e-4)


def test_the_fit_is_finite_where_all_is_right_or_wrong():
    labels = torch.arange(20) % 4
    right = 50 * torch.nn.functional.one_hot(labels, 4).double()
    present = {name: torch.ones(20, dtype=torch.bool) for name in "ab"}
    for a, b in ((right, right), (-right, -right), (right, -right)):
        found = fit_weighting({"a": a, "b": b}, present, labels)
        assert 0 < found.temperature < 1e6 and all(0 < share < 1 for share in found.weights.values())
        if a is b:
            assert found.weights["a"] == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("rows", [0, 5])
def test_without_an_opinion_and_with_opinions_that_are_not_finite_it_stays_the_mean(rows):
    logits = {name: torch.full((rows, 4), torch.nan) for name in "ab"}
    for there in (False, True):
        present = {name: torch.full((rows,), there) for name in "ab"}
        found = fit_weighting(logits, present, torch.zeros(rows, dtype=torch.int64))
        assert found == Weighting({"a": 0.5, "b": 0.5}, 1.0)


def test_a_class_without_any_chance_has_a_finite_logarithm():
    assert torch.isfinite(log_probabilities(torch.tensor([[1.0, 0.0]]))).all()
