"""A tower of 2D convolutions for sound, over bands and time."""

from math import ceil

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import avg_pool1d, pad

from streams.towers.norm import BatchNorm

BLOCK = 8  # rows of log-mel, 80 ms at a hop of 10 ms
HIDDEN = 0.3  # share of the bands' features that training hides
LEAST = 1e-4  # of a variance: below it the gradient of its root grows without bound


class SpectralTower(nn.Module):
    """Mean, deviation and change of every band in blocks of 80 ms as the channels of a picture, bands × time; three
    stages of 2D convolution; then one layer over all that is left of the bands. Time shrinks 32 times.

    Statistics pooling (Snyder et al. 2018, x-vectors) before a small VGG-like network (Hershey et al. 2017), instead
    of after it: no convolution sees the fine structure, by which a few hundred clips are soon known by heart.
    """

    def __init__(self, *, channels: int, width: int) -> None:
        super().__init__()
        one, two, three = -(-width // 2), width, 2 * width
        self.features = 4 * width
        self.norms = nn.ModuleList(BatchNorm(channels) for _ in range(3))  # each normalises every band
        self.stages = nn.Sequential(
            stage(3, one, (2, 2)),
            stage(one, two, (2, 2)),
            stage(two, three, (2, 1)),
        ).to(memory_format=torch.channels_last)  # faster on a CPU
        self.layer = layer(three * ceil(channels / 8), self.features)

    def forward(self, mel: Tensor) -> Tensor:
        """(B, M, T) → (B, T / 32, D)"""
        maps = [norm(values) for norm, values in zip(self.norms, block_statistics(mel), strict=True)]
        bands = rearrange(self.stages(torch.stack(maps, dim=1)), "b c m t -> b (c m) t")
        return self.layer(bands).transpose(1, 2)


def block_statistics(mel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, standard deviation, and root mean square change over two rows, of blocks of BLOCK rows; the last block is
    what is left: (B, M, T) → three of (B, M, T / 8)"""
    mel = mel.float()  # also in mixed precision
    mean = _block_mean(mel)
    apart = mel - mean.repeat_interleave(BLOCK, dim=2)[:, :, : mel.shape[2]]
    change = pad(mel[:, :, 2:] - mel[:, :, :-2], (1, 1)) if mel.shape[2] > 2 else torch.zeros_like(mel)
    deviation, change = (_block_mean(values.square()).clamp(min=LEAST).sqrt() for values in (apart, change))
    return mean, deviation, change


def _block_mean(values: Tensor) -> Tensor:
    return avg_pool1d(values, BLOCK, ceil_mode=True)


def stage(channels: int, out: int, pool: tuple[int, int]) -> nn.Module:
    """`pool` is both size and stride; the last row of an odd size is kept."""
    convolution = nn.Conv2d(channels, out, 3, padding=1, bias=False)
    return nn.Sequential(convolution, BatchNorm(out), nn.ReLU(inplace=True), nn.MaxPool2d(pool, ceil_mode=True))


def layer(features: int, out: int) -> nn.Module:
    """Over all that is left of the bands at a time step: (B, features, T) → (B, out, T)"""
    convolution = nn.Conv1d(features, out, 1, bias=False)
    return nn.Sequential(nn.Dropout(HIDDEN), convolution, BatchNorm(out), nn.ReLU(inplace=True))
