"""One clock: frames and samples with any timestamps are output at constant rates, in seconds from the first frame."""

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from math import floor
from typing import Generic, TypeVar

import numpy as np

Image = TypeVar("Image")
Ticks = int | float | Fraction  # integers for files: with rounded times, chance would decide between two slots

LONGEST_GAP = 600  # s; a longer jump of the timestamps needs the header's word to be a still picture
LONGEST_GUESS = 1  # s; a last frame's unknown duration is kept small
SOUND_AHEAD = 1800.0  # s; sound further ahead of the pictures is not held in memory


class BrokenTimestamps(Exception):
    """Timestamps that no video can have."""


class FrameClock(Generic[Image]):
    """Resamples frames at arbitrary times to a constant rate.

    Output frame k stands for the time k / fps, to within half a frame: every frame goes to the nearest slot, an empty
    slot repeats the frame before it. Of several frames in one slot, the one nearest to its time is shown, where they
    follow each other within half a slot (sources of twice the rate and more), else the last one.
    """

    def __init__(self, *, fps: float, tick: Fraction = Fraction(1), known_until: float = 0.0) -> None:
        """`tick` is the unit of all times, in seconds. `known_until` is the end of the file by its header, in seconds:
        up to there a still picture may last for any time."""
        self.fps = fps
        self.placed = 0  # frames in order
        self.dropped = 0  # frames that came too late, or whose time is broken
        self.emitted = 0  # output frames; also the slot of the newest frame
        self._tick, self._tick_seconds = tick, float(tick)
        rate = Fraction(fps).limit_denominator(100_000) * tick  # slots a tick, as a ratio of integers
        self._slots, self._ticks = rate.numerator, rate.denominator
        self._known_until = known_until
        self._first: Ticks | None = None
        self._last: Ticks = 0
        self._nearest: Image | None = None  # of the newest slot's frames, the one nearest to its time
        self._latest: Image | None = None
        self._distance: Ticks = 0  # of the nearest frame from its slot's time, in slots / self._ticks

    @property
    def start(self) -> float | None:
        """The first frame's time, the zero of this clock, in seconds on the file's clock."""
        return None if self._first is None else float(self._first * self._tick)

    @property
    def reached(self) -> float:
        """The newest frame's time, in seconds from the first one."""
        return 0.0 if self._first is None else float(self._last - self._first) * self._tick_seconds

    @property
    def seconds(self) -> float:
        """The duration of the output frames."""
        return self.emitted / self.fps

    def seconds_at(self, time: Ticks) -> float:
        """A frame's time, in seconds from the first one."""
        assert self._first is not None
        return float((time - self._first) * self._tick)

    def push(self, time: Ticks, image: Image) -> Iterator[tuple[Image, int]]:
        """Take the next frame; yield each frame whose slots are settled by now, with its number of repeats.

        Raises BrokenTimestamps for a jump that the header does not explain.
        """
        if self._first is None:
            self._first = time
        elif time <= self._last:
            self.dropped += 1
            return
        elif (time - self._last) * self._tick > LONGEST_GAP and time * self._tick > self._known_until + 1:
            if self.placed > 1:
                jump = float((time - self._last) * self._tick)
                raise BrokenTimestamps(f"timestamps jump by {jump:.0f} s after {self.reached:.2f} s")
            self._first, self._latest = time, None  # the first frame's time is the broken one
            self.placed, self.dropped = 0, 1
        slot = self._slot(time)
        distance = abs((time - self._first) * self._slots - slot * self._ticks)
        is_new = self._latest is None or slot > self.emitted
        wins = is_new or 2 * (time - self._last) * self._slots > self._ticks or distance < self._distance
        yield from self._show_until(slot)
        if wins:
            self._nearest, self._distance = image, distance
        self._latest, self._last = image, time
        self.placed += 1

    def finish(self, *, end: Ticks | None, step: float) -> Iterator[tuple[Image, int]]:
        """Yield the rest. If the `end` of the last frame is unknown, it lasts as long as frames do on average.

        A lone one lasts `step` seconds then.
        """
        if self._first is None:
            return
        if end is None:
            mean = self.reached / (self.placed - 1) if self.placed > 1 else step
            end = self._last + Fraction(min(mean, LONGEST_GUESS)) / self._tick
        yield from self._show_until(max(1, self._slot(end)))

    def _slot(self, time: Ticks) -> int:
        assert self._first is not None
        return int((2 * (time - self._first) * self._slots + self._ticks) // (2 * self._ticks))

    def _show_until(self, slot: int) -> Iterator[tuple[Image, int]]:
        count = slot - self.emitted
        if count <= 0 or self._nearest is None or self._latest is None:
            return
        self.emitted = slot
        if self._nearest is self._latest:
            yield self._latest, count
            return
        yield self._nearest, 1
        if count > 1:
            yield self._latest, count - 1


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
        self._waiting: deque[np.ndarray | int] = deque()  # samples, or the length of a silence
        self._held = 0  # samples held, without silences
        self._is_full = False
        self._position: int | None = None  # position of the first sample held, counted from zero

    @property
    def begun(self) -> bool:
        return self._position is not None

    def begin(self, seconds: float) -> None:
        """Set the time of the first sample; negative is before zero."""
        self._position = floor(seconds * self.rate + 0.5)

    def push(self, samples: "np.ndarray | int") -> None:
        """Take samples (N,), or a silence of so many samples, that follow the previous ones.

        If too many are held already, these and all later ones are dropped: no pictures that they could belong to have
        come for a long time.
        """
        self._is_full |= self._held > SOUND_AHEAD * self.rate
        length = _length(samples)
        if not self._is_full and length:
            self._waiting.append(samples)
            self._held += 0 if isinstance(samples, int) else length

    def take(self, count: int) -> Iterator[np.ndarray]:
        """Yield those of the first `count` samples that are there and were not yet output."""
        while self.count < count and self._waiting and self._position is not None:
            if self._position > self.count:
                yield from self.pad(min(self._position, count))
                continue
            samples = self._waiting.popleft()
            length = _length(samples)
            skip = self.count - self._position
            used = min(length - skip, count - self.count)
            self._held -= 0 if isinstance(samples, int) else length
            self._position += length
            if used <= 0:
                continue
            rest = length - skip - used
            if rest:
                self._waiting.appendleft(rest if isinstance(samples, int) else samples[-rest:])
                self._held += 0 if isinstance(samples, int) else rest
                self._position -= rest
            if isinstance(samples, int):
                yield from self.pad(self.count + used)
                continue
            begin = self.count / self.rate if self.covered is None else self.covered[0]
            samples = samples[skip : skip + used]
            self.peak = max(self.peak, float(np.abs(samples).max()))
            self.count += used
            self.covered = (begin, self.count / self.rate)
            yield samples

    def pad(self, count: int) -> Iterator[np.ndarray]:
        """Yield silence up to `count` samples in all, in small blocks."""
        while self.count < count:
            block = min(count - self.count, 1 << 18)
            self.count += block
            yield np.zeros(block, np.float32)


def _length(samples: "np.ndarray | int") -> int:
    return samples if isinstance(samples, int) else len(samples)
