"""A class that only the order of two distant moments tells: clips of segments learn it, the mean over clips cannot."""

from dataclasses import replace

import pytest
import torch

import tristream
from fusion.settings import ModelSettings
from fusion.training.settings import Machine, Recipe, TrainSettings
from streams.clip import ClipSettings
from tests.support.stores import make_store, two_moments
from train import train

CLIP = ClipSettings(frames=2, stride=2, size=32, audio_seconds=0.16, least_crop=0.9)
MODEL = ModelSettings(width=4, feature=16, dropout=0.0)
RECIPE = Recipe(epochs=30, batch=16, lr=4e-3, weight_decay=0.0, clip=CLIP, model=MODEL)
CPU = Machine(workers=0, device="cpu", keep=1)
LEARNED = 0.97


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    specs = [
        replace(spec, path=f"{split}/{spec.path}", split=split)
        for split, count in (("train", 96), ("val", 32))
        for spec in two_moments(count, seed=len(split))
    ]
    return make_store(tmp_path_factory.mktemp("order") / "s.h5", specs)


def train_on(store, folder, recipe: Recipe, streams: str) -> float:
    """Top-1 of the mean over five views of the validation videos, after training, until they are learned at most."""
    settings = TrainSettings(streams, store.path, folder / "run", recipe=recipe, machine=CPU)
    run = train(settings, lambda row: row["val_top1"] >= LEARNED)
    model = tristream.load(run, weights="last", device="cpu")
    videos = [video for video in store.videos if video.split == "val"]
    answers = model.answers(store, videos, [model.streams], views=5)
    labels = torch.tensor([model.classes.index(video.label) for video in videos])
    return (answers.probabilities("+".join(model.streams)).argmax(dim=1) == labels).double().mean().item()


@pytest.mark.parametrize("streams", [pytest.param("rgb,flow,audio", marks=pytest.mark.slow), "audio"])
def test_segments_learn_the_order_of_two_moments(store, tmp_path, streams):
    assert train_on(store, tmp_path, replace(RECIPE, clip=replace(CLIP, segments=8)), streams) >= 0.94


@pytest.mark.parametrize("streams", [pytest.param("rgb,flow,audio", marks=pytest.mark.slow), "audio"])
def test_the_mean_over_clips_of_one_window_stays_at_chance(store, tmp_path, streams):
    assert 0.25 < train_on(store, tmp_path, replace(RECIPE, epochs=10), streams) < 0.75
