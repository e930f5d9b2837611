"""How good boxes and tracks are: AP of detections; MOTA, IDF1 and HOTA of tracks.

Bernardin and Stiefelhagen, "Evaluating multiple object tracking performance: the CLEAR MOT metrics", 2008; Ristani
et al., "Performance measures and a data set for multi-target, multi-camera tracking", 2016; Luiten et al., "HOTA",
IJCV 2021.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from tasks.tracking.boxes import Boxes, overlap

HIT = 0.5 - 1e-12  # overlap of a box that counts
LEVELS = np.arange(0.05, 0.99, 0.05)  # overlaps over which HOTA is the mean
KEEP = 1000.0  # what it is worth to go on with the track of the frame before


@dataclass(frozen=True)
class Scores:
    """Scores of the tracks of one video."""

    mota: float
    idf1: float
    hota: float
    switches: int
    false: int  # boxes where nothing is
    missed: int


def average_precision(found: Boxes, truth: Boxes, *, least: float = 0.5) -> float:
    """The area under the precision of detections over their recall, all frames together; precision never rises again.

    Of two boxes on one thing the one with the higher score counts, the other is false.
    """
    if not len(truth):
        return 0.0
    hits, free = [], {int(frame): np.ones(len(truth.at(frame)), bool) for frame in np.unique(truth.frames)}
    for row in np.argsort(-found.scores, kind="stable"):
        frame = int(found.frames[row])
        shared = overlap(found.xywh[row : row + 1], truth.at(frame).xywh)[0] * free.get(frame, np.zeros(0, bool))
        hits.append(bool(len(shared)) and shared.max() >= least - 1e-9)
        if hits[-1]:
            free[frame][shared.argmax()] = False
    right = np.cumsum(hits)
    precision = right / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(right, prepend=0) * precision) / len(truth))


def judge(tracks: Boxes, truth: Boxes) -> Scores:
    """Compare tracks with true ones of the same video."""
    frames = _frames(tracks, truth)
    hits, switches = _clear(frames)
    false, missed = len(tracks) - hits, len(truth) - hits
    mota = 1 - (false + missed + switches) / max(1, len(truth))
    return Scores(mota, _idf1(frames, len(tracks), len(truth)), _hota(frames), switches, false, missed)


def _frames(tracks: Boxes, truth: Boxes) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For each frame the rows of the true tracks, those of the found ones, and their overlaps."""
    _, true_rows = np.unique(truth.ids, return_inverse=True)
    _, found_rows = np.unique(tracks.ids, return_inverse=True)
    last = max(tracks.frames.max(initial=-1), truth.frames.max(initial=-1))
    frames = []
    for frame in range(int(last) + 1):
        true = slice(*np.searchsorted(truth.frames, (frame, frame + 1)))
        found = slice(*np.searchsorted(tracks.frames, (frame, frame + 1)))
        frames.append((true_rows[true], found_rows[found], overlap(truth.xywh[true], tracks.xywh[found])))
    return frames


def _clear(frames) -> tuple[int, int]:
    """Hits, and how often a true track goes on with another found one."""
    hits = switches = 0
    last: dict[int, int] = {}
    before: dict[int, int] = {}
    for true, found, shared in frames:
        same = np.array([before.get(one, -1) for one in true.tolist()], int)[:, None] == found[None]
        value = np.where(shared >= HIT, shared + KEEP * same, 0)
        pairs = [(one, other) for one, other in _best(value) if value[one, other]]
        before = {int(true[one]): int(found[other]) for one, other in pairs}
        switches += sum(last.get(one, other) != other for one, other in before.items())
        last |= before
        hits += len(pairs)
    return hits, switches


def _idf1(frames, found: int, true: int) -> float:
    """The share of boxes that agree if each true track is one found track all along."""
    together = np.zeros(_size(frames))
    for one, other, shared in frames:
        together[np.ix_(one, other)] += shared >= HIT
    agreed = sum(together[pair] for pair in _best(together))
    return float(2 * agreed / max(1, found + true))


def _hota(frames) -> float:
    """The mean over LEVELS of the square root of detection times association."""
    shape = _size(frames)
    likely, true, found = np.zeros(shape), np.zeros((shape[0], 1)), np.zeros((1, shape[1]))
    for one, other, shared in frames:
        sums = shared.sum(axis=0)[None] + shared.sum(axis=1)[:, None] - shared
        likely[np.ix_(one, other)] += np.divide(shared, sums, out=np.zeros_like(shared), where=sums > 1e-12)
        true[one] += 1
        found[0, other] += 1
    likely = likely / np.maximum(1e-12, true + found - likely)
    matched = np.zeros((len(LEVELS), *shape))
    for one, other, shared in frames:
        for row, column in _best(likely[np.ix_(one, other)] * shared):
            matched[:, one[row], other[column]] += shared[row, column] >= LEVELS - 1e-12
    hits = matched.sum(axis=(1, 2))
    detection = hits / np.maximum(1, true.sum() + found.sum() - hits)
    together = matched / np.maximum(1, true + found - matched)
    association = (matched * together).sum(axis=(1, 2)) / np.maximum(1, hits)
    return float(np.sqrt(detection * association).mean())


def _best(value: np.ndarray) -> list[tuple[int, int]]:
    """The pairs of row and column whose values have the largest sum."""
    return list(zip(*(part.tolist() for part in linear_sum_assignment(value, maximize=True)), strict=True))


def _size(frames) -> tuple[int, int]:
    """The number of true and of found tracks."""
    counts = [max((int(one[side].max(initial=-1)) for one in frames), default=-1) + 1 for side in (0, 1)]
    return counts[0], counts[1]
