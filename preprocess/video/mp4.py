"""Facts in the boxes of MP4 and MOV files (ISO/IEC 14496-12) that FFmpeg does not pass on."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

PROTECTED = {b"encv", b"enca", b"drmi", b"drms"}  # sample entries: common encryption, FairPlay
LARGEST_HEADER = 1 << 26  # bytes; longer tables of samples are not read
CONTAINERS = {b"moov", b"trak", b"mdia", b"minf", b"stbl"}
VISUAL_ENTRY = 78  # bytes of a visual sample entry before its boxes


@dataclass(frozen=True)
class Aperture:
    """The part of the pictures that is meant to be seen, in pixels."""

    width: Fraction
    height: Fraction
    right: Fraction  # the offset of its centre from the picture's centre
    down: Fraction

    def rectangle(self, width: int, height: int) -> tuple[int, int, int, int] | None:
        """Width, height, left and top in a picture of this size; None if it is all of it, or does not lie within it."""
        w, h = round(self.width), round(self.height)
        left, top = round((width - w) / 2 + self.right), round((height - h) / 2 + self.down)
        if min(w, h) < 1 or min(left, top) < 0 or left + w > width or top + h > height or (w, h) == (width, height):
            return None
        return w, h, left, top


@dataclass(frozen=True)
class Mp4Track:
    """A track by its boxes."""

    number: int
    kind: bytes  # vide, soun …
    entries: tuple[bytes, ...]  # kinds of its sample entries
    aperture: Aperture | None

    @property
    def is_protected(self) -> bool:
        return bool(self.entries) and all(entry in PROTECTED for entry in self.entries)


def read_tracks(file: str) -> list[Mp4Track]:
    """The tracks of an MP4 or MOV file; none of any other file, or of one whose boxes are broken."""
    try:
        moov = _read_moov(file)
        return [_track(moov[begin:end]) for kind, begin, end in _boxes(moov) if kind == b"trak"]
    except (OSError, struct.error, ValueError):
        return []


def _read_moov(file: str) -> bytes:
    """The content of the box moov."""
    with open(file, "rb") as stream:
        for _ in range(1000):
            head = stream.read(8)
            if len(head) < 8:
                break
            size, kind = struct.unpack(">I4s", head)
            done = 8
            if size == 1:
                size, done = struct.unpack(">Q", stream.read(8))[0], 16
            if kind == b"moov":
                return stream.read(min(size - done if size else LARGEST_HEADER, LARGEST_HEADER))
            if size < done:  # 0: up to the end of the file
                break
            stream.seek(size - done, 1)
    return b""


def _boxes(data: bytes, begin: int = 0) -> Iterator[tuple[bytes, int, int]]:
    """Kind, begin and end of the content of each box."""
    while begin + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, begin)
        if size < 8:
            return
        yield kind, begin + 8, min(begin + size, len(data))
        begin += size


def _track(data: bytes) -> Mp4Track:
    found: dict[bytes, bytes] = {}
    _collect(data, found)
    head = found.get(b"tkhd", b"")
    (number,) = struct.unpack_from(">I", head, 20 if head[:1] == b"\x01" else 12)
    kind = found.get(b"hdlr", b"")[8:12]
    table = found.get(b"stsd", b"")
    entries = list(_boxes(table, 8))
    _, begin, end = entries[0] if entries else (b"", 0, 0)
    aperture = _aperture(table[begin:end]) if kind == b"vide" else None
    return Mp4Track(number, kind, tuple(name for name, _, _ in entries), aperture)


def _collect(data: bytes, found: dict[bytes, bytes]) -> None:
    for kind, begin, end in _boxes(data):
        if kind in CONTAINERS:
            _collect(data[begin:end], found)
        elif kind in (b"tkhd", b"hdlr", b"stsd"):
            found.setdefault(kind, data[begin:end])


def _aperture(entry: bytes) -> Aperture | None:
    """The box clap of a visual sample entry."""
    for kind, begin, end in _boxes(entry, VISUAL_ENTRY):
        if kind == b"clap" and end - begin >= 32:
            numbers = struct.unpack_from(">IIIIiIiI", entry, begin)
            if all(numbers[1::2]):
                return Aperture(*(Fraction(n, d) for n, d in zip(numbers[::2], numbers[1::2], strict=True)))
    return None
