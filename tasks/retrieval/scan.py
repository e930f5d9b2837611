"""Exact search in 8 bits: bounds on all similarities, from a byte a number, choose the few that are computed.

A unit vector x is kept as x ≈ scale · code, code in -127…127, beside the length of what that leaves out. For a query q
kept likewise, |q · x − scale_q scale_x code_q · code_x| ≤ |x's rest| + |q's rest| (1 + |x's rest|).
"""

import numpy as np
from numba import njit, prange

LEVELS = 127


def encode(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, D) float32 → codes (N, D) int8, and (N, 2) float32: scale, and the length of what the codes leave out."""
    scale = np.abs(vectors).max(axis=1, initial=0.0) / LEVELS
    codes = np.rint(vectors / np.where(scale > 0, scale, 1.0)[:, None]).astype(np.int8)
    rest = np.linalg.norm(vectors - codes * scale[:, None], axis=1)
    return codes, np.stack([scale, rest * (1 + 1e-5)], axis=1).astype(np.float32)


@njit(parallel=True, nogil=True, fastmath=True, cache=True)
def products(codes: np.ndarray, query: np.ndarray, out: np.ndarray) -> None:
    """out (N,) int32 = codes (N, D) int8 · query (D,) int8."""
    count, size = codes.shape
    for row in prange(count):
        total = np.int32(0)
        for k in range(size):
            total += np.int32(codes[row, k]) * np.int32(query[k])
        out[row] = total


def bounds(codes: np.ndarray, kept: np.ndarray, query: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Similarities of a unit vector (D,) to all rows to within an error: (N,) and (N,) float32."""
    code, own = encode(query[None].astype(np.float32))
    found = np.empty(len(codes), np.int32)
    products(codes, code[0], found)
    scale, rest = np.float32(own[0, 0]), np.float32(own[0, 1])
    error = kept[:, 1] * (1 + rest) + rest
    return found * (kept[:, 0] * scale), error + np.float32(1e-5)
