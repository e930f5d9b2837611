"""Writing a store: aside, piece by piece, and published by one rename."""

import os
import shutil
from contextlib import ExitStack
from pathlib import Path

import h5py

from preprocess.errors import UserError
from preprocess.lock import only_one
from preprocess.store import Rejected, Video, write_index


class StoreWriter:
    """Gathers pieces into a file that nobody sees before it is whole.

    Everything lies in `OUT.partial/` until `publish` renames it to OUT; leaving the context without that takes
    it away and leaves what was at OUT before as it was.
    """

    def __init__(self, out: Path, *, overwrite: bool) -> None:
        """Raises UserError if `out` is there already, its folder is not, or somebody else is writing it."""
        if out.is_dir() or not out.parent.is_dir():
            raise UserError(f"cannot write {out}: {'it is a folder' if out.is_dir() else 'its folder does not exist'}")
        if out.exists() and not overwrite:
            raise UserError(f"{out} exists: give another name, or --overwrite to replace it")
        self.out = out
        self.folder = out.with_name(out.name + ".partial")  # for pieces, on the same file system
        self.videos: list[Video] = []
        self.rejected: list[Rejected] = []

    def __enter__(self) -> "StoreWriter":
        self.folder.mkdir(exist_ok=True)
        busy = f"another extraction is writing {self.out}: wait for it, or give another name"
        self._held = ExitStack()
        self._held.enter_context(only_one(self.folder / "lock", busy=busy))
        for leftover in self.folder.iterdir():  # of a run that was killed
            if leftover.name != "lock":
                leftover.unlink()
        self._file = h5py.File(self.folder / "store.h5", "w")
        self._groups = self._file.create_group("videos")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        shutil.rmtree(self.folder)
        self._held.close()

    def add(self, piece: Path, outcome: Video | Rejected) -> None:
        """Take one video's outcome; its piece, if there is one, becomes a part of the store."""
        if isinstance(outcome, Rejected):
            self.rejected.append(outcome)
            return
        with h5py.File(piece, "r") as file:
            file.copy("video", self._groups, name=outcome.path.encode("utf-8", "surrogateescape"))
        piece.unlink()
        self.videos.append(outcome)

    def publish(self, *, parameters: dict, notes: list[str]) -> None:
        """Make the file a store and give it its name."""
        write_index(self._file, self.videos, self.rejected, parameters=parameters, notes=notes)
        self._file.close()
        part = self.folder / "store.h5"
        _sync(part)
        os.replace(part, self.out)
        _sync(self.out.parent)


def _sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
