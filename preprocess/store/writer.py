"""Writing a store: pieces are joined to shards; the store's own file is written last, aside, and then renamed.

Until then readers see the previous store, or none. A shard is immutable and named by its bytes, so an old store and the
new one can share it. The content of a shard depends only on the order of `place` and on sizes: killed and resumed, or
made by many machines, a store comes out the same.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace as changed
from pathlib import Path

import h5py
import numpy as np

from preprocess.common.errors import UserError
from preprocess.common.files import make_folder, replace
from preprocess.store import safe_hdf5
from preprocess.store.format import shard_folder
from preprocess.store.index import HERE, Facts, Rejected, Video, facts_columns, write_columns
from preprocess.store.kinds import kinds_of
from preprocess.store.locations import Locations
from preprocess.store.new_file import NewFile, new_file, write_index
from preprocess.store.seal import stream_checksum, write_seal


class StoreWriter:
    """Gathers videos into shards of `shard_bytes`; the last ones, too few for a shard, go into the store's file."""

    def __init__(self, out: Path, *, locations: Locations, scratch: Path, shard_bytes: float) -> None:
        self.out = out
        self.locations = locations
        self.shard_bytes = shard_bytes
        self._kinds = kinds_of(locations.parameters)
        self._folder = shard_folder(out)
        self._aside = scratch / "store.h5"  # on the same file system
        self._file: NewFile | None = None
        self._members: dict[str, Facts] = {}  # videos in the open file
        self._size = 0  # bytes of their streams
        self._stale: set[Path] = set()  # shards to remove
        self._origin: tuple[Path, h5py.File] | None = None  # the file from which the last video was copied

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._leave_origin()
        if self._file is not None:
            with suppress(OSError, RuntimeError):  # the disk is full: an error has been raised already
                self._file.close()
            self._aside.unlink(missing_ok=True)

    def place(self, content: str) -> None:
        """Add a video from `locations`, unless a shard of this store holds it."""
        origin = self.locations.file(content)
        if content in self._members or (origin.parent == self._folder and origin not in self._stale):
            return
        if self._file is None:
            self._file = new_file(self._aside, parameters=self.locations.parameters)
        self._members[content] = changed(self.locations.facts(content), at=self._copy(content, origin))
        self._size += sum(self._members[content].bytes.values())
        if self._size >= self.shard_bytes:
            self._close_shard()

    def publish(self, videos: Sequence[Video], rejected: Sequence[Rejected], *, notes: Sequence[str]) -> None:
        """Publish the store under its name. All of `videos` were placed; their locations are filled in here."""
        wanted = {video.content for video in videos}
        self._find_stale_shards(wanted)
        for video in videos:  # videos still wanted from a shard that will be removed
            self.place(video.content)
        where = {content: self.locations.file(content) for content in wanted if content not in self._members}
        shards = sorted(set(where.values()))
        number = {path: k for k, path in enumerate(shards)}
        rows = [
            changed(video, shard=number[where[c]], at=self.locations.facts(c).at)
            if (c := video.content) in where
            else changed(video, shard=HERE, at=self._members[c].at)
            for video in videos
        ]
        file = self._file or new_file(self._aside, parameters=self.locations.parameters)
        self._file = file
        write_index(file, rows, rejected, notes=notes, shards=shards, kinds=self._kinds)
        file.close()
        self._file = None
        write_seal(self._aside)
        self._leave_origin()
        replace(self._aside, self.out)
        self.sweep(shards)

    def _find_stale_shards(self, wanted: set[str]) -> None:
        """Mark stale shards. One stays if all its videos are wanted and none is in another that stays."""
        kept: set[str] = set()
        for path in self.locations.files():
            if path.parent == self._folder:
                members = self.locations.members(path)
                if wanted.issuperset(members) and kept.isdisjoint(members):
                    kept.update(members)
                    self.locations.prefer(path)  # a killed run may have copied them from a stale shard
                else:
                    self._stale.add(path)

    def _close_shard(self) -> None:
        assert self._file is not None
        columns = facts_columns(list(self._members.values()), self._kinds)
        write_columns(self._file.create_group("index"), columns)
        self._file.close()
        self._file = None
        name = self._folder / f"{write_seal(self._aside).digest}.h5"
        make_folder(self._folder)
        replace(self._aside, name)  # a file with this name has the same bytes already, unless it is damaged
        for row, content in enumerate(self._members):
            origin = self.locations.file(content)
            self.locations.move(content, name, columns, row)
            if origin.stem == content:  # a piece, no longer needed
                origin.unlink(missing_ok=True)
        self._members, self._size = {}, 0

    def sweep(self, shards: Sequence[Path]) -> None:
        """Remove all shards but these, which are the published store's."""
        for path in self._folder.glob("*.h5"):
            if path not in shards:
                path.unlink()
        with suppress(OSError):  # not empty, or never created
            self._folder.rmdir()

    def _copy(self, content: str, origin: Path) -> dict[str, int]:
        """Copy a video's streams, and nothing else that an untrusted file may hold; return the copies' offsets."""
        assert self._file is not None
        target, at = self._file["videos"].create_group(content), {}
        try:
            if self._origin is None or self._origin[0] != origin:
                self._leave_origin()
                self._origin = (origin, safe_hdf5.open_file(origin))
            source = safe_hdf5.group(safe_hdf5.group(self._origin[1], "videos"), content)
            _copy_attributes(source, target)
            there = set(source)  # looking a name up would follow its link
            for stream in self._kinds:
                if stream in there:
                    at |= self._copy_stream(stream, safe_hdf5.group(source, stream), target.create_group(stream))
        except safe_hdf5.UnsafeFile as error:
            raise UserError(
                f"{origin} is damaged: {error}; remove it and run the extraction again: only what was in it is redone"
            ) from error
        return at

    def _copy_stream(self, stream: str, source, target) -> dict[str, int]:
        """Copy one stream; return the offsets of its datasets. Raises safe_hdf5.UnsafeFile if it has changed."""
        assert self._file is not None
        _copy_attributes(source, target)
        for name, (dtype, ndim) in self._kinds[stream].datasets.items():
            self._file.copy(safe_hdf5.dataset(source, name, np.dtype(dtype), ndim=ndim), target, name=name)
        self._file.check()
        if stream_checksum(target) != safe_hdf5.attribute(source, "checksum"):
            raise safe_hdf5.UnsafeFile(f"{source.name[1:]} is not what was written")
        return {f"{stream}_{name}": target[name].id.get_offset() for name in self._kinds[stream].datasets}

    def _leave_origin(self) -> None:
        if self._origin is not None:
            self._origin[1].close()
            self._origin = None


def _copy_attributes(source, target) -> None:
    for name in source.attrs:
        safe_hdf5.attribute(source, name)
        target.attrs[name] = source.attrs[name]
