"""What each asked video of an episode is most like: the prototype of a class, or its known videos step by step."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numba import njit

from tasks.fewshot.embed import Embedded
from tasks.fewshot.episodes import Episode

LEAST = 1e-12
# features, (Q,) rows of videos that are asked about, W arrays of those known of each class → (Q, W) similarities
Scores = Callable[[Embedded, np.ndarray, list[np.ndarray]], np.ndarray]


def classify(
    streams: Mapping[str, Embedded],
    labels: Sequence[str],
    episode: Episode,
    *,
    score: Scores,
    trust: Mapping[str, float] | None = None,
) -> list[str]:
    """The class of each asked video: that of the largest similarity, added up over the streams.

    A stream says nothing of a video that lacks it, nor of a class of which no known video has it: the similarity is the
    mean over the streams that both have, weighted by `trust` where that names them, else by 1.
    """
    trust = trust or {}
    classes = sorted({labels[row] for row in episode.support})
    query, support = np.array(episode.query), np.array(episode.support)
    of_class = [support[[labels[row] == name for row in support]] for name in classes]
    total, counted = np.zeros((2, len(query), len(classes)))
    for name, one in streams.items():
        known = [rows[one.present[rows]] for rows in of_class]
        both = one.present[query][:, None] & np.array([len(rows) > 0 for rows in known])
        weight = trust.get(name, 1.0)
        total += np.where(both, weight * score(one, query, known), 0.0)
        counted += weight * both
    mean = np.where(counted > 0, total / np.where(counted > 0, counted, 1), -np.inf)
    return [classes[at] for at in mean.argmax(axis=1)]


def prototypes(one: Embedded, query: np.ndarray, known: list[np.ndarray]) -> np.ndarray:
    """Cosine similarity to the mean of a class's unit vectors (Snell et al. 2017, with the cosine): (Q, W)

    All vectors are taken from the mean of the classes' known videos (as in SimpleShot, Wang et al. 2019, whose mean is
    of other classes): what all videos have in common would make all of them alike, in one stream more than in another.
    """
    vectors, classes = unit(one.vectors), [rows for rows in known if len(rows)]
    if len(classes) > 1:
        vectors = unit(vectors - np.mean([vectors[rows].mean(axis=0) for rows in classes], axis=0))
    means = unit(np.stack([vectors[rows].sum(axis=0) for rows in known]))
    return vectors[query] @ means.T


class Warping:
    """Similarity by dynamic time warping (Sakoe and Chiba 1978) of the steps' cosine distances, each pair once."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int, int], float] = {}

    def __call__(self, one: Embedded, query: np.ndarray, known: list[np.ndarray]) -> np.ndarray:
        """The mean similarity to a class's known videos: (Q, W)"""
        return np.array(
            [[np.mean([self._pair(one, row, other) for other in rows] or [0.0]) for rows in known] for row in query]
        )

    def _pair(self, one: Embedded, row: int, other: int) -> float:
        key = (id(one), min(row, other), max(row, other))
        if key not in self._known:
            first, second = (unit(one.sequences[at]) for at in key[1:])
            cost = 1.0 - first.astype(np.float64) @ second.T.astype(np.float64)
            self._known[key] = 1.0 - warped(cost) if cost.size else 0.0
        return self._known[key]


@njit(cache=True)
def warped(cost: np.ndarray) -> float:
    """(N, M) distances between the steps of two sequences → the least mean distance along a path from the first pair to
    the last one, a step forward in either or in both, where a step in both counts twice (Sakoe and Chiba 1978, P = 0).
    """
    rows, columns = cost.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0.0
    for row in range(rows):
        for column in range(columns):
            here = cost[row, column]
            both = total[row, column] + 2 * here
            total[row + 1, column + 1] = min(both, total[row, column + 1] + here, total[row + 1, column] + here)
    return total[rows, columns] / (rows + columns)


def unit(vectors: np.ndarray) -> np.ndarray:
    """(…, D) → of length one; zeros stay."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), LEAST)
