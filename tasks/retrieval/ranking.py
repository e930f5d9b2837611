"""Which videos of an index are most like a query, and where.

Each window of the query looks for the window of a video that is most like it; the video's similarity is the mean over
the query's windows. Two windows are compared by the streams that both have: the weighted mean of their cosines, after
whitening where content is compared. So a copy that was muted, cut or slowed is still found, and what is missing speaks
neither for nor against.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from preprocess.common.errors import UserError
from tasks.retrieval.describe import Described
from tasks.retrieval.graph import Graphs
from tasks.retrieval.index import Entry, Index
from tasks.retrieval.scan import NONE, Scan
from tasks.retrieval.whitening import Whitened, some_rows

NEAREST = 256  # windows of the index that each window of a query proposes
FEW = 50_000  # windows up to which all videos are compared
BLOCK = 1 << 14  # windows that are compared at a time
CROWD, NEIGHBOURS, EACH = 50, 10, 32  # videos, videos, and windows of each: see _apart
Weights = Mapping[str, float]  # part → how much it counts


@dataclass(frozen=True)
class Match:
    """A video that is like a query."""

    video: Entry
    score: float  # from -1 to 1
    row: int  # its window that is most like one of the query's
    time: tuple[float, float]  # of that window, in seconds
    asked: tuple[float, float]  # of the query's


@dataclass(frozen=True)
class Ranked:
    """Videos by their likeness to a query."""

    matches: list[Match]  # the first ones
    order: np.ndarray  # (n,) the numbers of all that were compared, the likest first


def rank(
    index: Index,
    query: Described,
    weights: Weights,
    *,
    top: int,
    without: str | None = None,
    graphs: Graphs | None = None,
    whitened: Mapping[str, Whitened] | None = None,
) -> Ranked:
    """The videos most like a query, `top` of them with the place; `without` the one of this content.

    Exact up to FEW windows; of more, all videos that are among the NEAREST windows of any of the query's are compared,
    which are found exactly without `graphs`, and nearly all of them, in far less time, with. With `whitened`, videos
    are compared by these cosines of the parts, and the likest CROWD are put in order by _apart too.

    Raises UserError if the query has none of the parts that count.
    """
    there = np.any([query.present[name] for name in weights], axis=0)
    if not there.any():
        raise UserError(f"the query has nothing to compare: {', '.join(weights)} is missing in all of it")
    query = query.of(there)
    if len(index) <= FEW:
        numbers = np.arange(len(index.videos))
    else:
        numbers = _by_graphs(index, query, weights, graphs) if graphs else _proposed(index, query, weights)
    numbers = np.array([number for number in numbers if not index.videos[number].removed], np.int64)
    if not len(numbers):
        return Ranked([], numbers)
    scores = np.concatenate([_scores(index, query, weights, part, whitened) for part in _blocks(index, numbers)])
    if without is not None:
        scores[[index.videos[number].content == without for number in numbers]] = -np.inf
    best = np.argsort(-scores, kind="stable")[: int(np.isfinite(scores).sum())]
    if whitened:
        first = best[:CROWD]
        by = scores[first] + _apart(index, [index.videos[number] for number in numbers[first]], weights, whitened)
        best[:CROWD] = first[np.argsort(-by, kind="stable")]
    found = [_match(index, query, weights, int(numbers[at]), float(scores[at]), whitened) for at in best[:top]]
    return Ranked(found, numbers[best])


def nearest(index: Index, query: Described, weights: Weights, *, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The windows of an index most like each of a query's, exact: rows and similarities, (Q, count), best first."""
    count = min(count, len(index))
    rows, scores = np.empty((len(query), count), np.int64), np.empty((len(query), count), np.float32)
    for at in range(len(query)):
        rows[at], scores[at] = _nearest(index, query, weights, at, count)
    return rows, scores


def similarities(
    index: Index,
    query: Described,
    weights: Weights,
    rows: slice | np.ndarray,
    whitened: Mapping[str, Whitened] | None = None,
) -> np.ndarray:
    """(Q, n) float32: each window of a query with windows of an index."""
    total = np.zeros((len(query), len(index.times[rows])), np.float32)
    share = np.zeros_like(total)
    for name, weight in weights.items():
        both = query.present[name][:, None] & index.there(name)[rows][None]
        if whitened:
            cosines = whitened[name].cosines(query.vectors[name], rows)
        else:
            cosines = query.vectors[name] @ index.vectors(name)[rows].astype(np.float32).T
        total += weight * both * cosines
        share += weight * both
    return np.where(share > 0, total / np.maximum(share, 1e-9), NONE)


def _scores(
    index: Index, query: Described, weights: Weights, numbers: np.ndarray, whitened: Mapping[str, Whitened] | None
) -> np.ndarray:
    """(n,) similarities of videos: over the query's windows, the mean of the likest window's."""
    spans = [index.videos[number].rows for number in numbers]
    rows = np.concatenate([np.arange(span.start, span.stop) for span in spans])
    begins = np.cumsum([0, *(span.stop - span.start for span in spans[:-1])])
    return np.maximum.reduceat(similarities(index, query, weights, rows, whitened), begins, axis=1).mean(axis=0)


def _apart(index: Index, videos: list[Entry], weights: Weights, whitened: Mapping[str, Whitened]) -> np.ndarray:
    """(n,) what is added to the similarities of the videos that a query finds.

    Some videos are like all others, and would come first for every query. Half of how like each is to its NEIGHBOURS
    nearest among these is taken away (cross-domain similarity local scaling; Conneau et al. 2018, section 2.3), in EACH
    windows of it. The similarities of fewer than twice as many videos stay as they are.
    """
    if len(videos) < 2 * NEIGHBOURS:
        return np.zeros(len(videos), np.float32)
    rows = [some_rows(video, EACH) for video in videos]
    begins = np.cumsum([0, *map(len, rows[:-1])])
    among = index.described(every := np.concatenate(rows))
    found = np.maximum.reduceat(similarities(index, among, weights, every, whitened), begins, axis=1)
    likeness = np.add.reduceat(found, begins, axis=0) / np.array([*map(len, rows)], np.float32)[:, None]
    np.fill_diagonal(likeness, -np.inf)
    crowded = np.sort(likeness, axis=1)[:, -NEIGHBOURS:].mean(axis=1)
    return (crowded.mean() - crowded) / 2


def _match(
    index: Index, query: Described, weights: Weights, number: int, score: float, whitened: Mapping[str, Whitened] | None
) -> Match:
    video = index.videos[number]
    found = similarities(index, query, weights, video.rows, whitened)
    at, row = np.unravel_index(found.argmax(), found.shape)
    begin, end = index.times[video.begin + row].tolist()
    asked = query.times[at].tolist()
    return Match(video, score, video.begin + int(row), (begin, end), (asked[0], asked[1]))


def _blocks(index: Index, numbers: np.ndarray) -> list[np.ndarray]:
    """The numbers of videos in parts of about BLOCK windows."""
    windows = np.cumsum([index.videos[number].windows for number in numbers])
    return np.split(numbers, np.searchsorted(windows, np.arange(BLOCK, windows[-1], BLOCK)))


def _proposed(index: Index, query: Described, weights: Weights) -> np.ndarray:
    rows, _ = nearest(index, query, weights, count=NEAREST)
    return np.unique(index.video_of(np.unique(rows)))


def _by_graphs(index: Index, query: Described, weights: Weights, graphs: Graphs) -> np.ndarray:
    """As _proposed, by each part's graph, and by comparing all rows that the graphs do not know."""
    rows = [graphs.near(name, query.vectors[name][query.present[name]], NEAREST) for name in weights]
    for begin in range(graphs.rows, len(index), BLOCK):
        part = slice(begin, min(begin + BLOCK, len(index)))
        likeness = similarities(index, query, weights, part)
        few = min(NEAREST, likeness.shape[1])
        rows.append(begin + np.unique(np.argpartition(-likeness, few - 1, axis=1)[:, :few]))
    return np.unique(index.video_of(np.unique(np.concatenate(rows))))


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
