"""Small pictures of windows, which an index keeps, so that answers can be looked at without the videos."""

from collections.abc import Sequence

import numpy as np

from preprocess.store import Store
from preprocess.store.index import Video

WIDTH = 120  # pixels
QUALITY = 70


def small_stills(store: Store, video: Video, times: np.ndarray) -> list[bytes]:
    """A JPEG of the middle of each window, (N, 2) seconds; empty where there are no pictures."""
    if not video.streams["rgb"]:
        return [b""] * len(times)
    middles = np.clip((times.mean(axis=1) * store.fps).astype(int), 0, video.frames - 1)
    return [_small(store.frames(video, "rgb", [middle])[0]) for middle in middles.tolist()]


def _small(picture: np.ndarray) -> bytes:
    import cv2

    height = max(1, round(WIDTH * picture.shape[0] / picture.shape[1]))
    small = cv2.resize(picture, (WIDTH, height), interpolation=cv2.INTER_AREA)
    options: Sequence[int] = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    return cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), options)[1].tobytes()
