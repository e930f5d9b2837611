"""Decoding: one pass over a file of any container and codec, pictures and sound on one clock.

The clock's zero is the first frame. Times are the decoded frames' timestamps; duration, rate and length in headers
are not trusted.
"""

from collections.abc import Callable, Iterator
from fractions import Fraction
from mmap import mmap

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from preprocess.common.stopwatch import Stopwatch
from preprocess.video.clock import BrokenTimestamps, FrameClock, SampleClock
from preprocess.video.container import AV_ERRORS, codec_pixels, is_encrypted, open_media
from preprocess.video.decoded import QUIETEST, Frame, Samples
from preprocess.video.duration import ExpectedDuration
from preprocess.video.limits import Limits, Unusable
from preprocess.video.log_mel import SAMPLE_RATE
from preprocess.video.sound import MonoTrack

WIDEST_ASPECT = 16  # frames thinner than 16:1 cannot be cropped to a useful picture
LARGEST_FRAME = 1 << 29  # bytes; more than any frame within the limits takes in a decoder
HIGHEST_RATE = 768_000  # Hz; a higher rate is an error, and silence in its gaps would fill the memory


class Decoder:
    """Decodes one file. Iterate it once for its Frames and Samples; then the attributes describe the file."""

    def __init__(
        self,
        file: str,
        *,
        fps: float,
        short_side: int,
        watch: Stopwatch,
        limits: Limits = Limits(),  # noqa: B008 – frozen
        heartbeat: Callable[[float], None] | None = None,
    ) -> None:
        """`pulse`, a heartbeat, is called after every packet with the seconds decoded so far."""
        self.file = file
        self.watch = watch
        self.short_side = short_side
        self.limits = limits
        self.heartbeat = heartbeat
        self.frames = FrameClock[av.VideoFrame](fps=fps)
        self.sound = SampleClock(rate=SAMPLE_RATE)
        self.size: tuple[int, int] | None = None  # (H, W) of the output frames
        self.audio_absent: str | None = None  # the reason why there is no sound
        self.errors = 0  # packets that are damaged or could not be decoded
        self.expected: float | None = None  # seconds of pictures by headers and timestamps, if known
        self.truncated = False  # True if `seconds` is clearly less than `expected`
        self._scaler = VideoReformatter()  # one for all frames: creating it costs more than scaling a small frame
        self._decoded = 0  # frames
        self._too_large = False  # True if a decoder refused a frame for its size
        self.source: dict[str, str | int | float] = {}  # description of the file

    @property
    def seconds(self) -> float:
        """The length of the video."""
        return self.frames.seconds

    def __iter__(self) -> Iterator[Frame | Samples]:
        """Decode.

        Raises Unusable if the file has no video, or one beyond a limit; MemoryError if this process's memory limit is
        too small for it.
        """
        with open_media(self.file, max_pixels=self.limits.max_pixels) as container:
            video, audio = self._choose(container)
            try:
                yield from self._decode(container, video, audio)
            except BrokenTimestamps as error:
                raise Unusable(f"corrupt: {error}") from error

    def _choose(self, container) -> tuple["av.video.VideoStream", "av.AudioStream | None"]:
        if any(is_encrypted(stream) for stream in container.streams.video):
            raise Unusable("encrypted: its pictures cannot be read without a key")
        pictures = [stream for stream in container.streams.video if stream.codec_context is not None]
        moving = [s for s in pictures if not s.disposition & av.stream.Disposition.attached_pic]
        if not moving:
            if pictures:
                raise Unusable("no video: its only picture is a cover")
            if container.streams.video:
                raise Unusable("no video: pictures of an unknown codec, or encrypted ones")
            raise Unusable(f"no video: {'only sound' if container.streams.audio else 'no streams in the file'}")
        best = container.streams.best("video")
        video = best if best in moving else moving[0]
        audio = container.streams.best("audio")
        if audio is None:
            self.audio_absent = "no audio track"
        elif audio.codec_context is None:
            audio, self.audio_absent = None, "unknown codec"
        elif is_encrypted(audio):
            audio, self.audio_absent = None, "encrypted"
        for stream in filter(None, (video, audio)):  # one thread: worker processes run in parallel
            stream.codec_context.thread_count = 1
            stream.thread_type = "NONE"
        self.limits.check_frame(video.codec_context.width, video.codec_context.height)
        video.codec_context.options = {"max_pixels": str(codec_pixels(self.limits.max_pixels))}
        self.source["container"] = container.format.name
        self.source["video_codec"] = video.codec_context.name
        if audio is not None:
            self.source["audio_codec"] = audio.codec_context.name
        return video, audio

    def _decode(self, container, video, audio) -> Iterator[Frame | Samples]:
        step = float(1 / video.average_rate) if video.average_rate else 1 / self.frames.fps
        mono = MonoTrack()
        duration = ExpectedDuration(self.file, container, video)
        for packet in self._packets(container):
            duration.packet(packet)
            if packet.stream is video:
                for decoded in self._decode_packet(packet):
                    duration.frame(decoded)
                    yield from self._take(video, decoded, step)
            elif packet.stream is audio and self.audio_absent is None:
                for decoded in self._decode_packet(packet):
                    if decoded.sample_rate <= HIGHEST_RATE:
                        for samples in mono.push(decoded):
                            self.sound.push(samples)
            yield from self._sound_until(self.frames.last, mono)
            if self.heartbeat is not None:
                self.heartbeat(self.seconds)
        for samples in mono.finish():
            self.sound.push(samples)
        yield from self._show(self.frames.finish(step=step))
        self.expected, self.truncated = duration.settle(self.frames, step=step, damaged=self.errors > 0)
        if self.frames.start is None:
            raise Unusable(self._why_no_frame())
        self.limits.check_whole(seconds=self.seconds, cut_from=self.expected if self.truncated else None)
        yield from self._sound_until(self.frames.start + self.seconds, mono)
        if audio is not None and self.audio_absent is None:
            if self.sound.covered is None:
                self.audio_absent = "not decodable" if mono.start is None else "not while there are pictures"
            elif self.sound.peak < QUIETEST:
                self.audio_absent = "silent"
        if self.audio_absent is None:
            for samples in self.sound.pad(round(self.seconds * SAMPLE_RATE)):
                yield Samples(samples)

    def _take(self, video, decoded, step: float) -> Iterator[Frame]:
        """Put a decoded frame on the clock; yield the frames that are settled by now."""
        self._decoded += 1
        self.limits.check_frame(decoded.width, decoded.height)  # again: the size may change in the middle
        if self.size is None:
            self._describe(video, decoded)
        self.limits.check_length(seconds=self.seconds, frames=self._decoded)
        yield from self._show(self.frames.push(decoded.time, decoded, step=step))

    def _show(self, settled: Iterator[tuple[av.VideoFrame, int]]) -> Iterator[Frame]:
        for frame, count in settled:
            self.limits.check_length(seconds=self.seconds, frames=self._decoded)
            yield self._picture(frame, count)

    def _packets(self, container) -> Iterator:
        """The packets of all streams up to the end of the file, or to where it becomes unreadable."""
        packets = container.demux()
        while True:
            try:
                yield next(packets)
            except (StopIteration, av.error.EOFError):
                return
            except IndexError:  # raised by PyAV after the last packet if a stream appeared in the middle
                return
            except (OSError, *AV_ERRORS) as error:
                _check_memory(error, 0)
                self.errors += 1
                return

    def _decode_packet(self, packet) -> list:
        if packet.has_sidedata("encryption_info"):
            if packet.stream.type == "video":
                raise Unusable("encrypted: its pictures cannot be read without a key")
            self.audio_absent = "encrypted"
            return []
        self.errors += packet.is_corrupt
        try:
            return packet.decode()
        except av.error.EOFError:
            return []
        except AV_ERRORS as error:  # only the damaged packet is lost; the next may be good
            context = packet.stream.codec_context
            _check_memory(error, getattr(context, "width", 0) * getattr(context, "height", 0))
            self.errors += not packet.is_corrupt
            self._too_large |= isinstance(error, av.error.ArgumentError) and not getattr(context, "width", 1)
            return []

    def _why_no_frame(self) -> str:
        if self._too_large:  # FFmpeg does not report the size of a frame that it refuses
            return f"too large: its frames have more than --max-pixels {self.limits.max_pixels}"
        promised = f", though {self.expected:.2f} s are promised" if self.expected else ""
        return f"corrupt: no frame can be decoded{promised}"

    def _sound_until(self, time: float, mono: MonoTrack) -> Iterator[Samples]:
        """The samples up to the pictures decoded so far: later ones may lie after the video's end."""
        if self.frames.start is None or mono.start is None:
            return
        if not self.sound.begun:
            self.sound.begin(mono.start - self.frames.start)
        for samples in self.sound.take(round((time - self.frames.start) * SAMPLE_RATE)):
            yield Samples(samples)

    def _describe(self, video, frame) -> None:
        """Set the size of the output: display aspect, upright, short side as in the settings."""
        aspect = Fraction(video.sample_aspect_ratio or 1) or Fraction(1)
        width, height = frame.width * aspect, Fraction(frame.height)
        turned = round((frame.rotation or 0) / 90) % 2
        if turned:
            width, height = height, width
        if max(width, height) > WIDEST_ASPECT * min(width, height):
            raise Unusable(f"no video: a strip of {round(width)}×{round(height)} pixels")
        scale = self.short_side / min(width, height)
        self.size = (max(1, round(height * scale)), max(1, round(width * scale)))
        self.source |= {"width": round(width), "height": round(height), "rotation": int(frame.rotation or 0)}
        if video.average_rate:
            self.source["fps"] = round(float(video.average_rate), 3)

    def _picture(self, frame, count: int) -> Frame:
        """Scale to the output's size, then turn upright."""
        assert self.size is not None
        quarters = round((frame.rotation or 0) / 90) % 4  # counterclockwise
        height, width = self.size[::-1] if quarters % 2 else self.size
        # AREA averages all pixels that fall into one; enlarging needs a smooth kernel instead
        kernel = "AREA" if height <= frame.height and width <= frame.width else "BICUBIC"
        with self.watch.stage("resize"):
            rgb = self._scaler.reformat(frame, width=width, height=height, format="rgb24", interpolation=kernel)
            return Frame(np.ascontiguousarray(np.rot90(rgb.to_ndarray(), quarters)), count)


def _check_memory(error: Exception, pixels: int) -> None:
    """Raise MemoryError if an error comes from a lack of memory, in a stream whose frames have so many pixels.

    FFmpeg's error is not proof: some decoders that get no memory for a frame report invalid data, and a broken size in
    the data makes others request impossible amounts.
    """
    needed = LARGEST_FRAME if isinstance(error, MemoryError) else 8 * pixels  # two frames of four bytes a pixel
    try:
        if needed:
            mmap(-1, needed).close()
    except (OSError, MemoryError):
        raise MemoryError from error
