"""The seal of every file that we write: its length and a digest of its bytes, in the block before the HDF5 data.

HDF5 can leave the first 512 bytes of a file to the user, and plain h5py opens such files. `head -c 512 out.h5` shows
the seal. Reading it costs nothing and detects a truncated file; computing the digest again (`verify`) detects any
flipped bit, also one in HDF5's own structures or in bytes of no dataset.
"""

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

BLOCK = 512  # bytes; the smallest user block that HDF5 allows
FORM = re.compile(rb"tristream\nblake2b ([0-9a-f]{32})\nbytes (\d{1,19})\n\0*")
READ = 1 << 20  # bytes per read
COPY_BLOCK = 1 << 22  # bytes held in memory at a time


@dataclass(frozen=True)
class Seal:
    """The content of a file's first block."""

    digest: str  # blake2b, 128 bits, of the bytes after the block
    size: int  # bytes of the whole file

    def block(self) -> bytes:
        return f"tristream\nblake2b {self.digest}\nbytes {self.size}\n".encode().ljust(BLOCK, b"\0")


class Broken(Exception):
    """A file that has changed since it was sealed. The message says in what, without the file's name."""


class Unsealed(Broken):
    """A file that was never sealed, or whose seal is damaged."""


def digest(path: str | os.PathLike, *, skip: int = 0, each: Callable[[], object] | None = None) -> str:
    """blake2b, 128 bits, as hexadecimal digits, of a file's bytes from `skip` on; `each` is called after each block."""
    hasher = hashlib.blake2b(digest_size=16)
    buffer = memoryview(bytearray(READ))
    with open(path, "rb", buffering=0) as file:
        file.seek(skip)
        while count := file.readinto(buffer):
            hasher.update(buffer[:count])
            if each is not None:
                each()
    return hasher.hexdigest()


def write_seal(path: Path, *, each: Callable[[], object] | None = None) -> Seal:
    """Seal a closed HDF5 file that was made with `userblock_size=BLOCK`; `each` is called after each block."""
    seal = Seal(digest(path, skip=BLOCK, each=each), path.stat().st_size)
    with open(path, "r+b") as file:
        file.write(seal.block())
    return seal


def read_seal(path: Path) -> Seal:
    """The seal of a file.

    Raises Broken if there is none, or it states another length than the file's.
    """
    with open(path, "rb") as file:
        block = file.read(BLOCK)
        size = os.fstat(file.fileno()).st_size
    seal = parse_seal(block)
    if seal.size != size:
        raise Broken(f"it is {size} bytes long and was {seal.size}")
    return seal


def parse_seal(block: bytes) -> Seal:
    """The seal in a file's first block.

    Raises Broken if it is not a seal.
    """
    match = FORM.fullmatch(block)
    seal = match and Seal(match[1].decode(), int(match[2]))
    if not seal or seal.block() != block:
        raise Unsealed("it has no seal of this program")
    return seal


def verify(path: Path) -> Seal:
    """The seal of a file, after checking every byte against it.

    Raises Broken if any differs.
    """
    seal = read_seal(path)
    if digest(path, skip=BLOCK) != seal.digest:
        raise Broken("its bytes are not those that were sealed")
    return seal


def new_hasher():
    """A hashlib object for the bytes of a stream."""
    return hashlib.blake2b(digest_size=16)


def stream_checksum(group) -> str:
    """The checksum of a stream's datasets, which safe_hdf5 has accepted."""
    hasher = new_hasher()
    for name in ("data", "ends"):
        if name in group:
            data = group[name]
            row = data.nbytes // max(1, len(data))
            step = max(1, COPY_BLOCK // max(1, row))
            for begin in range(0, len(data), step):
                hasher.update(np.ascontiguousarray(data[begin : begin + step]))
    return hasher.hexdigest()
