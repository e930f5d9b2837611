"""The store: one HDF5 file that explains itself, and its reader.

    /                       attributes: format, version, classes, parameters (JSON), notes, written_by
    /index/<column>         one row a video, sorted by path: what a reader needs to choose without opening any
    /rejected/<column>      what could not be used, and why
    /videos/<path>          one group a video, named like its file; attributes: label, group, split, source…
        rgb/data, ends      (N,) uint8: JPEG after JPEG; (T + 1,) int64: frame k is data[ends[k]:ends[k + 1]]
        flow/data, ends     likewise T - 1 frames, grey, x above y, 128 is no motion
        audio/data          (4 T, M) float16: natural log of mel power, 100 rows a second

A stream that a video lacks has no group; the index says why.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from preprocess.encode import decode_flow, decode_rgb
from preprocess.errors import UserError

FORMAT = "tristream"
VERSION = 1
STREAMS = ("rgb", "flow", "audio")
UNLABELLED = -1
TEXT_COLUMNS = ("path", "group", "split", "content")


@dataclass(frozen=True)
class Video:
    """One video's row of the index."""

    path: str  # relative to the folder that was extracted
    label: str | None
    group: str | None
    split: str | None  # train, val, test
    seconds: float
    frames: int  # T, at the store's rate
    height: int
    width: int
    content: str  # a digest of the file: equal for equal files
    damaged: int  # packets that could not be decoded, and frames whose time could not be right
    streams: dict[str, bool]  # stream → whether the video has it
    why: dict[str, str] = field(default_factory=dict)  # stream → why it is absent


@dataclass(frozen=True)
class Rejected:
    """A file that could not be used."""

    path: str
    reason: str


class Store:
    """Reads a store. Cheap to pickle and to fork: each process opens the file for itself at its first read."""

    def __init__(self, path: str | os.PathLike) -> None:
        """Read the index.

        Raises UserError if there is no such file, or it is no store that this version reads.
        """
        import h5py

        self.path = Path(path)
        self._file: tuple[int, h5py.File] | None = None  # the process that opened it, and the file
        if self.path.is_dir():
            raise UserError(f"{self.path} is a folder, not a store: name the file that preprocess.extract wrote")
        if not self.path.is_file():
            raise UserError(
                f"there is no store {self.path}: make one with python -m preprocess.extract videos/ {self.path}"
            )
        try:
            file = h5py.File(self.path, "r")
        except OSError as error:
            raise UserError(f"{self.path} is no HDF5 file, or a damaged one: extract it again") from error
        with file:
            if file.attrs.get("format") != FORMAT:
                raise UserError(f"{self.path} is not a store of this program: extract your videos to make one")
            if file.attrs.get("version") != VERSION:
                raise UserError(
                    f"{self.path} is a store of version {file.attrs.get('version')}, this program reads version "
                    f"{VERSION}: extract it again, or use the release that wrote it ({file.attrs.get('written_by')})"
                )
            self.classes: list[str] = [str(name) for name in file.attrs["classes"]]
            self.parameters: dict = json.loads(file.attrs["parameters"])
            self.notes: list[str] = [str(note) for note in file.attrs["notes"]]
            self.videos = _read_index(file["index"], self.classes)
            self.rejected = [
                Rejected(path, reason)
                for path, reason in zip(_texts(file["rejected/path"]), _texts(file["rejected/reason"]), strict=True)
            ]

    @property
    def fps(self) -> float:
        return self.parameters["fps"]

    def __len__(self) -> int:
        return len(self.videos)

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_file": None}

    def group(self, video: Video):
        """The h5py group of a video."""
        import h5py

        if self._file is None or self._file[0] != os.getpid():
            self._file = (os.getpid(), h5py.File(self.path, "r"))
        return self._file[1][f"videos/{video.path}".encode("utf-8", "surrogateescape")]

    def frames(self, video: Video, stream: str, steps: Sequence[int]) -> np.ndarray:
        """Frames of rgb: (T, H, W, 3) uint8; of flow: (T, H, W, 2) uint8, quantised (see preprocess.encode).

        `steps` are indices, in any order, repeats allowed; what lies between the first and the last is read at one go.
        """
        data = self.group(video)[stream]
        decode = {"rgb": decode_rgb, "flow": decode_flow}[stream]
        first, last = min(steps), max(steps)
        ends = data["ends"][first : last + 2]
        jpegs = data["data"][ends[0] : ends[-1]]
        decoded = {k: decode(jpegs[ends[k - first] - ends[0] : ends[k - first + 1] - ends[0]]) for k in {*steps}}
        return np.stack([decoded[k] for k in steps])

    def mel(self, video: Video, start: int, stop: int) -> np.ndarray:
        """Rows start…stop of the log-mel spectrogram: (stop - start, M) float16."""
        return self.group(video)["audio/data"][start:stop]

    def stream_bytes(self, video: Video, stream: str) -> int:
        """How many bytes a video's stream takes."""
        group = self.group(video)
        return sum(item.nbytes for item in group[stream].values()) if stream in group else 0


def write_index(file, videos: Sequence[Video], rejected: Sequence[Rejected], *, parameters: dict, notes: list) -> None:
    """Make an open h5py file with its /videos in place a store: its index, its rejects and its attributes."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        release = version("tristream")
    except PackageNotFoundError:  # run from a checkout that is not installed
        release = "unreleased"
    videos = sorted(videos, key=lambda video: video.path)
    classes = sorted({video.label for video in videos if video.label is not None})
    file.attrs["format"] = FORMAT
    file.attrs["version"] = VERSION
    file.attrs["written_by"] = f"tristream {release}"
    file.attrs["parameters"] = json.dumps(parameters, sort_keys=True)
    file.attrs.create("classes", [_encode(name) for name in classes], dtype=_string())
    file.attrs.create("notes", [_encode(note) for note in notes], dtype=_string())
    index = file.create_group("index")
    for column in TEXT_COLUMNS:
        index[column] = _bytes([getattr(video, column) or "" for video in videos])
    index["label"] = np.array([classes.index(v.label) if v.label else UNLABELLED for v in videos], np.int32)
    index["label"].attrs["unit"] = f"row of the root's attribute classes; {UNLABELLED} is none"
    index["seconds"] = np.array([video.seconds for video in videos], np.float64)
    for column in ("frames", "height", "width", "damaged"):
        index[column] = np.array([getattr(video, column) for video in videos], np.int64)
    for stream in STREAMS:
        index[f"has_{stream}"] = np.array([video.streams[stream] for video in videos], bool)
        index[f"why_no_{stream}"] = _bytes([video.why.get(stream, "") for video in videos])
    rejects = sorted(rejected, key=lambda reject: reject.path)
    file["rejected/path"] = _bytes([reject.path for reject in rejects])
    file["rejected/reason"] = _bytes([reject.reason for reject in rejects])


def _read_index(index, classes: list[str]) -> list[Video]:
    columns = {name: _texts(index[name]) for name in TEXT_COLUMNS}
    numbers = {name: index[name][:].tolist() for name in ("label", "seconds", "frames", "height", "width", "damaged")}
    has = {stream: index[f"has_{stream}"][:].tolist() for stream in STREAMS}
    why = {stream: _texts(index[f"why_no_{stream}"]) for stream in STREAMS}
    return [
        Video(
            path=columns["path"][i],
            label=None if label == UNLABELLED else classes[label],
            group=columns["group"][i] or None,
            split=columns["split"][i] or None,
            content=columns["content"][i],
            **{name: numbers[name][i] for name in ("seconds", "frames", "height", "width", "damaged")},
            streams={stream: has[stream][i] for stream in STREAMS},
            why={stream: why[stream][i] for stream in STREAMS if why[stream][i]},
        )
        for i, label in enumerate(numbers["label"])
    ]


def _bytes(texts: list[str]) -> np.ndarray:
    """Fixed-length UTF-8: read back in one go, where variable-length strings cost one allocation each."""
    return np.array([_encode(text) for text in texts], dtype=np.bytes_)


def _encode(text: str) -> bytes:
    """Names of files may hold bytes that are no UTF-8; they are kept as they are."""
    return text.encode("utf-8", "surrogateescape")


def _texts(column) -> list[str]:
    return [text.decode("utf-8", "surrogateescape") for text in column[:].tolist()]


def _string():
    import h5py

    return h5py.string_dtype()
