"""Flow as a velocity at each step of the store's clock, whatever the frame rate of the source.

The clock repeats pictures or leaves some out. Flow between what it shows would be zero, then twice the motion: it would
tell the camera's frame rate. So flow is solved between the source's own pictures, each once, and every step from a
picture to the next one holds their displacement divided by the time between them: that between the moments at which
they were filmed, where a cadence or the motion beside it tells it.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt

import numpy as np

from preprocess.video.cadence import MOVING, REPEAT, Filmed

LONGEST = 0.26  # s between two pictures; what changes over a longer time is no motion: slides, stills, time-lapse
COUNTED = 5  # pictures that tell how often pictures are repeated here
LEAST = 1e-3  # pixels; less is no motion to speak of
SAME = 1e-6  # relative; times closer to the clock's than this are the clock's

Solve = Callable[[np.ndarray], np.ndarray]  # (T, H, W) uint8 → (T - 1, H, W, 2) float32, pixels
Emit = Callable[[np.ndarray, Sequence[int]], object]  # velocities (N, H, W, 2), and for how many steps each holds


@dataclass
class _Picture:
    grey: np.ndarray  # (H, W) uint8
    steps: int  # of the clock, from this picture to the next
    seconds: float
    change: float  # mean difference from the picture before, in grey levels
    filmed: Filmed | None
    repeats: int = 0  # of it, before the next picture


class Velocities:
    """Takes grey pictures with their times, and sends velocities in pixels a step, `chunk` of them at a time.

    A picture that repeats the one before it, as where a camera or a conversion duplicates some, is no picture of its
    own if the motion goes on within LONGEST seconds. If it does not, there was a stop, and there the flow is zero.
    """

    def __init__(self, *, fps: float, solve: Solve, emit: Emit, chunk: int) -> None:
        self._fps, self._solve, self._emit, self._chunk = fps, solve, emit, chunk
        self._pictures: list[_Picture] = []  # those whose flow is not solved yet; of the last, the next is not known
        self._repeats: list[_Picture] = []  # after the last of them, if the motion goes on
        self._counts: deque[int] = deque(maxlen=COUNTED)  # repeats after each of the latest pictures
        self._change = np.inf  # of the latest picture that moved on
        self._last: np.ndarray | None = None  # (H, W, 2), the newest velocity

    @property
    def ahead(self) -> int:
        """The number of steps that are decided, and not yet sent."""
        return sum(picture.steps for picture in self._pictures[:-1])

    def push(self, grey: np.ndarray, *, steps: int, seconds: float, filmed: Filmed | None = None) -> None:
        """Take the next picture, (H, W) uint8, which the clock shows for so many steps."""
        import cv2

        if not self._pictures:
            self._pictures.append(_Picture(grey, steps, seconds, 0.0, filmed))
            return
        first, before = self._pictures[-1], (self._repeats or self._pictures)[-1]
        if not 0 < seconds - before.seconds <= LONGEST:
            self._end(gap=True)
            self._pictures.append(_Picture(grey, steps, seconds, 0.0, filmed))
            return
        change = cv2.norm(grey, before.grey, cv2.NORM_L1) / grey.size
        picture = _Picture(grey, steps, seconds, change, filmed)
        is_soon = seconds - first.seconds <= LONGEST
        if change < min(REPEAT, self._change / MOVING):
            self._repeats.append(picture)
            if not is_soon:  # a stop
                self._settle(moves_on=False)
                self._change = change
            return
        moves_on = is_soon and all(change > MOVING * repeat.change for repeat in self._repeats)
        self._settle(moves_on=moves_on)
        self._change = change
        self._pictures.append(picture)
        if len(self._pictures) >= self._chunk:
            self.solve()

    def solve(self) -> None:
        """Send all velocities that are decided; the last picture stays, as the first of the next pair."""
        if len(self._pictures) > 1:
            flows = self._solve(np.stack([picture.grey for picture in self._pictures]))
            for flow, seconds in zip(flows, self._apart(flows), strict=True):
                if abs(self._fps * seconds - 1) > SAME:
                    flow /= np.float32(self._fps * seconds)
            self._emit(flows, [picture.steps for picture in self._pictures[:-1]])
            self._last = flows[-1].copy()
        del self._pictures[:-1]

    def _apart(self, flows: np.ndarray) -> list[float]:
        """The seconds over which each displacement was filmed.

        A cadence holds if the motion is more even by it: cameras also lose pictures in turn. Where there is none and a
        picture is repeated once, the motion beside it tells whether the camera lost one, so that the next is two
        displacements away, or one was put in, so that it is one away.
        """
        pairs = list(pairwise(self._pictures))
        shown = [other.seconds - one.seconds for one, other in pairs]
        filmed = [one.filmed.until(other.filmed) if one.filmed and other.filmed else None for one, other in pairs]
        # where a codec changes a scene nearly still at every sixth picture, the others are no repetitions
        evenly = [one if one and 0.5 <= one / other <= 2 else other for one, other in zip(filmed, shown, strict=True)]
        motion = np.abs(flows).mean(axis=(1, 2, 3)) + LEAST
        apart = min(evenly, shown, key=lambda seconds: np.abs(np.diff(np.log(motion / seconds))).sum())
        speeds = motion / apart
        for at, (picture, _) in enumerate(pairs):
            beside = [speeds[k] for k in (at - 1, at + 1) if 0 <= k < len(pairs) and not pairs[k][0].repeats]
            if picture.repeats == 1 and not filmed[at] and beside and speeds[at] * sqrt(2) < np.mean(beside):
                apart[at] /= 2
        return apart

    def finish(self) -> None:
        """Send the rest: no picture follows, or the next one belongs to another scene."""
        self._end(gap=False)

    def _settle(self, *, moves_on: bool) -> None:
        """Decide on the repeats: they belong to the picture before them, or are pictures like others."""
        if moves_on:
            self._pictures[-1].steps += sum(repeat.steps for repeat in self._repeats)
            self._pictures[-1].repeats = len(self._repeats)
            self._counts.append(len(self._repeats))
        else:
            self._pictures += self._repeats
        self._repeats.clear()

    def _end(self, *, gap: bool) -> None:
        """Send all, so that the next picture begins anew. Over a gap nothing moves; at the end motion goes on."""
        if not self._pictures:
            return
        self._settle(moves_on=bool(self._repeats) and len(self._repeats) <= max(self._counts, default=0))
        self.solve()
        last = self._pictures.pop()
        goes_on = not gap and self._last is not None and last.steps / self._fps <= LONGEST
        flow = self._last if goes_on else np.zeros((*last.grey.shape, 2), np.float32)
        if steps := last.steps - (not gap):  # the last picture of all leads nowhere
            self._emit(flow[None], [steps])
        self._change, self._last = np.inf, None
