"""A small image network for each picture, to be trained from scratch."""

import torch
from einops import rearrange, reduce
from torch import Tensor, nn

from streams.towers.convolutional import VISUAL_GROWTH
from streams.towers.norm import BatchNorm


class CnnTower(nn.Module):
    """Every picture by itself through the four stages of `conv3d`, in 2D; what moves is left to the model of time.

    Before an LSTM this is a long-term recurrent convolutional network (Donahue et al. 2015). Time does not shrink,
    space 16 times.
    """

    def __init__(self, *, channels: int, width: int) -> None:
        super().__init__()
        one, two, three, four = (width * growth for growth in VISUAL_GROWTH)
        self.features = four
        self.stages = nn.Sequential(
            *_stage(channels, one, kernel=5, stride=2),
            nn.MaxPool2d(2, ceil_mode=True),
            *_stage(one, two),
            nn.MaxPool2d(2, ceil_mode=True),
            *_stage(two, three),
            nn.MaxPool2d(2, ceil_mode=True),
            *_stage(three, four),
        )
        self.to(memory_format=torch.channels_last)

    def forward(self, clip: Tensor) -> Tensor:
        """(B, C, T, H, W) → (B, T, D)"""
        pictures = rearrange(clip, "b c t h w -> (b t) c h w").contiguous(memory_format=torch.channels_last)
        return reduce(self.stages(pictures), "(b t) d h w -> b t d", "mean", t=clip.shape[2])


def _stage(channels: int, out: int, *, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2, bias=False)
    return [convolution, BatchNorm(out), nn.ReLU(inplace=True)]
