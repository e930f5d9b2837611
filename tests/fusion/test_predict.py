"""Asking a model about whole videos."""

import copy

import pytest
import torch

from fusion.answers import Answers, predict_videos
from fusion.heads import HEADS
from fusion.model import build_model
from fusion.settings import ModelSettings
from streams.batch import ClipDataset
from streams.clip import ClipSettings
from streams.loader import ViewBatches, make_loader
from streams.registry import STREAMS, subset_name, subsets
from tests.support.stores import Spec, make_store, three_bit

CLIP = ClipSettings(frames=4, stride=2, size=32, audio_seconds=0.32)
ALL = subsets(tuple(STREAMS))
CPU = torch.device("cpu")


def test_the_probabilities_of_a_video_are_the_mean_over_its_answered_clips():
    answers = Answers([("rgb",)], videos=3, classes=4)
    logits = torch.randn(5, 4)
    videos = torch.tensor([0, 2, 0, 0, 1])
    there = torch.tensor([True, True, True, False, False])
    answers.add("rgb", videos[:2], logits[:2].double().softmax(1), there[:2])
    answers.add("rgb", videos[2:], logits[2:].double().softmax(1), there[2:])
    softmax = logits.double().softmax(dim=1)
    expected = torch.stack([softmax[[0, 2]].mean(dim=0), torch.zeros(4).double(), softmax[1]])
    torch.testing.assert_close(answers.probabilities("rgb"), expected)
    assert answers.answered("rgb").tolist() == [True, False, True]


@pytest.fixture
def toy(tmp_path):
    specs = [
        Spec("lacks/1.mp4", label="000", streams=("rgb",)),
        Spec("lacks/2.mp4", label="001", streams=("rgb", "flow")),
    ]
    return make_store(tmp_path / "s.h5", three_bit(6) + specs)


def make(toy, head: str):
    torch.manual_seed(0)
    settings = ModelSettings(width=4, feature=8, head=head)
    return build_model(settings, streams=tuple(STREAMS), classes=len(toy.classes), parameters=toy.parameters)


def batches_of(toy, views: int = 2):
    dataset = ClipDataset(toy, toy.videos, streams=tuple(STREAMS), classes=toy.classes, clip=CLIP, views=views)
    return list(make_loader(dataset, ViewBatches(dataset, batch=5), workers=0, pin=False))


def ask(model, toy, batches):
    return predict_videos(model, batches, ALL, videos=len(toy), classes=len(toy.classes), device=CPU)


@pytest.mark.parametrize("head", HEADS)
def test_every_subset_is_answered_as_if_the_other_streams_were_absent(toy, head):
    model, batches = make(toy, head), batches_of(toy)
    answers = ask(model, toy, batches)
    for subset in ALL:
        total = torch.zeros(len(toy), len(toy.classes), dtype=torch.float64)
        clips = torch.zeros(len(toy))
        with torch.no_grad():
            for batch in batches:
                present = {name: mask & (name in subset) for name, mask in batch.present.items()}
                logits = model(batch.inputs(training=False), present).logits
                for row, video in enumerate(batch.videos.tolist()):
                    if any(mask[row] for mask in present.values()):
                        total[video] += logits[row].double().softmax(dim=0)
                        clips[video] += 1
        expected = total / clips.clamp(min=1)[:, None]
        torch.testing.assert_close(answers.probabilities(subset_name(subset)), expected, atol=1e-5, rtol=1e-4)
        assert torch.equal(answers.answered(subset_name(subset)), clips > 0)


def test_a_video_is_answered_by_the_subsets_of_which_it_has_a_stream(toy):
    answers = ask(make(toy, "concat"), toy, batches_of(toy))
    for row, video in enumerate(toy.videos):
        for subset in ALL:
            there = any(video.streams[name] for name in subset)
            assert bool(answers.answered(subset_name(subset))[row]) == there
            assert answers.probabilities(subset_name(subset))[row].sum().item() == pytest.approx(float(there))


@pytest.mark.parametrize("head", ["concat", "binding"])
def test_what_stands_for_absent_clips_does_not_leak(toy, head):
    model = make(toy, head)
    batches = batches_of(toy)
    expected = ask(model, toy, batches)
    for batch in batches:
        for name in ("flow", "audio"):
            for clips in batch.clips[name].values():
                clips[~batch.present[name]] = float("nan") if clips.is_floating_point() else 99
    answers = ask(model, toy, batches)
    for name in map(subset_name, ALL):
        assert torch.equal(answers.probabilities(name), expected.probabilities(name))


def test_asking_changes_nothing_in_the_model_and_gives_the_same_again(toy):
    model, batches = make(toy, "concat").train(), batches_of(toy)
    before = copy.deepcopy(model.state_dict())
    first, second = (ask(model, toy, batches) for _ in range(2))
    torch.testing.assert_close(model.state_dict(), before)
    for name in map(subset_name, ALL):
        assert torch.equal(first.probabilities(name), second.probabilities(name))
