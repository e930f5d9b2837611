"""The order of display: decoded frames with the times at which they are shown, whatever the file's timestamps mean."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from heapq import heappop, heappush

import av

from preprocess.video.cadence import Filmed

HELD = 4  # frames held back for sorting
HELD_IN_DOUBT = 17  # frames held back while timestamps look like decoding times: 16 B-frames may follow each other
Ticks = int | Fraction  # of the stream's time base


@dataclass
class TimedFrame:
    """A decoded frame with its time on the file's clock."""

    image: av.VideoFrame
    time: Ticks | None
    duration: Ticks = 0  # 0 if unknown
    aspect: Fraction = Fraction(1)  # the width of its pixels by their height
    filmed: Filmed | None = None


class DisplayOrder:
    """Puts frames in the order of display, and gives each the time at which it is shown.

    Where a file's timestamps are presentation times, they decide. But many files with B-frames hold decoding times (AVI
    and ASF always; MP4 and FLV without composition offsets). Then packets come in the order of their timestamps, and
    the decoder, which knows the right order from the bitstream, outputs frames whose timestamps run backwards. Its
    order is kept, and the sorted timestamps are given to the frames one after the other. FFmpeg decides alike: by what
    runs backwards more often (guess_correct_pts in libavcodec/decode.c).
    """

    def __init__(self, *, step: Ticks) -> None:
        """`step` is the duration of frames that have neither a time nor a duration."""
        self._step = step
        self._waiting: list[TimedFrame] = []
        self._read: Ticks | None = None  # the newest packet's time
        self._unseen: list[Ticks] = []  # a heap: times of packets whose frames have not come
        self._next: Ticks | None = None  # the end of the newest frame
        self._newest: Ticks | None = None
        self._packets_back = 0  # packets whose time lies before the previous packet's
        self._frames_back = 0  # frames whose time lies before the previous frame's
        self._doubt = 0  # frames for which more frames are held back

    def read(self, time: Ticks | None) -> None:
        """Take note of the time of a packet that the decoder is given."""
        if time is None:
            return
        self._packets_back += self._read is not None and time < self._read
        self._read = time
        heappush(self._unseen, time)

    def push(self, frame: TimedFrame) -> Iterator[TimedFrame]:
        """Take a frame from the decoder; yield those whose turn it is.

        A frame without a time follows its predecessor.
        """
        time = frame.time
        if time is None:
            time = frame.time = 0 if self._next is None else self._next
        self._next = time + (frame.duration or self._step)
        self._frames_back += self._newest is not None and time < self._newest
        self._newest = time
        self._doubt = max(0, self._doubt - 1)
        while self._unseen and self._unseen[0] <= time:
            if heappop(self._unseen) < time:  # an earlier packet's frame should have come first
                self._doubt = HELD_IN_DOUBT
        self._waiting.append(frame)
        while len(self._waiting) > (HELD_IN_DOUBT if self._doubt or self._are_decoding_times else HELD):
            yield self._pop()

    def finish(self) -> Iterator[TimedFrame]:
        """Yield the rest."""
        while self._waiting:
            yield self._pop()

    @property
    def _are_decoding_times(self) -> bool:
        return self._frames_back > self._packets_back

    def _pop(self) -> TimedFrame:
        if self._are_decoding_times:
            for frame, time in zip(self._waiting, sorted(frame.time for frame in self._waiting), strict=True):
                frame.time = time
        first = min(range(len(self._waiting)), key=lambda k: self._waiting[k].time)
        return self._waiting.pop(first)
