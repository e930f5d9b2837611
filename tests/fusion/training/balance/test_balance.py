"""What holds for every method."""

import copy
from dataclasses import replace

import pytest
import torch

from fusion.model import FusionModel
from fusion.training.balance import BALANCES, Auxiliary
from fusion.training.checkpoint import Checkpoints
from fusion.training.settings import TrainSettings
from fusion.training.step import Step
from preprocess.common.errors import UserError
from streams.batch import Batch
from tests.fusion.training.test_step import batches_of, make, take, without_augmentation
from tests.test_train import TINY, assert_same_run, interrupt, settings_of
from train import train

pytestmark = pytest.mark.usefixtures("one_thread")
each_method = pytest.mark.parametrize("name", BALANCES)


def without(batch: Batch, stream: str) -> Batch:
    present = {name: mask & (name != stream) for name, mask in batch.present.items()}
    return replace(batch, present=present, rows={name: mask.nonzero()[:, 0] for name, mask in present.items()})


def weights_of(model: FusionModel) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize(
    ("name", "stream"), [*((name, "audio") for name in BALANCES), ("auxiliary", "rgb"), ("mmpareto", "flow")]
)
def test_an_absent_streams_encoder_gets_no_gradient_and_no_update(toy, name, stream):
    """Also where it had both before, and Adam its momentum."""
    step, batches = make(toy, balance=name), batches_of(toy)
    take(step, batches[:1], 0)
    before, whole = weights_of(step.model), copy.deepcopy(step.model.encoders[stream].state_dict())
    take(step, [without(batches[1], stream)], 1)
    torch.testing.assert_close(step.model.encoders[stream].state_dict(), whole, rtol=0, atol=0)  # batch norm's too
    for key, parameter in step.model.named_parameters():
        if key.startswith(f"encoders.{stream}."):
            assert parameter.grad is None
            torch.testing.assert_close(parameter.detach(), before[key], rtol=0, atol=0)
        elif key.startswith("encoders."):
            assert not torch.equal(parameter, before[key]), key


@each_method
def test_a_single_stream_learns(toy, name):
    step = make(toy, balance=name, streams=("rgb",))
    batches = batches_of(toy, streams=("rgb",))
    losses = [float(take(step, [batches[number % 2]], number)[0]) for number in range(20)]
    assert sum(losses[-4:]) < 0.92 * sum(losses[:4])
    step.balance.end_epoch(step.ranks)


@pytest.mark.parametrize("name", ["ogm-ge", "opm"])
def test_a_single_stream_is_ahead_of_nobody(toy, name):
    batch = batches_of(toy, streams=("rgb",))[0]
    one, other = (make(toy, balance=balance, streams=("rgb",)) for balance in (name, "auxiliary"))
    for number in range(2):
        take(one, [batch], number)
        take(other, [batch], number)
    torch.testing.assert_close(weights_of(one.model), weights_of(other.model), rtol=0, atol=0)


@each_method
def test_all_of_the_model_learns_and_every_stream_at_the_learning_rate_times_its_pace(toy, name):
    step = make(toy, balance=name)
    before = weights_of(step.model)
    with without_augmentation():
        take(step, batches_of(toy)[:1])
    for key, parameter in step.model.named_parameters():
        assert parameter.grad is not None and not torch.equal(parameter, before[key]), key
    take(step, batches_of(toy)[:1], 7)
    for group in step.optimizer.param_groups:
        pace = step.balance.pace(group["stream"]) if group["stream"] else 1.0
        assert float(group["lr"]) == pytest.approx(step.rate(7) * float(pace))
    count = sum(len(group["params"]) for group in step.optimizer.param_groups)
    assert count == len(list(step.model.parameters()))


def test_the_default_changes_nothing_and_remembers_nothing(toy):
    method = Auxiliary(streams=("rgb", "flow"), auxiliary=0.5, epochs=3)
    assert not method.state_dict() and method.pace("rgb") == 1.0 and method.end_epoch(None) == {}
    mask = {"rgb": torch.tensor([True]), "flow": torch.tensor([False])}
    assert method.choose(mask) is mask


@pytest.mark.slow
@each_method
def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(toy, tmp_path, name):
    """Within an epoch, and again between an epoch's last step and its end."""
    recipe = replace(TINY, balance=name)
    whole = train(settings_of(toy, tmp_path / "whole", recipe=recipe, save_minutes=0.0))
    settings = settings_of(toy, tmp_path / "run", recipe=recipe, save_minutes=0.0)
    resumed = TrainSettings(run=settings.run, resume=True, machine=settings.machine)
    interrupt(settings, Step, "_update", at=4)
    torch.rand(17)  # another process would have other random numbers
    interrupt(resumed, BALANCES[name], "end_epoch", at=2)
    train(resumed)
    assert_same_run(whole, settings.run)
    one, other = (Checkpoints(folder, keep=1).load() for folder in (whole, settings.run))
    torch.testing.assert_close(other["balance"], one["balance"], rtol=0, atol=0)
    torch.testing.assert_close(other["optimizer"]["state"], one["optimizer"]["state"], rtol=0, atol=0)


def test_a_method_or_optimizer_that_there_is_not_is_one_line_that_names_those_that_there_are(toy, tmp_path):
    with pytest.raises(UserError, match=r"--balance.*fair"):
        train(settings_of(toy, tmp_path / "run", recipe=replace(TINY, balance="fair")))
    with pytest.raises(UserError, match=r"--optimizer.*lion.*adamw, muon"):
        train(settings_of(toy, tmp_path / "run", recipe=replace(TINY, optimizer="lion")))


@each_method
def test_copies_of_a_step_do_the_same(toy, name):
    """All that a method goes by is in the weights, the optimizer, its buffers and the step's number."""
    one = make(toy, balance=name)
    batches = batches_of(toy)
    take(one, batches[:1], 0)
    other = make(toy, balance=name)
    other.model.load_state_dict(one.model.state_dict())
    other.optimizer.load_state_dict(copy.deepcopy(one.optimizer.state_dict()))
    other.balance.load_state_dict(one.balance.state_dict())
    for step in (one, other):
        take(step, batches[1:], 1)
    torch.testing.assert_close(weights_of(one.model), weights_of(other.model), rtol=0, atol=0)
    torch.testing.assert_close(one.balance.state_dict(), other.balance.state_dict(), rtol=0, atol=0)
