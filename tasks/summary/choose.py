"""The choice of pieces: those that stand for as much of what is important as fits into the time there is.

Weighted facility location, a submodular function of the set S of chosen pieces: the sum over all windows i of
w_i · max over j in S of likeness(i, j). A second piece of the same moment adds little, so that redundancy needs no term
of its own. Under the knapsack of the time, pieces are taken by their gain a second (Lin and Bilmes, "Multi-document
summarization via budgeted maximization of submodular functions", NAACL 2010). Gains only fall as S grows, so that one
that is still the highest after it was computed again is the highest of all (Minoux 1978).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

import numpy as np

from tasks.summary.evidence import Evidence

SHARP = 2  # power of the cosine: how much alike moments must be to stand for each other
NEAR = 10.0  # seconds after which likeness has fallen to 1 / e: later, it is another moment
FURTHEST = 5 * NEAR  # seconds beyond which it counts as none
POWER = 3  # of the importance, as weight
STEP = 0.25  # seconds from one candidate to the next
SHORTEST = 0.6  # seconds of a shot that may be a piece


@dataclass(frozen=True)
class Candidate:
    """A piece that may be kept, and the windows that it stands for."""

    start: float  # seconds
    end: float
    windows: slice  # within the piece
    first: int  # the window to which likeness[0] belongs
    likeness: np.ndarray  # (M,) between 0 and 1, of windows nearby

    @property
    def seconds(self) -> float:
        return self.end - self.start

    @property
    def nearby(self) -> slice:
        return slice(self.first, self.first + len(self.likeness))


@dataclass(frozen=True)
class Chosen:
    """A kept piece, and the share of the video's importance that it added."""

    candidate: Candidate
    gain: float


def candidates(evidence: Evidence, *, piece: float) -> list[Candidate]:
    """Pieces of `piece` seconds within one shot, from STEP to STEP; a shorter shot is one piece."""
    middles, unlike = evidence.middles, evidence.unlike
    found = []
    for begin, end in zip(evidence.shots[:-1], evidence.shots[1:], strict=True):
        if end - begin < min(SHORTEST, evidence.seconds):
            continue
        length = min(piece, end - begin)
        for start in np.arange(begin, end - length + 1e-6, STEP).tolist():
            at = (start + start + length) / 2
            low, high = np.searchsorted(middles, [start, start + length]).tolist()
            if low == high:  # a short piece between two windows: the nearest stands for it
                low = int(np.abs(middles - at).argmin())
                high = low + 1
            first, last = np.searchsorted(middles, [at - FURTHEST, at + FURTHEST]).tolist()
            first, last = min(first, low), max(last, high)
            alike = (unlike[first:last] @ unlike[low:high].T).max(axis=1).clip(0, 1) ** SHARP
            alike *= np.exp(-np.abs(middles[first:last] - at).clip(0) / NEAR)
            found.append(Candidate(start, start + length, slice(low, high), first, alike.astype(np.float32)))
    return found


def choose(given: Sequence[Candidate], weights: np.ndarray, *, budget: float) -> list[Chosen]:
    """The chosen pieces, none of which overlap, the first chosen first; together at most `budget` seconds.

    `weights`, (N,) ≥ 0, say how much each window wants to be represented.
    """
    total = weights.sum()
    if total <= 0:
        return []
    weights = weights / total
    covered = np.zeros(len(weights))
    taken: list[Chosen] = []

    def gain(one: Candidate) -> float:
        return float(weights[one.nearby] @ np.maximum(one.likeness - covered[one.nearby], 0))

    queue = [(-gain(one) / one.seconds, number) for number, one in enumerate(given)]
    heapify(queue)
    while queue:
        _, number = heappop(queue)
        one = given[number]
        overlaps = any(one.start < kept.candidate.end and kept.candidate.start < one.end for kept in taken)
        if one.seconds > budget + 1e-9 or overlaps:
            continue
        added = gain(one)
        if queue and -added / one.seconds > queue[0][0] + 1e-12:
            heappush(queue, (-added / one.seconds, number))
            continue
        if added <= 0:
            break
        taken.append(Chosen(one, added))
        budget -= one.seconds
        covered[one.nearby] = np.maximum(covered[one.nearby], one.likeness)
    return taken
