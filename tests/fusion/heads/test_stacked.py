"""Stacked opinions."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax
from torch.nn.functional import nll_loss

from fusion.heads.stacked import FLOOR, PRIOR, Stacking, as_it_is, fit_stacking
from tests.fusion.heads.test_weighted import opinions

CLOSE = {"rtol": 1e-3, "atol": 1e-3}


def drawn(names: str = "ab", *, rows: int, classes: int = 4, share: float = 0.8, seed: int = 0):
    """Opinions, where they are, some maps, and labels drawn from what these make of the opinions."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    logits = {name: 1.5 * draw(rows, classes) for name in names}
    present = {name: torch.rand(rows, generator=generator) < share for name in names}
    maps = {name: torch.eye(classes, dtype=torch.float64) + 0.5 * draw(classes, classes) for name in names}
    stacking = Stacking(maps, {name: 0.5 * draw(classes) for name in names})
    labels = torch.multinomial(stacking(logits, present).exp(), 1, generator=generator)[:, 0]
    return logits, present, labels, stacking


def test_a_stream_that_takes_two_classes_for_each_other_is_set_right():
    logits, present, labels = opinions({"a": 6.0, "b": 6.0}, rows=300)
    taken = logits | {"b": logits["b"][:, [1, 0, 2, 3, 4]]}
    found = fit_stacking(taken, present, labels)
    for asked in ("a", "b", "ab"):
        here = {name: mask & (name in asked) for name, mask in present.items()}
        assert (found(taken, here).argmax(dim=1) == labels).double().mean() > 0.98
    mistaken = as_it_is(["b"], 5)({"b": taken["b"]}, {"b": present["b"]}).argmax(dim=1)
    assert (mistaken == labels).double().mean() < 0.7


def test_the_fit_is_the_likeliest_that_scipy_finds_over_all_subsets():
    logits, present, labels, _ = drawn(rows=30, classes=3)
    said = {name: np.maximum(log_softmax(part.numpy(), axis=1), FLOOR) for name, part in logits.items()}

    def loss(numbers: np.ndarray) -> float:
        changes, offsets = np.split(numbers, [18])
        maps = np.eye(3) + changes.reshape(2, 3, 3)
        parts = [said[name] @ maps[row] + offsets.reshape(2, 3)[row] for row, name in enumerate("ab")]
        total = PRIOR * np.square(numbers).sum()
        for asked in ("a", "b", "ab"):
            for row, label in enumerate(labels):
                here = [
                    part[row] for part, name in zip(parts, "ab", strict=True) if name in asked and present[name][row]
                ]
                total -= log_softmax(sum(here))[label] / 3 if here else 0
        return total

    best = minimize(loss, np.zeros(24)).x
    found = fit_stacking(logits, present, labels)
    maps, offsets = (torch.stack(list(part.values())) for part in (found.maps, found.offsets))
    np.testing.assert_allclose(maps, np.eye(3) + best[:18].reshape(2, 3, 3), **CLOSE)
    np.testing.assert_allclose(offsets, best[18:].reshape(2, 3), **CLOSE)


def test_of_many_answers_the_fit_is_as_good_as_the_maps_that_they_were_drawn_with():
    logits, present, labels, true = drawn("a", rows=20_000, share=1.0)
    found = fit_stacking(logits, present, labels)
    assert nll_loss(found(logits, present), labels) < nll_loss(true(logits, present), labels) + 1e-3


def test_the_fewer_the_answers_the_nearer_it_stays_to_what_the_streams_say():
    logits, present, labels, _ = drawn(rows=3000)
    changed = []
    for rows in (5, 50, 500, 3000):
        few = ({name: part[:rows] for name, part in given.items()} for given in (logits, present))
        found = fit_stacking(*few, labels[:rows])
        changed.append(sum((map_ - torch.eye(4)).square().sum() for map_ in found.maps.values()).item())
    assert changed == sorted(changed) and changed[0] < 0.3 < 3 < changed[-1]


def test_a_row_is_answered_from_the_streams_that_it_has_and_what_absent_ones_hold_does_not_count():
    logits, present, labels, true = drawn(rows=300, share=0.5)
    spoilt = {name: part.masked_fill(~present[name][:, None], torch.nan) for name, part in logits.items()}
    torch.testing.assert_close(true(spoilt, present), true(logits, present), rtol=0, atol=0)
    nothing = ~(present["a"] | present["b"])
    assert nothing.any()
    torch.testing.assert_close(true(logits, present)[nothing].exp(), torch.full((int(nothing.sum()), 4), 0.25).double())
    found, again = fit_stacking(logits, present, labels), fit_stacking(spoilt, present, labels)
    few = ({name: part[~nothing] for name, part in given.items()} for given in (logits, present))
    for name in "ab":
        assert torch.equal(found.maps[name], again.maps[name]) and torch.equal(found.offsets[name], again.offsets[name])
    assert nll_loss(found(logits, present)[~nothing], labels[~nothing]) <= nll_loss(
        as_it_is([*"ab"], 4)(*few), labels[~nothing]
    )


def test_logits_and_log_probabilities_do_the_same():
    logits, present, labels, _ = drawn(rows=100)
    found = fit_stacking(logits, present, labels)
    same = fit_stacking({name: part.log_softmax(dim=1) for name, part in logits.items()}, present, labels)
    for name in "ab":
        torch.testing.assert_close(same.maps[name], found.maps[name])


@pytest.mark.parametrize("rows", [0, 5])
def test_without_an_opinion_and_with_opinions_that_are_not_finite_all_stays_as_it_is(rows):
    logits = {name: torch.full((rows, 4), torch.nan, dtype=torch.float64) for name in "ab"}
    for there in (False, True):
        present = {name: torch.full((rows,), there) for name in "ab"}
        found = fit_stacking(logits, present, torch.zeros(rows, dtype=torch.int64))
        for name in "ab":
            assert torch.equal(found.maps[name], torch.eye(4).double()) and not found.offsets[name].any()
