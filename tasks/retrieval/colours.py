"""The colours of a window's middle picture, in four bands from above: what tells a recording, and a tower forgets.

Hue, saturation and brightness in 8 × 4 × 4 steps, a histogram a band, and of its shares the square roots, so that the
product of two is the mean Bhattacharyya coefficient of the bands. Mirrored pictures have the same.
"""

from collections.abc import Sequence

import numpy as np

COLOURS = "colours"  # the name of this part of a description
STEPS = (8, 4, 4)
BANDS = 4
SIZE = BANDS * STEPS[0] * STEPS[1] * STEPS[2]


def colours_of(pictures: Sequence[np.ndarray | None]) -> tuple[np.ndarray, np.ndarray]:
    """N pictures, (H, W, 3) uint8 RGB, or None → (N, SIZE) float32 of length 1, or zeros, and (N,) bool."""
    vectors = np.zeros((len(pictures), SIZE), np.float32)
    for vector, picture in zip(vectors, pictures, strict=True):
        if picture is not None:
            vector[:] = _colours(picture)
    return vectors, np.array([picture is not None for picture in pictures], bool)


def _colours(picture: np.ndarray) -> np.ndarray:
    import cv2

    levels = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV_FULL).astype(np.int64)
    hue, saturation, brightness = (levels[..., k] * steps // 256 for k, steps in enumerate(STEPS))
    bins = (hue * STEPS[1] + saturation) * STEPS[2] + brightness
    bands = [band for band in np.array_split(bins, BANDS) if band.size]  # a picture may have fewer rows than bands
    shares = [np.bincount(band.ravel(), minlength=SIZE // BANDS) / band.size for band in bands]
    shares += [np.zeros(SIZE // BANDS)] * (BANDS - len(bands))
    return np.sqrt(np.concatenate(shares) / len(bands))
