"""Frames moved on by optical flow: what any forecast must beat, and what the networks refine.

The last frame's pixels go on with their mean velocity of the last steps, and are splatted where they arrive: the mean
of those that meet (average splatting, as Niklaus and Liu, CVPR 2020, call it). Warping backwards would not move a small
thing at all, since the flow where it will be is still that of the background.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from preprocess.flow import tvl1

MEMORY = 2  # steps over which a pixel's velocity is averaged
LEAST = 0.3  # weight of what arrives below which a place counts as a hole


def velocities(grey: np.ndarray) -> np.ndarray:
    """The velocity of each pixel of each frame by TV-L1 flow.

    Args:
        grey: (T, H, W) uint8.

    Returns:
        (T, 2, H, W) float32, pixels a frame, x then y: the pixel of frame t came from its place less this in frame
        t - 1. Zeros for the first frame.
    """
    back = tvl1(np.ascontiguousarray(grey[::-1]))[::-1]
    found = np.zeros((len(grey), 2, *grey.shape[1:]), np.float32)
    found[1:] = -back.transpose(0, 3, 1, 2)
    return found


def warp_on(frames: Tensor, motion: Tensor, *, steps: int) -> tuple[Tensor, Tensor]:
    """Frames (B, T, C, H, W) and their velocities (B, T, 2, H, W) → the next ones, and where something arrived.

    Returns:
        (B, steps, C, H, W), holes filled from the last frame; and (B, steps, 1, H, W), 0 in holes, else up to 1.
    """
    last, velocity = frames[:, -1], mean_velocity(motion)
    values = torch.cat([last, torch.ones_like(last[:, :1])], dim=1)
    moved, arrived = [], []
    for step in range(1, steps + 1):
        total = _splat(values, velocity * step)
        value, share = total[:, :-1] / total[:, -1:].clamp(min=1e-6), total[:, -1:]
        there = (share / LEAST).clamp(max=1)
        moved.append(torch.lerp(last, value, there))
        arrived.append(there)
    return torch.stack(moved, dim=1), torch.stack(arrived, dim=1)


def mean_velocity(motion: Tensor) -> Tensor:
    """Velocities (B, T, 2, H, W) → (B, 2, H, W): that of the last frame's pixels, over MEMORY steps."""
    count = min(MEMORY, motion.shape[1] - 1)
    if count < 1:
        return torch.zeros_like(motion[:, -1])
    way = motion[:, -1]
    for back in range(1, count):
        way = way + _sample(motion[:, -1 - back], -way)
    return way / count


def _sample(values: Tensor, shift: Tensor) -> Tensor:
    """(B, C, H, W) read at each place plus `shift` (B, 2, H, W) in pixels, bilinearly."""
    height, width = values.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    place = torch.stack([x, y]).to(values) + shift
    size = torch.tensor([width, height]).to(values).view(1, 2, 1, 1)
    grid = ((2 * place + 1) / size - 1).permute(0, 2, 3, 1)
    return F.grid_sample(values, grid, padding_mode="border", align_corners=False)


def _splat(values: Tensor, shift: Tensor) -> Tensor:
    """(B, C, H, W) each added to the four places around where `shift` (B, 2, H, W) brings it."""
    batch, channels, height, width = values.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    place = torch.stack([x, y]).to(values) + shift
    corner = place.floor()
    part = place - corner
    out = values.new_zeros(batch, channels, height * width)
    for right in (0, 1):
        for down in (0, 1):
            share = (part[:, 0] if right else 1 - part[:, 0]) * (part[:, 1] if down else 1 - part[:, 1])
            at_x, at_y = corner[:, 0].long() + right, corner[:, 1].long() + down
            inside = (at_x >= 0) & (at_x < width) & (at_y >= 0) & (at_y < height)
            index = (at_y.clamp(0, height - 1) * width + at_x.clamp(0, width - 1)).flatten(1)
            given = (values * (share * inside)[:, None]).flatten(2)
            out.scatter_add_(2, index[:, None].expand_as(given), given)
    return out.view(batch, channels, height, width)
