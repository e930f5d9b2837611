"""The middle pictures of windows, and small ones, which an index keeps to be looked at without the videos."""

from collections.abc import Sequence

import numpy as np

from preprocess.store import Store
from preprocess.store.index import Video

WIDTH = 120  # pixels
QUALITY = 70


def middle_pictures(store: Store, video: Video, times: np.ndarray) -> list[np.ndarray | None]:
    """The picture in the middle of each window, (N, 2) seconds; None where there are no pictures."""
    if not video.streams["rgb"]:
        return [None] * len(times)
    middles = np.clip((times.mean(axis=1) * store.fps).astype(int), 0, video.frames - 1)
    return [store.frames(video, "rgb", [middle])[0] for middle in middles.tolist()]


def small_still(picture: np.ndarray | None) -> bytes:
    """A JPEG; empty without a picture."""
    import cv2

    if picture is None:
        return b""
    height = max(1, round(WIDTH * picture.shape[0] / picture.shape[1]))
    small = cv2.resize(picture, (WIDTH, height), interpolation=cv2.INTER_AREA)
    options: Sequence[int] = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    return cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), options)[1].tobytes()
