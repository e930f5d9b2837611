"""The store: self-describing HDF5 files behind one name, and their reader.

    out.h5                  the file that the user names
      /                     attributes: format, version, parameters (JSON), written_by
      /classes, notes       texts, each ended by a zero byte
      /index/<column>       one row a video, sorted by path: all that a reader needs to choose videos
      /rejected/<column>    files that could not be used, and why
      /shards/<column>      the other files of the store: name, digest, size
      /videos/<content>     videos in this file: those that do not fill a shard
    out.h5.shards/*.h5      shards with the other videos; each holds its own /videos/<content> and /index/<column>

    /videos/<content>       one group for each different file, named by its digest; attributes describe the file
      rgb/data, ends        (N,) uint8: JPEG after JPEG; (T + 1,) int64: frame k is data[ends[k]:ends[k + 1]]
      flow/data, ends       likewise T - 1 frames, grey, x above y, 128 is no motion
      audio/data            (4 T, M) float16: natural log of mel power, 100 rows a second

Every stream has an attribute `checksum`; a stream that a video lacks has no group, and the index gives the reason.
Every file begins with a seal (preprocess.store.seal). No file changes after it got its name: a new store replaces it
whole.
"""

import difflib
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from preprocess.common.errors import UserError
from preprocess.store import safe_hdf5
from preprocess.store.codec import check_jpegs
from preprocess.store.format import FORMAT, VERSION, frame_count, read_parameters, shard_folder
from preprocess.store.index import CONTENT, Columns, Rejected, Video, Videos, read_texts, read_videos
from preprocess.store.kinds import KINDS, Given, Kinds, Pictures, kinds_of
from preprocess.store.open_files import OpenFiles
from preprocess.store.seal import Broken, Unsealed, read_seal

SHARD_NAME = re.compile(r"[0-9a-f]{32}\.h5")
EVERYTHING = (slice(None), slice(None))


class Store:
    """Reads a store. Cheap to pickle and to fork: each process opens the files at its first read."""

    def __init__(self, path: str | os.PathLike) -> None:
        """Read the index.

        Raises UserError if there is no such file, or it is not a store that this version reads, or it was not written
        by this program.
        """
        self.path = Path(path)
        if self.path.is_dir():
            raise UserError(f"{self.path} is a folder, not a store: name the file that preprocess.extract wrote")
        if not self.path.is_file():
            raise UserError(
                f"there is no store {self.path}: make one with python -m preprocess.extract videos/ {self.path}"
            )
        try:
            self._check_seal()
            with safe_hdf5.open_file(self.path) as file:
                self.digest = safe_hdf5.sealed_digest(file)
                _check_version(self.path, file)
                self._load(file)
        except safe_hdf5.UnsafeFile as error:
            raise UserError(f"{self.path} is no store that this program wrote: {error}") from error
        except (Broken, OSError, RuntimeError, KeyError) as error:  # the last two come from HDF5
            how = "remove it, and run the extraction that made it again"
            raise UserError(f"{self.path} is damaged or was cut short ({error}): {how}") from error
        self._files = OpenFiles()

    def _check_seal(self) -> None:
        try:
            read_seal(self.path)
        except Unsealed:
            _check_kind(self.path)
            raise

    def _load(self, file) -> None:
        self.parameters: dict = read_parameters(file)
        self.classes: list[str] = list(read_texts(file, "classes"))
        self.notes: list[str] = list(read_texts(file, "notes"))
        shards = safe_hdf5.group(file, "shards")
        names = list(read_texts(shards, "name"))
        if not all(SHARD_NAME.fullmatch(name) for name in names):
            raise safe_hdf5.UnsafeFile("a shard has a name that no shard has")
        self.shards: list[Path] = [shard_folder(self.path) / name for name in names]
        digests = [digest.decode() for digest in safe_hdf5.read(shards, "digest", CONTENT, rows=len(names))]
        self.digests = [*digests, self.digest]  # digests of `files`
        self.columns: Columns = read_videos(
            safe_hdf5.group(file, "index"), self.kinds, classes=len(self.classes), shards=len(names)
        )
        rejected = safe_hdf5.group(file, "rejected")
        paths = read_texts(rejected, "path")
        reasons = read_texts(rejected, "reason", rows=len(paths))
        self.rejected: list[Rejected] = [Rejected(*row) for row in zip(paths, reasons, strict=True)]

    @property
    def videos(self) -> Videos:
        """The videos, sorted by path."""
        return Videos(self.columns, self.classes)

    @property
    def kinds(self) -> Kinds:
        """The streams, and the kind of data of each."""
        return kinds_of(self.parameters)

    @property
    def fps(self) -> float:
        return self.parameters["fps"]

    def __len__(self) -> int:
        return len(self.columns["content"])

    def __getstate__(self) -> tuple[Path, str]:
        return self.path, self.digest

    def __setstate__(self, state: tuple[Path, str]) -> None:
        path, digest = state
        self.__init__(path)
        if self.digest != digest:
            raise UserError(f"{path} was replaced while it was in use: start again")

    def files(self) -> list[Path]:
        """The files that the store consists of, its own last."""
        return [*self.shards, self.path]

    def find(self, name: str) -> Video:
        """The video called `name`, or the only one whose path contains it.

        Raises UserError if there is none, or more than one.
        """
        paths = list(self.columns["path"])
        rows = [row for row, path in enumerate(paths) if path == name] or [
            row for row, path in enumerate(paths) if name in path
        ]
        if len(rows) == 1:
            return self.videos[rows[0]]
        if rows:
            some = ", ".join(paths[row] for row in rows[:3])
            raise UserError(f"'{name}' is part of {len(rows)} videos of {self.path} ({some} …): give more of the path")
        near = difflib.get_close_matches(name, paths, n=3, cutoff=0.0)
        raise UserError(f"no video of {self.path} is called '{name}'; there is {', '.join(near)}")

    def group(self, video: Video):
        """The h5py group of a video, for more than its frames.

        Raises UserError if the file that holds it is not the one in the index.
        """
        path, digest = self._place(video)
        try:
            return safe_hdf5.group(safe_hdf5.group(self._files.hdf5(path, digest), "videos"), video.content)
        except safe_hdf5.UnsafeFile as error:
            raise UserError(f"{path}: {error}") from error

    def frames(
        self,
        video: Video,
        stream: str,
        steps: Sequence[int],
        *,
        window: tuple[slice, slice] = EVERYTHING,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Frames of rgb: (T, H, W, 3) uint8; of flow: (T, 2, H, W) uint8, quantised, x before y.

        `steps` are indices, in any order, repeats allowed; everything between the first and the last is read at once.
        `window` cuts rows and columns; `out` is filled, if it is given. The bytes are read at their offsets in the
        index, without HDF5.
        Raises UserError if the store does not match its index.
        """
        first, last = min(steps), max(steps)
        pictures = _pictures(stream)
        if not video.streams[stream]:
            raise UserError(f"{video.path} has no {stream}: {video.why.get(stream) or 'not extracted'}")
        number, place = pictures.number(video.frames), pictures.window(*window)
        if not 0 <= first <= last < number:
            raise IndexError(f"{video.path} has {number} frames of {stream}, not {last + 1}")
        try:
            ends = self._read(video, f"{stream}_ends", first, last + 2 - first, np.dtype("i8"))
            most = video.bytes[stream] - ends.itemsize * (number + 1)
            if not (ends[0] >= 0 and (np.diff(ends) > 0).all() and ends[-1] <= most):
                raise ValueError("frames begin and end where they cannot")
            jpegs = self._read(video, f"{stream}_data", int(ends[0]), int(ends[-1] - ends[0]), np.dtype("u1"))
            ends = ends - ends[0]
            check_jpegs(jpegs, ends, pictures.size(video.height, video.width))
            decoded = {k: pictures.decode(jpegs[ends[k - first] : ends[k - first + 1]])[place] for k in {*steps}}
            return np.stack([decoded[k] for k in steps], out=out)
        except ValueError as error:
            raise UserError(f"{self.path}: {stream} of {video.path} is damaged: {error}") from error

    def mel(self, video: Video, start: int, stop: int) -> np.ndarray:
        """Rows start…stop of the log-mel spectrogram: (stop - start, M) float16."""
        bands, dtype = self.parameters["mel_bands"], np.dtype("f2")
        total = video.bytes["audio"] // (bands * dtype.itemsize)
        start, stop = min(max(start, 0), total), min(stop, total)
        try:
            values = self._read(video, "audio_data", start * bands, (stop - start) * bands, dtype)
        except ValueError as error:
            raise UserError(f"{self.path}: audio of {video.path} is damaged: {error}") from error
        return values.reshape(stop - start, bands)

    def given(self, video: Video, stream: str, places: np.ndarray) -> np.ndarray:
        """Features that were given: (T, D) float32, for (T,) places in the video, from 0 to below 1."""
        size, dtype = self.kinds[stream].size, np.dtype("f4")
        try:
            values = self._read(video, f"{stream}_data", 0, video.bytes[stream] // dtype.itemsize, dtype)
        except ValueError as error:
            raise UserError(f"{self.path}: {stream} of {video.path} is damaged: {error}") from error
        values = values.reshape(-1, size)
        return values[(places * len(values)).astype(int)]

    def _place(self, video: Video) -> tuple[Path, str]:
        return self.path if video.shard < 0 else self.shards[video.shard], self.digests[video.shard]

    def _read(self, video: Video, dataset: str, first: int, count: int, dtype: np.dtype) -> np.ndarray:
        """Values first…first + count of one of a video's datasets.

        Raises ValueError if they are not within the file.
        """
        handle, size = self._files.handle(*self._place(video))
        begin = video.at.get(dataset, size) + first * dtype.itemsize
        if begin + count * dtype.itemsize > size:
            raise ValueError("it claims bytes that are not in the file")
        return np.frombuffer(os.pread(handle, count * dtype.itemsize, begin), dtype)


def stream_datasets(group, video: Video, stream: str, parameters: dict) -> dict:
    """The datasets of one stream of a video, by name, in a store with these parameters.

    Raises safe_hdf5.UnsafeFile if they do not match the index.
    """
    kind, found = kinds_of(parameters)[stream], safe_hdf5.group(group, stream)
    if isinstance(kind, Pictures):
        rows, width = {"data": None, "ends": kind.number(video.frames) + 1}, 0
    elif isinstance(kind, Given):
        rows, width = {"data": None}, kind.size
    else:
        rows, width = {"data": frame_count(video.seconds)}, parameters["mel_bands"]
    datasets = {
        name: safe_hdf5.dataset(found, name, np.dtype(dtype), ndim=ndim, rows=rows[name])
        for name, (dtype, ndim) in kind.datasets.items()
    }
    for data in datasets.values():
        if data.ndim == 2 and data.shape[1] != width:
            raise safe_hdf5.UnsafeFile(f"{data.name} has {data.shape[1]} columns, not {width}")
    return datasets


def _pictures(stream: str) -> Pictures:
    kind = KINDS.get(stream)
    if not isinstance(kind, Pictures):
        raise ValueError(f"{stream} is no stream of frames")
    return kind


def _check_kind(path: Path) -> None:
    """Raises UserError for a path that a user may have mistaken for a store."""
    import h5py

    if not h5py.is_hdf5(path):
        raise UserError(f"{path} is no HDF5 file, or a damaged one: extract it again")
    try:
        with h5py.File(path, "r") as file:
            _check_version(path, file)
    except (OSError, RuntimeError) as error:
        raise UserError(f"{path} is a damaged HDF5 file: extract it again") from error


def _check_version(path: Path, file) -> None:
    """Raises UserError for a store of another version, or an HDF5 file that is not a store."""
    version = release = None
    with suppress(safe_hdf5.UnsafeFile):
        if "format" in file.attrs:  # version 1 wrote it in a way that is no longer read
            version = safe_hdf5.attribute(file, "version")
        if isinstance(version, int) and version == VERSION and safe_hdf5.attribute(file, "format") == FORMAT:
            return
        release = safe_hdf5.attribute(file, "written_by")
    if isinstance(version, int) and version != VERSION:
        raise UserError(
            f"{path} is a store of version {version}, this program reads version {VERSION}: extract it again, or use "
            f"the release that wrote it{f' ({release})' if release else ''}"
        )
    raise UserError(f"{path} is not a store of this program: extract your videos to make one")
