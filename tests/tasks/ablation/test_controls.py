"""Opinions of separate models, put together."""

import numpy as np
import pytest
import torch

from fusion.heads import crossfit
from fusion.heads.crossfit import folds_of
from fusion.heads.weighted import log_probabilities
from tasks.ablation.controls import (
    FITTERS,
    cross_fitted_probabilities,
    fitted_probabilities,
    mean_probabilities,
)
from tasks.probabilities import Probabilities


def opinions(rows: int = 200, classes: int = 4, seed: int = 0) -> tuple[dict[str, Probabilities], torch.Tensor]:
    """Two models' opinions, of which the first is better and the second is missing here and there."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (rows,), generator=generator)
    right = torch.nn.functional.one_hot(labels, classes).double()
    found = {}
    for name, strength, every in (("a", 2.0, rows + 1), ("b", 0.5, 5)):
        answered = torch.arange(rows) % every != every - 1
        logits = strength * right + torch.randn(rows, classes, generator=generator, dtype=torch.float64)
        found[name] = Probabilities(logits.softmax(dim=1) * answered[:, None], answered)
    return found, labels


def test_no_answer_is_a_wrong_one():
    one = Probabilities(torch.tensor([[0.9, 0.1], [0.0, 0.0], [0.2, 0.8]]), torch.tensor([True, False, True]))
    np.testing.assert_array_equal(one.right(torch.tensor([0, 0, 0])), [True, False, False])


def test_the_mean_is_of_those_that_answer():
    alone, _ = opinions()
    mean = mean_probabilities(alone)
    torch.testing.assert_close(mean.probabilities[4], alone["a"].probabilities[4])
    torch.testing.assert_close(mean.probabilities[3], (alone["a"].probabilities[3] + alone["b"].probabilities[3]) / 2)
    assert mean.answered.all()
    nobody = Probabilities(torch.zeros(3, 2), torch.zeros(3, dtype=torch.bool))
    assert not mean_probabilities({"a": nobody, "b": nobody}).answered.any()


each_way = pytest.mark.parametrize("how", FITTERS)


@each_way
def test_what_is_fitted_depends_on_the_held_videos_and_beats_the_plain_mean(how):
    alone, labels = opinions(2000)
    held, held_labels = opinions(500, seed=1)
    fitted = fitted_probabilities(how, alone, held, held_labels)
    torch.testing.assert_close(fitted.probabilities.sum(dim=1), torch.ones(2000).double())
    assert fitted.right(labels).mean() > mean_probabilities(alone).right(labels).mean()
    shuffled = fitted_probabilities(how, alone, held, held_labels.roll(1))
    assert shuffled.right(labels).mean() < fitted.right(labels).mean()


@each_way
def test_cross_fitted_answers_do_not_depend_on_the_labels_of_their_own_unit(how, monkeypatch):
    """But for the fold that they come into."""
    alone, labels = opinions(120)
    units = torch.arange(120) // 6
    same = folds_of(labels.numpy(), units.numpy())
    monkeypatch.setattr(crossfit, "folds_of", lambda *_: same)
    before = cross_fitted_probabilities(how, alone, labels, units.tolist()).probabilities
    for unit in (0, 7, 19):
        here = units == unit
        changed = torch.where(here, (labels + 1) % 4, labels)
        after = cross_fitted_probabilities(how, alone, changed, units.tolist()).probabilities
        torch.testing.assert_close(after[here], before[here], atol=1e-9, rtol=0)
        assert (after - before).abs().max() > 1e-6


@each_way
def test_cross_fitted_answers_are_the_fit_on_the_rest(how):
    alone, labels = opinions(60)
    units = torch.arange(60) % 12
    fold = torch.from_numpy(folds_of(labels.numpy(), units.numpy()))
    found = cross_fitted_probabilities(how, alone, labels, units.tolist()).probabilities
    logits = {name: log_probabilities(one.probabilities) for name, one in alone.items()}
    for number in fold.unique():
        rest, here = fold != number, fold == number
        fitted = FITTERS[how](
            {name: values[rest] for name, values in logits.items()},
            {name: one.answered[rest] for name, one in alone.items()},
            labels[rest],
        )
        expected = fitted(logits, {name: one.answered for name, one in alone.items()}).exp()
        torch.testing.assert_close(found[here], expected[here])


@pytest.mark.parametrize(("each", "folds"), [(1, 2), (3, 3), (9, 5)])
def test_units_stay_together_and_classes_are_in_all_folds_alike(each, folds):
    """Four classes of so many units, of one to three rows."""
    units = np.repeat(np.arange(4 * each), np.arange(4 * each) % 3 + 1)
    labels = units % 4
    fold = folds_of(labels, units)
    assert {*fold} == {*range(folds)}
    assert all(len({*fold[units == unit]}) == 1 for unit in units)
    for label in range(4) if each > 1 else ():
        counts = np.bincount([fold[units == unit][0] for unit in {*units[labels == label]}], minlength=folds)
        assert counts.max() - counts.min() <= 1 and counts.min() >= 1


@each_way
def test_one_unit_cannot_be_cross_fitted(how):
    alone, labels = opinions(60)
    assert cross_fitted_probabilities(how, alone, labels, [3] * 60) is None
