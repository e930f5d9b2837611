"""One clock: what was decoded at any timestamps comes out at constant rates, in seconds from the first frame."""

from collections import deque
from collections.abc import Iterator
from heapq import heappop, heappush
from math import floor
from typing import Generic, TypeVar

import numpy as np

Image = TypeVar("Image")

LONGEST_GAP = 600.0  # seconds; timestamps that jump further are broken, not a still that is held
LONGEST_LAST_FRAME = 1.0  # s; how long the last frame stays is a guess, and a guess stays small
REWIND = 0.5  # s; frames that come this much too late are no disorder: the file's clock began anew
SOUND_AHEAD = 1800.0  # s; sound that is further ahead of the pictures is not held in memory
REORDER = 4  # frames that wait to be put in order: some files' B-frames come out a place or two late


class BrokenTimestamps(Exception):
    """The timestamps cannot be a video's."""


class FrameClock(Generic[Image]):
    """Turns frames at arbitrary times into a constant rate.

    Output frame k stands for the time k / fps, to within half a frame: every frame goes to the nearest slot, the last
    one of a slot wins, an empty slot repeats the frame before it. Frames a few places out of order are put in order.
    """

    def __init__(self, *, fps: float) -> None:
        self.fps = fps
        self.start: float | None = None  # the first frame's time: zero of the clock
        self.last = 0.0  # the newest frame's time
        self.placed = 0  # frames that got a slot
        self.dropped = 0  # frames that came too late to be put in order
        self.rewound = 0  # of those, the ones for which the file's clock had begun anew
        self.emitted = 0  # frames given out; also the slot of the frame that is on display
        self._displayed: Image | None = None
        self._newest: float | None = None
        self._is_rewound = False
        self._waiting: list[tuple[float, int, Image]] = []  # a heap by time

    @property
    def seconds(self) -> float:
        """How long the frames given out are shown."""
        return self.emitted / self.fps

    @property
    def lost(self) -> float:
        """Seconds of frames that could not be placed because the file's clock began anew."""
        return self.rewound * self._mean(0.0)

    def push(self, time: float | None, image: Image, *, step: float) -> Iterator[tuple[Image, int]]:
        """Take one frame; give out each that is settled by now, with how often it is shown.

        A frame without a time (None) follows its predecessor by `step` seconds.
        """
        if time is None:
            time = 0.0 if self._newest is None else self._newest + step
        self._newest = time
        heappush(self._waiting, (time, self.placed + self.dropped + len(self._waiting), image))
        if len(self._waiting) > REORDER:
            yield from self._place(*heappop(self._waiting))

    def finish(self, *, step: float) -> Iterator[tuple[Image, int]]:
        """Give out the rest. The last frame stays as long as the frames do on average; a lone one, `step`."""
        while self._waiting:
            yield from self._place(*heappop(self._waiting))
        if self.start is not None:
            end = self.last + min(self._mean(step), LONGEST_LAST_FRAME)
            yield from self._show_until(max(1, self._slot(end)))

    def _mean(self, lone: float) -> float:
        """Seconds from a frame to the next, or `lone` where there is no next."""
        return (self.last - (self.start or 0.0)) / (self.placed - 1) if self.placed > 1 else lone

    def _place(self, time: float, _: int, image: Image) -> Iterator[tuple[Image, int]]:
        if self.start is None:
            self.start = self.last = time
        elif time <= self.last:
            self.dropped += 1
            self._is_rewound |= self.last - time > REWIND
            self.rewound += self._is_rewound
            return
        elif time - self.last > LONGEST_GAP:
            at = self.last - self.start
            raise BrokenTimestamps(f"timestamps jump by {time - self.last:.0f} s after {at:.2f} s")
        yield from self._show_until(self._slot(time))
        self._displayed, self.last, self._is_rewound = image, time, False
        self.placed += 1

    def _slot(self, time: float) -> int:
        return floor((time - (self.start or 0.0)) * self.fps + 0.5)

    def _show_until(self, slot: int) -> Iterator[tuple[Image, int]]:
        if slot > self.emitted and self._displayed is not None:
            count, self.emitted = slot - self.emitted, slot
            yield self._displayed, count


class SampleClock:
    """Cuts a stream of samples that may start before or after zero into the part from zero on.

    Samples wait until `begin` says where they start, and until `take` asks for their time. Where there are
    none, silence stands in, and `covered` says from when to when there were some.
    """

    def __init__(self, *, rate: int) -> None:
        self.rate = rate
        self.count = 0  # samples given out
        self.peak = 0.0  # largest magnitude among the samples given out
        self.covered: tuple[float, float] | None = None  # seconds between which samples were given out
        self._waiting: deque[np.ndarray] = deque()
        self._held = 0  # samples that wait
        self._is_full = False
        self._position: int | None = None  # of the first sample that waits, counted from zero

    @property
    def begun(self) -> bool:
        return self._position is not None

    def begin(self, seconds: float) -> None:
        """Say when the first sample sounds; negative is before zero."""
        self._position = floor(seconds * self.rate + 0.5)

    def push(self, samples: np.ndarray) -> None:
        """Take samples (N,) that follow the ones before them.

        Where too many wait already, these and all that follow are let go: no pictures that they could belong to have
        come for a long time.
        """
        self._is_full |= self._held > SOUND_AHEAD * self.rate
        if not self._is_full and len(samples):
            self._waiting.append(samples)
            self._held += len(samples)

    def take(self, count: int) -> Iterator[np.ndarray]:
        """Give out what is known of the first `count` samples and was not given out yet."""
        while self.count < count and self._waiting and self._position is not None:
            if self._position > self.count:
                yield from self.pad(min(self._position, count))
                continue
            samples = self._waiting.popleft()
            self._held -= len(samples)
            skip = self.count - self._position
            self._position += len(samples)
            if skip >= len(samples):
                continue
            samples = samples[skip:]
            rest = samples[count - self.count :]
            if len(rest):
                self._waiting.appendleft(rest)
                self._held += len(rest)
                self._position -= len(rest)
                samples = samples[: count - self.count]
            begin = self.count / self.rate if self.covered is None else self.covered[0]
            self.peak = max(self.peak, float(np.abs(samples).max()))
            self.count += len(samples)
            self.covered = (begin, self.count / self.rate)
            yield samples

    def pad(self, count: int) -> Iterator[np.ndarray]:
        """Silence up to `count` samples in all, in blocks that stay small however long it is."""
        while self.count < count:
            block = min(count - self.count, 1 << 18)
            self.count += block
            yield np.zeros(block, np.float32)
