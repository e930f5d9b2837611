"""The towers by name."""

from functools import partial

from torch import nn

from streams.towers.convolutional import AudioTower, VisualTower, r2plus1d
from streams.towers.image import SIDES, ImageTower
from streams.towers.spectral import SpectralTower
from streams.towers.torchvision import r2plus1d_18, r3d_18, s3d

IMAGE = tuple(SIDES)  # image networks, for pictures and for flow fields


def _image(name: str, *, channels: int, width: int) -> ImageTower:
    """`width` is ignored."""
    return ImageTower(name=name, channels=channels)


TOWERS = {
    "conv3d": VisualTower,
    "r2plus1d": lambda **settings: VisualTower(**settings, convolution=r2plus1d),
    "conv1d": AudioTower,
    "conv2d": SpectralTower,
    "r3d_18": r3d_18,
    "r2plus1d_18": r2plus1d_18,
    "s3d": s3d,
    **{name: partial(_image, name) for name in IMAGE},
}


def create_tower(name: str, *, channels: int, width: int) -> nn.Module:
    """The tower called `name`; its attribute `features` is D.

    Raises UserError for a tower of torchvision or timm if that is not installed.
    """
    return TOWERS[name](channels=channels, width=width)
