"""Files that are small, or look like videos, and would take all memory or all time."""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np

from tests.preprocess.video.test_limits import png
from tests.support.videos import drift, grey, sound, tone, write_video

RAW = {"mjpeg": "yuvj420p", "png": "gray", "rawvideo": "gray"}
USED, CUT, LARGE, LONG = "used", "truncated", "too large: ", "too long: "


@dataclass(frozen=True)
class Bomb:
    """How to make a file, and what may become of it: USED, or how a reason begins."""

    name: str
    make: Callable[[Path], object]
    outcomes: tuple[str, ...]
    quick: bool = False


def mux(
    path: Path, packets: Sequence[bytes], *, codec: str, size: tuple[int, int], fps: int = 25, jump: int = 1
) -> Path:
    """EncoderOutput pictures, each `jump` frames after the one before; a header that says (H, W)."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=fps)
        stream.height, stream.width = size
        stream.pix_fmt = RAW.get(codec, "yuv420p")
        file.start_encoding()
        for k, data in enumerate(packets):
            packet = av.Packet(data)
            packet.stream, packet.time_base = stream, Fraction(1, fps)
            packet.pts = packet.dts = k * jump
            packet.duration, packet.is_keyframe = 1, k == 0
            file.mux(packet)
    return path


@cache
def jpeg(side: int) -> bytes:
    return cv2.imencode(".jpg", np.zeros((side, side, 3), np.uint8))[1].tobytes()


@cache
def h264(side: int, *, count: int = 1) -> list[bytes]:
    """A black picture, and `count` - 1 that are the same."""
    context = av.CodecContext.create("libx264", "w")
    context.width = context.height = side
    context.pix_fmt, context.time_base, context.framerate = "yuv420p", Fraction(1, 25), Fraction(25)
    context.options = {"preset": "ultrafast", "threads": "1", "bf": "0"}
    packets = []
    for k in range(count):
        frame = av.VideoFrame(side, side, "yuv420p")
        frame.pts = k
        packets += context.encode(frame)
    return [bytes(packet) for packet in [*packets, *context.encode()]]


def large(codec: str, side: int, *, told: int | None = None) -> Callable[[Path], object]:
    """One picture of a size; the header says `told`."""
    making = {"h264": lambda: h264(side)[0], "mjpeg": lambda: jpeg(side), "png": lambda: png(side, side)}[codec]
    return lambda path: mux(path, [making()], codec="libx264" if codec == "h264" else codec, size=(told or side,) * 2)


def grows(codec: str, side: int) -> Callable[[Path], object]:
    """A second of small pictures, then ten of a size."""

    def make(path: Path) -> None:
        small, huge = (h264(64, count=25), h264(side)) if codec == "libx264" else ([jpeg(64)] * 25, [jpeg(side)])
        mux(path, [*small, *huge * 10], codec=codec, size=(64, 64))

    return make


def tiny_frames(count: int) -> Callable[[Path], object]:
    """16×16 pixels at 1000 frames a second, each after the first but a few bytes."""

    def make(path: Path) -> None:
        with av.open(str(path.with_suffix(".small.mkv")), "w") as file:
            stream = file.add_stream("mpeg4", rate=25)
            stream.width = stream.height = 16
            stream.codec_context.gop_size, stream.codec_context.max_b_frames = 1000, 0
            packets = []
            for k in range(30):
                frame = av.VideoFrame.from_ndarray(grey(90, (16, 16)), format="rgb24")
                frame.pts = k
                packets += stream.encode(frame)
            data = [bytes(packet) for packet in packets if packet.size]
            file.mux(packets)
        path.with_suffix(".small.mkv").unlink()
        mux(path, [data[0], *[data[-1]] * (count - 1)], codec="mpeg4", size=(16, 16), fps=1000)

    return make


def gaps(count: int, seconds: int) -> Callable[[Path], object]:
    """A picture every so many seconds."""
    return lambda path: mux(path, [jpeg(64)] * count, codec="mjpeg", size=(64, 64), fps=10, jump=10 * seconds)


def heard(rate: int, channels: int, *, gap: float = 0.0) -> Callable[[Path], object]:
    """Half a second of sound of many channels, at its beginning and behind a gap; pictures all the while."""

    def make(path: Path) -> None:
        with av.open(str(path), "w") as file:
            video = file.add_stream("mjpeg", rate=1)
            video.width = video.height = 64
            video.pix_fmt = "yuvj420p"
            audio = file.add_stream("pcm_s16le", rate=rate)
            audio.codec_context.layout = f"{channels} channels" if channels > 2 else "mono"
            file.start_encoding()
            ends = [(0.0, audio), (gap + 0.5, audio)] if gap else [(0.0, audio)]
            for time, stream in sorted(
                [*ends, *((float(k), video) for k in range(round(gap) + 1))], key=lambda end: end[0]
            ):
                packet = av.Packet(jpeg(64) if stream is video else b"\1\2" * channels * (rate // 2))
                packet.stream, packet.time_base = stream, Fraction(1, 1000)
                packet.pts = packet.dts = round(time * 1000)
                packet.duration = 1000 if stream is video else 500
                packet.is_keyframe = True
                file.mux(packet)

    return make


def streams(count: int) -> Callable[[Path], object]:
    """Ten pictures in each of many tracks."""

    def make(path: Path) -> None:
        with av.open(str(path), "w") as file:
            tracks = [file.add_stream("mjpeg", rate=25) for _ in range(count)]
            for track in tracks:
                track.width = track.height = 64
                track.pix_fmt = "yuvj420p"
            file.start_encoding()
            for k in range(10):
                for track in tracks:
                    packet = av.Packet(jpeg(64))
                    packet.stream, packet.time_base, packet.is_keyframe = track, Fraction(1, 25), True
                    packet.pts = packet.dts = k
                    file.mux(packet)

    return make


def metadata(size: int) -> Callable[[Path], object]:
    """Tags of so many bytes."""

    def make(path: Path) -> None:
        with av.open(str(path), "w", options={"movflags": "use_metadata_tags"}) as file:
            for k in range(8):
                file.metadata[f"tag{k}"] = "x" * (size // 8)
            stream = file.add_stream("mjpeg", rate=25)
            stream.width = stream.height = 64
            stream.pix_fmt = "yuvj420p"
            for k in range(10):
                frame = av.VideoFrame.from_ndarray(grey(90, (64, 64)), format="rgb24")
                frame.pts = k
                file.mux(stream.encode(frame))
            file.mux(stream.encode())

    return make


def index(count: int) -> Callable[[Path], object]:
    """An index of so many pictures of a byte, which takes the file itself a few bytes."""

    def make(path: Path) -> None:
        write_video(path, drift(5), codec="mjpeg")
        content = bytearray(path.read_bytes())
        sizes = content.index(b"stsz") + 8
        struct.pack_into(">II", content, sizes, 1, count)
        struct.pack_into(">III", content, content.index(b"stts") + 8, 1, count, 512)
        struct.pack_into(">IIII", content, content.index(b"stsc") + 8, 1, 1, count, 1)
        path.write_bytes(content)

    return make


def box(kind: bytes, *parts: bytes) -> bytes:
    """A box of QuickTime's."""
    return struct.pack(">I4s", 8 + sum(map(len, parts)), kind) + b"".join(parts)


def full(kind: bytes, *parts: bytes) -> bytes:
    """One with a version and flags."""
    return box(kind, bytes(4), *parts)


def overlapping(count: int) -> Callable[[Path], object]:
    """An index of so many pictures that all lie in the same place of the file."""

    def make(path: Path) -> None:
        picture = jpeg(256)
        number = struct.Struct(">I").pack
        matrix = struct.pack(">9I", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
        entry = bytes(6) + b"\0\1" + bytes(16) + struct.pack(">HHII", 256, 256, 72 << 16, 72 << 16)
        entry += bytes(4) + b"\0\1" + bytes(32) + b"\0\x18\xff\xff"
        table = box(
            b"stbl",
            full(b"stsd", number(1), box(b"jpeg", entry)),
            full(b"stts", number(1), number(count), number(1)),
            full(b"stsc", number(1), number(1), number(1), number(1)),
            full(b"stsz", number(len(picture)), number(count)),
            full(b"stco", number(count), number(32) * count),
        )
        reference = box(b"dinf", full(b"dref", number(1), box(b"url ", b"\0\0\0\1")))
        media = box(
            b"mdia",
            full(b"mdhd", bytes(8), number(25), number(count), bytes(4)),
            full(b"hdlr", bytes(4), b"vide", bytes(13)),
            box(b"minf", box(b"vmhd", b"\0\0\0\1", bytes(8)), reference, table),
        )
        header = full(
            b"mvhd", bytes(8), number(25), number(count), number(1 << 16), b"\1\0", bytes(10), matrix, bytes(28)
        )
        track = bytes(8) + number(1) + bytes(4) + number(count) + bytes(16) + matrix + number(256 << 16) * 2
        moov = box(b"moov", header, box(b"trak", box(b"tkhd", b"\0\0\0\7", track), media))
        path.write_bytes(box(b"ftyp", b"qt  ", bytes(12)) + box(b"mdat", picture) + moov)  # the picture at 32

    return make


BOMBS = (
    *(
        Bomb(f"{codec} {side}.{suffix}", large(codec, side, told=told), (LARGE,))
        for codec, side, told, suffixes in (
            ("h264", 16_000, None, ("mov", "mp4", "mkv", "flv", "ts")),
            ("mjpeg", 16_000, 64, ("mov", "mkv", "avi")),
            ("png", 16_000, 64, ("mov", "avi")),
        )
        for suffix in suffixes
    ),
    # FFmpeg itself takes no more than 268 million pixels, and says of these that their data are not valid
    Bomb("mjpeg 16384.mov", large("mjpeg", 16_384, told=64), (LARGE, "corrupt: no frame")),
    Bomb("png 16384.mov", large("png", 16_384, told=64), (LARGE, "corrupt: no frame")),
    Bomb("h264 7200.mp4", large("h264", 7200), (LARGE,), quick=True),
    Bomb("png 14000 told 64.mov", large("png", 14_000, told=64), (LARGE,), quick=True),
    Bomb("h264 grows.mp4", grows("libx264", 12_000), (CUT, LARGE)),
    Bomb("h264 grows.mkv", grows("libx264", 12_000), (CUT, LARGE)),
    Bomb("h264 grows.ts", grows("libx264", 12_000), (CUT, LARGE)),
    Bomb("jpeg grows.mkv", grows("mjpeg", 12_000), (CUT, LARGE), quick=True),
    Bomb("jpeg grows.mov", grows("mjpeg", 12_000), (CUT, LARGE)),
    Bomb("a million frames.mkv", tiny_frames(1_000_000), (USED,)),
    Bomb("three million frames.mkv", tiny_frames(3_000_000), (LONG,)),
    Bomb("ten thousand frames.mkv", tiny_frames(10_000), (USED,), quick=True),
    Bomb("gaps of 599 s.mkv", gaps(200, 599), (LONG,)),
    Bomb("gaps of 601 s.mkv", gaps(200, 601), (LONG,), quick=True),  # its header covers them
    Bomb("768 kHz.mov", heard(768_000, 1), (USED,)),
    Bomb("768 kHz with a gap.mkv", heard(768_000, 1, gap=590), (USED,)),
    Bomb("64 channels.mkv", heard(48_000, 64, gap=100), (USED,)),
    Bomb("64 channels, 192 kHz.mov", heard(192_000, 64), (USED,)),
    Bomb("500 streams.mkv", streams(500), (USED,)),
    Bomb("500 streams.mp4", streams(500), (USED,)),
    Bomb("1000 streams.mov", streams(1000), (USED, "corrupt: ", LARGE)),
    Bomb("100 MB of tags.mkv", metadata(100_000_000), (USED, "corrupt: ", LARGE)),
    Bomb("100 MB of tags.mp4", metadata(100_000_000), (USED, "corrupt: ", LARGE)),
    Bomb("an index of 30 million.mov", index(30_000_000), (LARGE, LONG, "corrupt: ", "hang: ")),
    Bomb("an index of 170 million.mov", index(170_000_000), (LARGE, LONG, "corrupt: ", "hang: ")),
    Bomb("an index of one place.mov", overlapping(20_000), (USED,)),
    Bomb("sound of an hour, no pictures behind the first.mkv", heard(8000, 1, gap=3000), (USED,)),
)


def write_bombs(folder: Path, *, quick: bool = False) -> dict[str, tuple[str, ...]]:
    """Make them, and a few good videos between them. Returns path → what may become of it."""
    folder.mkdir(parents=True)
    expected: dict[str, tuple[str, ...]] = {}
    for k, bomb in enumerate(bomb for bomb in BOMBS if bomb.quick or not quick):
        bomb.make(folder / bomb.name)
        expected[bomb.name] = bomb.outcomes
        if k % 4 == 0:
            write_video(folder / f"good {k}.mp4", drift(20, seed=k), track=sound(tone(0.8), codec="aac"))
            expected[f"good {k}.mp4"] = (USED,)
    h264.cache_clear()
    return expected
