"""Towers named by a library's own names: timm:NAME and torchvision:NAME; their weights are downloaded."""

import os
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from preprocess.common.errors import UserError
from streams.towers.image import ImageTower
from streams.towers.published import UNSTATED, Published, first_line, library, not_loaded

NO_CLIPS = ("detection", "segmentation", "optical_flow", "quantization")  # torchvision's other kinds of networks


def timm_tower(name: str, *, channels: int) -> ImageTower:
    """An image network of timm's, without its classifier: every picture by itself.

    Raises UserError if timm is not installed or does not know the name.
    """
    tower = f"timm:{name}"
    timm = library(tower, "timm", "pretrained")
    try:
        layers = timm.create_model(name, in_chans=channels, num_classes=0)
    except Exception as error:  # a name that it does not know, a network that is no image encoder
        raise UserError(f"--towers …={tower}: timm cannot build it ({first_line(error)})") from error
    settings = layers.pretrained_cfg
    side = min(settings["input_size"][1:])

    def published() -> Published:
        hub = settings.get("hf_hub_id")
        if not hub:
            raise UserError(f"timm has no weights for {name}: timm.list_pretrained() names those that have some")
        try:
            network = timm.create_model(name, pretrained=True, num_classes=0)
            path = library(tower, "huggingface_hub", "pretrained").hf_hub_download(hub, "model.safetensors")
        except Exception as error:  # no network, a proxy, a full disk, a damaged file
            raise not_loaded(tower, "weights", error) from error
        return Published(f"{tower}'s weights", Path(path), network.state_dict(), settings.get("license") or UNSTATED)

    norm = (settings["mean"], settings["std"]) if channels == 3 else None
    shape = {"features": layers.num_features, "side": side, "exact": settings.get("fixed_input_size", False)}
    return ImageTower(name=tower, layers=layers, norm=norm, published=published, **shape)


def torchvision_tower(name: str, *, channels: int) -> nn.Module:
    """An image network (every picture by itself) or a video network (one feature a clip) of torchvision's, without its
    classifier.

    Raises UserError if torchvision is not installed, or has no such network that ends in a linear classifier.
    """
    tower = f"torchvision:{name}"
    models = library(tower, "torchvision.models", "torchvision")
    if channels != 3:
        raise UserError(f"--towers …={tower}: torchvision's networks are for pictures; flow can have timm:NAME")
    try:
        builder, weights = models.get_model_builder(name), models.get_model_weights(name).DEFAULT
    except ValueError as error:
        raise UserError(f"--towers …={tower}: torchvision has no such network ({first_line(error)})") from error
    if any(part in builder.__module__ for part in NO_CLIPS):
        raise UserError(f"--towers …={tower}: it does not classify pictures or clips")
    layers = builder(weights=None)
    linear = [part for part, module in layers.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise UserError(f"--towers …={tower}: it has no linear classifier to take away")
    features = layers.get_submodule(linear[-1]).in_features
    layers.set_submodule(linear[-1], nn.Identity())  # torchvision lets nobody build it without
    shown = weights.transforms()

    def published() -> Published:
        path = Path(torch.hub.get_dir(), "checkpoints", os.path.basename(weights.url))
        try:
            tensors = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
        except Exception as error:  # no network, a proxy, a full disk, a wrong checksum
            raise not_loaded(tower, "weights", error) from error
        return Published(f"{tower}'s weights {weights.name}", path, tensors)

    shape = {"name": tower, "layers": layers, "features": features, "norm": (shown.mean, shown.std)}
    if ".video." in builder.__module__:
        size, least = tuple(shown.crop_size), weights.meta.get("min_temporal_size", 1)
        return ClipTower(**shape, size=size, least=least, published=published)
    return ImageTower(**shape, side=min(shown.crop_size), exact=True, published=published)


class ClipTower(nn.Module):
    """A whole clip through a network that gives one feature: a sequence of one step."""

    def __init__(self, *, name: str, layers: nn.Module, features: int, norm, size, least: int, published) -> None:
        """size: height and width that the network takes; least: pictures that a clip has at least."""
        super().__init__()
        self.name, self.layers, self.features, self.published = name, layers, features, published
        self.size, self.least = size, least
        for part, values in zip(("mean", "std"), norm, strict=True):
            self.register_buffer(part, torch.tensor(values).view(-1, 1, 1, 1), persistent=False)

    def forward(self, clip: Tensor) -> Tensor:
        """(B, 3, T, H, W) in -1…1 → (B, 1, D). A shorter clip than the network takes shows its pictures longer."""
        clip = resampled(clip, max(self.least, clip.shape[2]), self.size)
        try:
            return self.layers(((clip + 1) / 2 - self.mean) / self.std)[:, None]
        except RuntimeError as error:
            why = first_line(error)
            raise UserError(f"{self.name} does not take clips of {clip.shape[2]} pictures ({why})") from error


def resampled(clip: Tensor, frames: int, size: tuple[int, int]) -> Tensor:
    """The clip with so many pictures, the nearest in time, of another size: (B, C, T, H, W) → (B, C, frames, *size)"""
    if clip.shape[2] != frames:
        times = (torch.arange(frames, device=clip.device) + 0.5) * (clip.shape[2] / frames)
        clip = clip[:, :, times.long()]
    if tuple(clip.shape[3:]) != tuple(size):
        clip = functional.interpolate(clip, size=(frames, *size), mode="trilinear")
    return clip
