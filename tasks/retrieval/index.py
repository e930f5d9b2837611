"""An index of windows: a folder of plain arrays that only grow, and a table of videos that says how far they count.

    index.json              the model, the windows' length and hop, the parts and their sizes
    videos.jsonl            a line a video, written last: path, content, source, windows, seconds;
                            {"removed": number} takes one out again, whose windows stay, and count no more
    windows.f4              (N, 2) float32: begin and end in seconds
    PART.there.u8           (N,) uint8, whether a window has that part
    PART.f2, PART.i1, PART.kept.f4      (N, D) float16, unit vectors; (N, D) int8 and (N, 2) float32, see scan.py
    stills.jpg, stills.i8   a small JPEG a window, one after the other; (N,) int64: where each ends

Nothing is read until it is asked for. Killed at any instant, what the last whole line of the table counts is there; the
next process that writes cuts off the rest.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from preprocess.common.errors import UserError
from preprocess.common.files import make_folder, only_one, write_aside
from tasks.retrieval.describe import Described
from tasks.retrieval.scan import encode

VERSION = 1
TABLE, MANIFEST = "videos.jsonl", "index.json"


@dataclass(frozen=True)
class About:
    """How the windows of an index were made: the same for all."""

    model: str  # path of its weights
    model_digest: str  # BLAKE2b of that file
    model_release: str  # the release that trained it
    length: float  # seconds of a window
    hop: float  # seconds from one window to the next
    size: int  # numbers at most to which a tower's features are projected
    parts: dict[str, int]  # part → numbers
    version: int = VERSION

    def check(self, other: "About", folder: Path) -> None:
        """Raises UserError if `other`, which made what is in the folder, is another way."""
        for name in ("model_digest", "length", "hop", "parts"):
            if getattr(other, name) != getattr(self, name):
                shown = {"model_digest": "model", "parts": "size"}.get(name, name)
                theirs, ours = getattr(other, shown), getattr(self, shown)
                more = " of before" if theirs == ours else ""
                raise UserError(f"{folder} is an index by {shown} {theirs}{more}, not {ours}: name another folder")


@dataclass(frozen=True)
class Entry:
    """One video of an index."""

    path: str  # its name
    content: str  # digest of its file
    source: str  # the file, or the store that holds it
    seconds: float
    windows: int
    begin: int  # number of its first window
    removed: bool = False

    @property
    def rows(self) -> slice:
        return slice(self.begin, self.begin + self.windows)


class Index:
    """Reads an index; arrays are mapped into memory when they are first used."""

    def __init__(self, folder: str | os.PathLike) -> None:
        """Raises UserError if there is none in the folder, or a damaged one."""
        self.folder = Path(folder)
        self.about = read_about(self.folder)
        self.videos = read_table(self.folder)
        self.names = list(self.about.parts)

    @property
    def held(self) -> list[Entry]:
        """The videos that were not removed."""
        return [video for video in self.videos if not video.removed]

    def __len__(self) -> int:
        """The number of windows, those of removed videos too."""
        return self.videos[-1].begin + self.videos[-1].windows if self.videos else 0

    @cached_property
    def begins(self) -> np.ndarray:
        """(V,) the number of each video's first window."""
        return np.array([video.begin for video in self.videos], np.int64)

    @cached_property
    def times(self) -> np.ndarray:
        """(N, 2) float32, seconds."""
        return self._map("windows.f4", np.float32, 2)

    def there(self, part: str) -> np.ndarray:
        """(N,) bool, whether a window has that part."""
        return self._map(f"{part}.there.u8", np.bool_, 1)[:, 0]

    def vectors(self, part: str) -> np.ndarray:
        """(N, D) float16."""
        return self._map(f"{part}.f2", np.float16, self.about.parts[part])

    def codes(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        """(N, D) int8 and (N, 2) float32."""
        return self._map(f"{part}.i1", np.int8, self.about.parts[part]), self._map(f"{part}.kept.f4", np.float32, 2)

    def video_of(self, rows: np.ndarray) -> np.ndarray:
        """The number of each window's video."""
        return np.searchsorted(self.begins, rows, side="right") - 1

    def still(self, row: int) -> bytes:
        """The JPEG of a window; empty where it has no picture."""
        ends = self._map("stills.i8", np.int64, 1)[:, 0]
        begin = int(ends[row - 1]) if row else 0
        with open(self.folder / "stills.jpg", "rb") as file:
            file.seek(begin)
            return file.read(int(ends[row]) - begin)

    def described(self, rows: slice | np.ndarray) -> Described:
        """Some of its windows, in any order."""
        return Described(
            times=self.times[rows],
            vectors={name: self.vectors(name)[rows].astype(np.float32) for name in self.names},
            present={name: np.array(self.there(name)[rows]) for name in self.names},
        )

    def _map(self, name: str, dtype: type, width: int) -> np.ndarray:
        path, shape = self.folder / name, (len(self), width)
        if not shape[0]:
            return np.zeros(shape, dtype)
        try:
            return np.memmap(path, dtype, "r", shape=shape)
        except (OSError, ValueError) as error:
            raise UserError(f"{path} is damaged ({error}): make the index again") from error


class IndexWriter(Index):
    """Adds videos to an index."""

    def add(
        self, path: str, *, content: str, source: str, seconds: float, windows: Described, stills: Sequence[bytes]
    ) -> None:
        """Add a video. Killed before the end of this, the index is as before.

        stills: a JPEG, or nothing, for each window.
        """
        begin = len(self)
        ends = np.cumsum([len(still) for still in stills], dtype=np.int64)
        before = (self.folder / "stills.jpg").stat().st_size
        arrays: dict[str, np.ndarray | bytes] = {"windows.f4": windows.times.astype(np.float32)}
        arrays |= {"stills.jpg": b"".join(stills), "stills.i8": ends + before}
        for name in self.names:
            rounded = windows.vectors[name].astype(np.float16)
            codes, kept = encode(rounded.astype(np.float32))
            arrays |= {f"{name}.f2": rounded, f"{name}.i1": codes, f"{name}.kept.f4": kept}
            arrays[f"{name}.there.u8"] = windows.present[name].astype(np.uint8)
        for name, values in arrays.items():
            _append(self.folder / name, values if isinstance(values, bytes) else np.ascontiguousarray(values).tobytes())
        entry = Entry(path, content, source, round(seconds, 3), len(windows), begin)
        _append(self.folder / TABLE, json.dumps(asdict(entry)).encode() + b"\n")
        self.videos.append(entry)
        self.__dict__.pop("begins", None)

    def remove(self, videos: Sequence[Entry]) -> None:
        """Take videos out: nothing finds them any more. Killed at any moment, each is there or not."""
        for video in videos:
            number = int(np.searchsorted(self.begins, video.begin, side="right")) - 1
            _append(self.folder / TABLE, json.dumps({"removed": number}).encode() + b"\n")
            self.videos[number] = replace(video, removed=True)
            self._silence(video)

    def _silence(self, video: Entry) -> None:
        """Its windows have no part any more, so that a scan of all windows passes over them."""
        for name in self.names:
            with open(self.folder / f"{name}.there.u8", "r+b") as file:
                file.seek(video.begin)
                file.write(bytes(video.windows))

    def cut(self) -> None:
        """Cut off what a killed process has left after the last whole video, and end the removal that it began."""
        count = len(self)
        widths: dict[str, int] = {"windows.f4": 8, "stills.i8": 8}
        for name, size in self.about.parts.items():
            widths |= {f"{name}.f2": 2 * size, f"{name}.i1": size, f"{name}.kept.f4": 8, f"{name}.there.u8": 1}
        for name, width in widths.items():
            _cut(self.folder / name, count * width)
        stills = 0
        if count:
            with open(self.folder / "stills.i8", "rb") as file:
                file.seek(8 * (count - 1))
                stills = int(np.frombuffer(file.read(8), np.int64)[0])
        _cut(self.folder / "stills.jpg", stills)
        _cut(self.folder / TABLE, _whole_lines(self.folder / TABLE))
        for video in self.videos:
            if video.removed:
                self._silence(video)


@contextmanager
def open_writer(folder: Path, about: About) -> Iterator[IndexWriter]:
    """The index in a folder, new or to add to, for this process alone.

    Raises UserError if it was made in another way, is damaged, or another process adds to it.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: name a folder for the index")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).exists():
        raise UserError(f"{folder} holds other files: name a new folder for the index")
    if not folder.parent.is_dir():
        raise UserError(f"cannot write {folder}: its folder does not exist")
    make_folder(folder)
    with only_one(folder / "lock", busy=f"{folder} is being written by another process: wait for it"):
        if not (folder / MANIFEST).exists():
            text = json.dumps(asdict(about), indent=1)
            write_aside(folder / MANIFEST, lambda part: part.write_text(text))
        about.check(read_about(folder), folder)
        writer = IndexWriter(folder)
        writer.cut()
        yield writer


def read_about(folder: Path) -> About:
    """Raises UserError if there is no index in the folder, or one of another version."""
    try:
        found = json.loads((folder / MANIFEST).read_text())
        if found["version"] != VERSION:
            raise UserError(f"{folder} is an index of version {found['version']}: this release reads {VERSION}")
        return About(**found)
    except FileNotFoundError as error:
        raise UserError(f"there is no index in {folder}: make one with python -m tasks.index") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / MANIFEST} is damaged ({error}): make the index again") from error


def read_table(folder: Path) -> list[Entry]:
    """The videos whose lines are whole."""
    path = folder / TABLE
    if not path.exists():
        return []
    try:
        text = path.read_bytes()[: _whole_lines(path)]
        videos: list[Entry] = []
        for line in map(json.loads, text.splitlines()):
            if line.keys() == {"removed"}:
                videos[line["removed"]] = replace(videos[line["removed"]], removed=True)
            else:
                videos.append(Entry(**line))
        return videos
    except (OSError, ValueError, TypeError, IndexError) as error:
        raise UserError(f"{path} is damaged ({error}): make the index again") from error


def _whole_lines(path: Path) -> int:
    """The bytes up to the end of the last line that is whole."""
    if not path.exists():
        return 0
    return path.read_bytes().rfind(b"\n") + 1


def _append(path: Path, values: bytes) -> None:
    with open(path, "ab") as file:
        file.write(values)
        file.flush()
        os.fsync(file.fileno())


def _cut(path: Path, size: int) -> None:
    """Raises UserError if the file is shorter."""
    there = path.stat().st_size if path.exists() else 0
    if there < size:
        raise UserError(f"{path} is damaged ({there} bytes of {size}): make the index again")
    with open(path, "ab") as file:
        file.truncate(size)
