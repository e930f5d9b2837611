"""Which videos of an index are most like a query, and where.

Each window of the query looks for the window of a video that is most like it; the video's similarity is the mean over
the query's windows. Two windows are compared by the streams that both have: the weighted mean of their cosines. So a
copy that was muted, cut or slowed is still found, and what is missing speaks neither for nor against.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from preprocess.common.errors import UserError
from tasks.retrieval.describe import Described
from tasks.retrieval.index import Entry, Index
from tasks.retrieval.scan import NONE, Scan

NEAREST = 256  # windows of the index that each window of a query proposes
FEW = 200_000  # windows up to which all videos are compared
BLOCK = 1 << 16  # windows that are compared at a time
Weights = Mapping[str, float]  # part → how much it counts


@dataclass(frozen=True)
class Match:
    """A video that is like a query."""

    video: Entry
    score: float  # from -1 to 1
    row: int  # its window that is most like one of the query's
    time: tuple[float, float]  # of that window, in seconds
    asked: tuple[float, float]  # of the query's


def rank(index: Index, query: Described, weights: Weights, *, top: int, without: str | None = None) -> list[Match]:
    """The `top` videos most like a query, the likest first; `without` the one of this content.

    Exact up to FEW windows; of more, all videos that are among the NEAREST windows of any of the query's are compared.

    Raises UserError if the query has none of the parts that count.
    """
    there = np.any([query.present[name] for name in weights], axis=0)
    if not there.any():
        raise UserError(f"the query has nothing to compare: {', '.join(weights)} is missing in all of it")
    query = query.of(there)
    if not len(index):
        return []
    numbers = range(len(index.videos)) if len(index) <= FEW else _proposed(index, query, weights)
    found = []
    for video in (index.videos[number] for number in numbers):
        if video.content != without and video.windows:
            found.append(_match(index, query, weights, video))
    return sorted(found, key=lambda match: -match.score)[:top]


def nearest(index: Index, query: Described, weights: Weights, *, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The windows of an index most like each of a query's, exact: rows and similarities, (Q, count), best first."""
    count = min(count, len(index))
    rows, scores = np.empty((len(query), count), np.int64), np.empty((len(query), count), np.float32)
    for at in range(len(query)):
        rows[at], scores[at] = _nearest(index, query, weights, at, count)
    return rows, scores


def similarities(index: Index, query: Described, weights: Weights, rows: slice | np.ndarray) -> np.ndarray:
    """(Q, n) float32: each window of a query with windows of an index."""
    total = np.zeros((len(query), len(index.times[rows])), np.float32)
    share = np.zeros_like(total)
    for name, weight in weights.items():
        both = query.present[name][:, None] & index.there(name)[rows][None]
        total += weight * both * (query.vectors[name] @ index.vectors(name)[rows].astype(np.float32).T)
        share += weight * both
    return np.where(share > 0, total / np.maximum(share, 1e-9), NONE)


def _match(index: Index, query: Described, weights: Weights, video: Entry) -> Match:
    found = similarities(index, query, weights, video.rows)
    at, row = np.unravel_index(found.argmax(), found.shape)
    begin, end = index.times[video.begin + row].tolist()
    asked = query.times[at].tolist()
    return Match(video, float(found.max(axis=1).mean()), video.begin + int(row), (begin, end), (asked[0], asked[1]))


def _proposed(index: Index, query: Described, weights: Weights) -> list[int]:
    rows, _ = nearest(index, query, weights, count=NEAREST)
    return np.unique(index.video_of(np.unique(rows))).tolist()


def _nearest(index: Index, query: Described, weights: Weights, at: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of all similarities choose the few that are computed."""
    scan = Scan(len(index))
    for name, weight in weights.items():
        if query.present[name][at]:
            scan.add(*index.codes(name), index.there(name), query.vectors[name][at], weight)
    rows = scan.candidates(count)
    one = query.of(slice(at, at + 1))
    exact = np.concatenate(
        [similarities(index, one, weights, rows[k : k + BLOCK])[0] for k in range(0, len(rows), BLOCK)]
    )
    best = np.argsort(-exact, kind="stable")[:count]
    return rows[best], exact[best]
