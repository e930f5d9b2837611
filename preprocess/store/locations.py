"""Locations of finished videos: in the shards of a store, in its own file, or in pieces."""

from pathlib import Path

import numpy as np

from preprocess.store import Store, safe_hdf5
from preprocess.store.format import read_parameters, shard_folder
from preprocess.store.index import HERE, Columns, Facts, facts_at, read_facts
from preprocess.store.kinds import kinds_of


class Locations:
    """Finds the streams of a video by its content, in files that were made with the same parameters."""

    def __init__(self, parameters: dict) -> None:
        self.parameters = parameters
        self._columns: dict[Path, Columns] = {}
        self._places: dict[str, tuple[Path, int]] = {}  # content → file and row

    def add_store(self, out: Path, *, newer_than: int | None = None) -> None:
        """Add a store, if there is one, and all shards in its folder.

        With `newer_than`, add only shards made after that time in ns: those of a store that is being replaced are left
        out.
        """
        for shard in sorted(shard_folder(out).glob("*.h5")):
            if newer_than is None or shard.stat().st_mtime_ns >= newer_than:
                self.add_file(shard)
        # second: videos that a killed run has copied from it into a shard are in both, and keep the shard
        if out.exists() and newer_than is None:
            store = Store(out)
            if store.parameters == self.parameters:
                self._add(out, store.columns, np.flatnonzero(store.columns["shard"] == HERE).tolist())

    def add_file(self, path: Path) -> bool:
        """Add a shard or a piece; False if it is incomplete or has other parameters."""
        try:
            with safe_hdf5.open_file(path) as file:
                if read_parameters(file) != self.parameters:
                    return False
                columns = read_facts(safe_hdf5.group(file, "index"), kinds_of(self.parameters))
        except (FileNotFoundError, safe_hdf5.UnsafeFile):
            return False
        self._add(path, columns, range(len(columns["content"])))
        return True

    def _add(self, path: Path, columns: Columns, rows) -> None:
        self._columns[path] = columns
        for row in rows:
            self._places.setdefault(columns["content"][row].decode(), (path, row))

    def __contains__(self, content: str) -> bool:
        return content in self._places

    def contents(self) -> frozenset[str]:
        """The content digests of all videos found."""
        return frozenset(self._places)

    def file(self, content: str) -> Path:
        """The file that holds /videos/<content>."""
        return self._places[content][0]

    def facts(self, content: str) -> Facts:
        """The facts about the video with that content."""
        path, row = self._places[content]
        return Facts(**facts_at(self._columns[path], row))

    def move(self, content: str, path: Path, columns: Columns, row: int) -> None:
        """Record that another file holds the video now."""
        before = self.file(content)
        self._columns[path] = columns
        self._places[content] = (path, row)
        if before.stem == content:  # a piece holds nothing else
            del self._columns[before]

    def prefer(self, path: Path) -> None:
        """Use this file for all videos it holds, also where other files hold them too."""
        for row, content in enumerate(self.members(path)):
            self._places[content] = (path, row)

    def members(self, path: Path) -> list[str]:
        """The content digests of the videos in an added file."""
        return [content.decode() for content in self._columns[path]["content"].tolist()]

    def files(self) -> list[Path]:
        """The files that were added."""
        return list(self._columns)
