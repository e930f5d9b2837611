"""MMPareto."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cosine_similarity

from fusion.training.balance.mmpareto import combine
from fusion.training.loss import count_rows, each_loss
from tests.fusion.training.test_step import MODEL, batches_of, make, take, without_augmentation


def pairs() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Vectors that conflict more or less, of like and of different lengths."""
    torch.manual_seed(0)
    found = []
    for against in (0.1, 0.5, 1.0, 3.0):
        for scale in (0.05, 1.0, 20.0):
            one = torch.randn(50)
            found.append((one, scale * (torch.randn(50) - against * one)))
    return found


def test_the_direction_has_a_non_negative_product_with_both():
    for fused, own in pairs():
        found = combine(fused, own)
        least = -1e-5 * float(found.norm())
        assert float(found @ fused) >= least * float(fused.norm()) and float(found @ own) >= least * float(own.norm())


def test_in_conflict_it_is_the_shortest_vector_between_the_two_in_the_length_of_their_sum():
    shares = torch.linspace(0, 1, 200_001, dtype=torch.float64)  # the oracle: all that there are
    for fused, own in (pair for pair in pairs() if float(pair[0] @ pair[1]) < 0):
        a, b, c = (float(x.double() @ y.double()) for x, y in ((fused, fused), (own, own), (fused, own)))
        share = float(shares[(shares**2 * a + (1 - shares) ** 2 * b + 2 * shares * (1 - shares) * c).argmin()])
        shortest = share * fused + (1 - share) * own
        found = combine(fused, own)
        assert float(cosine_similarity(found, shortest, dim=0)) == pytest.approx(1, abs=1e-5)
        assert float(found.norm()) == pytest.approx(float((fused + own).norm()), rel=1e-4)


def test_where_they_agree_it_is_their_sum():
    torch.manual_seed(0)
    fused = torch.randn(50)
    for own in (fused * 3, fused + 0.1 * torch.randn(50), torch.zeros(50)):
        assert torch.equal(combine(fused, own), fused + own)
        assert torch.equal(combine(own, fused), fused + own)


def test_of_opposite_vectors_rounding_is_not_blown_up():
    fused = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    for scale in (0.5, 1.0, 1.1, 7.0):
        found = combine(fused, -scale * fused)
        assert found.isfinite().all() and float(found.norm()) < 1e-2 * float(fused.norm())
    assert torch.equal(combine(torch.zeros(5), torch.zeros(5)), torch.zeros(5))


@pytest.mark.parametrize("head", ["concat", "mean"])
def test_an_encoders_gradient_is_combined_from_those_of_the_two_losses_and_a_heads_is_their_sum(toy, monkeypatch, head):
    monkeypatch.setattr("fusion.training.step.CLIP_NORM", 1e9)
    settings = replace(MODEL, head=head)
    step, oracle = (make(toy, settings=settings, balance="mmpareto") for _ in range(2))
    batch = batches_of(toy)[1]
    with without_augmentation():
        take(step, [batch])
    output = oracle.model(batch.inputs(training=False), batch.present)
    losses = each_loss(output, batch.labels, batch.present, count_rows(batch.present))
    own = sum(loss for name, loss in losses.items() if name)
    weights = dict(oracle.model.named_parameters())
    kept = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
    fused, alone = (
        dict(zip(weights, torch.autograd.grad(loss, weights.values(), **kept), strict=True))
        for loss in (losses[""], own)
    )
    found = {key: parameter.grad for key, parameter in step.model.named_parameters()}
    for name in oracle.model.encoders:
        keys = [key for key in weights if key.startswith(f"encoders.{name}.")]
        one, other, whole = (torch.cat([part[key].flatten() for key in keys]) for part in (fused, alone, found))
        torch.testing.assert_close(whole, combine(one, other), rtol=1e-3, atol=1e-5)
    for key in [key for key in weights if not key.startswith("encoders.")]:
        torch.testing.assert_close(found[key], fused[key] + alone[key], rtol=1e-3, atol=1e-5)
