"""How good answers are, with intervals over groups: recall of classes (UAR), concordance, correlation, error."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000


@dataclass(frozen=True)
class Measure:
    """A measure, and its 95 % interval over other groups: None if there is but one."""

    name: str
    value: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        interval = "" if self.low is None else f" ({self.low:.3f} to {self.high:.3f})"
        return f"{self.value:.3f}{interval}"


def class_measures(answers: np.ndarray, classes: np.ndarray, groups: np.ndarray) -> list[Measure]:
    """answers: (N, K), the highest counts; classes: (N,) → UAR, the mean of the recalls, and top-1."""
    count, size = groups.max() + 1, answers.shape[1]
    table = np.zeros((count, size, size))  # of each group: truth, answer
    np.add.at(table, (groups, classes, answers.argmax(axis=1)), 1)

    def recall(tables: np.ndarray) -> np.ndarray:
        there = tables.sum(axis=-1)
        right = np.diagonal(tables, axis1=-2, axis2=-1)
        share = np.divide(right, there, out=np.zeros_like(there), where=there > 0)
        return share.sum(axis=-1) / (there > 0).sum(axis=-1)  # of the classes that are there

    def accuracy(tables: np.ndarray) -> np.ndarray:
        return np.trace(tables, axis1=-2, axis2=-1) / tables.sum(axis=(-2, -1))

    return [_measured("UAR", recall, table), _measured("top-1", accuracy, table)]


def number_measures(answers: np.ndarray, truth: np.ndarray, groups: np.ndarray) -> list[Measure]:
    """answers, truth: (N,) → CCC, Pearson's correlation and the root of the mean squared error."""
    moments = np.stack([np.ones_like(truth), answers, truth, answers**2, truth**2, answers * truth], axis=1)
    table = np.zeros((groups.max() + 1, 6))
    np.add.at(table, groups, moments)

    def parts(sums: np.ndarray) -> tuple[np.ndarray, ...]:
        mean = sums[..., 1:] / sums[..., :1]
        p, t, pp, tt, pt = np.moveaxis(mean, -1, 0)
        return p - t, np.maximum(pp - p**2, 1e-12), np.maximum(tt - t**2, 1e-12), pt - p * t, pp + tt - 2 * pt

    def ccc(sums: np.ndarray) -> np.ndarray:
        away, mine, true, both, _ = parts(sums)
        return 2 * both / (mine + true + away**2)

    def pearson(sums: np.ndarray) -> np.ndarray:
        _, mine, true, both, _ = parts(sums)
        return both / np.sqrt(mine * true)

    def error(sums: np.ndarray) -> np.ndarray:
        return np.sqrt(np.maximum(parts(sums)[4], 0))

    return [_measured("CCC", ccc, table), _measured("Pearson", pearson, table), _measured("RMSE", error, table)]


def _measured(name: str, measure: Callable[[np.ndarray], np.ndarray], table: np.ndarray) -> Measure:
    """table: (G, …), sums of each group, which are drawn with replacement (percentile bootstrap, Efron 1979)."""
    value = float(measure(table.sum(axis=0)))
    count = len(table)
    if count < 2:
        return Measure(name, value, None, None)
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    low, high = np.quantile(measure(np.tensordot(drawn, table, axes=1)), [0.025, 0.975])
    return Measure(name, value, float(low), float(high))
