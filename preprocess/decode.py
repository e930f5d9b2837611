"""Decoding: one pass over a file of any container and codec, pictures and sound on one clock.

Zero of the clock is the first frame. Times are the decoded frames' timestamps; what a header says of duration,
rate or length is not believed.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from preprocess.clock import BrokenTimestamps, FrameClock, SampleClock
from preprocess.mel import SAMPLE_RATE
from preprocess.sound import Voice
from preprocess.stopwatch import Stopwatch

QUIETEST = 1 / 32768  # one step of 16 bits; a track that never reaches it is silence
WIDEST_ASPECT = 16  # frames thinner than 16:1 are no picture that a crop could show
AV_ERRORS = (av.error.FFmpegError, ValueError)  # PyAV raises ValueError for parameters that cannot be


class Unusable(Exception):
    """A file that cannot be used as a video. The message is the reason that the store lists."""


@dataclass(frozen=True)
class Frame:
    """A picture and for how many frames of the constant rate it is shown."""

    rgb: np.ndarray  # (H, W, 3) uint8
    count: int


@dataclass(frozen=True)
class Samples:
    """Sound that follows the sound before it: mono at mel.SAMPLE_RATE, the first sample at time zero."""

    samples: np.ndarray  # (N,) float32 in -1…1


class Decoder:
    """Decodes one file. Iterate it once for its Frames and Samples; then the attributes tell what there was."""

    def __init__(self, file: str, *, fps: float, short_side: int, watch: Stopwatch) -> None:
        self.file = file
        self.watch = watch
        self.short_side = short_side
        self.frames = FrameClock[av.VideoFrame](fps=fps)
        self.sound = SampleClock(rate=SAMPLE_RATE)
        self.size: tuple[int, int] | None = None  # (H, W) of the frames given out
        self.audio_absent: str | None = None  # why there is no sound
        self.errors = 0  # packets that could not be decoded
        self._scaler = VideoReformatter()  # one for all frames: making it costs more than scaling a small frame
        self.source: dict[str, str | int | float] = {}  # what the file is

    @property
    def seconds(self) -> float:
        """How long the video is."""
        return self.frames.emitted / self.frames.fps

    def __iter__(self) -> Iterator[Frame | Samples]:
        """Decode.

        Raises Unusable where there is no video in the file.
        """
        try:
            if not os.path.getsize(self.file):
                raise Unusable("corrupt: an empty file")
            container = av.open(os.path.abspath(self.file), metadata_errors="replace")
        except FileNotFoundError as error:
            raise Unusable("no such file") from error
        except PermissionError as error:
            raise Unusable("no permission to read it") from error
        except (OSError, *AV_ERRORS) as error:
            raise Unusable(f"corrupt: cannot be opened ({_message(error)})") from error
        with container:
            video, audio = self._choose(container)
            try:
                yield from self._decode(container, video, audio)
            except BrokenTimestamps as error:
                raise Unusable(f"corrupt: {error}") from error

    def _choose(self, container) -> tuple["av.video.VideoStream", "av.AudioStream | None"]:
        pictures = [stream for stream in container.streams.video if stream.codec_context is not None]
        moving = [s for s in pictures if not s.disposition & av.stream.Disposition.attached_pic]
        if not moving:
            if pictures:
                raise Unusable("no video: its only picture is a cover")
            raise Unusable(f"no video: {'only sound' if container.streams.audio else 'no streams in the file'}")
        best = container.streams.best("video")
        video = best if best in moving else moving[0]
        audio = container.streams.best("audio")
        if audio is not None and audio.codec_context is None:
            audio, self.audio_absent = None, "unknown codec"
        elif audio is None:
            self.audio_absent = "no audio track"
        for stream in filter(None, (video, audio)):  # the worker process is the unit of parallelism
            stream.codec_context.thread_count = 1
            stream.thread_type = "NONE"
        self.source["container"] = container.format.name
        self.source["video_codec"] = video.codec_context.name
        if audio is not None:
            self.source["audio_codec"] = audio.codec_context.name
        return video, audio

    def _decode(self, container, video, audio) -> Iterator[Frame | Samples]:
        step = float(1 / video.average_rate) if video.average_rate else 1 / self.frames.fps
        voice = Voice()
        for packet in self._packets(container, [stream for stream in (video, audio) if stream is not None]):
            for decoded in self._decode_packet(packet):
                if packet.stream is video:
                    if self.size is None:
                        self._describe(video, decoded)
                    for frame, count in self.frames.push(decoded.time, decoded, step=step):
                        yield self._picture(frame, count)
                else:
                    for samples in voice.push(decoded):
                        self.sound.push(samples)
            yield from self._sound_until(self.frames.last, voice)
        for samples in voice.finish():
            self.sound.push(samples)
        for frame, count in self.frames.finish(step=step):
            yield self._picture(frame, count)
        if self.frames.start is None:
            raise Unusable("corrupt: no frame can be decoded")
        yield from self._sound_until(self.frames.start + self.seconds, voice)
        if audio is not None and self.sound.covered is None:
            self.audio_absent = "not decodable" if voice.start is None else "not while there are pictures"
        elif audio is not None and self.sound.peak < QUIETEST:
            self.audio_absent = "silent"
        if self.audio_absent is None:
            for samples in self.sound.pad(round(self.seconds * SAMPLE_RATE)):
                yield Samples(samples)

    def _packets(self, container, streams: list) -> Iterator:
        """The packets up to the end of the file, or to where it can be read no further."""
        packets = container.demux(streams)
        while True:
            try:
                yield next(packets)
            except (StopIteration, av.error.EOFError):
                return
            except (OSError, *AV_ERRORS):
                self.errors += 1
                return

    def _decode_packet(self, packet) -> list:
        try:
            return packet.decode()
        except av.error.EOFError:
            return []
        except AV_ERRORS:  # a damaged packet costs itself; what follows may be whole
            self.errors += 1
            return []

    def _sound_until(self, time: float, voice: Voice) -> Iterator[Samples]:
        """The samples that belong to pictures seen so far: later ones may lie behind the video's end."""
        if self.frames.start is None or voice.start is None:
            return
        if not self.sound.begun:
            self.sound.begin(voice.start - self.frames.start)
        for samples in self.sound.take(round((time - self.frames.start) * SAMPLE_RATE)):
            yield Samples(samples)

    def _describe(self, video, frame) -> None:
        """Settle the size of the output: display aspect, upright, short side as asked for."""
        aspect = Fraction(video.sample_aspect_ratio or 1) or Fraction(1)
        width, height = frame.width * aspect, Fraction(frame.height)
        turned = round((frame.rotation or 0) / 90) % 2
        if turned:
            width, height = height, width
        if max(width, height) > WIDEST_ASPECT * min(width, height):
            raise Unusable(f"unusable frame size: {round(width)}×{round(height)}")
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
        # AREA averages all pixels that fall into one; enlarging wants a smooth kernel instead
        kernel = "AREA" if height <= frame.height and width <= frame.width else "BICUBIC"
        with self.watch.stage("resize"):
            rgb = self._scaler.reformat(frame, width=width, height=height, format="rgb24", interpolation=kernel)
            return Frame(np.ascontiguousarray(np.rot90(rgb.to_ndarray(), quarters)), count)


def _message(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
