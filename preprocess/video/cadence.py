"""Cadence: film whose pictures were repeated in turn to reach a higher rate, and how far apart they were filmed."""

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import av

REPEAT = 0.5  # grey levels; on average a picture and its repetition differ by less: coding alters them a little
MOVING = 5.0  # times as much changes between pictures that move on
SPAN = 12  # pictures through which a pattern must go, twice at least: 25 fps brought to 30 repeat one in six
EVEN = 1.5  # of the times between pictures of a constant rate, the longest by the shortest: ticks are coarse
KEPT = 1000  # pictures whose changes are remembered
GRID = 64  # rows and columns, about, by which pictures are compared


class Cadence:
    """Takes all pictures of a source with their times, whether the store's clock shows them or not.

    24 pictures a second become 30 by showing every fourth one twice (pulldown). Times then tell when a picture was
    shown, not when it was filmed. Where a pattern of repeated pictures goes on at a constant rate, those that are no
    repetition were filmed evenly over it.
    """

    def __init__(self) -> None:
        self.count = 0  # pictures so far
        self._seconds: list[float] = []  # of the latest pictures, at most 2 * KEPT
        self._changes: list[float] = []  # from the picture before each, in grey levels
        self._last: np.ndarray | None = None

    def push(self, image: "av.VideoFrame", seconds: float) -> "Filmed":
        """Take the next picture."""
        grid = _grid(image)
        is_like = grid is not None and self._last is not None and grid.shape == self._last.shape
        self._last, before = grid, self._last
        self._seconds.append(seconds)
        self._changes.append(float(np.abs(grid - before).mean()) if is_like else np.inf)
        self.count += 1
        if len(self._seconds) > 2 * KEPT:
            del self._seconds[:KEPT], self._changes[:KEPT]
        return Filmed(self, self.count - 1)

    def between(self, first: int, second: int) -> float | None:
        """The seconds between the moments at which two pictures, by their numbers from 0, were filmed.

        None where no pattern is seen, neither up to the second nor from the first on.
        """
        forgotten = self.count - len(self._seconds)
        first, second = first - forgotten, second - forgotten
        if first < 0:
            return None
        for begin in (second - SPAN, first):
            if begin <= first and second <= begin + SPAN and (apart := self._apart(begin)):
                new = self._repeats(begin)[first - begin : second - begin].count(False)
                return new * apart or None
        return None

    def _apart(self, begin: int) -> float | None:
        """The seconds from one filmed picture to the next in the SPAN after a picture, if there is a pattern."""
        if begin < 0 or begin + SPAN >= len(self._seconds):
            return None
        seconds, repeats = self._seconds[begin : begin + SPAN + 1], self._repeats(begin)
        times = [late - early for early, late in pairwise(seconds)]
        if max(times) > EVEN * min(times):
            return None
        for turn in range(2, SPAN // 2 + 1):
            new = repeats[:turn].count(False)
            if repeats[turn:] == repeats[:-turn] and 0 < new < turn:
                turns = SPAN // turn
                return (seconds[turns * turn] - seconds[0]) / (turns * new)
        return None

    def _repeats(self, begin: int) -> list[bool]:
        """Of each picture of the SPAN after a picture, whether it repeats the one before it."""
        changes = self._changes[begin + 1 : begin + 1 + SPAN]
        limit = min(REPEAT, max(changes) / MOVING)
        return [change < limit for change in changes]


@dataclass(frozen=True)
class Filmed:
    """When a picture was filmed, as far as its source's cadence tells."""

    cadence: Cadence
    number: int  # among the pictures of the source

    def until(self, later: "Filmed") -> float | None:
        """The seconds until a later picture was filmed; None if unknown."""
        return self.cadence.between(self.number, later.number) if self.cadence is later.cadence else None


def _grid(image: "av.VideoFrame") -> np.ndarray | None:
    """The brightness at places of a grid, (H, W) in grey levels; None of pictures not in memory, or upside down.

    Of formats that are not planar YUV, it is whatever comes first: enough to tell a repetition.
    """
    if not image.planes or image.planes[0].line_size <= 0:
        return None
    plane, bits = image.planes[0], image.format.components[0].bits
    kind = np.dtype(np.uint16 if bits > 8 else np.uint8)
    rows = np.frombuffer(plane, kind).reshape(plane.height, plane.line_size // kind.itemsize)
    step = max(1, min(plane.height, plane.width) // GRID)
    return rows[::step, : plane.width : step].astype(np.float32) / 2 ** max(0, bits - 8)
