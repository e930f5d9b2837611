"""The expected duration of a file's pictures, so that a truncated file is noticed."""

import re
import struct

import av

from preprocess.video.clock import LONGEST_GAP, FrameClock

# Formats whose header states the duration of the pictures. For others FFmpeg has measured it, or guessed it from the
# bit rate, which proves nothing; but in Ogg it has measured at the end of the file, which decoding may not reach
STREAM_SAYS = {"mov", "mxf", "ivf", "gxf", "ogg"}
CONTAINER_SAYS = {"matroska", "flv", "asf", "rm"}
ASF_PROPERTIES = bytes.fromhex("A1DCAB8C47A9CF118EE400C00C205365")


class ExpectedDuration:
    """The duration of a file's pictures by headers and timestamps, compared with what was decoded.

    Ends are seconds on the file's clock. Pass every packet and every frame, then call `settle`.
    """

    def __init__(self, file: str, container: av.container.InputContainer, video: av.video.stream.VideoStream) -> None:
        self._file = file
        self._container = container
        self._video = video
        self._format = container.format.name.split(",")[0]
        self._whole = self._container_end()
        self._first: float | None = None  # time of the first packet of pictures
        self._count = 0  # packets of pictures
        self._packets = 0.0  # end of the packets of pictures
        self._media = 0.0  # end of all packets within the container's duration
        self._frames = 0.0  # end of the decoded frames

    def packet(self, packet: av.Packet) -> None:
        """Take note of a packet of any stream."""
        self._count += packet.stream is self._video and packet.size > 0
        if packet.pts is None or packet.is_discard:  # excluded by an edit list
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
        """The expected seconds, None if unknown, and True if `clock` has output clearly less.

        `step` is a frame's duration; `damaged` is True if packets of any stream are damaged.
        """
        ends = [end for end in (self._header_end(damaged), self._packets) if end and end > 0]
        expected = max(ends) - self._begin(clock.start) if ends else None
        if clock.start is None:
            return expected, False
        if expected is None:
            return None, False
        reached = max(clock.seconds, self._frames - clock.start)
        return expected, expected - reached > tolerance(expected, step=step)

    def _begin(self, start: float | None) -> float:
        """The time at which the pictures should begin; `start` is the first that could be decoded."""
        if start is None or self._first is None:
            return start or self._first or 0.0
        # a recorded broadcast begins anywhere, and its first pictures depend on missing ones
        return start if self._format in ("mpegts", "mpeg") else min(start, self._first)

    def _container_end(self) -> float | None:
        """The end of the file, by the header of a container that states no end of its streams."""
        if self._format not in CONTAINER_SAYS:
            return None
        told = _asf_seconds(self._file) if self._format == "asf" else None
        return told or (self._container.duration / av.time_base if self._container.duration else None)

    def _header_end(self, damaged: bool) -> float | None:
        """The end of the pictures, by the headers."""
        if self._format == "avi":  # FFmpeg shortens the duration of a file that was cut, but not the number of frames
            return float(self._video.frames * self._video.time_base)
        if self._format in STREAM_SAYS:
            if not self._video.duration:  # the clock is broken, but the number of frames is usable
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
        # The pictures' own end is unknown. Perhaps only the sound is that long; but in a damaged file, pictures
        # that end before the sound have more likely been lost
        return self._whole if damaged or self._whole - self._media > tolerance(self._whole) else None


def tolerance(seconds: float, *, step: float = 0.0) -> float:
    """The seconds that may be missing of `seconds` without being noted: headers round, last frames vary."""
    return max(0.2, 2 * step, min(0.01 * seconds, 1.0))


def _seconds(clock: str) -> float | None:
    """Seconds in a Matroska tag like 00:00:03.000000000; None for any other text."""
    match = re.fullmatch(r"(\d{1,6}):(\d\d):(\d\d(?:\.\d+)?)", clock.strip("\0 "))
    return match and 3600 * int(match[1]) + 60 * int(match[2]) + float(match[3])


def _asf_seconds(file: str) -> float | None:
    """The duration in an ASF file's header; FFmpeg ignores it if the file is shorter than the header says, and then
    guesses from the bit rate."""
    with open(file, "rb") as stream:
        head = stream.read(1 << 16)
    at = head.find(ASF_PROPERTIES)
    if at < 0 or len(head) < at + 92:
        return None
    play, _, preroll, flags = struct.unpack_from("<QQQI", head, at + 64)
    return None if flags & 1 else max(0.0, play / 1e7 - preroll / 1e3)  # unknown in a live recording
