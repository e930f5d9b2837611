"""Data for the GPU suite: sizes, and synthetic videos, stores and batches."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

CLASSES = 8
SUBSETS = (("rgb", "flow", "audio"), ("rgb", "flow"), ("rgb",))


@dataclass(frozen=True)
class Size:
    """Sizes of a run of the suite."""

    tiny: bool = False
    pictures: tuple[tuple[int, int], ...] = ((256, 340), (128, 171))  # height, width of flow's videos
    pairs: int = 128  # pairs of such a video
    pairs_on_cpu: int = 16
    clip: dict = field(default_factory=dict)  # ClipSettings other than the default
    model: dict = field(default_factory=dict)  # ModelSettings
    stored: tuple[int, int] = (128, 171)  # height, width of a store's pictures
    videos: int = 48
    frames: int = 64  # frames of a stored video
    workers: tuple[int, ...] = (0, 1, 2, 4, 8)
    seconds: float = 4.0  # seconds of each measurement
    turns: int = 5
    batches: tuple[int, ...] = (32, 64, 128, 256)
    compiled: tuple[bool, ...] = (False, True)
    their_batch: int = 64


TINY = Size(
    tiny=True,
    pictures=((36, 48),),
    pairs=2,
    pairs_on_cpu=2,
    clip={"frames": 4, "size": 32, "audio_seconds": 0.64},
    model={"width": 2, "feature": 4},
    stored=(36, 48),
    videos=8,
    frames=12,
    workers=(0, 1),
    seconds=0.05,
    turns=1,
    batches=(2, 4),
    compiled=(False,),
    their_batch=1,
)


def moving_texture(height: int, width: int, frames: int, *, seed: int = 0, grain: float = 0.0) -> np.ndarray:
    """(T, H, W) uint8: smooth noise that drifts, turns a little and breathes, as a hand-held camera would show it."""
    from torch.nn.functional import affine_grid, grid_sample

    rng = np.random.default_rng(seed)
    noise = np.fft.rfft2(rng.normal(size=(2 * height, 2 * width)))
    y, x = np.fft.fftfreq(2 * height)[:, None], np.fft.rfftfreq(2 * width)
    texture = np.fft.irfft2(noise * np.exp(-2 * (np.pi * 2.5) ** 2 * (x * x + y * y)), s=(2 * height, 2 * width))
    texture = 255 * (texture - texture.min()) / np.ptp(texture)
    k = np.arange(frames)
    turn, zoom = np.radians(3 * np.sin(k / 9)), 0.5 * (1 + 0.05 * np.sin(k / 13))  # in a picture twice as large
    map_ = np.empty((frames, 2, 3), np.float32)
    map_[:, 0] = np.stack([zoom * np.cos(turn), -zoom * np.sin(turn) * height / width, 20 * np.sin(k / 7) / width], 1)
    map_[:, 1] = np.stack([zoom * np.sin(turn) * width / height, zoom * np.cos(turn), 15 * np.cos(k / 11) / height], 1)
    grid = affine_grid(torch.from_numpy(map_), [frames, 1, height, width], align_corners=False)
    picture = torch.from_numpy(texture).float().expand(frames, 1, -1, -1)
    video = grid_sample(picture, grid, padding_mode="reflection", align_corners=False)[:, 0].numpy()
    video += grain * rng.normal(size=video.shape)
    return video.round().clip(0, 255).astype(np.uint8)


def new_store(path: Path, size: Size):
    """A store of moving textures, of the size of real ones."""
    from tests.support.stores import Spec, make_store

    height, width = size.stored
    rng, specs = np.random.default_rng(0), []
    for number in range(size.videos):
        grey = moving_texture(height, width, size.frames, seed=number, grain=4.0)
        tint = rng.uniform(0.6, 1.0, 3)
        flow = rng.normal(0, 0.3, (size.frames - 1, height // 8, width // 8 + 1, 2)).astype(np.float32)
        flow = flow.repeat(8, 1).repeat(8, 2)
        flow = np.pad(flow, ((0, 0), (0, height - flow.shape[1]), (0, 0), (0, 0)), mode="edge")[:, :, :width]
        specs.append(
            Spec(
                f"{number % CLASSES}/{number:03d}.mp4",
                label=str(number % CLASSES),
                frames=size.frames,
                rgb=(grey[..., None] * tint).astype(np.uint8),
                flow=flow,
                mel=rng.normal(-6, 4, (4 * size.frames, 64)),
            )
        )
    return make_store(path, specs, short_side=height, mel_bands=64)


def new_dataset(store, size: Size):
    from streams.batch import ClipDataset
    from streams.clip import ClipSettings

    clip = ClipSettings(**size.clip)
    return ClipDataset(store, store.videos, streams=SUBSETS[0], classes=store.classes, clip=clip, seed=0)


class Endless:
    """A sampler of random batches."""

    def __init__(self, dataset, batch: int) -> None:
        self.videos, self.batch = len(dataset), batch

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        rng = np.random.default_rng(0)
        for number in itertools.count():
            yield [(int(row), number) for row in rng.integers(self.videos, size=self.batch)]


def new_batch(streams: tuple[str, ...], batch: int, size: Size, device: torch.device):
    """A batch as from a loader, in pinned memory."""
    from streams.batch import Batch
    from streams.clip import ClipSettings
    from streams.geometry import centre_crop
    from streams.registry import STREAMS

    clip, rng = ClipSettings(**size.clip), np.random.default_rng(0)
    parameters = {"mel_bands": 64, "short_side": min(size.stored)}
    clips: dict[str, dict[str, torch.Tensor]] = {}
    for name in streams:
        clips[name] = {}
        for part, (shape, dtype) in STREAMS[name].shapes(parameters, clip).items():
            made = rng.integers(256, size=(batch, *shape)) if dtype == np.uint8 else rng.normal(-6, 4, (batch, *shape))
            clips[name][part] = torch.from_numpy(made.astype(dtype))
        if "map" in clips[name]:
            clips[name]["map"][:] = torch.from_numpy(centre_crop(*size.stored, clip.size)[0])
    present = {name: torch.ones(batch, dtype=torch.bool) for name in streams}
    rows = {name: torch.arange(batch) for name in streams}
    labels = torch.from_numpy(rng.integers(CLASSES, size=batch))
    made = Batch(clips, present, rows, labels, torch.arange(batch), torch.zeros(batch, dtype=torch.int64), clip)
    return made.pin_memory() if device.type == "cuda" else made
