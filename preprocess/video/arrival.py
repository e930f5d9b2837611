"""A live video as it comes: each item with the moment at which it was due or arrived; what is lost is absent."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from preprocess.video.decoded import Absent, Frame, Item, Samples
from preprocess.video.limits import Unusable
from preprocess.video.log_mel import SAMPLE_RATE

STILL = 1.0  # s; a picture is taken to last no longer: of what follows there is no picture
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 5.0  # s; between attempts to reach a source that is lost


class Over(Exception):
    """A recording has been played to its end, and is not tried again."""


class Clock(Protocol):
    """Moments in seconds, and waiting; time.monotonic and time.sleep."""

    def monotonic(self) -> float: ...

    def sleep(self, seconds: float, /) -> None: ...


@dataclass
class Position:
    """How far a live video is: its pictures and its sound, each counted by itself."""

    fps: float
    frames: int = 0
    samples: int = 0

    def add(self, item: Item) -> None:
        """Go on by one item."""
        if isinstance(item, Frame):
            self.frames += item.count
        elif isinstance(item, Samples):
            self.samples += len(item.samples)
        else:
            self.frames += item.frames
            self.samples += item.samples

    def absent_until(self, seconds: float) -> Absent:
        """What is missing up to a time, so that sound and pictures are in step again there."""
        frames = max(self.frames, round(seconds * self.fps))
        return Absent(frames - self.frames, max(0, round(frames / self.fps * SAMPLE_RATE) - self.samples))


def paced(items: Iterable[Item], *, fps: float, clock: Clock = time) -> Iterator[tuple[float, Item]]:
    """Items handed out when a camera would: each picture at its time, sound when it has sounded.

    The moments are those at which they were due, which passes on the delay of a decoder that cannot keep up.
    """
    position, begun = Position(fps), None
    for item in items:
        begun = clock.monotonic() if begun is None else begun
        position.add(item)
        until = position.samples / SAMPLE_RATE if isinstance(item, Samples) else (position.frames - 1) / fps
        wait = begun + until - clock.monotonic()
        if wait > 0:
            clock.sleep(wait)
        yield begun + until, item


def arriving(items: Iterable[Item], *, clock: Clock = time) -> Iterator[tuple[float, Item]]:
    """Items with the moments at which they come."""
    return ((clock.monotonic(), item) for item in items)


class Lasting:
    """A source that is reached again after it is lost. Time goes on meanwhile, and what lies between is absent."""

    def __init__(
        self,
        connect: Callable[[], Iterable[tuple[float, Item]]],
        *,
        fps: float,
        reconnect: float,
        note: Callable[[str], None] = lambda text: None,
        clock: Clock = time,
    ) -> None:
        """`connect` gives the source's items from now on, until it is lost, or raises Over, a recording. After a loss
        it is tried again for `reconnect` seconds.

        note: takes a line for people.
        """
        self.reconnects = 0
        self._connect, self._reconnect = connect, reconnect
        self._note, self._clock = note, clock
        self._position = Position(fps)
        self._begun: float | None = None  # the moment of the first item

    def __iter__(self) -> Iterator[tuple[float, Item]]:
        """Raises Unusable if the source cannot be reached the first time."""
        lost, pause = 0.0, FIRST_PAUSE  # the moment of the last loss, and the time until the next attempt
        while True:
            came, why = False, "it has ended"
            try:
                for moment, item in self._connect():
                    if not came:
                        yield from self._begin(moment)
                        came = True
                    for part in self._parts(item):
                        self._position.add(part)
                        yield moment, part
            except Over:
                return
            except (Unusable, OSError) as error:
                why = str(error)
            if self._begun is None:
                raise Unusable(why)
            now = self._clock.monotonic()
            if came:
                lost, pause = now, FIRST_PAUSE
                self._note(f"lost ({why}): trying again for {self._reconnect:g} s")
            if now + pause - lost > self._reconnect:
                self._note(f"not found again within {self._reconnect:g} s ({why})")
                return
            yield from self._wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _begin(self, moment: float) -> Iterator[tuple[float, Item]]:
        if self._begun is None:
            self._begun = moment
            return
        self.reconnects += 1
        self._note("found again")
        yield from self._absent(moment)

    def _absent(self, moment: float) -> Iterator[tuple[float, Item]]:
        absent = self._position.absent_until(moment - self._begun)
        self._position.add(absent)
        yield moment, absent

    def _wait(self, seconds: float) -> Iterator[tuple[float, Item]]:
        """Let time go on."""
        until = self._clock.monotonic() + seconds
        while (left := until - self._clock.monotonic()) > 0:
            self._clock.sleep(min(left, 1.0))
            yield from self._absent(self._clock.monotonic())

    def _parts(self, item: Item) -> Iterator[Item]:
        """The item; of a picture that would be shown for long, as where packets were lost, one and the rest absent."""
        if isinstance(item, Frame) and item.count > max(1, round(STILL * self._position.fps)):
            yield replace(item, count=1)
            yield Absent(frames=item.count - 1)
        else:
            yield item
