"""Similarities in which directions that vary within videos count less: they say little of which recording it is.

Within-class covariance normalisation (Hatch, Kajarekar and Stolcke 2006), where a class is a video of the index: no
label is needed. Nothing of it is kept: up to SAMPLE windows, the same ones give the same, in whatever order they came.
"""

import numpy as np

from tasks.retrieval.index import Entry, Index

SAMPLE = 20_000  # windows to learn from, at most
EACH = 64  # of one video
SHARE = 1.0  # of the mean variance, added to all, for few windows


class Whitened:
    """Cosines with the windows of one part of an index, after whitening."""

    def __init__(self, index: Index, name: str) -> None:
        self._vectors, self._lengths = index.vectors(name), np.full(len(index), np.nan, np.float32)
        self._mean, self._matrix = _learn(index, name)

    def cosines(self, queries: np.ndarray, rows: slice | np.ndarray) -> np.ndarray:
        """(Q, D) unit vectors and n rows of the index → (Q, n) float32; of rows that lack the part it says nothing."""
        asked = (queries - self._mean) @ self._matrix
        asked /= np.maximum(np.linalg.norm(asked, axis=1, keepdims=True), 1e-9)
        back = asked @ self._matrix.T  # Wx · Wq is x · WᵀWq: rows need no product with W but once, for their lengths
        vectors = self._vectors[rows].astype(np.float32)
        return (back @ vectors.T - (back @ self._mean)[:, None]) / self._lengths_of(rows, vectors)

    def _lengths_of(self, rows: slice | np.ndarray, vectors: np.ndarray) -> np.ndarray:
        found = self._lengths[rows]
        new = np.isnan(found)
        if new.any():
            found[new] = np.maximum(np.linalg.norm((vectors[new] - self._mean) @ self._matrix, axis=1), 1e-9)
            self._lengths[rows] = found
        return found


def some_rows(video: Entry, count: int) -> np.ndarray:
    """The numbers of at most so many of a video's windows, evenly spaced."""
    return video.begin + np.unique(np.linspace(0, video.windows - 1, min(count, video.windows)).astype(np.int64))


def _learn(index: Index, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The mean window, (D,), and the symmetric matrix (D, D) by which the rest from it is multiplied, float32.

    The root of the inverse of the covariance within videos. Of a single video, no mean is taken away.
    """
    step = -(-sum(min(EACH, video.windows) for video in index.held) // SAMPLE)
    there, vectors = index.there(name), index.vectors(name)
    chosen = [rows[there[rows]] for rows in (some_rows(video, EACH) for video in index.held[:: max(1, step)])]
    known = [vectors[rows].astype(np.float64) for rows in chosen if len(rows)]
    size = vectors.shape[1]
    if len(known) < 2:
        return np.zeros(size, np.float32), np.eye(size, dtype=np.float32)
    rest = np.concatenate([rows - rows.mean(axis=0) for rows in known])
    values, axes = np.linalg.eigh(rest.T @ rest / len(rest))
    values = np.maximum(values, 0) + max(SHARE * values.mean(), 1e-9)
    matrix = (axes / np.sqrt(values)) @ axes.T
    return np.concatenate(known).mean(axis=0).astype(np.float32), matrix.astype(np.float32)
