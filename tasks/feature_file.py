"""The file of features that tasks.features writes: HDF5, which plain h5py opens, or a NumPy archive.

Each video is written whole to a file of its own, in a folder beside the target. When all are done they are joined into
the target, which gets its name when it is complete: killed at any instant, the target is as it was before.
"""

import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path

import h5py
import numpy as np

from preprocess.common.errors import UserError
from preprocess.common.files import make_folder, only_one, remove_folder, replace, write_aside
from preprocess.store.format import release
from preprocess.store.new_file import NewFile

FORMAT = "tristream features"
VERSION = 1
CHUNK = 64  # windows of a chunk while a video grows
BLOCK = 4096  # windows that are copied at a time
UNITS = {"times": "s", "answer": "probability", "logits": "logit", "present": "true where there is something"}
Arrays = Mapping[str, np.ndarray]  # name → (n, …): the next n windows


@dataclass(frozen=True)
class About:
    """How the features of a file were made: the same for all of its videos."""

    model: str  # path of its weights
    model_digest: str  # BLAKE2b of that file
    model_release: str  # the release that trained it
    streams: str  # rgb,flow,audio
    length: float  # seconds of a window
    hop: float  # seconds from one window to the next
    towers: bool  # whether the towers' outputs are there too

    def check(self, other: Mapping, path: Path) -> None:
        """Raises UserError if `path`, which has these attributes, was made in another way."""
        for name in ("model_digest", "streams", "length", "hop", "towers"):
            if other[name] != getattr(self, name):
                shown = "model" if name == "model_digest" else name
                theirs, ours = (f"{shown} {value}" for value in (other[shown], getattr(self, shown)))
                more = " of before" if theirs == ours else ""  # it was trained again in the same folder
                raise UserError(f"{path} was made with {theirs}{more}, not {ours}: name another file, or remove it")


@dataclass(frozen=True)
class Held:
    """A video whose features are complete."""

    file: Path  # that they are in
    content: str  # digest of the video


@contextmanager
def open_features(path: Path, about: About, *, classes: list[str]) -> Iterator["FeatureFile"]:
    """The file of features at `path`, new or to go on with, for this process alone.

    Raises UserError if `path` is something else, was made in another way, or is being written by another process.
    """
    if path.suffix not in (".h5", ".hdf5", ".npz"):
        raise UserError(f"{path}: features are written as .h5 or .npz, not '{path.suffix}'")
    parts = path.with_name(path.name + ".parts")
    make_folder(parts)
    with only_one(parts / "lock", busy=f"{path} is being written by another process: wait for it"):
        try:
            yield FeatureFile(path, parts, about, classes)
        finally:
            if not any(parts.glob("*.h5")):
                remove_folder(parts)


class FeatureFile:
    """A file of features that grows by whole videos."""

    def __init__(self, path: Path, parts: Path, about: About, classes: list[str]) -> None:
        self.path = path
        self._parts = parts
        self._about = about
        self._classes = classes
        self.held: dict[str, Held] = {}  # key of each video that is complete
        if path.exists() and path.suffix != ".npz":  # an archive cannot be added to
            self._read(path, path)
        for part in sorted(parts.glob("*.h5")):
            self._read(part, parts)

    def add(self, key: str, windows: Iterable[Arrays], *, attributes: Mapping) -> None:
        """Write the windows of a video; memory does not grow with their number. After an error nothing of it is there.

        attributes: of the video, among them `content`, the digest of its file.
        """
        part = self._parts / f"{blake2b(key.encode(), digest_size=16).hexdigest()}.h5"

        def write(aside: Path) -> None:
            with NewFile(aside) as file:
                self._describe(file)
                group = file.create_group(f"videos/{key}")
                for arrays in windows:
                    _append(group, arrays)
                    file.check()
                group.attrs.update({**attributes, "key": key})

        write_aside(part, write)
        self.held[key] = Held(part, attributes["content"])

    def finish(self) -> None:
        """Put all that is complete into the target."""
        if any(self._parts.glob("*.h5")):
            joined = self._parts / "joined"
            (self._join_archive if self.path.suffix == ".npz" else self._join)(joined)
            replace(joined, self.path)
            remove_folder(self._parts)

    def _read(self, file: Path, named: Path) -> None:
        """Note the videos of a file; errors name `named`."""
        try:
            with h5py.File(file, "r") as found:
                if found.attrs.get("format") != FORMAT:
                    raise UserError(f"{named} is no file of features: name another file to write")
                self._about.check(found.attrs, named)
                self.held |= {group.attrs["key"]: Held(file, group.attrs["content"]) for group in _videos(found)}
        except (OSError, KeyError, ValueError, RuntimeError) as error:  # the last three come from HDF5
            raise UserError(f"{named} is no file of features, or damaged: name another file, or remove it") from error

    def _groups(self) -> Iterator[tuple[str, h5py.Group]]:
        for key, held in sorted(self.held.items()):
            with h5py.File(held.file, "r") as file:
                yield key, file[f"videos/{key}"]

    def _describe(self, file: h5py.File) -> None:
        file.attrs.update({"format": FORMAT, "version": VERSION, "written_by": release(), **asdict(self._about)})
        file.create_dataset("classes", data=self._classes, dtype=h5py.string_dtype())

    def _join(self, target: Path) -> None:
        with NewFile(target) as out:
            self._describe(out)
            for key, group in self._groups():
                copy = out.create_group(f"videos/{key}")
                copy.attrs.update(group.attrs)
                for name, data in _datasets(group):
                    values = copy.create_dataset(name, data.shape, data.dtype)
                    values.attrs.update(data.attrs)
                    for begin in range(0, len(data), BLOCK):
                        values[begin : begin + BLOCK] = data[begin : begin + BLOCK]
                out.check()

    def _join_archive(self, target: Path) -> None:
        about = {"format": FORMAT, "version": VERSION, "written_by": release(), **asdict(self._about)}
        videos = {}
        with zipfile.ZipFile(target, "w") as archive:
            for key, group in self._groups():
                videos[key] = {
                    name: np.asarray(value).item() for name, value in group.attrs.items()
                }  # JSON knows no np.int64
                for name, data in _datasets(group):
                    _write_array(archive, f"{key}/{name}", data[()])
            _write_array(archive, "classes", np.array(self._classes, np.str_))
            _write_array(archive, "about", np.array(json.dumps(about | {"videos": videos})))


def _append(group: h5py.Group, arrays: Arrays) -> None:
    for name, values in arrays.items():
        if name not in group:
            shape = values.shape[1:]
            data = group.create_dataset(
                name, (0, *shape), values.dtype, maxshape=(None, *shape), chunks=(CHUNK, *shape)
            )
            data.attrs["unit"] = UNITS.get(name.split("/")[0], "feature")
        data = group[name]
        data.resize(len(data) + len(values), axis=0)
        data[len(data) - len(values) :] = values


def _videos(file: h5py.File) -> list[h5py.Group]:
    found: list[h5py.Group] = []
    file["videos"].visititems(lambda _, one: found.append(one) if "key" in one.attrs else None)
    return found


def _datasets(group: h5py.Group) -> list[tuple[str, h5py.Dataset]]:
    found: list[tuple[str, h5py.Dataset]] = []
    group.visititems(lambda name, one: found.append((name, one)) if isinstance(one, h5py.Dataset) else None)
    return found


def _write_array(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array(file, array, allow_pickle=False)
