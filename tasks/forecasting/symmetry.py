"""Frames and their velocities mirrored and turned: other clips to learn from, and other views to answer from."""

from dataclasses import dataclass

import torch
from torch import Tensor

AUGMENTS = {"none": 1, "mirror": 2, "all": 8}  # what is learned from → the views that a forecast is the mean of


@dataclass(frozen=True)
class Symmetry:
    """Mirrored, then upside down, then transposed, each if it is True."""

    mirror: bool = False
    upset: bool = False
    turn: bool = False

    def frames(self, frames: Tensor) -> Tensor:
        """(…, H, W) → the same, seen so"""
        frames = frames.flip(-1) if self.mirror else frames
        frames = frames.flip(-2) if self.upset else frames
        return frames.transpose(-1, -2) if self.turn else frames

    def motion(self, motion: Tensor) -> Tensor:
        """(…, 2, H, W), velocities along x and y → the same, seen so"""
        signs = torch.tensor([-1 if self.mirror else 1, -1 if self.upset else 1], dtype=motion.dtype)
        motion = self.frames(motion) * signs.to(motion.device).view(2, 1, 1)
        return motion.flip(-3) if self.turn else motion

    def back(self, frames: Tensor) -> Tensor:
        """The reverse of `frames`."""
        frames = frames.transpose(-1, -2) if self.turn else frames
        frames = frames.flip(-2) if self.upset else frames
        return frames.flip(-1) if self.mirror else frames


def views(augment: str) -> list[Symmetry]:
    """All that a forecaster has learned from."""
    return [Symmetry(*(bool(number >> bit & 1) for bit in range(3))) for number in range(AUGMENTS[augment])]
