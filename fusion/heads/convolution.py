"""Fusion by a convolution over the streams' towers."""

import torch
from einops import rearrange
from torch import Tensor, nn

from fusion.heads.head import Head, Mask, StreamOutputs
from fusion.heads.windows import in_windows

KERNEL = 3  # windows that the convolution sees


class Convolution(Head):
    """The towers' outputs at the same time step stacked, one convolution through all of them, and the largest response.

    Feichtenhofer et al. 2016, sections 3.1 and 3.3: conv fusion, over neighbouring moments, then pooling over time.
    Theirs also joins at the same place of the picture; towers here have averaged space away, whatever their kind, so
    that streams of different sizes, or sound, can be joined too. What was learned of where things are is in the towers.
    """

    def __init__(self, *, channels: dict[str, int], feature: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.streams = tuple(channels)
        self.dropout = nn.Dropout(dropout)
        inputs = sum(channels.values()) + len(channels)
        self.convolve = nn.Sequential(nn.Conv1d(inputs, feature, KERNEL, padding=KERNEL // 2), nn.ReLU(inplace=True))
        self.classify = nn.Sequential(nn.Dropout(dropout), nn.Linear(feature, classes))

    def features(self, outputs: StreamOutputs, present: Mask) -> Tensor:
        """towers {(B, T', C)}, present {(B,)} → (B, D)"""
        windows, flags = in_windows(outputs, present, self.streams)
        steps = torch.cat([self.dropout(windows), flags], dim=2)
        return self.convolve(rearrange(steps, "b w c -> b c w")).amax(dim=2)
