"""What the tests that decode share."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from preprocess.common.stopwatch import Stopwatch
from preprocess.video.decoded import Frame
from preprocess.video.decoder import Decoder


@dataclass(frozen=True)
class Decoded:
    """All that came out of one file."""

    decoder: Decoder
    frames: np.ndarray  # (T, H, W, 3) uint8
    samples: np.ndarray  # (N,) float32

    @property
    def levels(self) -> np.ndarray:
        """The mean level of every frame: (T,)."""
        return self.frames.mean(axis=(1, 2, 3))


def open_decoder(path: Path | str, *, fps: float = 25.0, short_side: int = 32) -> Decoder:
    return Decoder(str(path), fps=fps, short_side=short_side, watch=Stopwatch())


def decode(path: Path | str, *, fps: float = 25.0, short_side: int = 32) -> Decoded:
    """Decode a whole, small file."""
    decoder = open_decoder(path, fps=fps, short_side=short_side)
    frames, samples = [], [np.zeros(0, np.float32)]
    for item in decoder:
        if isinstance(item, Frame):
            frames += [item.rgb] * item.count
        else:
            samples.append(item.samples)
    return Decoded(decoder, np.stack(frames), np.concatenate(samples))
