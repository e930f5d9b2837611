"""How long the pictures of a file should be, so that what is missing at its end is not lost in silence."""

import re
import struct

import av

from preprocess.video.clock import LONGEST_GAP, FrameClock

# Where a header says how long the pictures are. Everywhere else FFmpeg has measured what there is, or guessed from the
# bit rate: that is no promise. But in Ogg it has measured at the end of the file, which decoding may not reach
STREAM_SAYS = {"mov", "mxf", "ivf", "gxf", "ogg"}
CONTAINER_SAYS = {"matroska", "flv", "asf", "rm"}
ASF_PROPERTIES = bytes.fromhex("A1DCAB8C47A9CF118EE400C00C205365")


class ExpectedDuration:
    """What headers and timestamps promise of a file's pictures, against what came out of it.

    Ends are seconds on the file's clock. Show it every packet and every frame, then ask.
    """

    def __init__(self, file: str, container: av.container.InputContainer, video: av.video.stream.VideoStream) -> None:
        self._file = file
        self._container = container
        self._video = video
        self._format = container.format.name.split(",")[0]
        self._whole = self._container_says()
        self._first: float | None = None  # when the first packet of pictures is shown
        self._count = 0  # packets of pictures
        self._packets = 0.0  # end of the packets of pictures
        self._media = 0.0  # end of all packets, as far as the container says that there are any
        self._frames = 0.0  # end of the decoded frames

    def packet(self, packet: av.Packet) -> None:
        """Take note of a packet of any stream."""
        self._count += packet.stream is self._video and packet.size > 0
        if packet.pts is None or packet.is_discard:  # an edit list leaves it out
            return
        tick = float(packet.time_base)
        begin = packet.pts * tick
        end = begin + (packet.duration or 0) * tick
        if packet.stream is self._video:
            if self._first is None:
                self._first = self._packets = begin
            if end - self._packets < LONGEST_GAP:  # else a timestamp is broken
                self._packets = max(self._packets, end)
        if self._whole is None or end < self._whole + 1:  # else a timestamp is broken
            self._media = max(self._media, end)

    def frame(self, frame: av.VideoFrame) -> None:
        """Take note of a decoded frame."""
        if frame.time is not None:
            self._frames = max(self._frames, frame.time + (frame.duration or 0) * float(frame.time_base))

    def settle(self, clock: FrameClock, *, step: float, damaged: bool) -> tuple[float | None, bool]:
        """The seconds that are promised, None if nothing is, and whether what came out of `clock` is less.

        `step` is how long a frame lasts; `damaged`, whether packets of any stream are.
        """
        ends = [end for end in (self._header(damaged), self._packets) if end and end > 0]
        expected = max(ends) - self._begin(clock.start) if ends else None
        if clock.start is None:
            return expected, False
        if clock.lost:
            expected = max(expected or 0.0, clock.seconds + clock.lost)
        if expected is None:
            return None, False
        reached = max(clock.seconds, self._frames - clock.start)
        return expected, expected - reached > tolerance(expected, step=step)

    def _begin(self, start: float | None) -> float:
        """When the pictures should begin; `start` is the first that could be decoded."""
        if start is None or self._first is None:
            return start or self._first or 0.0
        # a broadcast is recorded from anywhere, and its first pictures lean on some that are not there
        return start if self._format in ("mpegts", "mpeg") else min(start, self._first)

    def _container_says(self) -> float | None:
        """When all ends, by the head of a container that does not say it of its streams."""
        if self._format not in CONTAINER_SAYS:
            return None
        told = _asf_seconds(self._file) if self._format == "asf" else None
        return told or (self._container.duration / av.time_base if self._container.duration else None)

    def _header(self, damaged: bool) -> float | None:
        """When the pictures end, by the headers."""
        if self._format == "avi":  # FFmpeg shortens the duration of a file that was cut, but not the number of frames
            return float(self._video.frames * self._video.time_base)
        if self._format in STREAM_SAYS:
            if not self._video.duration:  # with a broken clock, the number of frames still counts
                rate = self._video.average_rate
                return float(self._video.frames / rate) if rate and self._video.frames > self._count else None
            start = self._video.start_time or 0
            if self._format == "mxf" and self._first is not None:  # counts from the first to be decoded, not shown
                start = max(start, round(self._first / self._video.time_base))
            return float((start + self._video.duration) * self._video.time_base)
        if self._whole is None:
            return None
        pictures = _seconds(self._video.metadata.get("DURATION", ""))
        if pictures is not None and pictures < self._whole + 0.1:  # longer than the whole: left over from another file
            return pictures
        # Nothing is known of the pictures alone. The sound may be what is that long; but where there is damage,
        # pictures that end before the sound have rather been lost
        return self._whole if damaged or self._whole - self._media > tolerance(self._whole) else None


def tolerance(seconds: float, *, step: float = 0.0) -> float:
    """How many seconds may be missing of `seconds` before something is: headers round, last frames vary."""
    return max(0.2, 2 * step, min(0.01 * seconds, 1.0))


def _seconds(clock: str) -> float | None:
    """Matroska's tag, as 00:00:03.000000000."""
    match = re.fullmatch(r"(\d{1,6}):(\d\d):(\d\d(?:\.\d+)?)", clock.strip("\0 "))
    return match and 3600 * int(match[1]) + 60 * int(match[2]) + float(match[3])


def _asf_seconds(file: str) -> float | None:
    """The header's duration of an ASF file; FFmpeg passes it over where the file is shorter than the header says,
    and then guesses from the bit rate."""
    with open(file, "rb") as stream:
        head = stream.read(1 << 16)
    at = head.find(ASF_PROPERTIES)
    if at < 0 or len(head) < at + 92:
        return None
    play, _, preroll, flags = struct.unpack_from("<QQQI", head, at + 64)
    return None if flags & 1 else max(0.0, play / 1e7 - preroll / 1e3)  # a live recording does not know
