"""Sources of windows: a video file, a folder, a store or one video of it, or a live video."""

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fusion.training.run import check_parameters
from preprocess.common.errors import UserError
from preprocess.common.files import local_path
from preprocess.extraction.sources import from_folder
from preprocess.store import Store
from preprocess.store.index import Video
from preprocess.video.decoded import Item
from preprocess.video.settings import PieceSettings

PathLike = str | os.PathLike
Source = PathLike | Store | Iterable[Item]


@dataclass(frozen=True)
class Opened:
    """Videos that can be read like a store's."""

    store: Store
    videos: Sequence[Video]
    names: Sequence[str]  # names of the videos for people
    lasts: bool  # the store is the user's own, and there later


def is_live(source: Source) -> bool:
    """True if the source is an iterable of decoded pictures and sound."""
    return not isinstance(source, (str, os.PathLike, Store))


@contextmanager
def open_source(
    source: PathLike | Store, *, video: str | None, parameters: dict, bar: str | None = None
) -> Iterator[Opened]:
    """The videos of a file or a store; of a store only `video`, if given.

    A video file is extracted into a temporary folder, with the `parameters` of the model's training store: the data are
    the same as from a store of it. `bar` names a progress bar for that, on a terminal.

    Raises UserError for a source that cannot be read, or does not fit the model.
    """
    if isinstance(source, Store) or is_store(Path(source)):
        store = source if isinstance(source, Store) else Store(source)
        check_parameters(store, parameters)
        videos = store.videos if video is None else [store.find(video)]
        yield Opened(store, videos, store.columns["path"] if video is None else [videos[0].path], True)
        return
    if video is not None:
        raise UserError(f"{source} is no store: only a video of a store can be named with video={video}")
    if "given" in parameters:
        raise UserError(f"{source} is no store, and this model reads features: make one with preprocess.features_store")
    from preprocess.extraction.single import extract_video  # needs PyAV, which a machine that only trains may lack

    with tempfile.TemporaryDirectory() as folder:
        store = extract_video(Path(source), Path(folder), settings=PieceSettings.like(parameters), bar=bar)
        yield Opened(store, store.videos, [str(source)], False)


@dataclass(frozen=True)
class Named:
    """One video that a command line has named, by itself or with others."""

    name: str  # the file as it was named, or the path in the store
    key: str  # its path in the folder or store that was named, or the file's name, as text that any file can hold
    source: PathLike | Store
    video: str | None  # the path in the store; None for a file


def named_videos(paths: Iterable[Path], *, video: str | None = None, parameters: dict) -> list[Named]:
    """The videos that these files, folders and stores hold; of a store only `video`, if given. Files are not opened.

    Raises UserError for a folder without videos, a store that cannot be read or does not fit the `parameters` of the
    model, or a `video` of anything but one store.
    """
    paths = list(paths)
    if video is not None and not (len(paths) == 1 and is_store(local_path(paths[0]))):
        raise UserError(f"--video {video} names a video of a store: give one store, and nothing else")
    found = []
    for path in paths:
        if is_store(path):
            store = Store(path)
            check_parameters(store, parameters)
            names = list(store.columns["path"]) if video is None else [store.find(video).path]
            found += [Named(name, as_text(name), store, name) for name in names]
        else:
            inside = path.is_dir()
            for file in map(Path, files_of(path)):
                key = file.relative_to(path).as_posix() if inside else file.name
                found.append(Named(str(file), as_text(key), file, None))
    return found


def as_text(name: str) -> str:
    """A file's name with bytes that are no UTF-8 written out."""
    return name.encode("utf-8", "backslashreplace").decode()


def files_of(source: PathLike | Store) -> list[PathLike | Store]:
    """The sources in a source: a folder's video files, in the order of their names, or the source itself.

    Raises UserError for an address on the network, or a folder without videos.
    """
    if isinstance(source, Store):
        return [source]
    source = local_path(source)
    if not source.is_dir():
        return [source]
    found = [one.file for one in from_folder(source).sources if one.refused is None]
    if not found:
        raise UserError(f"{source} holds no video")
    return [Path(file) for file in found]


def check_keys(videos: Sequence[Named]) -> None:
    """Raises UserError if two videos would have one name in what is written."""
    names: dict[str, str] = {}
    for one in videos:
        if one.key in names:
            raise UserError(f"{names[one.key]} and {one.name} are both called {one.key}: name a folder that holds both")
        names[one.key] = one.name


def is_store(path: Path) -> bool:
    """True if the file has HDF5's signature, at the start or, as in a store after its seal, at byte 512."""
    try:
        with open(path, "rb") as file:
            head = file.read(520)
    except OSError:
        return path.suffix in (".h5", ".hdf5")  # a missing file: the store's own error says what to do
    return head.startswith((b"\x89HDF", b"tristream\n")) or head[512:516] == b"\x89HDF"
