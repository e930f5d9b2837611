"""Our own towers: a clip of one stream in, a sequence of features out."""

import torch
from einops import reduce
from torch import Tensor, nn

from streams.towers.norm import BatchNorm

VISUAL_GROWTH = (1, 2, 4, 8)  # channels of the four stages, in units of the width
AUDIO_GROWTH = (4, 4, 8)


def conv3d(
    channels: int, out: int, kernel: tuple[int, int, int], stride: tuple[int, int, int], *, bias: bool = False
) -> nn.Module:
    """A plain 3D convolution (C3D; Tran et al. 2015)."""
    return nn.Conv3d(channels, out, kernel, stride, padding=_same(kernel), bias=bias)


def r2plus1d(channels: int, out: int, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> nn.Module:
    """A 3D convolution split into space, then time; as many parameters (R(2+1)D; Tran et al. 2018, section 3.5)."""
    time, height, width = kernel
    between = (time * height * width * channels * out) // (height * width * channels + time * out)
    space, moment = (1, height, width), (time, 1, 1)
    return nn.Sequential(
        nn.Conv3d(channels, between, space, (1, *stride[1:]), padding=_same(space), bias=False),
        BatchNorm(between),
        nn.ReLU(inplace=True),
        nn.Conv3d(between, out, moment, (stride[0], 1, 1), padding=_same(moment), bias=False),
    )


class VisualTower(nn.Module):
    """Four stages of convolution, batch norm and ReLU, three of them with max pooling.

    Time shrinks 4 times, space 16 times. Without batch norm it starts from weights by He et al. 2015.
    """

    def __init__(self, *, channels: int, width: int, convolution=conv3d, norm: bool = True) -> None:
        super().__init__()
        one, two, three, four = (width * growth for growth in VISUAL_GROWTH)
        self.features = four
        self.stages = nn.Sequential(
            _stage3d(convolution(channels, one, (3, 5, 5), (1, 2, 2)), norm and one, (1, 2, 2)),
            _stage3d(convolution(one, two, (3, 3, 3), (1, 1, 1)), norm and two, (2, 2, 2)),
            _stage3d(convolution(two, three, (3, 3, 3), (1, 1, 1)), norm and three, (2, 2, 2)),
            _stage3d(convolution(three, four, (3, 3, 3), (1, 1, 1)), norm and four),
        )
        if not norm:
            he_normal(self)
        self.to(memory_format=torch.channels_last_3d)  # a fifth faster on a CPU

    def forward(self, clip: Tensor) -> Tensor:
        """(B, C, T, H, W) → (B, T / 4, D)"""
        return reduce(self.stages(clip), "b d t h w -> b t d", "mean")


class AudioTower(nn.Module):
    """Three stages of 1D convolution over time, mel bands as channels; time shrinks eight times."""

    def __init__(self, *, channels: int, width: int) -> None:
        super().__init__()
        one, two, three = (width * growth for growth in AUDIO_GROWTH)
        self.features = three
        self.stages = nn.Sequential(
            BatchNorm(channels),  # normalises every band
            _stage1d(channels, one),
            _stage1d(one, two),
            _stage1d(two, three),
        )

    def forward(self, mel: Tensor) -> Tensor:
        """(B, M, T) → (B, T / 8, D)"""
        return self.stages(mel).transpose(1, 2)


def he_normal(module: nn.Module) -> None:
    """Weights for 3D convolutions that nothing normalises: responses keep their size from layer to layer.

    He et al. 2015, section 2.2.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv3d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)


def _stage3d(convolution: nn.Module, normed: int, pool: tuple[int, int, int] | None = None) -> nn.Module:
    """normed: channels of batch norm, or none; `pool` is both size and stride; the last row of an odd size is kept."""
    norm = [BatchNorm(normed)] if normed else []
    pooling = [nn.MaxPool3d(pool, ceil_mode=True)] if pool else []
    return nn.Sequential(convolution, *norm, nn.ReLU(inplace=True), *pooling)


def _stage1d(channels: int, out: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(channels, out, 5, padding=2, bias=False),
        BatchNorm(out),
        nn.ReLU(inplace=True),
        nn.MaxPool1d(2, ceil_mode=True),
    )


def _same(kernel: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size // 2 for size in kernel)
