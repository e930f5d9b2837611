"""Pruning: the channels that are left are the strongest, and answer as before where the others were silent."""

from dataclasses import replace

import pytest
import torch

from fusion.model import build_model
from fusion.settings import ModelSettings
from fusion.training.run import load_model
from streams.towers.norm import BatchNorm
from tasks.compression.prune import narrower

CLIPS = {"rgb": (3, 3, 5, 32, 32), "flow": (3, 2, 5, 32, 32), "audio": (3, 16, 37)}


@pytest.mark.parametrize("towers", [(), ("rgb=r2plus1d", "flow=r2plus1d", "audio=conv2d")])
def test_where_half_of_the_channels_are_silent_the_half_that_is_left_answers_the_same(towers, run_folder):
    _, about = load_model(run_folder / "best.safetensors")
    shape = ModelSettings(width=8, feature=8, towers=towers)
    about = replace(about, settings=replace(about.settings, recipe=replace(about.settings.recipe, model=shape)))
    torch.manual_seed(0)
    sizes = {"classes": len(about.classes), "parameters": about.parameters}
    bands = about.parameters["mel_bands"]
    streams = ("rgb", "flow", "audio")
    small = build_model(replace(shape, width=4), streams=streams, **sizes).eval()
    big = build_model(shape, streams=streams, **sizes).eval()
    for name in streams:
        silence(big.encoders[name], small.encoders[name])
    found, described, same = narrower(big, about, width=4)
    assert same == [] and described.settings.recipe.model.width == 4
    present = {name: torch.tensor([True, True, False]) for name in streams}
    clips = {name: torch.randn(shape) for name, shape in CLIPS.items()} | {"audio": torch.randn(3, bands, 37)}
    with torch.no_grad():
        ours, theirs = big.encode(clips, present), found.eval().encode(clips, present)
        for name in streams:
            assert theirs.towers[name].shape[2] < ours.towers[name].shape[2]
            assert torch.allclose(ours.logits[name], theirs.logits[name], atol=1e-5)
            assert torch.allclose(ours.sequences[name], theirs.sequences[name], atol=1e-5)
        assert torch.allclose(big.answer(ours, present)[1], found.answer(theirs, present)[1], atol=1e-5)


def silence(big, small) -> None:
    """Let as many channels as the smaller tower lacks, drawn at random, always be zero after batch norm."""
    layers = ([one for one in encoder.tower.modules() if isinstance(one, BatchNorm)] for encoder in (big, small))
    for ours, theirs in zip(*layers, strict=True):
        torch.nn.init.uniform_(ours.running_mean, -0.1, 0.1)
        torch.nn.init.uniform_(ours.weight, 0.5, 1.5)
        lost = torch.randperm(ours.num_features)[: ours.num_features - theirs.num_features]
        ours.weight.data[lost] = 0.0
        ours.bias.data[lost] = 0.0
