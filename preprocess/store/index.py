"""The index: columns with all that a reader needs to choose videos, without the videos' own data.

A million rows are a few hundred megabytes of plain arrays, read at once; a row becomes an object when it is accessed.
A column of text holds its texts one after the other, each ended by a zero byte, so that one long name does not make
the others long; `bytes(column[:]).split(b"\\0")` reads it.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import overload

import numpy as np

from preprocess.common.console import plural
from preprocess.store import safe_hdf5
from preprocess.store.kinds import KINDS, Kinds, datasets_of

STREAMS = tuple(KINDS)  # of videos
UNLABELLED = -1
HERE = -1  # the shard number of videos in the store's own file
BLOCK = 1 << 20  # bytes of a column that are processed together
CONTENT = np.dtype("S32")  # a digest in hexadecimal digits

NUMBERS = dict.fromkeys(("seconds", "expected", "sound_from", "sound_until"), np.dtype("f8")) | dict.fromkeys(
    ("frames", "height", "width", "damaged"), np.dtype("i8")
)
HAS, WHY, BYTES, AT = "has_", "why_no_", "bytes_", "at_"  # begin the names of a stream's, or a dataset's, columns
NAMES = ("path", "group", "split")  # known from a catalog, not from the video's file
PLACES = {"label": np.dtype("i4"), "shard": np.dtype("i4")}


@dataclass(frozen=True)
class Facts:
    """Facts about a video's file: everything that follows from its bytes and the parameters."""

    content: str  # a digest of the file: equal for equal files
    seconds: float
    frames: int  # T, at the store's rate
    height: int
    width: int
    expected: float | None = None  # seconds by the container or its timestamps, if more than were decoded; else None
    damaged: int = 0  # packets that could not be decoded, and frames with an impossible time
    sound: tuple[float, float] | None = None  # seconds between which the sound track has samples
    streams: dict[str, bool] = field(default_factory=dict)  # stream → True if the video has it
    why: dict[str, str] = field(default_factory=dict)  # stream → the reason for its absence
    notes: str = ""  # what was chosen, changed or left out when it was decoded, separated by semicolons
    bytes: dict[str, int] = field(default_factory=dict)  # stream → its size in the store
    at: dict[str, int] = field(default_factory=dict, compare=False)  # STREAM_DATASET → its offset in its file, in bytes

    @property
    def truncated(self) -> bool:
        """True if the file should be longer than what could be decoded; only then is `expected` set."""
        return self.expected is not None


@dataclass(frozen=True, kw_only=True)
class Video(Facts):
    """One video of a store."""

    path: str  # relative to the folder that was extracted
    label: str | None = None
    group: str | None = None
    split: str | None = None  # train, val, test
    shard: int = field(default=HERE, compare=False)  # number of the store's file that holds its streams


@dataclass(frozen=True)
class Rejected:
    """A file that could not be used."""

    path: str
    reason: str


def category(reason: str) -> str:
    """The category of a reason: "corrupt: no frame can be decoded" → "corrupt"."""
    return reason.split(":")[0]


def notes_on_videos(videos: Iterable[tuple[str, str]]) -> list[str]:
    """Each kind of note that decoding left, with the number of videos and the first of them; of paths and notes."""
    found: dict[str, list[str]] = defaultdict(list)
    for path, notes in videos:
        for note in filter(None, notes.split("; ")):
            found[note].append(path)
    return [f"{note} ({plural(len(paths), 'video')}, the first: {paths[0]})" for note, paths in found.items()]


class Texts(Sequence[str]):
    """Texts of one column. Names of files may hold bytes that are not UTF-8; they are kept unchanged."""

    def __init__(self, blob: np.ndarray) -> None:
        """blob: (bytes,) uint8, as it is stored.

        Raises ValueError if the last text lacks its zero byte.
        """
        if len(blob) and blob[-1]:
            raise ValueError("a text does not end")
        self._blob = blob
        blocks = range(0, len(blob), BLOCK)  # keeps temporary arrays small
        found = [begin + np.flatnonzero(blob[begin : begin + BLOCK] == 0) for begin in blocks]
        self._ends = np.concatenate(found) if found else np.zeros(0, np.int64)

    @classmethod
    def of(cls, texts: Sequence[str]) -> "Texts":
        """The texts as a column. A zero byte ends a text, so one inside, which no file name can have, is escaped."""
        shown = (text.replace("\0", "\\0").encode("utf-8", "surrogateescape") + b"\0" for text in texts)
        return cls(np.frombuffer(b"".join(shown), np.uint8))

    def array(self) -> np.ndarray:
        """(bytes,) uint8, as it is stored."""
        return self._blob

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row):
        if isinstance(row, slice):
            return [self[k] for k in range(*row.indices(len(self)))]
        row = range(len(self))[row]
        begin = self._ends[row - 1] + 1 if row else 0
        return self._blob[begin : self._ends[row]].tobytes().decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[str]:
        return iter(self._blob.tobytes().decode("utf-8", "surrogateescape").split("\0")[:-1])


Columns = dict[str, "np.ndarray | Texts"]


class Videos(Sequence[Video]):
    """The rows of an index as videos, each made when it is accessed."""

    def __init__(self, columns: Columns, classes: Sequence[str]) -> None:
        self.columns = columns
        self._classes = list(classes)

    def __len__(self) -> int:
        return len(self.columns["content"])

    @overload
    def __getitem__(self, row: int) -> Video: ...
    @overload
    def __getitem__(self, row: slice) -> list[Video]: ...
    def __getitem__(self, row):
        if isinstance(row, slice):
            return [self[k] for k in range(*row.indices(len(self)))]
        columns, row = self.columns, range(len(self))[row]
        label = int(columns["label"][row])
        return Video(
            **facts_at(columns, row),
            path=columns["path"][row],
            label=None if label == UNLABELLED else self._classes[label],
            group=columns["group"][row] or None,
            split=columns["split"][row] or None,
            shard=int(columns["shard"][row]),
        )

    def __iter__(self) -> Iterator[Video]:
        return (self[row] for row in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


def facts_at(columns: Columns, row: int) -> dict:
    """One row's Facts, as keyword arguments."""
    expected, begin, end = (float(columns[name][row]) for name in ("expected", "sound_from", "sound_until"))
    return {
        "content": columns["content"][row].decode(),
        "seconds": float(columns["seconds"][row]),
        "expected": None if np.isnan(expected) else expected,
        "sound": None if np.isnan(begin) else (begin, end),
        **{name: int(columns[name][row]) for name in ("frames", "height", "width", "damaged")},
        "streams": {stream: bool(column[row]) for stream, column in _columns_of(columns, HAS)},
        "why": {stream: why for stream, column in _columns_of(columns, WHY) if (why := column[row])},
        "notes": columns["notes"][row],
        "bytes": {stream: int(column[row]) for stream, column in _columns_of(columns, BYTES)},
        "at": {name: at for name, column in _columns_of(columns, AT) if (at := int(column[row]))},
    }


def facts_columns(rows: Sequence[Facts], kinds: Kinds = KINDS) -> Columns:
    """The columns of a piece or a shard with these streams."""
    columns: Columns = {"content": np.array([row.content for row in rows], CONTENT)}
    columns["seconds"] = np.array([row.seconds for row in rows], "f8")
    columns["expected"] = np.array([np.nan if row.expected is None else row.expected for row in rows], "f8")
    sounds = [row.sound or (np.nan, np.nan) for row in rows]
    columns["sound_from"], columns["sound_until"] = np.array(sounds, "f8").reshape(-1, 2).T.copy()
    for name in ("frames", "height", "width", "damaged"):
        columns[name] = np.array([getattr(row, name) for row in rows], "i8")
    for stream in kinds:
        columns[HAS + stream] = np.array([row.streams.get(stream, False) for row in rows], "u1")
        columns[BYTES + stream] = np.array([row.bytes.get(stream, 0) for row in rows], "i8")
        columns[WHY + stream] = Texts.of([row.why.get(stream, "") for row in rows])
    columns["notes"] = Texts.of([row.notes for row in rows])
    for name in datasets_of(kinds):
        columns[AT + name] = np.array([row.at.get(name, 0) for row in rows], "i8")
    return columns


def video_columns(rows: Sequence[Video], classes: Sequence[str], kinds: Kinds = KINDS) -> Columns:
    """The columns of a store."""
    number = {name: k for k, name in enumerate(classes)}
    columns = facts_columns(rows, kinds)
    for name in NAMES:
        columns[name] = Texts.of([getattr(row, name) or "" for row in rows])
    columns["label"] = np.array([UNLABELLED if row.label is None else number[row.label] for row in rows], "i4")
    columns["shard"] = np.array([row.shard for row in rows], "i4")
    return columns


def write_columns(group, columns: Mapping[str, "np.ndarray | Texts"]) -> None:
    """Write columns to an h5py group."""
    for name, column in columns.items():
        group[name] = column.array() if isinstance(column, Texts) else column


def read_facts(group, kinds: Kinds = KINDS) -> Columns:
    """Read the columns of a piece or a shard with these streams.

    Raises safe_hdf5.UnsafeFile for invalid columns.
    """
    columns: Columns = {"content": safe_hdf5.read(group, "content", CONTENT)}
    rows = len(columns["content"])
    sizes = [*(BYTES + stream for stream in kinds), *(AT + name for name in datasets_of(kinds))]
    flags = [HAS + stream for stream in kinds]
    types = NUMBERS | dict.fromkeys(sizes, np.dtype("i8")) | dict.fromkeys(flags, np.dtype("u1"))
    for name, dtype in types.items():
        columns[name] = safe_hdf5.read(group, name, dtype, rows=rows)
    for stream in kinds:
        columns[WHY + stream] = read_texts(group, WHY + stream, rows=rows)
    has_notes = group.id.links.exists(b"notes")  # a release before notes may have written the file
    columns["notes"] = read_texts(group, "notes", rows=rows) if has_notes else Texts.of([""] * rows)
    _check_facts(columns, counts=["damaged", *sizes], flags=flags)
    return columns


def read_videos(group, kinds: Kinds = KINDS, *, classes: int, shards: int) -> Columns:
    """Read the columns of a store of so many classes and shards.

    Raises safe_hdf5.UnsafeFile for invalid columns.
    """
    columns = read_facts(group, kinds)
    rows = len(columns["content"])
    for name in NAMES:
        columns[name] = read_texts(group, name, rows=rows)
    for name, dtype in PLACES.items():
        columns[name] = safe_hdf5.read(group, name, dtype, rows=rows)
    for name, count in (("label", classes), ("shard", shards)):
        if rows and not -1 <= columns[name].min() <= columns[name].max() < count:
            raise safe_hdf5.UnsafeFile(f"index/{name} points beyond its table")
    return columns


def read_texts(group, name: str, *, rows: int | None = None) -> Texts:
    """A column of text.

    Raises safe_hdf5.UnsafeFile if it is not a column of text, or has another number of rows.
    """
    try:
        texts = Texts(safe_hdf5.read(group, name, np.dtype("u1")))
    except ValueError as error:
        raise safe_hdf5.UnsafeFile(f"{name}: {error}") from error
    if rows is not None and len(texts) != rows:
        raise safe_hdf5.UnsafeFile(f"{name} has {len(texts)} rows, not {rows}")
    return texts


def _columns_of(columns: Columns, what: str) -> list[tuple[str, "np.ndarray | Texts"]]:
    """The columns whose names begin so, by the rest of their names: a stream, or one of its datasets."""
    return [(name[len(what) :], column) for name, column in columns.items() if name.startswith(what)]


def _check_facts(columns: Columns, *, counts: Sequence[str], flags: Sequence[str]) -> None:
    is_digit = np.zeros(256, bool)
    is_digit[np.frombuffer(b"0123456789abcdef", np.uint8)] = True
    if not is_digit[columns["content"].view(np.uint8)].all():
        raise safe_hdf5.UnsafeFile("index/content holds what is no digest")
    for name in ("frames", "height", "width"):
        if (columns[name] < 1).any():
            raise safe_hdf5.UnsafeFile(f"index/{name} holds numbers below one")
    if not (np.isfinite(columns["seconds"]).all() and (columns["seconds"] > 0).all()):
        raise safe_hdf5.UnsafeFile("index/seconds holds what is no length")
    if any((columns[name] < 0).any() for name in counts):
        raise safe_hdf5.UnsafeFile("the index holds counts below zero")
    if any((columns[name] > 1).any() for name in flags):
        raise safe_hdf5.UnsafeFile("the index holds flags that are neither 0 nor 1")
