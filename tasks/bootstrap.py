"""Confidence intervals for the difference between two models on the same videos."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from preprocess.common.errors import UserError
from preprocess.store.index import Video
from streams.split import group_numbers

UNITS = ("group", "video")
RESAMPLES = 10_000
BLOCK = 1 << 24  # counts that are drawn together


@dataclass(frozen=True)
class Interval:
    """A mean, and the interval of the mean over resampled units; None if there are too few units."""

    mean: float
    low: float | None
    high: float | None

    @property
    def above_zero(self) -> bool:
        return self.low is not None and self.low > 0


def paired_bootstrap(
    differences: np.ndarray, units: Sequence[int], *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """The percentile interval of the mean difference (Efron 1979), resampled by unit.

    differences: (N,), one a video: one model's score minus the other's. units: N numbers; videos of one unit, for
    instance of one group, are drawn together, since they are right or wrong together.
    """
    _, of = np.unique(np.asarray(units), return_inverse=True)
    sums, sizes = np.bincount(of, weights=differences), np.bincount(of)
    mean, count = float(np.mean(differences)), len(sums)
    if count < 2:
        return Interval(mean, None, None)
    # equal units are interchangeable: a resample is given by the counts of each kind, and the kinds are few
    kinds, numbers = np.unique(np.stack([sums.round(12), sizes], axis=1), axis=0, return_counts=True)
    rng, means = np.random.default_rng(seed), []
    step = max(1, BLOCK // len(kinds))
    for begin in range(0, resamples, step):
        drawn = rng.multinomial(count, numbers / count, size=min(step, resamples - begin))
        total, size = (drawn @ kinds).T
        means.append(total / size)
    tail = (1 - level) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return Interval(mean, float(low), float(high))


def units_of(videos: Sequence[Video], *, by: str = "group") -> list[int]:
    """The number of each video's unit: its group (a video without one is its own), or each video by itself.

    Raises UserError for an unknown unit.
    """
    if by not in UNITS:
        raise UserError(f"unknown unit '{by}': use {' or '.join(UNITS)}")
    return list(range(len(videos))) if by == "video" else group_numbers(videos)
