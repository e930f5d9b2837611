"""Reading one clip as a batch would."""

import numpy as np
import torch

from preprocess.store import Store
from streams.clip import ClipSettings
from streams.geometry import clip_crop
from streams.registry import STREAMS

Clip = dict[str, np.ndarray]


def read(
    name: str, store: Store, start: int, clip: ClipSettings, rng: np.random.Generator | None = None, *, row: int = 0
) -> Clip | None:
    """The arrays of a clip of one stream of a video; None where the video lacks it."""
    stream = STREAMS[name]
    into = {part: np.zeros(shape, dtype) for part, (shape, dtype) in stream.shapes(store.parameters, clip).items()}
    video = store.videos[row]
    return into if stream.read(store, video, (start,), clip, clip_crop(video, clip, rng), into) else None


def stack(*clips: Clip) -> dict[str, torch.Tensor]:
    """Clips as a batch of one stream."""
    return {part: torch.from_numpy(np.stack([clip[part] for clip in clips])) for part in clips[0]}


def as_towers_see(
    name: str, store: Store, start: int, clip: ClipSettings, rng: np.random.Generator | None = None, *, row: int = 0
) -> np.ndarray:
    """A tower's input of one clip, (C, T, H, W) or (M, T), without what chance does on the device."""
    found = read(name, store, start, clip, rng, row=row)
    assert found is not None
    return STREAMS[name].prepare(stack(found), clip, training=False)[0].numpy()


def whole(side: int, count: int = 1) -> torch.Tensor:
    """(B, 2, 3): maps that show a picture of that side as it is."""
    return torch.eye(3)[:2].expand(count, 2, 3).contiguous()
