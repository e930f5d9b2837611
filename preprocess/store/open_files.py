"""The files of a store that a process has open: each process its own, the last few hundred."""

import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from preprocess.common.errors import UserError
from preprocess.store import safe_hdf5

MOST = 256  # files of each kind that a process keeps open

Found = TypeVar("Found")


class OpenFiles:
    """The files of one process. A process that was forked from another opens its own."""

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._hdf5: OrderedDict[Path, Any] = OrderedDict()  # h5py files
        self._handles: OrderedDict[Path, tuple[int, int]] = OrderedDict()

    def hdf5(self, path: Path, digest: str):
        """An h5py file."""
        self._check_owner()
        if path not in self._hdf5:
            self._hdf5[path] = _checked(path, lambda: safe_hdf5.open_file(path, digest=digest))
            if len(self._hdf5) > MOST:
                self._hdf5.popitem(last=False)[1].close()
        return self._hdf5[path]

    def handle(self, path: Path, digest: str) -> tuple[int, int]:
        """A file descriptor for reading, and the file's size."""
        self._check_owner()
        if path not in self._handles:
            self._handles[path] = _checked(path, lambda: safe_hdf5.open_handle(path, digest=digest))
            if len(self._handles) > MOST:
                os.close(self._handles.popitem(last=False)[1][0])
        return self._handles[path]

    def _check_owner(self) -> None:
        if self._owner != os.getpid():
            self.__init__()

    def __del__(self) -> None:
        if self._owner == os.getpid():
            for handle, _ in self._handles.values():
                os.close(handle)


def _checked(path: Path, look: Callable[[], Found]) -> Found:
    if not path.is_file():
        raise UserError(f"{path} is missing: a store's shards lie beside it and move with it")
    try:
        return look()
    except safe_hdf5.UnsafeFile as error:
        raise UserError(f"{path} is damaged, or was replaced while the store was in use: {error}") from error
