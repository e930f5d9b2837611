"""One clock: frames and samples with any timestamps are output at constant rates, in seconds from the first frame."""

from collections import deque
from collections.abc import Iterator
from heapq import heappop, heappush
from math import floor
from typing import Generic, TypeVar

import numpy as np

Image = TypeVar("Image")

LONGEST_GAP = 600.0  # seconds; a longer jump of the timestamps is an error, not a still picture
LONGEST_LAST_FRAME = 1.0  # s; the last frame's duration is a guess, so it is kept small
REWIND = 0.5  # s; frames this much too late are not out of order: the file's clock began anew
SOUND_AHEAD = 1800.0  # s; sound further ahead of the pictures is not held in memory
REORDER = 4  # frames held back for sorting: some files' B-frames come out a place or two late


class BrokenTimestamps(Exception):
    """Timestamps that no video can have."""


class FrameClock(Generic[Image]):
    """Resamples frames at arbitrary times to a constant rate.

    Output frame k stands for the time k / fps, to within half a frame: every frame goes to the nearest slot, the last
    one of a slot wins, an empty slot repeats the frame before it. Frames a few places out of order are sorted.
    """

    def __init__(self, *, fps: float) -> None:
        self.fps = fps
        self.start: float | None = None  # the first frame's time: zero of the clock
        self.last = 0.0  # the newest frame's time
        self.placed = 0  # frames that got a slot
        self.dropped = 0  # frames that came too late to be sorted
        self.rewound = 0  # of those, the ones for which the file's clock had begun anew
        self.emitted = 0  # output frames; also the slot of the current frame
        self._displayed: Image | None = None
        self._newest: float | None = None
        self._is_rewound = False
        self._waiting: list[tuple[float, int, Image]] = []  # a heap by time

    @property
    def seconds(self) -> float:
        """The duration of the output frames."""
        return self.emitted / self.fps

    @property
    def lost(self) -> float:
        """Seconds of frames that could not be placed because the file's clock began anew."""
        return self.rewound * self._mean(0.0)

    def push(self, time: float | None, image: Image, *, step: float) -> Iterator[tuple[Image, int]]:
        """Take one frame; yield each frame whose slots are settled by now, with its number of repeats.

        A frame without a time (None) follows its predecessor by `step` seconds.
        """
        if time is None:
            time = 0.0 if self._newest is None else self._newest + step
        self._newest = time
        heappush(self._waiting, (time, self.placed + self.dropped + len(self._waiting), image))
        if len(self._waiting) > REORDER:
            yield from self._place(*heappop(self._waiting))

    def finish(self, *, step: float) -> Iterator[tuple[Image, int]]:
        """Yield the rest. The last frame lasts as long as frames do on average; a lone one, `step` seconds."""
        while self._waiting:
            yield from self._place(*heappop(self._waiting))
        if self.start is not None:
            end = self.last + min(self._mean(step), LONGEST_LAST_FRAME)
            yield from self._show_until(max(1, self._slot(end)))

    def _mean(self, lone: float) -> float:
        """Mean seconds from a frame to the next, or `lone` for a single frame."""
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
    """Outputs a stream of samples, which may start before or after zero, from time zero on.

    Samples are held until `begin` sets their start and `take` requests their time. Missing samples become silence;
    `covered` is the interval in which there were some.
    """

    def __init__(self, *, rate: int) -> None:
        self.rate = rate
        self.count = 0  # output samples
        self.peak = 0.0  # largest magnitude among the output samples
        self.covered: tuple[float, float] | None = None  # seconds between which there were samples
        self._waiting: deque[np.ndarray] = deque()
        self._held = 0  # samples held
        self._is_full = False
        self._position: int | None = None  # position of the first sample held, counted from zero

    @property
    def begun(self) -> bool:
        return self._position is not None

    def begin(self, seconds: float) -> None:
        """Set the time of the first sample; negative is before zero."""
        self._position = floor(seconds * self.rate + 0.5)

    def push(self, samples: np.ndarray) -> None:
        """Take samples (N,) that follow the previous ones.

        If too many are held already, these and all later ones are dropped: no pictures that they could belong to have
        come for a long time.
        """
        self._is_full |= self._held > SOUND_AHEAD * self.rate
        if not self._is_full and len(samples):
            self._waiting.append(samples)
            self._held += len(samples)

    def take(self, count: int) -> Iterator[np.ndarray]:
        """Yield those of the first `count` samples that are there and were not yet output."""
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
        """Yield silence up to `count` samples in all, in small blocks."""
        while self.count < count:
            block = min(count - self.count, 1 << 18)
            self.count += block
            yield np.zeros(block, np.float32)
