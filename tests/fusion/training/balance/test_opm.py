"""OPM."""

import math

import pytest
import torch
from torch.nn.functional import one_hot

from fusion.training.balance.confidence import ConfidenceMeter
from fusion.training.balance.opm import MOST, Opm, hiding
from fusion.training.loss import count_rows
from tests.fusion.training.balance.test_balance import weights_of
from tests.fusion.training.test_loss import a_batch
from tests.fusion.training.test_step import batches_of, make, take

STREAMS = ("a", "b", "c")


def opm(*confidence: float) -> Opm:
    method = Opm(streams=STREAMS, auxiliary=0.5, epochs=1)
    method.confidence.copy_(torch.tensor(confidence))
    return method


def all_mixtures(copies: int = 1) -> dict[str, torch.Tensor]:
    rows = torch.cartesian_prod(*[torch.tensor([True, False])] * 3).repeat(copies, 1)
    return dict(zip(STREAMS, rows.T, strict=True))


def test_the_probability_of_hiding_grows_from_nothing_at_a_ratio_of_one():
    def share(ratio: float) -> float:
        return float(hiding({"a": torch.tensor(0.1 * ratio), "b": torch.tensor(0.1)})["a"])

    assert share(0.2) == 0 and share(1.0) < 1e-6
    assert 0 < share(1.001) < 0.001
    assert share(2.0) == pytest.approx(MOST * math.tanh(1), rel=1e-5)
    assert share(1000.0) == pytest.approx(MOST)


def test_the_last_stream_of_a_clip_is_never_hidden(monkeypatch):
    """Though every number drawn says to hide: what is ahead goes where it is not alone."""
    monkeypatch.setattr("torch.rand", lambda shape, device: torch.zeros(shape, device=device))
    mask = all_mixtures()
    found = opm(0.9, 0.8, 0.1).choose(mask)  # two are ahead of the mean of the others
    before, after = (torch.stack([masks[name] for name in STREAMS], dim=1) for masks in (mask, found))
    for row, kept in zip(before.tolist(), after.tolist(), strict=True):
        assert kept == ([False, False, True] if row[2] else row)


def test_streams_are_hidden_as_often_as_they_should_be_and_the_others_never():
    torch.manual_seed(0)
    mask = {name: torch.ones(20_000, dtype=torch.bool) for name in STREAMS}
    found = opm(0.6, 0.2, 0.3).choose(mask)
    assert float((~found["a"]).float().mean()) == pytest.approx(MOST * math.tanh(2.4 - 1), abs=0.01)
    assert found["b"].all() and found["c"].all()


def test_nothing_comes_back_that_was_hidden_before():
    torch.manual_seed(0)
    mask = all_mixtures(copies=50)
    found = opm(0.6, 0.2, 0.3).choose(mask)
    for name in STREAMS:
        assert not (found[name] & ~mask[name]).any()
    assert torch.equal(torch.stack([*found.values()]).any(dim=0), torch.stack([*mask.values()]).any(dim=0))


def test_equal_streams_are_left_alone(toy):
    """As at the first step, of which nothing is known: it is the default's, bit for bit."""
    one, other = make(toy, balance="opm"), make(toy)
    for step in (one, other):
        take(step, batches_of(toy)[:1])
    torch.testing.assert_close(weights_of(one.model), weights_of(other.model), rtol=0, atol=0)


def test_a_step_goes_by_the_confidence_of_the_one_before(toy, monkeypatch):
    output, labels, present = a_batch()
    present["flow"][:] = False
    meter = ConfidenceMeter()
    step = make(toy, balance="opm")
    counts = count_rows(present)
    targets = one_hot(labels, 5)
    meter.add(output, targets, present, counts)
    step.balance.observe(output, targets, present, counts)
    step.balance.modulate(step.model, counts, step.ranks, seed=0)
    found = meter.read(step.ranks)
    expected = [found["rgb"], torch.tensor(1.0), found["audio"]]  # of flow nothing new is known
    assert step.balance.confidence.tolist() == [float(value) for value in expected]
