"""Decoding: one pass over a file of any container and codec, pictures and sound on one clock.

The clock's zero is the first frame. Times are the decoded frames' timestamps; the length in a header is only asked
whether a still of many minutes may be believed, and whether the file was cut.
"""

from collections.abc import Callable, Iterator
from functools import partial
from mmap import mmap

import av

from preprocess.common.console import plural
from preprocess.common.stopwatch import Stopwatch
from preprocess.video.avi import stays_until
from preprocess.video.clock import BrokenTimestamps, SampleClock
from preprocess.video.container import AV_ERRORS, ENCRYPTED, codec_pixels, is_scrambled, open_media
from preprocess.video.decoded import QUIETEST, Frame, Samples
from preprocess.video.duration import ExpectedDuration
from preprocess.video.joining import JoinedPackets, longest_hole
from preprocess.video.limits import Limits, Unusable
from preprocess.video.log_mel import SAMPLE_RATE
from preprocess.video.pictures import Pictures
from preprocess.video.sound import MonoTrack
from preprocess.video.tracks import choose_tracks

LARGEST_FRAME = 1 << 29  # bytes; more than any frame within the limits takes in a decoder
GIF_ENDS = (0x00, 0x3B)  # the last byte of an image, or of the file
HIGHEST_RATE = 768_000  # Hz; a higher rate is an error


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
        open_live: Callable[..., av.container.InputContainer] | None = None,
    ) -> None:
        """`heartbeat` is called after every packet with the seconds decoded so far.

        open_live: opens a camera or an address, which cannot be opened twice, in `open_media`'s place.
        """
        self.file = file
        self.limits = limits
        self.audio_absent: str | None = None  # the reason why there is no sound
        self.errors = 0  # packets that are damaged or could not be decoded
        self.expected: float | None = None  # seconds of pictures by headers and timestamps, if known
        self.truncated = False  # True if `seconds` is clearly less than `expected`
        self.notes: list[str] = []  # what was chosen, changed or left out
        self.source: dict[str, str | int | float] = {}  # description of the file
        self.pictures: Pictures | None = None  # None before the file is open
        self.sound = SampleClock(rate=SAMPLE_RATE)
        self._fps = fps
        self._short_side = short_side
        self._watch = watch
        self._heartbeat = heartbeat
        self._open = open_live or open_media
        self._is_live = open_live is not None
        self._too_large = False  # True if a decoder refused a frame for its size

    @property
    def seconds(self) -> float:
        """The length of the video so far."""
        return 0.0 if self.pictures is None else self.pictures.clock.seconds

    def __iter__(self) -> Iterator[Frame | Samples]:
        """Decode.

        Raises Unusable if the file has no video, or one beyond a limit; MemoryError if this process's memory limit is
        too small for it.
        """
        with self._open(self.file, max_pixels=self.limits.max_pixels) as container:
            try:
                yield from self._decode(container)
            except BrokenTimestamps as error:
                raise Unusable(f"corrupt: {error}") from error

    def _decode(self, container: av.container.InputContainer) -> Iterator[Frame | Samples]:
        limits = self.limits
        again = None if self._is_live else partial(open_media, self.file, max_pixels=limits.max_pixels)
        tracks = choose_tracks(container, self.file, again=again, heartbeat=self._beat)
        video, audio, self.audio_absent = tracks.video, tracks.audio, tracks.audio_absent
        limits.check_frame(video.codec_context.width, video.codec_context.height)
        video.codec_context.options = {"max_pixels": str(codec_pixels(limits.max_pixels))}
        self.source |= {"container": container.format.name, "video_codec": video.codec_context.name}
        if audio is not None:
            self.source["audio_codec"] = audio.codec_context.name
        ahead = longest_hole(container)
        duration = ExpectedDuration(self.file, container, video)
        self.pictures = pictures = Pictures(
            video,
            aperture=tracks.aperture,
            fps=self._fps,
            short_side=self._short_side,
            known_until=_end_by_header(container) if ahead is None else 0.0,
            limits=limits,
            watch=self._watch,
        )
        mono = MonoTrack(contiguous=container.format.name == "avi")
        packets = JoinedPackets(self._packets(container), filter(None, (video, audio)), ahead=ahead)
        for packet in packets:
            duration.packet(packet)
            if packet.stream is video:
                pictures.read(packet)
                errors = self.errors
                frames = self._decode_packet(packet)
                for frame in frames:
                    duration.frame(frame)
                yield from pictures.push(packet, frames, is_good=self.errors == errors)
            elif packet.stream is audio and self.audio_absent is None:
                for frame in self._decode_packet(packet):
                    if frame.sample_rate <= HIGHEST_RATE:
                        for samples in mono.push(frame):
                            self.sound.push(samples)
            yield from self._sound_until(None, mono)
            self._beat()
        for samples in mono.finish():
            self.sound.push(samples)
        if container.format.name == "avi" and (chunks := stays_until(self.file, video.index)):
            pictures.stay_until(chunks)  # a chunk is a tick
        yield from pictures.finish()
        self.source |= pictures.source
        self.expected, self.truncated = duration.settle(pictures.clock, step=pictures.step, damaged=self.errors > 0)
        if pictures.clock.start is None:
            scrambled = "mpegts" in container.format.name and not self._is_live and is_scrambled(self.file, video.id)
            raise Unusable(ENCRYPTED if scrambled else self._why_no_frame())
        limits.check_whole(seconds=self.seconds, cut_from=self.expected if self.truncated else None)
        yield from self._sound_until(self.seconds, mono)
        if audio is not None and self.audio_absent is None:
            if self.sound.covered is None:
                self.audio_absent = "not decodable" if mono.start is None else "not while there are pictures"
            elif self.sound.peak < QUIETEST:
                self.audio_absent = "silent"
        if self.audio_absent is None:
            for samples in self.sound.pad(round(self.seconds * SAMPLE_RATE)):
                yield Samples(samples, there=False)
        self.notes += [*tracks.notes, *pictures.notes, *sorted(mono.notes)]
        if packets.joints:
            self.notes.append(f"the clock begins anew or jumps in {plural(packets.joints, 'place')}: parts are joined")

    def _beat(self) -> None:
        if self._heartbeat is not None:
            self._heartbeat(self.seconds)

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
                raise Unusable(ENCRYPTED)
            self.audio_absent = "encrypted"
            return []
        self.errors += packet.is_corrupt
        if packet.stream.codec_context.name == "gif" and packet.size and bytes(packet)[-1] not in GIF_ENDS:
            self.errors += 1  # the image is cut off, which its decoder does not report
            return []
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

    def _sound_until(self, seconds: float | None, mono: MonoTrack) -> Iterator[Samples]:
        """The samples up to a time, or to the pictures decoded so far: later ones may lie after the video's end."""
        assert self.pictures is not None
        clock = self.pictures.clock
        if mono.start is None or not clock.placed or (seconds is None and clock.placed < 2):
            return  # a lone first frame's time may be broken
        if not self.sound.begun:
            assert clock.start is not None
            self.sound.begin(mono.start - clock.start)
        for samples in self.sound.take(round((clock.reached if seconds is None else seconds) * SAMPLE_RATE)):
            yield Samples(samples, there=self.sound.covered is not None)


def _end_by_header(container: av.container.InputContainer) -> float:
    """Seconds on the file's clock; 0 if unknown."""
    return ((container.start_time or 0) + (container.duration or 0)) / av.time_base


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
