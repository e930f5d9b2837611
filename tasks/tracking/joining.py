"""Pieces of tracks joined over the gaps in which something was hidden, and the gaps filled.

Two pieces are one track if the end of the one and the beginning of the other, each prolonged to the middle of the gap
with its own velocity, meet there: a box half the gap away is less wrong than one all of it away.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from tasks.tracking.boxes import Boxes, concatenate, make_boxes, overlap

SPAN = 0.7  # seconds over which the velocity of an end is measured
FEWEST = 5  # boxes that a velocity needs; with fewer, an end is taken to stand still
MEET = 0.2  # overlap in the middle of the gap, at least
ALIKE = 1.3  # ratio of the heights, at most
INSIDE = 0.6  # of a box that lies in another: it is a part of that one
LATE = 0.3  # what the longest gap costs, as overlap


@dataclass(frozen=True)
class End:
    """The first or the last moments of a piece."""

    frame: int
    centre: np.ndarray  # (2,) pixels
    size: np.ndarray  # (2,) pixels
    velocity: np.ndarray  # (2,) pixels a frame

    def after(self, frames: float) -> np.ndarray:
        """(4,) the box so many frames later, or, if negative, earlier."""
        return np.concatenate([self.centre + self.velocity * frames - self.size / 2, self.size])


def join(pieces: Boxes, *, fps: float, longest: int) -> Boxes:
    """The pieces with the numbers of the tracks that they make; gaps of at most `longest` frames are bridged."""
    known = pieces.tracks
    numbers, span = list(known), max(FEWEST, round(SPAN * fps))
    begins = [_end(known[number], slice(None, span), 0) for number in numbers]
    ends = [_end(known[number], slice(-span, None), -1) for number in numbers]
    value = np.zeros((len(numbers), len(numbers)))
    for one, end in enumerate(ends):
        for other, begin in enumerate(begins):
            gap = begin.frame - end.frame
            if 0 < gap <= longest and max(ratio := begin.size[1] / end.size[1], 1 / ratio) <= ALIKE:
                meeting = overlap(end.after(gap / 2)[None], begin.after(-gap / 2)[None])[0, 0]
                value[one, other] = 1 + meeting - LATE * gap / longest if meeting >= MEET else 0
    track = dict(zip(numbers, numbers, strict=True))
    for one, other in zip(*linear_sum_assignment(value, maximize=True), strict=True):
        if value[one, other]:
            track[numbers[other]] = track[numbers[one]]  # numbers rise with time: the earlier one is settled
    _, ids = np.unique([track[number] for number in pieces.ids.tolist()], return_inverse=True)
    return pieces.with_ids(ids + 1).sort()


def fill(tracks: Boxes, *, longest: int) -> Boxes:
    """The tracks with boxes in each gap of at most `longest` frames, on the straight line between those around it.

    Their score is that of the worse of these two.
    """
    parts = [tracks]
    for number, track in tracks.tracks.items():
        for place in np.flatnonzero(np.diff(track.frames) > 1):
            begin, end = track.frames[place : place + 2]
            if end - begin <= longest:
                between = np.arange(begin + 1, end)
                share = ((between - begin) / (end - begin))[:, None]
                xywh = track.xywh[place] * (1 - share) + track.xywh[place + 1] * share
                scores = np.full(len(between), track.scores[place : place + 2].min())
                same = {"ids": np.full(len(between), number), "labels": [track.labels[place]] * len(between)}
                parts.append(make_boxes(between, xywh, scores=scores, **same))
    return concatenate(parts)


def without_merged(tracks: Boxes) -> Boxes:
    """The tracks without those that are several longer ones at once, seen as one while they crossed."""
    known = tracks.tracks
    lengths = {number: len(track) for number, track in known.items()}
    merged = []
    for number, track in known.items():
        crowded = 0
        for frame, box in zip(track.frames.tolist(), track.xywh, strict=True):
            others = tracks.at(frame)
            others = others.xywh[[lengths[other] > lengths[number] for other in others.ids.tolist()]]
            low = np.maximum(others[:, :2], box[:2])
            high = np.minimum(others[:, :2] + others[:, 2:], box[:2] + box[2:])
            inside = np.prod(np.maximum(0, high - low), axis=1) / np.prod(others[:, 2:], axis=1)
            crowded += (inside > INSIDE).sum() >= 2
        if crowded >= lengths[number] / 2:
            merged.append(number)
    return tracks[~np.isin(tracks.ids, merged)]


def _end(piece: Boxes, part: slice, last: int) -> End:
    boxes = piece[part]
    centres = boxes.xywh[:, :2] + boxes.xywh[:, 2:] / 2
    still = len(boxes) < FEWEST
    velocity = np.zeros(2) if still else np.polyfit(boxes.frames - boxes.frames[0], centres, 1)[0]
    return End(int(boxes.frames[last]), centres[last], np.median(boxes.xywh[:, 2:], axis=0), velocity)
