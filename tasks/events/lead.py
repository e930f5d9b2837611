"""By how much one detector is ahead of another, with an interval over the judged videos."""

from collections.abc import Sequence

import numpy as np

from tasks.bootstrap import Interval
from tasks.events.event import Event
from tasks.events.metrics import THRESHOLDS, Matches, match

DRAWS = 500
LEVEL = 0.95

Judged = list[list[Matches]]  # of each video, of each class


def judged(truth: Sequence[Event], found: Sequence[Event]) -> Judged:
    """Which events of each video and class are right."""
    videos, classes = (sorted({getattr(event, name) for event in truth}) for name in ("video", "label"))

    def of(events: Sequence[Event], video: str, label: str) -> list[Event]:
        return [event for event in events if (event.video, event.label) == (video, label)]

    return [
        [match(of(truth, video, label), of(found, video, label), THRESHOLDS) for label in classes] for video in videos
    ]


def mean_map(rows: Sequence[Sequence[Matches]]) -> float:
    """mAP, the mean over THRESHOLDS, of videos; classes without a true event among them do not count."""
    values = [Matches.joined(list(one)).average_precision().mean() for one in zip(*rows, strict=True)]
    return float(np.nanmean(values))


def resampled(runs: Sequence[Judged], *, seed: int = 0) -> np.ndarray:
    """(1 + DRAWS,) mAP, the mean over runs: of all videos, then of draws of as many, with repetition (Efron 1979).

    The draws of the same seed are the same: what is compared is compared on the same videos.
    """
    count, rng = len(runs[0]), np.random.default_rng(seed)
    rows = [np.arange(count), *rng.integers(count, size=(DRAWS, count))]
    return np.array([np.mean([mean_map([one[row] for row in some]) for one in runs]) for some in rows])


def lead(ours: np.ndarray, theirs: np.ndarray, *, videos: int) -> Interval:
    """By how much `ours` is ahead of `theirs`, both from resampled; without bounds for a single video."""
    ahead = ours - theirs
    if videos < 2:
        return Interval(float(ahead[0]), None, None)
    low, high = np.quantile(ahead[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(ahead[0]), float(low), float(high))
