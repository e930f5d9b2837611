"""The towers by name."""

from torch import nn

from streams.towers.convolutional import AudioTower, VisualTower, r2plus1d
from streams.towers.torchvision import r2plus1d_18, r3d_18, s3d

TOWERS = {
    "conv3d": VisualTower,
    "r2plus1d": lambda **settings: VisualTower(**settings, convolution=r2plus1d),
    "conv1d": AudioTower,
    "r3d_18": r3d_18,
    "r2plus1d_18": r2plus1d_18,
    "s3d": s3d,
}


def create_tower(name: str, *, channels: int, width: int) -> nn.Module:
    """The tower called `name`; its attribute `features` is D.

    Raises UserError for a torchvision tower if torchvision is not installed.
    """
    return TOWERS[name](channels=channels, width=width)
