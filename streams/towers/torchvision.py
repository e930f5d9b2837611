"""torchvision's video networks as towers; torchvision is an optional extra."""

import os
import sys
from collections.abc import Callable
from contextlib import redirect_stderr
from functools import partial
from pathlib import Path

import torch
from einops import reduce
from torch import Tensor, nn
from torch.nn import functional

from preprocess.common.errors import UserError
from streams.towers.norm import BatchNorm


class TorchvisionTower(nn.Module):
    """The layers of a torchvision network up to its average pool, with torchvision's names.

    Time shrinks eight times, space 32 times. In evaluation the features are torchvision's own.
    """

    shrinks = 8  # pictures a time step

    def __init__(self, *, name: str, layers: dict[str, nn.Module], features: int) -> None:
        super().__init__()
        self.name = name
        self.features = features
        self.layers = nn.Sequential()
        for part, layer in layers.items():
            self.layers.add_module(part, layer)
        self.to(memory_format=torch.channels_last_3d)

    def forward(self, clip: Tensor) -> Tensor:
        """(B, C, T, H, W) → (B, T / 8, D)"""
        return reduce(self.layers(clip), "b d t h w -> b t d", "mean")


def r3d_18(*, channels: int, width: int) -> TorchvisionTower:
    """A ResNet of 18 layers of 3D convolutions (Tran et al. 2018, R3D); `width` is ignored."""
    stem = partial(_stem, (nn.Conv3d(channels, 64, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False), 64))
    return _resnet("r3d_18", "Conv3DSimple", stem)


def r2plus1d_18(*, channels: int, width: int) -> TorchvisionTower:
    """A ResNet of 18 layers of convolutions split into space and time (Tran et al. 2018, R(2+1)D)."""
    space = nn.Conv3d(channels, 45, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False)
    time = nn.Conv3d(45, 64, (3, 1, 1), padding=(1, 0, 0), bias=False)
    return _resnet("r2plus1d_18", "Conv2Plus1D", partial(_stem, (space, 45), (time, 64)))


def s3d(*, channels: int, width: int) -> TorchvisionTower:
    """Inception with convolutions split into space and time (Xie et al. 2018, S3D).

    Its running statistics are updated as fast as in the other towers. torchvision's are a hundred times slower, so that
    after a few hundred steps of training they are still the initial ones.
    """
    module = _module("s3d", "s3d")
    norm = partial(BatchNorm, eps=1e-3)
    _, *others = module.S3D(num_classes=1, norm_layer=norm).features
    first = module.TemporalSeparableConv(channels, 64, 7, 2, 3, norm)
    others = [_Halve() if getattr(layer, "kernel_size", None) == (2, 2, 2) else layer for layer in others]
    return TorchvisionTower(name="s3d", layers={"features": nn.Sequential(first, *others)}, features=1024)


def kinetics_weights(tower: nn.Module) -> tuple[Path, dict[str, Tensor]]:
    """torchvision's weights trained on Kinetics-400, downloaded unless they are in PyTorch's cache: the file there, and
    its tensors.

    Raises UserError for our own towers, and if they cannot be downloaded.
    """
    if not isinstance(tower, TorchvisionTower):
        raise UserError("kinetics has weights for r3d_18, r2plus1d_18 and s3d: choose one, as in --towers rgb=r3d_18")
    from torchvision.models import get_model_weights

    weights = get_model_weights(tower.name).KINETICS400_V1
    try:
        with redirect_stderr(sys.stdout):  # torch.hub reports the download on stderr, though it is not an error
            tensors = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except Exception as error:  # no network, a proxy, a full disk, a wrong checksum, a damaged file in the cache
        why = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(
            f"{weights.url} could not be downloaded or read ({why}): fetch it elsewhere, and give its path for kinetics"
        ) from error
    return Path(torch.hub.get_dir(), "checkpoints", os.path.basename(weights.url)), tensors


class _Halve(nn.Module):
    """Max pooling over 2 × 2 × 2, except along an axis of size 1, so that short and small clips have features too."""

    def forward(self, values: Tensor) -> Tensor:
        """(B, D, T, H, W) → (B, D, T / 2, H / 2, W / 2)"""
        return functional.max_pool3d(values, [min(2, size) for size in values.shape[2:]])


def _resnet(name: str, convolution: str, stem: Callable[[], nn.Module]) -> TorchvisionTower:
    module = _module(name, "resnet")
    convolutions = [getattr(module, convolution)] * 4
    network = module.VideoResNet(module.BasicBlock, convolutions, [2, 2, 2, 2], stem, num_classes=1)
    _own_norms(network)
    parts = ("stem", "layer1", "layer2", "layer3", "layer4")
    return TorchvisionTower(name=name, layers={part: getattr(network, part) for part in parts}, features=512)


def _stem(*convolutions: tuple[nn.Module, int]) -> nn.Sequential:
    """Each convolution with its batch norm and ReLU."""
    steps = [(layer, BatchNorm(channels), nn.ReLU(inplace=True)) for layer, channels in convolutions]
    return nn.Sequential(*(layer for step in steps for layer in step))


def _own_norms(module: nn.Module) -> None:
    """Replace PyTorch's batch norm by ours, for distributed training: VideoResNet does not let one choose.

    Called before training or loading, so that there is no state to copy.
    """
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm3d):
            setattr(module, name, BatchNorm(child.num_features, eps=child.eps, momentum=child.momentum))
        else:
            _own_norms(child)


def _module(tower: str, name: str):
    """torchvision.models.video.NAME"""
    from importlib import import_module

    try:
        return import_module(f"torchvision.models.video.{name}")
    except (ImportError, RuntimeError) as error:  # not installed, or built for another PyTorch
        why = str(error).partition("\n")[0]
        raise UserError(f"tower {tower} needs torchvision ({why}): pip install 'tristream[torchvision]'") from error
