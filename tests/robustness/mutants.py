"""Small good videos of many containers and codecs, and what chance and malice make of them."""

import random
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from preprocess.extraction.sources import VIDEO_SUFFIXES
from tests.support.videos import drift, sound, tone, write_video

FPS = 25
SIZE = (48, 64)  # H, W
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}
INDEX_FIRST = {"movflags": "faststart"}
GOOD = {  # what it is → suffix, codecs, the sound's rate, B-frames, how it is written
    "mp4": ("mp4", "libx264", "aac", 16_000, 2, {}),
    "mp4, index first": ("mp4", "libx264", "aac", 44_100, 0, INDEX_FIRST),
    "mp4, fragments": ("mp4", "libx264", "aac", 16_000, 2, FRAGMENTS),
    "mp4, mpeg4": ("mp4", "mpeg4", "libmp3lame", 44_100, 2, {}),
    "3gp": ("3gp", "h263", None, 0, 0, {}),
    "mov": ("mov", "mjpeg", "pcm_s16le", 16_000, 0, {}),
    "mkv": ("mkv", "libx265", "flac", 16_000, 0, {}),
    "mkv, ffv1": ("mkv", "ffv1", "pcm_s16le", 16_000, 0, {}),
    "webm, vp8": ("webm", "libvpx", "libopus", 48_000, 0, {}),
    "webm, vp9": ("webm", "libvpx-vp9", "libopus", 48_000, 0, {}),
    "avi": ("avi", "mpeg4", "libmp3lame", 44_100, 0, {}),
    "avi, mjpeg": ("avi", "mjpeg", "pcm_s16le", 16_000, 0, {}),
    "flv": ("flv", "flv", "libmp3lame", 44_100, 0, {}),
    "flv, h264": ("flv", "libx264", "aac", 16_000, 2, {}),
    "ts": ("ts", "mpeg2video", "mp2", 44_100, 2, {}),
    "ts, h264": ("ts", "libx264", "aac", 16_000, 2, {}),
    "mpg": ("mpg", "mpeg1video", "mp2", 44_100, 2, {}),
    "ogv": ("ogv", "libvpx", "libopus", 48_000, 0, {}),
    "gif": ("gif", "gif", None, 0, 0, {}),
    "wmv": ("wmv", "wmv2", "libmp3lame", 44_100, 0, {}),
    "mxf": ("mxf", "mpeg2video", None, 0, 2, {}),
    "rm": ("rm", "rv10", None, 0, 0, {}),
    "ivf": ("ivf", "libvpx", None, 0, 0, {}),
    "h264": ("h264", "libx264", None, 0, 2, {}),
    "mjpeg": ("mjpeg", "mjpeg", None, 0, 0, {}),
}
HUGE = (0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0x00FFFFFF, 0, 1)
FIELD = re.compile(rb"[a-zA-Z0-9]{4}")  # MP4 writes a size before four letters, RIFF behind them


@dataclass(frozen=True)
class Original:
    """A good video."""

    kind: str
    suffix: str
    content: bytes
    seconds: float
    step: float = 1 / FPS


@dataclass(frozen=True)
class Mutant:
    """What was made of one."""

    path: str  # below the folder of the run
    original: Original
    how: str


def write_original(kind: str, path: Path, *, frames: int, seed: int) -> Original:
    """A drifting texture and a tone of equal length."""
    suffix, codec, heard_as, rate, b_frames, muxing = GOOD[kind]
    track = sound(tone(frames / FPS, rate=rate), rate=rate, codec=heard_as) if heard_as else None
    path = path.with_suffix(f".{suffix}")
    write_video(
        path,
        drift(frames, size=SIZE if suffix != "3gp" else (96, 128), seed=seed),
        fps=FPS,
        track=track,
        codec=codec,
        pixels="rgb8" if codec == "gif" else None,
        muxing={"fflags": "+bitexact"} | muxing,  # else muxers write dates and random numbers
        b_frames=b_frames,
    )
    return Original(kind, suffix, path.read_bytes(), frames / FPS)


def write_originals(folder: Path, *, seed: int) -> list[Original]:
    """Two of every kind, of one to three seconds."""
    rng = random.Random(seed)
    folder.mkdir(parents=True)
    return [
        write_original(kind, folder / f"{k}-{turn}", frames=rng.randint(FPS, 3 * FPS), seed=seed + turn)
        for k, kind in enumerate(GOOD)
        for turn in range(2)
    ]


def flip(data: bytearray, rng: random.Random, _: bytes) -> str:
    count = round(1000 ** rng.random())  # as often a few as many
    for _ in range(count):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return f"{count} bits flipped"


def cut(data: bytearray, rng: random.Random, _: bytes) -> str:
    keep = rng.randrange(1, len(data))
    del data[keep:]
    return f"cut to {keep} bytes"


def blank(data: bytearray, rng: random.Random, _: bytes) -> str:
    begin, end = _stretch(data, rng)
    data[begin:end] = bytes(end - begin)
    return f"zeros from {begin} to {end}"


def splice(data: bytearray, rng: random.Random, other: bytes) -> str:
    at, there = rng.randrange(len(data)), rng.randrange(len(other))
    data[at:] = other[there:]
    return f"from {at} on as another from {there} on"


def repeat(data: bytearray, rng: random.Random, _: bytes) -> str:
    begin, end = _stretch(data, rng)
    data[end:end] = data[begin:end]
    return f"{begin} to {end} twice"


def remove(data: bytearray, rng: random.Random, _: bytes) -> str:
    begin, end = _stretch(data, rng)
    del data[begin:end]
    return f"without {begin} to {end}"


def insert(data: bytearray, rng: random.Random, _: bytes) -> str:
    at, count = rng.randrange(len(data)), rng.randint(1, 5000)
    data[at:at] = rng.randbytes(count)
    return f"{count} bytes inserted at {at}"


def head(data: bytearray, rng: random.Random, _: bytes) -> str:
    keep = rng.randint(1, min(3000, len(data)))
    del data[keep:]
    return f"the first {keep} bytes"


def enlarge(data: bytearray, rng: random.Random, _: bytes) -> str:
    """Numbers where sizes stand: beside four letters, or near the beginning."""
    names = [match.start() for match in FIELD.finditer(data[:4000] + data[-4000:])]
    places = []
    for _ in range(rng.randint(1, 4)):
        if names and rng.random() < 0.7:
            at = rng.choice(names) + rng.choice((-4, 4, 8, 12, 16))
            at += max(0, len(data) - 8000) if at > 4000 else 0
        else:
            at = rng.randrange(min(len(data), 1000))
        at = min(max(at, 0), max(0, len(data) - 4))
        data[at : at + 4] = struct.pack(rng.choice("<>") + "I", rng.choice(HUGE))
        places.append(at)
    return f"huge numbers at {places}"


MUTATIONS: tuple[Callable[[bytearray, random.Random, bytes], str], ...] = (
    *(flip, flip, cut, blank, splice, repeat, remove, insert, head, enlarge),  # flipping comes twice as often
)


def write_mutants(folder: Path, originals: list[Original], *, count: int, seed: int) -> list[Mutant]:
    """Mutants of all originals in turn, below `folder`. One that came out unharmed is not among them."""
    rng = random.Random(seed)
    mutants = []
    while len(mutants) < count:
        original = originals[len(mutants) % len(originals)]
        mutation = rng.choice(MUTATIONS)
        data = bytearray(original.content)
        said = mutation(data, rng, rng.choice(originals).content)
        if data == original.content:
            continue
        suffix = f".{original.suffix}" if f".{original.suffix}" in VIDEO_SUFFIXES else ".mp4"
        path = f"{mutation.__name__}/{len(mutants):05d}{suffix}"
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
        mutants.append(Mutant(path, original, said))
    return mutants


def _stretch(data: bytearray, rng: random.Random) -> tuple[int, int]:
    """A part of up to a half, as often small as large."""
    count = max(1, round((len(data) / 2) ** rng.random()))
    begin = rng.randrange(max(1, len(data) - count))
    return begin, begin + count
