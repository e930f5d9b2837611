"""What a head fits on validation answers."""

import copy

import pytest
import torch
from torch.nn.functional import nll_loss

from fusion.answers import predict_videos
from fusion.heads import crossfit
from fusion.model import build_model
from fusion.settings import ModelSettings
from fusion.training import fitting
from fusion.training.fitting import fit_head
from streams.batch import ClipDataset
from streams.clip import ClipSettings
from streams.loader import ViewBatches, make_loader
from streams.registry import STREAMS, subset_name
from tests.support.stores import Spec, make_store, three_bit

CPU = torch.device("cpu")
CLOSE = {"rtol": 1e-3, "atol": 1e-3}
ASKED = [tuple(STREAMS), ("audio",)]
CLIP = ClipSettings(frames=4, stride=2, size=32, audio_seconds=0.32)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    lacking = [Spec("x/1.mp4", label="000", streams=("rgb",)), Spec("x/2.mp4", label="001", streams=("rgb", "flow"))]
    return make_store(tmp_path_factory.mktemp("toy") / "toy.h5", three_bit(22) + lacking)


def a_model(toy, head: str):
    torch.manual_seed(0)
    settings = ModelSettings(width=2, feature=8, head=head)
    model = build_model(settings, streams=tuple(STREAMS), classes=8, parameters=toy.parameters)
    for layer in model.auxiliary.values():
        torch.nn.init.normal_(layer.weight, std=5.0)  # opinions that are far from the labels, and from each other
    return model.train()


def fit(model, toy) -> tuple[list, torch.Tensor, dict]:
    dataset = ClipDataset(toy, toy.videos, streams=tuple(STREAMS), classes=toy.classes, clip=CLIP)
    batches = list(make_loader(dataset, ViewBatches(dataset, batch=7), workers=0, pin=False))
    labels = torch.tensor([dataset.rows[video.label] for video in toy.videos])
    units = [row // 2 for row in range(len(labels))]
    honest = fit_head(model, batches, labels, units, subsets=ASKED, device=CPU, add_up=lambda values: values)
    return batches, labels, honest


@pytest.mark.parametrize("head", ["weighted", "stacked"])
def test_a_head_answers_as_is_fitted_to_what_the_streams_answer_alone(toy, head):
    model = a_model(toy, head)
    fit(model, toy)
    batches, labels, _ = fit(model, toy)  # whatever was fitted before
    logits, present = alone(model, batches)
    fitted = model.head.fitter(logits, present, labels)
    nothing = ({name: part[:0] for name, part in given.items()} for given in (logits, present))
    plain = model.head.fitter(*nothing, labels[:0])
    every = tuple(STREAMS)
    for subset in (every, ("rgb", "audio"), ("flow",)):
        asked = {name: mask & (name in subset) for name, mask in present.items()}
        there = torch.stack([*asked.values()]).any(dim=0)
        answers = predict_videos(model, batches, [subset], videos=len(labels), classes=8, device=CPU)
        found = answers.probabilities(subset_name(subset))[there].log()
        torch.testing.assert_close(found, fitted(logits, asked)[there], **CLOSE)
    assert nll_loss(fitted(logits, present), labels) < nll_loss(plain(logits, present), labels)


def alone(model, batches) -> tuple[dict, dict]:
    """What each stream says, and where it is there."""
    with torch.no_grad():
        parts = [model.eval().encode(batch.inputs(training=False), batch.present).logits for batch in batches]
    logits = {name: torch.cat([part[name] for part in parts]) for name in STREAMS}
    return logits, {name: torch.cat([batch.present[name] for batch in batches]) for name in STREAMS}


@pytest.mark.slow
@pytest.mark.parametrize("head", ["weighted", "stacked"])
def test_what_it_says_of_a_video_when_fitted_on_others_does_not_depend_on_that_videos_label(toy, head, monkeypatch):
    monkeypatch.setattr(crossfit, "folds_of", lambda labels, units: units % 3)
    model = a_model(toy, head)
    batches, labels, honest = fit(model, toy)
    assert list(honest) == ["rgb+flow+audio", "audio"]
    lacking = ~alone(model, batches)[1]["audio"]
    assert lacking.sum() == 2 and not honest["audio"][lacking].any()
    torch.testing.assert_close(honest["rgb+flow+audio"].sum(dim=1), torch.ones(len(labels)).double())
    changed = labels.clone()
    changed[:2] = (changed[:2] + 1) % 8  # the first unit
    other = fit_head(
        model, batches, changed, [k // 2 for k in range(len(labels))], subsets=ASKED, device=CPU, add_up=lambda v: v
    )
    for name in honest:
        torch.testing.assert_close(other[name][:2], honest[name][:2], rtol=1e-6, atol=1e-9)
        assert (other[name] - honest[name]).abs().max() > 1e-4


@pytest.mark.parametrize("head", ["mean", "concat"])
def test_heads_that_fit_nothing_are_left_as_they_are_and_cost_nothing(toy, head, monkeypatch):
    model = a_model(toy, head)
    before = copy.deepcopy(model.state_dict())
    monkeypatch.setattr(fitting, "predict_videos", None)
    assert fit(model, toy)[2] == {}
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert model.training
