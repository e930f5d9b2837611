"""Towers for features that others extracted: one layer."""

import torch
from torch import Tensor, nn

from streams.towers.norm import BatchNorm

GROWTH = 4  # features in units of the width


class DenseTower(nn.Module):
    """Batch norm, which brings features of any scale to one, then a linear layer and ReLU."""

    def __init__(self, *, channels: int, width: int) -> None:
        super().__init__()
        self.features = GROWTH * width
        self.norm = BatchNorm(channels)
        self.layer = nn.Sequential(nn.Linear(channels, self.features), nn.ReLU())

    def forward(self, rows: Tensor) -> Tensor:
        """(B, D, T) → (B, T, D')"""
        return self.layer(self.norm(rows).transpose(1, 2))


class MiddleTower(nn.Module):
    """Of a sample among its neighbours: its own row, the middle one, beside the mean of the others, as one step.

    An LSTM's mean over the sequence would take a neighbour for as much as the sample itself. Without neighbours its own
    row stands for theirs.
    """

    def __init__(self, *, channels: int, width: int) -> None:
        super().__init__()
        self.features = GROWTH * width
        self.norm = BatchNorm(channels)
        self.layer = nn.Sequential(nn.Linear(2 * channels, self.features), nn.ReLU())

    def forward(self, rows: Tensor) -> Tensor:
        """(B, D, T) → (B, 1, D')"""
        rows = self.norm(rows)
        count, middle = rows.shape[2], rows.shape[2] // 2
        own = rows[:, :, middle]
        others = (rows.sum(dim=2) - own) / (count - 1) if count > 1 else own
        return self.layer(torch.cat([own, others], dim=1))[:, None]
