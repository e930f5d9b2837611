"""Alarms: how rare scores are in normal video, a threshold at a rate of false alarms, and the events above it."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from tasks.events.event import Event

SMOOTH = 0.2  # seconds; standard deviation of the Gaussian that joins neighbouring moments
JOIN = 1.0  # seconds; alarms that are closer are one
HIGH = 0.1  # share of the scores of normal video that tell how the rest of them falls off
FEWEST = 3  # scores that do


@dataclass(frozen=True)
class Tail:
    """How the scores of normal video fall off: exponentially, above a level that a share of them exceeds (peaks over
    threshold; Siffer et al., KDD 2017, with shape 0)."""

    count: int  # scores
    level: float
    share: float  # of the scores above the level
    fall: float  # by this much further up there are e times fewer

    @classmethod
    def of(cls, scores: np.ndarray) -> "Tail":
        """(N,) scores, of which at least one"""
        count = max(min(FEWEST, len(scores)), round(HIGH * len(scores)))
        upper = np.sort(scores)[-count:]
        level = float(upper[0])
        return cls(len(scores), level, count / len(scores), max(1e-6, float((upper - level).mean())))

    def rarity(self, scores: np.ndarray) -> np.ndarray:
        """How rare scores are: about 0 below the level, and above it the logarithm of how many times rarer than it."""
        return np.logaddexp(0, (scores - self.level) / self.fall)

    def threshold(self, rate: float) -> float:
        """Of the greatest scores of seconds: what `rate` of them an hour are expected to exceed."""
        return self.level + self.fall * max(0.0, math.log(3600 * self.share / rate))

    def is_guess(self, rate: float) -> bool:
        """True if the normal video was too short to have seen what happens so seldom."""
        return self.count * rate < 3600


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
