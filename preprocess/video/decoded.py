"""Decoded pictures and sound, on the clock of the store."""

from dataclasses import dataclass

import numpy as np

from preprocess.video.cadence import Filmed

QUIETEST = 1 / 32768  # one step of 16 bits; a track that never reaches it is silence


@dataclass(frozen=True)
class Frame:
    """A picture, and the number of frames of the constant rate that show it."""

    rgb: np.ndarray  # (H, W, 3) uint8
    count: int
    seconds: float | None = None  # its own time; None for that of the first frame that shows it
    filmed: Filmed | None = None  # when, if its source may have repeated pictures in turn


@dataclass(frozen=True)
class Samples:
    """The next samples of sound: mono at log_mel.SAMPLE_RATE, the first of all at time zero."""

    samples: np.ndarray  # (N,) float32 in -1…1
    there: bool = True  # False for silence before a track begins, or after its end


@dataclass(frozen=True)
class Absent:
    """A stretch of a live video of which nothing is there; what comes next lies after it."""

    frames: int = 0  # of the constant rate, without a picture
    samples: int = 0  # without sound

    def __add__(self, other: "Absent") -> "Absent":
        return Absent(self.frames + other.frames, self.samples + other.samples)


Item = Frame | Samples | Absent
