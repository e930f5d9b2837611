"""The moving average of the weights."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import train as training
from fusion.training import validate
from fusion.training.average import Average
from fusion.training.checkpoint import Checkpoints
from fusion.training.settings import TrainSettings
from fusion.training.step import Step
from preprocess.store import Store
from tests.fusion.training.test_step import batches_of, make, take
from tests.support.stores import make_store, three_bit
from tests.test_train import TINY, assert_same_run, interrupt, settings_of
from train import train

YES, NO = torch.tensor(True), torch.tensor(False)
RECIPE = replace(TINY, epochs=2, average=0.9, mixup=0.4, cutmix=1.0)


def a_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Conv1d(4, 2, 1))


def change(model: nn.Module) -> None:
    """Weights as after a step, and what batch norm has seen in it."""
    model(torch.randn(5, 3, 9))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))


def test_the_first_steps_have_little_of_the_beginning():
    """The shares of the old are 2/11, 3/12, 4/13: worked out by hand for three steps."""
    model = a_model()
    average = Average(model, decay=0.999)
    history = [model[0].weight.detach().double()]
    for _ in range(3):
        change(model)
        history.append(model[0].weight.detach().double())
        average.update(model, finite=YES)
    shares = [2 / 11 * 3 / 12 * 4 / 13, 9 / 11 * 3 / 12 * 4 / 13, 9 / 12 * 4 / 13, 9 / 13]
    assert sum(shares) == pytest.approx(1)
    expected = sum(share * weight for share, weight in zip(shares, history, strict=True))
    torch.testing.assert_close(average.model[0].weight.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("decay", [0.3, 0.8])
def test_then_it_is_pytorchs_with_its_buffers(decay):
    model = a_model()
    average = Average(model, decay=decay)
    while (1 + average.steps) / (10 + average.steps) < decay:
        change(model)
        average.update(model, finite=YES)
    theirs = AveragedModel(average.model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    theirs.update_parameters(average.model)  # PyTorch's begins with what it is given first
    for _ in range(5):
        change(model)
        average.update(model, finite=YES)
        theirs.update_parameters(model)
    floats = {name: value for name, value in theirs.module.state_dict().items() if value.is_floating_point()}
    assert {"0.weight", "1.running_var"} <= floats.keys()
    found = average.model.state_dict()
    torch.testing.assert_close({name: found[name] for name in floats}, floats, rtol=1e-5, atol=1e-6)
    assert found["1.num_batches_tracked"] == model[1].num_batches_tracked > 5


def test_a_step_that_was_not_taken_leaves_it_and_does_not_count():
    model = a_model()
    average = Average(model, decay=0.9)
    change(model)
    average.update(model, finite=YES)
    before = {name: value.clone() for name, value in average.state_dict().items()}
    with torch.no_grad():
        model[0].weight.fill_(torch.nan)
    average.update(model, finite=NO)
    torch.testing.assert_close(average.state_dict(), before, rtol=0, atol=0)


def test_it_is_of_its_own_and_nothing_learns_it():
    model = a_model()
    average = Average(model, decay=0.9)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    average.update(model, finite=YES)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(parameter.requires_grad for parameter in average.parameters())
    change(model)
    torch.testing.assert_close(average.model.state_dict(), before)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return make_store(tmp_path_factory.mktemp("toy") / "toy.h5", three_bit(24))


def test_the_model_learns_as_it_does_without_an_average(store):
    one, other = make(store, average=0.5), make(store)
    for number, batch in enumerate(batches_of(store)):
        for step in (one, other):
            take(step, [batch], number)
    torch.testing.assert_close(one.model.state_dict(), other.model.state_dict(), rtol=0, atol=0)
    assert other.judged is other.model and one.judged is one.average.model
    assert not any(torch.equal(a, b) for a, b in zip(one.judged.parameters(), one.model.parameters(), strict=True))


@pytest.fixture(scope="module")
def undisturbed(store, tmp_path_factory):
    """A run, and the weights of the models that its epochs have judged."""
    real, judged = validate.predict_videos, []

    def watched(model, *positional, **named):
        judged.append({name: value.clone() for name, value in model.state_dict().items()})
        return real(model, *positional, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validate, "predict_videos", watched)
        run = train(settings_of(store, tmp_path_factory.mktemp("runs") / "run", recipe=RECIPE))
    return run, judged


def test_what_is_judged_and_kept_is_the_average(undisturbed):
    run, judged = undisturbed
    saved = Checkpoints(run, keep=1).load()
    average = {name[6:]: value for name, value in saved["average"].items() if name.startswith("model.")}
    last, best = (load_file(run / f"{name}.safetensors") for name in ("last", "best"))
    assert len(judged) == RECIPE.epochs and saved["average"]["steps"] == 4
    torch.testing.assert_close(last, average, rtol=0, atol=0)
    torch.testing.assert_close(last, judged[-1], rtol=0, atol=0)
    assert any(all(torch.equal(best[name], one[name]) for name in best) for one in judged)
    assert not any(torch.equal(last[name], value) for name, value in saved["model"].items() if value.ndim > 1)


@pytest.mark.parametrize(
    ("owner", "name", "at"), [(Step, "_update", 4), pytest.param(training, "validate", 2, marks=pytest.mark.slow)]
)
def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(undisturbed, store, tmp_path, owner, name, at):
    """With mixtures too, which are drawn again."""
    settings = settings_of(store, tmp_path / "run", recipe=RECIPE, save_minutes=0.0)
    interrupt(settings, owner, name, at=at)
    torch.rand(17)  # another process would have other random numbers
    train(TrainSettings(run=settings.run, resume=True, machine=settings.machine))
    assert_same_run(undisturbed[0], settings.run)
    one, other = (Checkpoints(run, keep=1).load() for run in (undisturbed[0], settings.run))
    for part in ("model", "average"):
        torch.testing.assert_close(other[part], one[part], rtol=0, atol=0)
    torch.testing.assert_close(other["optimizer"]["state"], one["optimizer"]["state"], rtol=0, atol=0)
