"""Empty chunks at the end of an AVI file: they mean that the picture stays, and FFmpeg passes none of them on."""

import struct

ENTRY = 16  # bytes: kind of chunk, flags, place, size
LONGEST = 1 << 26  # bytes of an index that are read


def stays_until(file: str, stream: int) -> int:
    """The number of chunks of a video stream, if the last of them is empty; else 0. By the index at the file's end."""
    kinds = {b"%02ddc" % stream, b"%02ddb" % stream}
    index = _read_index(file)
    entries = struct.iter_unpack("<4sIII", index[: len(index) // ENTRY * ENTRY])
    sizes = [size for kind, _, _, size in entries if kind in kinds]
    return len(sizes) if sizes and not sizes[-1] else 0


def _read_index(file: str) -> bytes:
    """The content of the chunk idx1."""
    with open(file, "rb") as stream:
        if stream.read(12)[8:] != b"AVI ":
            return b""
        while len(head := stream.read(8)) == 8:
            kind, size = struct.unpack("<4sI", head)
            if kind == b"idx1":
                return stream.read(min(size, LONGEST))
            stream.seek(size + size % 2, 1)  # chunks begin at even places
    return b""
