"""Alarms: a threshold from normal video at a rate of false alarms, and the events of what is above it."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from tasks.events.event import Event

SMOOTH = 0.2  # seconds; standard deviation of the Gaussian that joins neighbouring moments
JOIN = 1.0  # seconds; alarms that are closer are one
HIGH = 0.1  # share of normal seconds whose greatest scores tell how the rest of them falls off
FEWEST = 3  # seconds that do


@dataclass(frozen=True)
class Tail:
    """How the greatest score in each second of normal video falls off: exponentially, above a level that a share of
    the seconds exceeds (peaks over threshold; Siffer et al., KDD 2017, with shape 0)."""

    seconds: float  # of normal video
    level: float
    share: float  # of its seconds above the level
    fall: float  # by this much further up there are e times fewer

    @classmethod
    def of(cls, peaks: np.ndarray) -> "Tail":
        """(N,) the greatest score in each second of normal video"""
        count = max(min(FEWEST, len(peaks)), round(HIGH * len(peaks)))
        upper = np.sort(peaks)[-count:]
        level = float(upper[0])
        return cls(float(len(peaks)), level, count / len(peaks), max(1e-6, float((upper - level).mean())))

    def threshold(self, rate: float) -> float:
        """The score that `rate` seconds of an hour of normal video are expected to exceed."""
        return self.level + self.fall * max(0.0, math.log(3600 * self.share / rate))

    def is_guess(self, rate: float) -> bool:
        """True if the normal video was too short to have seen what happens so seldom."""
        return self.seconds * rate < 3600


def smooth(scores: np.ndarray, *, step: float) -> np.ndarray:
    """(N,) scores of moments `step` seconds apart, joined with their neighbours'"""
    return gaussian_filter1d(scores, SMOOTH / step, mode="nearest") if len(scores) else scores


def peaks(times: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The greatest score in each second that has one."""
    of = times.astype(int)
    return np.array([scores[of == second].max() for second in np.unique(of)])


def alarms(
    times: np.ndarray, scores: np.ndarray, causes: np.ndarray, *, video: str, step: float, threshold: float
) -> list[Event]:
    """The events in which scores are above the threshold; (N,) times, scores, and names of the stream behind each.

    An event's label is the stream at its greatest score, and its own score that one, s, as s / (s + threshold).
    """
    above = np.nonzero(scores > threshold)[0]
    if not len(above):
        return []
    cuts = np.nonzero(np.diff(times[above]) > JOIN + step)[0] + 1
    found = []
    for part in np.split(above, cuts):
        best = part[scores[part].argmax()]
        surely = float(scores[best] / (scores[best] + threshold))
        start, end = float(times[part[0]]), float(times[part[-1]] + step)
        found.append(Event(video=video, start=start, end=end, label=str(causes[best]), score=surely))
    return found
