"""A tower for features that others extracted: one layer, the same at every time step."""

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
