"""A tower of 2D convolutions for speech: nothing is averaged before the first of them."""

from math import ceil

import torch
from einops import rearrange
from torch import Tensor, nn

from streams.towers.norm import BatchNorm
from streams.towers.spectral import layer, stage


class VggTower(nn.Module):
    """Log-mel as a picture, bands × time; four convolutions, VGG-like (Hershey et al. 2017); then one layer over all
    that is left of the bands. Time shrinks 16 times, to steps of 160 ms.

    Meant for speech, whose sounds are short and are told by how their bands move.
    """

    def __init__(self, *, channels: int, width: int) -> None:
        super().__init__()
        one = -(-width // 2)
        self.features = 4 * width
        self.norm = BatchNorm(channels)  # normalises every band
        self.stages = nn.Sequential(
            nn.Conv2d(1, one, 5, stride=2, padding=2, bias=False),
            BatchNorm(one),
            nn.ReLU(inplace=True),
            stage(one, width, (2, 2)),
            stage(width, 2 * width, (2, 2)),
            stage(2 * width, 2 * width, (1, 2)),
        ).to(memory_format=torch.channels_last)  # faster on a CPU
        self.layer = layer(2 * width * ceil(channels / 8), self.features)

    def forward(self, mel: Tensor) -> Tensor:
        """(B, M, T) → (B, T / 16, D)"""
        bands = rearrange(self.stages(self.norm(mel)[:, None]), "b c m t -> b (c m) t")
        return self.layer(bands).transpose(1, 2)
