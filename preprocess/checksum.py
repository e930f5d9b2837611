"""The checksum of a video's stream: blake2b, 128 bit, of its datasets' bytes, `data` first."""

import hashlib

import numpy as np

COPY_BLOCK = 1 << 22  # bytes that are held at a time


def new_hasher():
    """A hashlib object for the bytes of a stream."""
    return hashlib.blake2b(digest_size=16)


def stream_checksum(group) -> str:
    """The checksum of a stream's datasets, which the guard has let through."""
    hasher = new_hasher()
    for name in ("data", "ends"):
        if name in group:
            data = group[name]
            row = data.nbytes // max(1, len(data))
            step = max(1, COPY_BLOCK // max(1, row))
            for begin in range(0, len(data), step):
                hasher.update(np.ascontiguousarray(data[begin : begin + step]))
    return hasher.hexdigest()
