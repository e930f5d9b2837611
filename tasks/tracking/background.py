"""Things before a background, as a detector without training: for a camera that stands still.

The background is each pixel's median over the video. What differs from it hangs together in parts; of each part those
pixels are kept that differ by a share of what its strongest ones do, so that shades and the blur around a bright thing
do not widen its box, and a faint one is found as well.
"""

from collections.abc import Callable, Iterable

import numpy as np

from tasks.tracking.boxes import Boxes, make_boxes

PICTURES = 30  # at least, of which the median is taken, if there are as many
FAINTEST = 25  # of 255: a smaller difference is noise
SHARE = 0.3  # of the strongest difference in a part
STRONGEST = 95  # percentile that counts as the strongest
FEWEST = 12  # pixels of a part


def detect_foreground(pictures: Callable[[], Iterable[np.ndarray]]) -> Boxes:
    """The boxes of what differs from the background, with scores that say by how much.

    pictures: gives the pictures from the first on, (H, W, 3) uint8, each time that it is called: twice.
    """
    background = median_picture(pictures())
    frames, xywh, scores = [], [], []
    for frame, picture in enumerate(pictures()):
        difference = np.abs(picture - background).max(axis=-1)
        for box, strength in parts_of(difference):
            frames.append(frame)
            xywh.append(box)
            scores.append(min(1.0, strength / 2 / FAINTEST))
    return make_boxes(frames, xywh, scores=scores)


def median_picture(pictures: Iterable[np.ndarray]) -> np.ndarray:
    """The median of PICTURES or up to twice as many pictures, spread evenly over all of them: (H, W, 3) float32."""
    kept: list[np.ndarray] = []
    step = 1
    for number, picture in enumerate(pictures):
        if number % step == 0:
            kept.append(picture)
        if len(kept) == 2 * PICTURES:  # there is no telling how many will come
            kept, step = kept[::2], 2 * step
    return np.median(np.stack(kept), axis=0).astype(np.float32)


def parts_of(difference: np.ndarray) -> list[tuple[np.ndarray, float]]:
    """The box, (4,) x, y, w, h, and the strength of each part of a map of differences, (H, W)."""
    import cv2

    count, places, stats, _ = cv2.connectedComponentsWithStats((difference > FAINTEST).astype(np.uint8))
    strengths = np.full(count, np.inf)
    for part in range(1, count):
        left, top, width, height, pixels = stats[part]
        if pixels >= FEWEST:
            window = np.s_[top : top + height, left : left + width]
            strengths[part] = np.percentile(difference[window][places[window] == part], STRONGEST)
    kept = difference > SHARE * strengths[places]
    count, inner, stats, _ = cv2.connectedComponentsWithStats(kept.astype(np.uint8))
    found = []
    for part in range(1, count):
        left, top, width, height, pixels = stats[part]
        if pixels >= FEWEST:
            window = np.s_[top : top + height, left : left + width]
            found.append((stats[part, :4].astype(float), float(difference[window][inner[window] == part].max())))
    return found
