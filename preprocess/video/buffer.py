"""The queue between the thread that decodes a live video and the one that uses it: bounded, the oldest pictures go."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from preprocess.common.errors import UserError
from preprocess.video.arrival import Lasting, Position
from preprocess.video.decoded import Absent, Frame, Item, Samples
from preprocess.video.limits import Unusable
from preprocess.video.log_mel import SAMPLE_RATE

CAPACITY = 2.0  # s of pictures
SOUND_CAPACITY = 10.0  # s; sound costs next to nothing, so that it goes on while pictures are dropped
STANDING = 3.0  # s; pictures that have waited all this time are dropped too, so that a delay does not stay
SHORT = 0.25  # of the capacity; fewer pictures are not a delay
STALL = 1.0  # s without any item
GLANCE = 0.1  # s; between two looks at whether to stop
KEPT = 4096  # moments of items, about a minute's


class LiveBuffer:
    """Iterate it once, in any thread; it decodes in a thread of its own from then on.

    All pictures but the newest go at once where it is full: many small gaps would leave no window without one. In their
    place is an `Absent` of the same length, so that time goes on, and sound stays in step.
    """

    def __init__(
        self,
        source: Iterable[tuple[float, Item]],
        *,
        name: str,
        fps: float,
        patience: float,
        lossless: bool = False,
        seconds: float | None = None,
        stop: Callable[[], bool] = lambda: False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            source: items and the moments at which they were due or arrived.
            name: the source's, for errors.
            patience: seconds to wait for the first item.
            lossless: let the decoder wait instead of dropping.
            seconds: end after so many of the video's.
            stop: asked all the time; end as soon as it says so.
        """
        self.dropped = 0  # pictures
        self.stalls = 0  # times at which nothing came for STALL seconds
        self.latest: np.ndarray | None = None  # (H, W, 3) uint8, the newest picture that was taken
        self._source, self._name, self._fps, self._patience = source, name, fps, patience
        self.lossless = lossless
        self._monotonic = monotonic
        self._seconds, self._stop = seconds, stop
        self._items: deque[tuple[float, Item]] = deque()
        self._waiting = Position(fps)  # the sum of the pictures and the sound in self._items
        self._changed = threading.Condition()
        self._ended = False
        self._stopped = False
        self._error: BaseException | None = None
        self._last: float | None = None  # the moment of the newest item
        self._short_at: float | None = None  # the latest moment at which few pictures waited
        self._moments: deque[tuple[int, float, float]] = deque(maxlen=KEPT)

    def __iter__(self) -> Iterator[Item]:
        """Raises UserError if nothing comes, or the source cannot be used."""
        threading.Thread(target=self._fill, daemon=True).start()  # a read of a dead source may never return
        begun, taken = self._monotonic(), Position(self._fps)
        while (entry := self._take(begun)) is not None:
            moment, item = entry
            before = taken.frames
            taken.add(item)
            if isinstance(item, Frame):
                self.latest = item.rgb
            if taken.frames > before:
                self._moments.append((taken.frames, moment, self._monotonic()))
            yield item
            if self._seconds is not None and taken.frames >= self._seconds * self._fps:
                self.stop()

    @property
    def reconnects(self) -> int:
        """How often the source was lost and found again."""
        return self._source.reconnects if isinstance(self._source, Lasting) else 0

    def moments(self, frame: int) -> tuple[float, float] | None:
        """The moments at which a frame was due or arrived, and at which it was taken from the queue.

        Ask in the order of time, from one thread. None if that is forgotten.
        """
        while self._moments and self._moments[0][0] <= frame:
            self._moments.popleft()
        return self._moments[0][1:] if self._moments else None

    def stop(self) -> None:
        """End, as if the source had."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def put(self, moment: float, item: Item) -> bool:
        """Take an item from the source; False after `stop`."""
        with self._changed:
            while self.lossless and not self._stopped and self._waiting.frames >= CAPACITY * self._fps:
                self._changed.wait(GLANCE)
            now = self._monotonic()
            self.stalls += self._last is not None and now - self._last > STALL
            self._last = now
            if isinstance(item, Absent):
                if self._items and isinstance(self._items[-1][1], Absent):
                    item = self._items.pop()[1] + item
            else:
                self._waiting.add(item)
            self._items.append((moment, item))
            if not self.lossless:
                if self._waiting.frames > CAPACITY * self._fps:
                    self._drop(Frame)
                if self._waiting.samples > SOUND_CAPACITY * SAMPLE_RATE:
                    self._drop(Samples)
            self._changed.notify_all()
            return not self._stopped

    def _fill(self) -> None:
        try:
            for moment, item in self._source:
                if not self.put(moment, item):
                    return
        except BaseException as error:  # goes to the thread that takes
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _take(self, begun: float) -> tuple[float, Item] | None:
        with self._changed:
            while not (self._items or self._ended or self._stopped or self._stop()):
                if self._last is None and self._monotonic() - begun > self._patience:
                    self._stopped = True
                    raise UserError(f"{self._name}: nothing came within {self._patience:g} s (--patience)")
                self._changed.wait(GLANCE)
            if self._stopped or self._stop():
                self._stopped = True
                return None
            if not self._items:
                self._raise()
                return None
            self._drain()
            moment, item = self._items.popleft()
            if isinstance(item, Frame):
                self._waiting.frames -= item.count
            elif isinstance(item, Samples):
                self._waiting.samples -= len(item.samples)
            self._changed.notify_all()
            return moment, item

    def _raise(self) -> None:
        if isinstance(self._error, Unusable):
            raise UserError(f"{self._name} cannot be used: {self._error}") from self._error
        if self._error is not None:
            raise self._error

    def _drain(self) -> None:
        """Drop pictures that have been waiting for long, for instance since a stall."""
        now = self._monotonic()
        if self.lossless or self._short_at is None or self._waiting.frames <= SHORT * CAPACITY * self._fps:
            self._short_at = now
        elif now - self._short_at > STANDING:
            self._drop(Frame)
            self._short_at = now

    def _drop(self, kind: type[Frame] | type[Samples]) -> None:
        """Put an `Absent` in the place of all that waits of one kind, but for the newest."""
        newest = max((at for at, (_, item) in enumerate(self._items) if isinstance(item, kind)), default=0)
        moment, gone, kept = 0.0, Position(self._fps), deque()
        for at, (came, item) in enumerate(self._items):
            if at < newest and isinstance(item, kind):
                gone.add(item)
                moment = came
            else:
                kept.append((came, item))
        if not gone.frames and not gone.samples:
            return
        self.dropped += gone.frames
        self._waiting.frames -= gone.frames
        self._waiting.samples -= gone.samples
        self._items = kept
        absent = Absent(gone.frames, gone.samples)
        if kept and isinstance(kept[0][1], Absent):  # of an earlier drop
            absent = absent + kept.popleft()[1]
        kept.appendleft((moment, absent))
