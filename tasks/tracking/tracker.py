"""Detections of one video as tracks, from boxes alone: pieces that are beyond doubt first, then the pieces joined.

Boxes are assigned to pieces by their overlap with where a Kalman filter expects them, first those with high scores,
then those with low ones to pieces that found none (Zhang et al., "ByteTrack", ECCV 2022). A piece ends as soon as
nothing fits well for a moment. `joining.join` then finds which pieces are one and the same, looking at both sides of
each gap, which nothing can that must answer at once.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from tasks.tracking.boxes import Boxes, overlap
from tasks.tracking.joining import fill, join, without_merged
from tasks.tracking.kalman import Motion
from tasks.tracking.settings import FollowSettings

MOMENT = 0.2  # seconds without a box after which a piece ends


@dataclass
class Piece:
    """A piece of a track while it grows."""

    motion: Motion
    rows: list[int]  # its detections

    def add(self, row: int, box: np.ndarray) -> None:
        self.motion.update(box)
        self.rows.append(row)


def follow(boxes: Boxes, *, fps: float, settings: FollowSettings) -> Boxes:
    """The tracks of detections, numbered from 1 on, with gaps filled; detections that belong to none are left out."""
    pieces = track_pieces(boxes, fps=fps, settings=settings)
    longest = round(settings.patience * fps)
    return without_merged(fill(join(pieces, fps=fps, longest=longest), longest=longest))


def track_pieces(boxes: Boxes, *, fps: float, settings: FollowSettings) -> Boxes:
    """The detections that belong to pieces of at least `shortest` boxes, with the pieces' numbers from 1 on."""
    scores, moment = probabilities(boxes.scores), max(1, round(MOMENT * fps))
    alive: list[Piece] = []
    done: list[Piece] = []
    for frame in range(int(boxes.frames.max(initial=-1)) + 1):
        rows = np.arange(*np.searchsorted(boxes.frames, (frame, frame + 1)))
        sure, faint = rows[scores[rows] >= settings.sure], rows[scores[rows] < settings.sure]
        for piece in alive:
            piece.motion.predict()
        left = _assign(alive, sure, boxes, least=settings.overlap)
        _assign([piece for piece in alive if piece.motion.gap], faint, boxes, least=settings.overlap)
        alive += [Piece(Motion(boxes.xywh[row]), [row]) for row in left]
        done += [piece for piece in alive if piece.motion.gap >= moment]
        alive = [piece for piece in alive if piece.motion.gap < moment]
    ids = np.full(len(boxes), -1)
    kept = [piece for piece in done + alive if len(piece.rows) >= settings.shortest]
    for number, piece in enumerate(sorted(kept, key=lambda piece: piece.rows[0]), start=1):
        ids[piece.rows] = number
    return boxes.with_ids(ids)[ids >= 0].sort()


def probabilities(scores: np.ndarray) -> np.ndarray:
    """Scores between 0 and 1 as they are; others are margins of a classifier, of which 0 is the middle."""
    if not len(scores) or (scores.min() >= 0 and scores.max() <= 1):
        return scores
    return 1 / (1 + np.exp(-np.clip(scores, -50, 50)))


def _assign(pieces: list[Piece], rows: np.ndarray, boxes: Boxes, *, least: float) -> list[int]:
    """Add detections to the pieces that they overlap by at least `least`, the best choice of all; what is left."""
    if not pieces or not len(rows):
        return rows.tolist()
    expected = np.stack([piece.motion.xywh for piece in pieces])
    shared = overlap(expected, boxes.xywh[rows])
    shared[shared < least] = 0
    taken = set()
    for one, other in zip(*linear_sum_assignment(shared, maximize=True), strict=True):
        if shared[one, other]:
            pieces[one].add(int(rows[other]), boxes.xywh[rows[other]])
            taken.add(int(rows[other]))
    return [row for row in rows.tolist() if row not in taken]
