"""The pictures of one file: decoded frames become upright pictures of one size, at a constant rate."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from fractions import Fraction

import av

from preprocess.common.stopwatch import Stopwatch
from preprocess.video.cadence import Cadence
from preprocess.video.clock import FrameClock
from preprocess.video.decoded import Frame
from preprocess.video.filters import FrameFilters
from preprocess.video.limits import Limits
from preprocess.video.mp4 import Aperture
from preprocess.video.order import DisplayOrder, Ticks, TimedFrame
from preprocess.video.picture import PictureScaler

NO_CHANGE = 16  # bytes; a smaller packet from which no frame comes means that the picture stays


class Pictures:
    """Takes packets and their decoded frames; gives Frames. Then the attributes describe the pictures."""

    def __init__(
        self,
        video: av.VideoStream,
        *,
        aperture: Aperture | None,
        fps: float,
        short_side: int,
        known_until: float,
        limits: Limits,
        watch: Stopwatch,
    ) -> None:
        """`known_until` is the end of the file by its header, in seconds on its clock; 0 if unknown."""
        tick = Fraction(video.time_base)
        self.clock = FrameClock[TimedFrame](fps=fps, tick=tick, known_until=known_until)
        self.source: dict[str, int | float] = {}  # description of the first frame
        self.decoded = 0  # frames
        self.step = float(1 / video.average_rate) if video.average_rate else 1 / fps  # s; a lone frame's duration
        rate = video.guessed_rate or video.average_rate  # the first also knows the rate in a raw stream's headers
        self._video = video
        self._limits = limits
        self._watch = watch
        self._scaler = PictureScaler(short_side=short_side)
        self._filters = FrameFilters(aperture)
        self._cadence = Cadence()
        self._order = DisplayOrder(step=(1 / Fraction(rate) if rate else Fraction(1 / fps)) / tick)
        self._aspects = _Aspects(video)
        self._lead: int | None = None  # ticks; None before the first packet
        self._followed = 0  # frames that begin where the previous one ends, less those that do not
        self._end: Ticks | None = None  # of the newest frame, by its duration
        self._still_until: Ticks | None = None  # the end of packets that mean no change

    @property
    def size(self) -> tuple[int, int] | None:
        """(H, W) of all pictures; None before the first."""
        return self._scaler.size

    @property
    def notes(self) -> list[str]:
        """Notes on what was changed."""
        facts = {
            "interlaced pictures are deinterlaced": self._filters.has_interlaced,
            "HDR pictures are mapped to SDR": self._scaler.is_hdr,
            "pictures change their shape: later ones are fitted into the first one's": self._scaler.has_new_shape,
        }
        return [note for note, is_true in facts.items() if is_true]

    def read(self, packet: av.Packet) -> None:
        """Take note of a packet that the decoder is about to be given."""
        self._aspects.mark(packet)
        if self._lead is None:
            self._lead = _guessed_lead(packet) if self._video.container.format.name == "avi" else 0
        if packet.pts is not None:
            packet.pts -= self._lead
        if not packet.is_discard:
            self._order.read(packet.pts)

    def push(self, packet: av.Packet, frames: Sequence[av.VideoFrame], *, is_good: bool) -> Iterator[Frame]:
        """Take the frames that came from a packet, which is good or damaged; yield the pictures that are settled.

        Raises Unusable beyond a limit, BrokenTimestamps for times that no video has.
        """
        self._aspects.update()
        if not frames and is_good and packet.pts is not None and packet.size <= NO_CHANGE and not packet.is_discard:
            self.stay_until(packet.pts + (packet.duration or 0))
        for image in frames:
            self.decoded += 1
            self._limits.check_frame(image.width, image.height)  # again: the size may change in the middle
            self._limits.check_length(seconds=self.clock.seconds, frames=self.decoded)
            timed = TimedFrame(image, image.pts, max(0, image.duration or 0), self._aspects.of(image))
            for frame in self._filters.push(timed):
                yield from self._place(self._order.push(frame))

    def finish(self) -> Iterator[Frame]:
        """Yield the rest."""
        for frame in self._filters.finish():
            yield from self._place(self._order.push(frame))
        yield from self._place(self._order.finish())
        # durations in which frames do not follow each other are FFmpeg's guess
        ends = [self._still_until, self._end if self._followed >= 0 else None]
        end = max((end for end in ends if end is not None), default=None)
        yield from self._show(self.clock.finish(end=end, step=self.step))

    def stay_until(self, end: Ticks) -> None:
        """Let the last picture stay at least until a time, in ticks of the stream's time base."""
        self._still_until = end if self._still_until is None else max(self._still_until, end)

    def _follow(self, frame: TimedFrame) -> None:
        """Take note of the next frame's end, and of whether it begins where the previous one ends."""
        assert frame.time is not None
        ends = [end for end in (self._end, self._still_until) if end is not None and end <= frame.time + frame.duration]
        if ends:
            self._followed += 1 if abs(frame.time - max(ends)) <= max(1, frame.duration // 4) else -1
        if frame.duration and (self._end is None or frame.time + frame.duration > self._end):
            self._end = frame.time + frame.duration

    def _place(self, frames: Iterator[TimedFrame]) -> Iterator[Frame]:
        for frame in frames:
            assert frame.time is not None
            if self._scaler.size is None:
                self._scaler.describe(frame.image, frame.aspect)
                self.source |= self._scaler.source
                if self._video.average_rate:
                    self.source["fps"] = round(float(self._video.average_rate), 3)
            self._follow(frame)
            frame.filmed = self._cadence.push(frame.image, float(frame.time * self._video.time_base))
            yield from self._show(self.clock.push(frame.time, frame))

    def _show(self, settled: Iterator[tuple[TimedFrame, int]]) -> Iterator[Frame]:
        for frame, count in settled:
            self._limits.check_length(seconds=self.clock.seconds, frames=self.decoded)
            with self._watch.stage("resize"):
                rgb = self._scaler.scale(frame.image, frame.aspect)
            yield Frame(rgb, count, self._seconds(frame.time), frame.filmed)

    def _seconds(self, time: Ticks) -> float:
        """A picture's time; where ticks are coarse, that of a constant rate, if they agree with it.

        Milliseconds would let the velocity of 30 pictures a second change by 3 % from one to the next.
        """
        seconds = self.clock.seconds_at(time)
        even = round(seconds / self.step) * self.step
        return even if abs(even - seconds) < float(self._video.time_base) / 2 else seconds


def _guessed_lead(first: av.Packet) -> int:
    """The ticks by which FFmpeg delays all pictures of an AVI with B-frames, in which only decoding times are known.

    It takes the next packet's time for a packet's own, so that pictures would lag behind the sound by one.
    """
    return first.duration or 0 if first.pts is not None and first.dts is not None and first.pts > first.dts else 0


class _Aspects:
    """The width of a pixel by its height: a broadcast may change it without changing the pictures' size."""

    def __init__(self, video: av.VideoStream) -> None:
        said, self._codec = video.sample_aspect_ratio, video.codec_context
        self._codec.copy_opaque = True  # frames carry the numbers of their packets
        self._is_known = bool(said)
        self._may_change = not said or said == self._codec.sample_aspect_ratio  # a container's word holds for all
        self._number = 0  # packets
        self._begins = [0]  # numbers of the packets from which on each of the values holds
        self._values = [Fraction(said or 1)]

    def mark(self, packet: av.Packet) -> None:
        """Number a packet that the codec is about to decode."""
        self._number += 1
        packet.opaque = self._number

    def update(self) -> None:
        """Ask the codec, which has just decoded the packet."""
        value = self._codec.sample_aspect_ratio
        if not self._may_change or not value or value == self._values[-1]:
            return
        if not self._is_known:
            self._values = [Fraction(value)]
        else:
            self._values.append(Fraction(value))
            self._begins.append(self._number)
        self._is_known = True

    def of(self, frame: av.VideoFrame) -> Fraction:
        """The aspect of a frame's pixels."""
        return self._values[-1 if frame.opaque is None else bisect_right(self._begins, frame.opaque) - 1]
