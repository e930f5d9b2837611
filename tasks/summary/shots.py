"""Shots of a stored video: where its pictures change, by a cut or a dissolve.

The mean look of the SPAN frames before a moment is compared with that of those after it, so that a dissolve of ten
frames counts like a cut, and motion within a shot does not. Looks are a colour histogram, and a tiny picture.
"""

from collections.abc import Iterator

import numpy as np

from preprocess.store import Store
from preprocess.store.index import Video
from preprocess.store.kinds import KINDS

SPAN = 0.72  # seconds compared on each side
APART = 0.8  # seconds between two cuts, at least
CHANGE = 0.5  # from which a moment is a cut; 0 is no change, 1.5 the most
BLOCK = 1500  # frames in memory at a time
BINS = (8, 4, 8)  # of hue, saturation and value
TINY = (16, 12)  # pixels, width and height


def shots(store: Store, video: Video) -> np.ndarray:
    """(S + 1,) the seconds at which the S shots begin, and the video's end; one shot where there are no pictures."""
    if not video.streams["rgb"]:
        return np.array([0.0, video.seconds])
    change = np.concatenate(list(_changes(store, video)))
    cuts = peaks(change, least=CHANGE, apart=round(APART * store.fps))
    return np.array([0.0, *(cut / store.fps for cut in cuts), video.seconds])


def peaks(change: np.ndarray, *, least: float, apart: int) -> list[int]:
    """The places of (T,) values that are at least `least` and the highest within `apart` on both sides."""
    found: list[int] = []
    for k in np.flatnonzero(change >= least).tolist():
        if change[k] == change[max(0, k - apart) : k + apart + 1].max() and (not found or k - found[-1] > apart):
            found.append(k)
    return found


def _changes(store: Store, video: Video) -> Iterator[np.ndarray]:
    """Block by block, how much the pictures change at the begin of each frame."""
    span, total = max(1, round(SPAN * store.fps)), KINDS["rgb"].number(video.frames)
    for begin in range(0, total, BLOCK):
        first, last = max(0, begin - span), min(total, begin + BLOCK + span)
        pictures = store.frames(video, "rgb", range(first, last))
        colours, tiny = (np.stack(part) for part in zip(*map(_look, pictures), strict=True))
        change = _distance(colours, span) + 0.5 * _distance(tiny, span)
        yield change[begin - first : min(total, begin + BLOCK) - first]


def _look(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 3) uint8 → the square roots of its colour histogram, and a tiny picture without its mean."""
    import cv2

    hsv = cv2.cvtColor(cv2.resize(picture, (64, 48), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2HSV)
    counts = cv2.calcHist([hsv], [0, 1, 2], None, BINS, [0, 180, 0, 256, 0, 256]).ravel()
    tiny = cv2.resize(picture, TINY, interpolation=cv2.INTER_AREA).astype(np.float64).ravel()
    return np.sqrt(counts.astype(np.float64) / counts.sum()), tiny - tiny.mean()


def _distance(looks: np.ndarray, span: int) -> np.ndarray:
    """(T, D) → (T,) one less the cosine of the means of `span` looks before and after each; the first is 0."""
    total = np.concatenate([np.zeros_like(looks[:1]), looks.cumsum(axis=0)])
    at = np.arange(1, len(looks))
    before, after = total[at] - total[np.maximum(0, at - span)], total[np.minimum(len(looks), at + span)] - total[at]
    norms = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    cosine = np.where(norms > 1e-9, (before * after).sum(axis=1) / np.maximum(norms, 1e-9), 1.0)
    return np.concatenate([[0.0], 1 - cosine])
