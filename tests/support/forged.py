"""Stores that no run of this program wrote: good ones, altered and sealed again, so that the seal is in order."""

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from preprocess.store import Store
from preprocess.store.codec import encode_rgb
from preprocess.store.seal import write_seal
from tests.support.stores import STREAMS, Spec, make_store

Change = Callable[[h5py.File], object]
SPECS = [Spec("run/a.mp4", label="run", frames=6), Spec("jump/b.mp4", label="jump", frames=5)]


def altered(path: Path, change: Change) -> Path:
    """Write a good store, change it, and seal it again."""
    make_store(path, SPECS)
    with h5py.File(path, "r+") as file:
        change(file)
    write_seal(path)
    return path


def patched(path: Path, name: str, change: Callable[[int, int], tuple[int, int]]) -> Path:
    """Write a good store in which HDF5's own notes of where a dataset lies, and how many bytes it has, are others."""
    store = make_store(path, SPECS)
    with h5py.File(path) as file:
        found = file[name.format(content=store.videos[0].content)]
        place = (found.id.get_offset() - file.userblock_size, found.id.get_storage_size())
    data = path.read_bytes()
    before = np.array(place, "<u8").tobytes()
    assert data.count(before) == 1
    path.write_bytes(data.replace(before, np.array(change(*place), "<u8").tobytes()))
    write_seal(path)
    return path


def first_video(file: h5py.File) -> h5py.Group:
    """The group of the row that is read first: jump/b.mp4, of 5 frames."""
    return file["videos"][file["index/content"][0]]


def place(file: h5py.File, name: str) -> tuple[h5py.Group, str]:
    """The group that holds a name, and the name in it; "video/…" is in the first video."""
    parent, _, last = name.rpartition("/")
    if name.startswith("video/"):
        group = first_video(file)
        return (group[parent[6:]] if parent[6:] else group), last
    return file[parent or "/"], last


def replaced(name: str, value: object = None, **settings: object) -> Change:
    """Put other values, or a dataset of other settings, in the place of a dataset."""

    def change(file: h5py.File) -> None:
        group, last = place(file, name)
        values = value(group[last][:]) if callable(value) else value
        del group[last]
        group.create_dataset(last, data=values, **settings)

    return change


def linked(name: str | Callable[[h5py.File], str], link: object) -> Change:
    """Put a link, or what a function of the file gives, in the place of a dataset or a group."""

    def change(file: h5py.File) -> None:
        group, last = place(file, name(file) if callable(name) else name)
        target = link(file) if callable(link) else link
        del group[last]
        group[last] = target

    return change


def with_attribute(name: str, value: object, **settings: object) -> Change:
    """Another attribute of the root."""

    def change(file: h5py.File) -> None:
        del file.attrs[name]
        if value is not None:
            file.attrs.create(name, value, **settings)

    return change


def with_parameters(change: Callable[[dict], object]) -> Change:
    """Other parameters, as JSON."""

    def alter(file: h5py.File) -> None:
        parameters = json.loads(file.attrs["parameters"])
        file.attrs["parameters"] = np.bytes_(json.dumps(change(parameters)))

    return alter


def low_level(name: str, *, layout: int, dtype: str = "f8", rows: int = 2, filters: tuple[int, ...] = ()) -> Change:
    """A dataset that h5py would not write so."""

    def change(file: h5py.File) -> None:
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_layout(layout)
        if layout == h5py.h5d.CHUNKED:
            plan.set_chunk((rows,))
        for number in filters:
            plan.set_filter(number, h5py.h5z.FLAG_OPTIONAL)
        if layout != h5py.h5d.COMPACT:
            plan.set_alloc_time(h5py.h5d.ALLOC_TIME_LATE)
        kind = h5py.h5t.py_create(np.dtype(dtype))
        space = h5py.h5s.create_simple((rows,))
        del file[name]
        h5py.h5d.create(file.id, name.encode(), kind, space, plan)

    return change


def bomb(jpeg: np.ndarray) -> np.ndarray:
    """The same JPEG, which claims 60,000 × 60,000 pixels."""
    data = bytearray(jpeg.tobytes())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = (60_000).to_bytes(2, "big") * 2
    return np.frombuffer(bytes(data), np.uint8)


def forged_pictures(file: h5py.File) -> None:
    """Pictures of the right number, every one a bomb."""
    rgb = first_video(file)["rgb"]
    frames = [bomb(encode_rgb(np.zeros((36, 48, 3), np.uint8)))] * 5
    del rgb["data"], rgb["ends"]
    rgb["data"] = np.concatenate(frames)
    rgb["ends"] = np.cumsum([0, *map(len, frames)])


def read_all(path: Path) -> dict[str, np.ndarray]:
    """Open a store and read all that is in it: "path stream" → values."""
    store, found = Store(path), {}
    for video in store.videos:
        for stream in STREAMS:
            if not video.streams[stream]:
                continue
            if stream == "audio":
                values = store.mel(video, 0, round(video.seconds * 100))
            else:
                values = store.frames(video, stream, range(video.frames - (stream == "flow")))
            found[f"{video.path} {stream}"] = values
    return found
