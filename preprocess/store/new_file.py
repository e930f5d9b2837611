"""Writing HDF5 files to a disk that may be full.

HDF5 does not survive a failed write: the remaining writes fail again when the file is closed, with errors of any kind,
and sometimes the process ends. So the error is hidden from HDF5: from the first one on nothing is written any more, and
it is raised when the file is closed.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from preprocess.store.format import FORMAT, VERSION, release
from preprocess.store.index import (
    CONTENT,
    Rejected,
    Texts,
    Video,
    video_columns,
    write_columns,
)
from preprocess.store.kinds import KINDS, Kinds
from preprocess.store.seal import BLOCK, read_seal


class NewFile(h5py.File):
    """A new HDF5 file with room for a seal, for writing. Raises OSError on closing if a write failed."""

    def __init__(self, path: Path) -> None:
        self._sink = _Sink(path)
        super().__init__(self._sink, "w", userblock_size=BLOCK)

    def check(self) -> None:
        """Raises OSError if something could not be written."""
        if self._sink.error is not None:
            raise self._sink.error

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._sink.file.close()
            self.check()  # instead of the error that HDF5 raised


class _Sink:
    """The file interface that h5py needs. Writing always succeeds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = open(path, "w+b", buffering=0)
        self.error: OSError | None = None

    def write(self, data) -> int:
        left = memoryview(data).cast("B")
        while len(left) and self.error is None:
            try:
                left = left[self.file.write(left) :]
            except OSError as error:
                self._keep(error)
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        if self.error is None:
            try:
                return self.file.truncate(size)
            except OSError as error:
                self._keep(error)
        return size or 0

    def read(self, size: int = -1) -> bytes:
        return self.file.read(size)

    def readinto(self, buffer) -> int:
        return self.file.readinto(buffer)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def flush(self) -> None:
        """Nothing to do: writes are not buffered."""

    def _keep(self, error: OSError) -> None:
        self.error = OSError(error.errno, error.strerror, str(self.path))


def new_file(path: Path, *, parameters: dict) -> "NewFile":
    """Make an HDF5 file with room for a seal and the format's attributes, for writing.

    Raises OSError on closing if a write failed.
    """

    file = NewFile(path)
    file.attrs["format"] = np.bytes_(FORMAT)
    file.attrs["version"] = VERSION
    file.attrs["written_by"] = np.bytes_(release())
    file.attrs["parameters"] = np.bytes_(json.dumps(parameters, sort_keys=True))
    file.create_group("videos")
    return file


def write_index(
    file,
    videos: Sequence[Video],
    rejected: Sequence[Rejected],
    *,
    notes: Sequence[str],
    shards: Sequence[Path] = (),
    kinds: Kinds = KINDS,
) -> None:
    """Write the index, the rejected files and the table of shards into an h5py file from `new_file`."""
    videos = sorted(videos, key=lambda video: video.path)
    classes = sorted({video.label for video in videos if video.label is not None})
    write_columns(file, {"classes": Texts.of(classes), "notes": Texts.of(notes)})
    write_columns(file.create_group("index"), video_columns(videos, classes, kinds))
    rejects = sorted(rejected, key=lambda reject: reject.path)
    columns = {name: Texts.of([getattr(reject, name) for reject in rejects]) for name in ("path", "reason")}
    write_columns(file.create_group("rejected"), columns)
    seals = [read_seal(shard) for shard in shards]
    columns = {
        "name": Texts.of([shard.name for shard in shards]),
        "digest": np.array([seal.digest for seal in seals], CONTENT),
        "size": np.array([seal.size for seal in seals], "i8"),
    }
    write_columns(file.create_group("shards"), columns)
