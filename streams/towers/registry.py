"""The towers by name."""

from functools import partial

from torch import nn

from streams.towers.c3d import C3d
from streams.towers.cnn import CnnTower
from streams.towers.convolutional import AudioTower, VisualTower, conv3d, r2plus1d
from streams.towers.dense import DenseTower, MiddleTower
from streams.towers.i3d import I3d
from streams.towers.image import SIDES, ImageTower, lite_tower
from streams.towers.libraries import timm_tower, torchvision_tower
from streams.towers.places import CoarseTower, PlacesTower
from streams.towers.spectral import SpectralTower
from streams.towers.torchvision import r2plus1d_18, r3d_18, s3d
from streams.towers.transformer import hf_tower
from streams.towers.vgg import VggTower
from streams.towers.yamnet import yamnet_tower

IMAGE = tuple(SIDES)  # image networks, for pictures and for flow fields
SCRATCH = ("conv3d", "plain3d", "r2plus1d", "cnn", "c3d", "i3d")  # of our own, for both; the first is the default


def _image(name: str, *, channels: int, width: int) -> ImageTower:
    """`width` is ignored."""
    return lite_tower(name, channels=channels)


TOWERS = {
    "conv3d": VisualTower,
    "plain3d": lambda **settings: VisualTower(**settings, convolution=partial(conv3d, bias=True), norm=False),
    "r2plus1d": lambda **settings: VisualTower(**settings, convolution=r2plus1d),
    "cnn": CnnTower,
    "c3d": C3d,
    "i3d": I3d,
    "conv1d": AudioTower,
    "conv2d": SpectralTower,
    "vgg2d": VggTower,
    "dense": DenseTower,
    "places": PlacesTower,
    "coarse": CoarseTower,
    "middle": MiddleTower,
    "r3d_18": r3d_18,
    "r2plus1d_18": r2plus1d_18,
    "s3d": s3d,
    **{name: partial(_image, name) for name in IMAGE},
}

LIBRARIES = {  # towers called LIBRARY:NAME, or yamnet:FILE
    "timm": timm_tower,
    "torchvision": torchvision_tower,
    "hf": hf_tower,
    "yamnet": yamnet_tower,
}


def create_tower(name: str, *, channels: int, width: int) -> nn.Module:
    """The tower called `name`, one of TOWERS or LIBRARY:NAME; its attribute `features` is D.

    Raises UserError for a tower of a library that is not installed, or does not know the name.
    """
    library, named, rest = name.partition(":")
    if named:
        return LIBRARIES[library](rest, channels=channels)
    return TOWERS[name](channels=channels, width=width)
