"""Exact search in 8 bits: bounds on all similarities, from a byte a number, choose the few that are computed.

A unit vector x is kept as x ≈ scale · code, code in -127…127, beside the length of what that leaves out. For a query q
kept likewise, |q · x − scale_q scale_x code_q · code_x| ≤ |x's rest| + |q's rest| (1 + |x's rest|).
"""

import numpy as np
from numba import njit, prange

LEVELS = 127
BLOCK = 1024  # rows; of each block the largest lower bound is known
ROUNDING = np.float32(1e-5)  # of float32 sums
NONE = np.float32(-1)  # the similarity of what has no stream in common


def encode(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, D) float32 → codes (N, D) int8, and (N, 2) float32: scale, and the length of what the codes leave out."""
    scale = np.abs(vectors).max(axis=1, initial=0.0) / LEVELS
    codes = np.rint(vectors / np.where(scale > 0, scale, 1.0)[:, None]).astype(np.int8)
    rest = np.linalg.norm(vectors - codes * scale[:, None], axis=1)
    return codes, np.stack([scale, rest * (1 + 1e-5)], axis=1).astype(np.float32)


class Scan:
    """Bounds of weighted mean similarities: `add` one part after the other, then ask for the `candidates`."""

    def __init__(self, count: int) -> None:
        """count: N, rows of the index."""
        self._near, self._error, self._share = (np.zeros(count, np.float32) for _ in range(3))

    def add(self, codes: np.ndarray, kept: np.ndarray, there: np.ndarray, query: np.ndarray, weight: float) -> None:
        """A part of all rows, from `encode`, (N,) whether they have it, and the query's unit vector, (D,)."""
        code, own = encode(query[None].astype(np.float32))
        scale, rest = own[0]
        sums = self._near, self._error, self._share
        _add(codes, kept, there, code[0], scale, rest, np.float32(weight), *sums)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """(N,) similarities, and by how much each may be off."""
        share = np.maximum(self._share, 1e-9)
        near = np.where(self._share > 0, self._near / share, NONE)
        return near, np.where(self._share > 0, self._error / share, 0) + ROUNDING

    def candidates(self, count: int) -> np.ndarray:
        """Rows among which are the `count` most similar."""
        upper = np.empty_like(self._near)
        lower = np.empty(-(-len(upper) // BLOCK), np.float32)  # the largest lower bound of each block
        _finish(self._near, self._error, self._share, upper, lower)
        if count > len(lower):  # then blocks do not tell how many rows are that similar
            near, error = self.bounds()
            lower = near - error
        least = np.partition(lower, -count)[-count]
        return np.flatnonzero(upper >= least)


@njit(parallel=True, nogil=True, fastmath=True, cache=True)
def _add(codes, kept, there, query, scale, rest, weight, near, error, share):
    count, size = codes.shape
    for row in prange(count):
        if there[row]:
            total = np.int32(0)
            for k in range(size):
                total += np.int32(codes[row, k]) * np.int32(query[k])
            off = kept[row, 1]
            near[row] += weight * (np.float32(total) * (kept[row, 0] * scale))
            error[row] += weight * (off + rest * (np.float32(1) + off))
            share[row] += weight


@njit(parallel=True, nogil=True, cache=True)
def _finish(near, error, share, upper, lower):
    count = len(near)
    for block in prange(len(lower)):
        largest = np.float32(-np.inf)
        for row in range(block * BLOCK, min(count, (block + 1) * BLOCK)):
            value, off = NONE, ROUNDING
            if share[row] > 0:
                value, off = near[row] / share[row], error[row] / share[row] + ROUNDING
            upper[row] = value + off
            largest = max(largest, value - off)
        lower[block] = largest
