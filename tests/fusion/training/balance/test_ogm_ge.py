"""OGM-GE."""

import math

import pytest
import torch

from fusion.training.balance.confidence import ConfidenceMeter
from fusion.training.balance.ogm_ge import ALPHA, OgmGe, slowing
from fusion.training.step import Step
from tests.fusion.training.balance.test_balance import weights_of
from tests.fusion.training.test_step import batches_of, make, take

UNEQUAL = {"rgb": 0.8, "flow": 0.2, "audio": 0.2}  # rgb is ahead: its ratio is 4


@pytest.fixture
def confident(monkeypatch):
    """A function that makes the streams as sure as it is told."""

    def pretend(values: dict[str, float]) -> None:
        found = {name: torch.tensor(value) for name, value in values.items()}
        monkeypatch.setattr(ConfidenceMeter, "read", lambda self, ranks: self._parts.clear() or dict(found))

    return pretend


def moved(step: Step, before: dict[str, torch.Tensor], stream: str) -> torch.Tensor:
    after = weights_of(step.model)
    names = [name for name in after if name.startswith(f"encoders.{stream}.")]
    return torch.cat([(after[name] - before[name]).flatten() for name in names])


def test_the_factor_is_one_up_to_a_ratio_of_one_and_falls_from_there_without_a_jump():
    assert slowing(torch.tensor([0.0, 0.3, 1.0])).tolist() == [1, 1, 1]
    assert float(slowing(torch.tensor(2.0))) == pytest.approx(1 - math.tanh(ALPHA))
    ratio = torch.linspace(0.9, 30, 10_000, dtype=torch.float64)
    factors = slowing(ratio)
    steps = factors.diff()
    assert (steps <= 0).all() and float(steps.abs().max()) <= ALPHA * float(ratio.diff().max()) * 1.001
    assert 0 <= float(factors[-1]) < 1e-6


def test_equal_streams_are_left_alone(toy):
    """Heads of zeros are equally sure of everything: the default's gradients bit for bit, and its learning rate."""
    one, other = make(toy, balance="ogm-ge"), make(toy)
    for step in (one, other):
        for parameter in step.model.auxiliary.parameters():
            parameter.data.zero_()
        take(step, batches_of(toy)[:1])
    gradients = ([parameter.grad for parameter in step.model.parameters()] for step in (one, other))
    torch.testing.assert_close(*gradients, rtol=0, atol=0)
    assert [one.balance.pace(name) for name in UNEQUAL] == [1, 1, 1]
    torch.testing.assert_close(weights_of(one.model), weights_of(other.model), rtol=1e-6, atol=1e-8)


def test_the_dominant_stream_alone_is_slowed_and_has_noise(toy, confident, monkeypatch):
    monkeypatch.setattr("fusion.training.step.CLIP_NORM", 1e9)  # noise in one gradient makes all of them longer
    confident(UNEQUAL)
    one, default = make(toy, balance="ogm-ge"), make(toy)
    for step in (one, default):
        take(step, batches_of(toy)[:1])
    assert float(one.balance.pace("rgb")) == pytest.approx(1 - math.tanh(3 * ALPHA))
    assert float(one.balance.pace("flow")) == float(one.balance.pace("audio")) == 1
    theirs = dict(default.model.named_parameters())
    for name, parameter in one.model.named_parameters():
        other = theirs[name]
        if name.startswith("encoders.rgb."):
            assert not other.grad.any() or not torch.equal(parameter.grad, other.grad), name
        else:
            assert torch.equal(parameter.grad, other.grad), name
            torch.testing.assert_close(parameter, other, rtol=1e-6, atol=1e-8)


def test_adams_steps_are_scaled_whatever_the_gradients_scale(toy, confident, monkeypatch):
    """With the same gradients and the same noise: each weight goes the factor's share of the way, decay included."""
    confident(UNEQUAL)
    slow, fast = make(toy, balance="ogm-ge"), make(toy, balance="ogm-ge")
    start = weights_of(slow.model)
    take(slow, batches_of(toy)[:1])
    factor = float(slow.balance.pace("rgb"))
    assert 0.05 < factor < 0.5
    with monkeypatch.context() as patch:
        patch.setattr(OgmGe, "pace", lambda self, stream: 1.0)
        take(fast, batches_of(toy)[:1])
    for stream, share in {"rgb": factor, "flow": 1, "audio": 1}.items():
        one, other = (moved(step, start, stream) for step in (slow, fast))
        torch.testing.assert_close(one, share * other, rtol=1e-3, atol=1e-7)
    # Adam's first step has the learning rate's length in each weight, so that a scaled gradient would change nothing
    assert float(moved(slow, start, "rgb").abs().median()) == pytest.approx(slow.rate(0) * factor, rel=0.05)


def test_the_noise_has_the_variance_that_the_factor_takes(toy, confident):
    """In all of an encoder's tensors, whatever their number of axes, and none elsewhere."""
    confident(UNEQUAL)
    step = make(toy, balance="ogm-ge")
    torch.manual_seed(1)
    before = {name: torch.randn_like(parameter) * 3 + 1 for name, parameter in step.model.named_parameters()}
    for name, parameter in step.model.named_parameters():
        parameter.grad = before[name].clone()
    counts = {"": 8, "rgb": 8, "flow": 8, "audio": 8}
    step.balance.modulate(step.model, counts, step.ranks, seed=5)
    factor = float(step.balance.pace("rgb"))
    pieces, axes = [], set()
    for name, parameter in step.model.named_parameters():
        noise = parameter.grad - before[name]
        if name.startswith("encoders.rgb."):
            spread = before[name].std(correction=0)
            assert noise.any() or not spread > 0, name
            axes.add(parameter.ndim)
            pieces.append((noise / spread.clamp(min=1e-9)).flatten())
        else:
            assert not noise.any(), name
    assert axes == {1, 2, 5}
    noise = torch.cat(pieces)
    assert float(noise.mean()) == pytest.approx(0, abs=4 / math.sqrt(len(noise)))
    assert float(noise.var()) == pytest.approx(1 - factor**2, rel=4 * math.sqrt(2 / len(noise)))


def test_noise_follows_from_the_seed_alone(toy, confident):
    confident(UNEQUAL)
    found = []
    for seed, before in ((5, 0), (5, 9), (6, 0)):
        step = make(toy, balance="ogm-ge")
        torch.manual_seed(before)  # another rank has drawn other numbers
        for parameter in step.model.parameters():
            parameter.grad = torch.arange(parameter.numel(), dtype=torch.float32).view(parameter.shape)
        step.balance.modulate(step.model, {"": 8, "rgb": 8, "flow": 8, "audio": 8}, step.ranks, seed=seed)
        found.append(torch.cat([parameter.grad.flatten() for parameter in step.model.encoders["rgb"].parameters()]))
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
