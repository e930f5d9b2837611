"""From what a temporal head says at each point to a list of events."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.events.metrics import temporal_iou

LEAST = 0.002  # score below which a point says nothing
MOST = 300  # points of a video and class that are looked at, the surest
OVERLAP = 0.5  # σ of soft non-maximum suppression (Bodla et al. 2017, eq. 2)


@dataclass(frozen=True)
class Points:
    """What is said at the P points of all levels of one video."""

    spans: np.ndarray  # (P, 2) seconds
    scores: np.ndarray  # (P, K)


def suppress(points: Points, *, seconds: float) -> list[tuple[float, float, int, float]]:
    """(begin, end, class, score) of the events, from the surest on; spans are cut off at 0 and `seconds`.

    Of each class the surest span is taken, others lose score the more they overlap it, and so on: events of one class
    may overlap, copies fade.
    """
    spans = points.spans.clip(0, seconds)
    longer = spans[:, 1] > spans[:, 0]
    found = []
    for number in range(points.scores.shape[1]):
        scores = np.where(longer, points.scores[:, number], 0)
        rows = np.argsort(-scores, kind="stable")[:MOST]
        left, its = scores[rows].copy(), spans[rows]
        while len(left) and (best := int(left.argmax())) >= 0 and left[best] >= LEAST:
            found.append((*its[best].tolist(), number, float(left[best])))
            overlap = temporal_iou(its[best : best + 1], its)[0]
            left = left * np.exp(-(overlap**2) / OVERLAP)
            left[best] = 0
    return sorted(found, key=lambda event: -event[3])


def mean_points(parts: Sequence[Points]) -> Points:
    """The mean of what several heads say at the same points; spans count by the score of their surest class."""
    weights = np.stack([part.scores.max(axis=1) for part in parts])[..., None]
    spans = (np.stack([part.spans for part in parts]) * weights).sum(axis=0) / weights.sum(axis=0).clip(min=1e-12)
    return Points(spans, np.mean([part.scores for part in parts], axis=0))
