"""HDF5 files that are written to a disk which may be full.

HDF5 does not survive a write that fails: what is left to be written fails again when the file is closed, with errors of
any kind, and sometimes that ends the process. So HDF5 never hears of it: from the first error on nothing is written any
more, and that error is raised when the file is closed.
"""

import os
from pathlib import Path

import h5py

from preprocess.store.seal import BLOCK


class NewFile(h5py.File):
    """A new HDF5 file with room for a seal, for writing. Raises OSError when it is closed and is not whole."""

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
            self.check()  # in place of what HDF5 made of it


class _Sink:
    """What h5py wants of a file. Writing always succeeds."""

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
        """Nothing is held back."""

    def _keep(self, error: OSError) -> None:
        self.error = OSError(error.errno, error.strerror, str(self.path))
