"""Features of frozen image towers, and of YAMNet: computed once, and kept beside the store."""

import json
import re
import warnings
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor, nn

from fusion.device import mixed_precision
from fusion.model import FusionModel
from fusion.training.settings import Recipe
from preprocess.common.console import human_bytes, plural, with_progress
from preprocess.common.errors import UserError
from preprocess.common.files import only_one, write_aside
from preprocess.store import Store
from streams.clip import ClipSettings
from streams.kept import KeptFeatures, WholeVideos
from streams.kept_sound import KeptSound, WholeSounds
from streams.loader import ViewBatches, make_loader
from streams.spec import FEATURES
from streams.towers.image import ImageTower
from streams.towers.yamnet import YamnetTower

VERSION = 1  # rises if the same weights would be given other pictures
CLIP, BATCH = 16, 4  # pictures or patches of a clip, and clips of a batch, while features are computed
# towers whose features can be kept → what goes through a store's videos, and what reads clips of them
KINDS = {ImageTower: (WholeVideos, KeptFeatures), YamnetTower: (WholeSounds, KeptSound)}


def features_folder(store: Path) -> Path:
    """The folder of a store's kept features; it can be deleted at any time."""
    return store.with_name(store.name + ".features")


def kept_features(
    model: FusionModel, store: Store, recipe: Recipe, *, device: torch.device, workers: int, make: bool = True
) -> tuple[dict[str, KeptFeatures], list[str]]:
    """For each stream of kept_streams its features, computed unless they are there; and a line on each.

    Without `make`, only those that are there.

    A file is named by all that decides its content: tower, weights, and the pictures, their size and stride.

    Raises UserError if they cannot be written.
    """
    found, lines = {}, []
    for name in kept_streams(model, recipe):
        if recipe.cutmix:
            raise UserError(
                f"--cutmix cuts clips, and {name} has kept features: leave it out, or add --no-keep-features"
            )
        tower = model.encoders[name].tower
        videos = _Videos(name, tower, store, recipe.clip.of(name))
        path = features_folder(store.path) / f"{name}-{_file_name(tower.name)}-{videos.digest()}.h5"
        if not (path.exists() or (make and len(videos.dataset))):
            continue
        try:
            path.parent.mkdir(exist_ok=True)
            with only_one(path.with_suffix(".lock")):  # other processes wait, and then find them
                if new := not path.exists():
                    write_aside(path, lambda part, videos=videos: videos.write(part, device=device, workers=workers))
        except OSError as error:
            raise UserError(
                f"{path} cannot be written ({error}): free some space, or train with --no-keep-features"
            ) from error
        _, reader = KINDS[type(tower)]
        found[name] = reader(name, path)
        what = f"{plural(found[name].shape[0], reader.unit)}, {human_bytes(path.stat().st_size)}"
        lines.append(f"features of {name}: {'computed, and kept in' if new else 'from'} {path} ({what})")
    return found, lines


def kept_streams(model: FusionModel, recipe: Recipe) -> list[str]:
    """The streams whose features are kept: those with a frozen tower of KINDS, unless the recipe says not to.

    Their clips begin at whole strides, with and without kept features, so that a model's answers are the same.
    """

    def can_keep(tower: nn.Module) -> bool:
        _, reader = KINDS.get(type(tower), (None, None))
        return reader is not None and reader.can_keep(recipe.clip)

    frozen = [name for name, encoder in model.encoders.items() if encoder.frozen and can_keep(encoder.tower)]
    return frozen if recipe.keep_features else []


def _file_name(tower: str) -> str:
    return re.sub(r"[^\w.-]+", "-", tower)


class _Videos:
    """The videos of a store that have a stream, each file once, and the tower that encodes them."""

    def __init__(self, name: str, tower: ImageTower | YamnetTower, store: Store, clip: ClipSettings) -> None:
        self.name = name
        self.tower = tower
        chosen = {video.content: video for video in store.videos if video.streams[name]}
        clip, (whole, _) = replace(clip, frames=CLIP, segments=1), KINDS[type(tower)]
        self.dataset = whole(store, list(chosen.values()), streams=(name,), classes=store.classes, clip=clip)

    def digest(self) -> str:
        """A digest of all that decides the features: weights, pictures; not of labels and splits, which may change."""
        tower, parameters = self.tower, json.dumps(self.dataset.store.parameters, sort_keys=True)
        text = f"{VERSION} {self.dataset.decides(tower)} {parameters}"
        digest = blake2b(text.encode(), digest_size=8)
        for video in self.dataset.videos:
            digest.update(f"{video.content} {video.frames} {video.bytes[self.name]}".encode())
        for name, tensor in tower.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @torch.inference_mode()
    def write(self, path: Path, *, device: torch.device, workers: int) -> None:
        """Encode all pictures or patches into a new file; memory does not grow with their number."""
        videos = self.dataset.videos
        ends = np.cumsum([self.dataset.count(video) for video in videos])
        batches = ViewBatches(self.dataset, batch=BATCH)
        loader = make_loader(self.dataset, batches, workers=workers, pin=device.type == "cuda")
        layers = None
        with h5py.File(path, "w") as file:
            file["ends"] = ends
            file["content"] = np.array([video.content.encode() for video in videos])
            kept = file.create_dataset(FEATURES, (ends[-1], self.tower.features), np.float16)
            done = 0
            for batch in with_progress(loader, unit="batch", name=f"features of {self.name}"):
                clips = batch.to(device).inputs(training=False)[self.name]
                once = [clip * CLIP + k for clip, count in enumerate(self.dataset.counts(batch)) for k in range(count)]
                pictures = self.tower.pictures(clips)[once]
                layers = layers or _fast(self.tower.layers, pictures)
                with mixed_precision(device):
                    kept[done : done + len(once)] = layers(pictures).half().cpu().numpy()
                done += len(once)


def _fast(layers: nn.Module, pictures: Tensor) -> nn.Module:
    """On a CPU the layers with batch norm folded into the convolutions, which takes half the time."""
    if pictures.device.type != "cpu":
        return layers
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing: padding depends on the pictures' size, and they have one size
        try:
            return torch.jit.freeze(torch.jit.trace(layers, pictures, check_trace=False))
        except Exception:  # not every network of a library can be traced
            return layers
