"""Cropping, rotating, scaling and flipping: one affine map a clip, the same for all of its frames.

A reader only cuts a square window out of the stored frames, so that clips of videos of any shape fit into one batch;
the map is applied to a whole batch at once, on the model's device.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from torch.nn.functional import avg_pool2d, grid_sample

from preprocess.store.index import Video
from streams.clip import ClipSettings

EVAL_SHARE = ClipSettings.judged_crop  # of the short side: 112 of 128 pixels, not rescaled
STRETCH = 1.15  # largest change of a training crop's aspect
TURN = 8.0  # degrees, to either side

Window = tuple[slice, slice]  # rows and columns


class Crop(NamedTuple):
    """What a clip shows of its video's frames: drawn once a clip, the same for all streams."""

    map: np.ndarray  # (2, 3): maps pixels (x, y, 1) of the window to those of the crop
    window: Window

    def resized(self, scale: float) -> "Crop":
        """The same part of the frames in a crop `scale` times as large."""
        return self if scale == 1 else Crop(_resized(self.map, scale), self.window)


def _resized(maps, scale: float):
    """Maps to pixels of crops `scale` times as large; the first pixel's centre moves by half of what it grows."""
    maps = scale * maps
    maps[..., 2] += (scale - 1) / 2
    return maps


def centre_crop(height: int, width: int, size: int, *, share: float = EVAL_SHARE) -> Crop:
    """The centre crop, which shows this share of the short side."""
    return _crop(height, width, size, side=share * min(height, width))


def clip_crop(video: Video, clip: ClipSettings, rng: np.random.Generator | None) -> Crop:
    """A random crop if there is an `rng`, as in training, else the centre crop."""
    shape = (video.height, video.width, clip.size)
    if rng is None:
        return centre_crop(*shape, share=clip.judged_crop)
    return random_crop(*shape, rng, least=clip.least_crop, flip=clip.flip)


def random_crop(
    height: int,
    width: int,
    size: int,
    rng: np.random.Generator,
    *,
    least: float = ClipSettings.least_crop,
    flip: bool = True,
) -> Crop:
    """A crop with random place, scale, aspect and small rotation, and with `flip` half of the time mirrored.

    It shows between `least` and all of the short side.
    """
    side = min(height, width) * rng.uniform(least, 1.0)
    room = (max(0.0, (width - side) / 2), max(0.0, (height - side) / 2))
    return _crop(
        height,
        width,
        size,
        side=side,
        shift=(rng.uniform(-room[0], room[0]), rng.uniform(-room[1], room[1])),
        stretch=STRETCH ** rng.uniform(-0.5, 0.5),
        turn=math.radians(rng.uniform(-TURN, TURN)),
        flip=bool(rng.integers(2)) and flip,
    )


def warp(frames: torch.Tensor, maps: torch.Tensor, size: int) -> torch.Tensor:
    """frames: (B, C, H, W) float, maps: (B, 2, 3) from pixels of a frame to pixels of its crop → (B, C, size, size).

    Bilinear; beyond the frame's edge it is mirrored about the last pixel.
    """
    height, width = frames.shape[-2:]
    a, b, c, d = maps[:, :, :2].flatten(1).unbind(1)
    inverse = torch.stack([d, -b, -c, a], dim=1).div((a * d - b * c)[:, None]).unflatten(1, (2, 2))
    along = torch.arange(size, device=maps.device, dtype=maps.dtype)
    pixels = torch.stack(torch.meshgrid(along, along, indexing="xy"), dim=-1)  # (size, size, 2), x then y
    places = torch.einsum("bij,bhwj->bhwi", inverse, pixels - maps[:, None, None, :, 2])
    grid = places * (2 / torch.tensor([width - 1, height - 1], device=maps.device)) - 1
    return grid_sample(frames, grid, padding_mode="reflection", align_corners=True)


def warp_clip(frames: torch.Tensor, maps: torch.Tensor, size: int, *, zero: float = 0.0) -> torch.Tensor:
    """frames: (B, T, C, H, W) of any type → (B, C, T, size, size) float32: `warp` with one map a clip.

    Where frames shrink, each pixel is the mean of several samples: one alone would alias. `zero` is subtracted first,
    since the weights of a warp do not add up to one exactly.
    """
    stacked = rearrange(frames, "b t c h w -> b (c t) h w").float().sub_(zero)
    fine = max(1, round(EVAL_SHARE * min(frames.shape[-2:]) / size))  # samples a pixel, along each axis
    if fine > 1:
        warped = avg_pool2d(warp(stacked, _resized(maps, fine), fine * size), fine)
    else:
        warped = warp(stacked, maps, size)
    return rearrange(warped, "b (c t) h w -> b c t h w", t=frames.shape[1])


def turn_vectors(flow: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """flow: (B, 2, T, H, W), vectors in pixels of the frame → in pixels of the crop.

    The linear part of the map is applied to them: a flip negates x, a zoom makes motion faster, a rotation turns it.
    """
    x, y = flow.unbind(1)
    rows = maps[:, :, :2, None, None, None].unbind(1)  # by element: a matrix product would copy the fields
    return torch.stack([row[:, 0] * x + row[:, 1] * y for row in rows], dim=1)


def _crop(
    height: int,
    width: int,
    size: int,
    *,
    side: float,
    shift: tuple[float, float] = (0.0, 0.0),
    stretch: float = 1.0,
    turn: float = 0.0,
    flip: bool = False,
) -> Crop:
    x, y = (width - 1) / 2 + shift[0], (height - 1) / 2 + shift[1]  # the crop's centre
    short = min(height, width)
    left = min(max(round(x - (short - 1) / 2), 0), width - short)
    top = min(max(round(y - (short - 1) / 2), 0), height - short)
    across, down = size / side * stretch * (-1 if flip else 1), size / side / stretch
    cos, sin = math.cos(turn), math.sin(turn)
    a, b, c, d = across * cos, -across * sin, down * sin, down * cos  # rotated first, then stretched and flipped
    x, y, half = x - left, y - top, (size - 1) / 2
    matrix = np.array([[a, b, half - a * x - b * y], [c, d, half - c * x - d * y]], np.float32)
    return Crop(matrix, (slice(top, top + short), slice(left, left + short)))
