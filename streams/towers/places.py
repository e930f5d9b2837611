"""Towers that keep places apart: a step of what they give is one place of one picture."""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from streams.towers.norm import BatchNorm

SIDE = 16  # pixels of a place's side
COARSE = 8  # pixels of a square that is averaged first


class PlacesTower(nn.Module):
    """Four stages of 2D convolution, each picture by itself; a place of 16 × 16 pixels sees about 75 × 75.

    What attends to its steps chooses where to look (Xu et al. 2015). No order of the pictures is visible in them.
    """

    places = True

    def __init__(self, *, channels: int, width: int) -> None:
        super().__init__()
        self.features = 8 * width
        self.stages = nn.Sequential(
            _stage(channels, width, kernel=5, stride=2, pool=2),
            _stage(width, 2 * width, pool=2),
            _stage(2 * width, 4 * width, pool=2),
            _stage(4 * width, 8 * width),
        )
        self.to(memory_format=torch.channels_last)  # faster on a CPU

    def forward(self, clip: Tensor) -> Tensor:
        """(B, C, T, H, W) → (B, T h w, D), h = H / 16 and w = W / 16, rounded up; picture by picture, row by row"""
        return _steps(self.stages(_pictures(clip)), len(clip))


class CoarseTower(nn.Module):
    """Means over 8 × 8 pixels, then two stages of 2D convolution: of flow, it sees which way things move, and hardly
    their shapes, which the pictures show.

    Its places are those of PlacesTower.
    """

    places = True

    def __init__(self, *, channels: int, width: int) -> None:
        super().__init__()
        self.features = 2 * width
        self.stages = nn.Sequential(_stage(channels, width), _stage(width, 2 * width, pool=SIDE // COARSE))
        self.to(memory_format=torch.channels_last)

    def forward(self, clip: Tensor) -> Tensor:
        """(B, C, T, H, W) → (B, T h w, D), h = H / 16 and w = W / 16, rounded up; picture by picture, row by row"""
        return _steps(self.stages(avg_pool2d(_pictures(clip), COARSE, ceil_mode=True)), len(clip))


def _stage(channels: int, out: int, *, kernel: int = 3, stride: int = 1, pool: int = 1) -> nn.Module:
    """`pool` is both size and stride; the last row of an odd size is kept."""
    convolution = nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2, bias=False)
    pooling = [nn.MaxPool2d(pool, ceil_mode=True)] if pool > 1 else []
    return nn.Sequential(convolution, BatchNorm(out), nn.ReLU(inplace=True), *pooling)


def _pictures(clip: Tensor) -> Tensor:
    return rearrange(clip, "b c t h w -> (b t) c h w")


def _steps(maps: Tensor, clips: int) -> Tensor:
    pictures = len(maps) // clips if clips else 1
    return rearrange(maps, "(b t) c h w -> b (t h w) c", b=clips, t=pictures)
