"""Reading HDF5 files from untrusted sources: every object is checked before it is used.

HDF5 can follow links to other files, map datasets onto other files, load filter plug-ins and hold types of unbounded
size; a store needs none of this. Only a hard link to a plain, contiguous, unfiltered dataset of the expected type, all
of whose bytes lie within the file, is accepted.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from preprocess.store.seal import BLOCK, Broken, parse_seal, read_seal

LONGEST_ATTRIBUTE = 1 << 16  # bytes
ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError)  # raised by h5py for damaged files


class UnsafeFile(Exception):
    """A file that this program cannot have written. The message says what is wrong, without the file's name."""


def open_file(path: str | os.PathLike, *, digest: str | None = None):
    """Open a sealed HDF5 file for reading; if `digest` is given, its seal must have it.

    Raises UnsafeFile if it is not an HDF5 file, lacks the seal, or has another length than its seal says.
    """
    import h5py

    while True:
        try:
            seal = read_seal(Path(path))
        except Broken as error:
            raise UnsafeFile(str(error)) from error
        if digest not in (None, seal.digest):
            raise UnsafeFile("it is not the file that is meant: another has taken its place")
        try:
            file = h5py.File(path, "r")
        except OSError as error:
            raise UnsafeFile("it is no HDF5 file, or a damaged one") from error
        if sealed_digest(file) == seal.digest:
            return file
        file.close()  # the name was given to another file in between


def sealed_digest(file) -> str:
    """The digest in the seal of an open file, whose name may belong to another file by now.

    Raises UnsafeFile if it has no seal.
    """
    try:
        return parse_seal(os.pread(file.id.get_vfd_handle(), BLOCK, 0)).digest
    except Broken as error:
        raise UnsafeFile(str(error)) from error


def open_handle(path: str | os.PathLike, *, digest: str) -> tuple[int, int]:
    """A file descriptor of a sealed file with that digest, for reading, and its size.

    Raises UnsafeFile if it lacks the seal, or has another length than its seal says.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        seal, size = parse_seal(os.pread(handle, BLOCK, 0)), os.fstat(handle).st_size
        if seal.digest != digest:
            raise UnsafeFile("it is not the file that is meant: another has taken its place")
        if seal.size != size:
            raise UnsafeFile(f"it has {size} bytes, not {seal.size} as its seal says")
    except Broken as error:
        os.close(handle)
        raise UnsafeFile(str(error)) from error
    except BaseException:
        os.close(handle)
        raise
    return handle, size


def group(parent, name: str | bytes):
    """A group directly below `parent`.

    Raises UnsafeFile if there is none, or its link is not a hard link.
    """
    import h5py

    found = _follow(parent, name)
    if not isinstance(found, h5py.Group):
        raise UnsafeFile(f"{_shown(parent, name)} is no group")
    return found


def dataset(parent, name: str, dtype: np.dtype, *, ndim: int = 1, rows: int | None = None):
    """A dataset directly below `parent`, of that type and number of axes and rows.

    Raises UnsafeFile for anything but a plain contiguous dataset whose bytes lie within the file.
    """
    import h5py

    found = _follow(parent, name)
    shown = _shown(parent, name)
    if not isinstance(found, h5py.Dataset):
        raise UnsafeFile(f"{shown} is no dataset")
    with _readable(shown):
        if not found.id.get_type().equal(h5py.h5t.py_create(dtype)):
            raise UnsafeFile(f"{shown} is not of type {dtype}")
        plan = found.id.get_create_plist()
        if plan.get_layout() != h5py.h5d.CONTIGUOUS or plan.get_external_count() or plan.get_nfilters():
            raise UnsafeFile(f"{shown} is not stored plainly")
        if found.id.get_space().get_simple_extent_type() != h5py.h5s.SIMPLE or found.ndim != ndim:
            raise UnsafeFile(f"{shown} has not {ndim} axes")
        if rows is not None and len(found) != rows:
            raise UnsafeFile(f"{shown} has {len(found)} rows, not {rows}")
        size = int(np.prod([int(length) for length in found.shape], dtype=object)) * dtype.itemsize
        if size:
            offset = found.id.get_offset()  # from the first byte of the file, the seal included
            end = None if offset is None else offset + size
            if end is None or found.id.get_storage_size() != size or end > _size(found.file):
                raise UnsafeFile(f"{shown} claims bytes that are not in the file")
    return found


def read(parent, name: str, dtype: np.dtype, *, rows: int | None = None) -> np.ndarray:
    """All of a dataset of one axis; see `dataset`."""
    found = dataset(parent, name, dtype, rows=rows)
    with _readable(_shown(parent, name)):
        return found[:]


def attribute(owner, name: str):
    """An attribute of a group: a short text, a number, or a small array of numbers.

    Raises UnsafeFile if there is none, or it is of another kind.
    """
    import h5py

    raw = name.encode("utf-8", "surrogateescape")
    with _readable(f"the attribute {name}"):
        if not h5py.h5a.exists(owner.id, raw):
            raise UnsafeFile(f"the attribute {name} is missing")
        found = h5py.h5a.open(owner.id, raw)
        kind = found.get_type()
        plain = kind.get_class() in (h5py.h5t.INTEGER, h5py.h5t.FLOAT) or (
            kind.get_class() == h5py.h5t.STRING and not kind.is_variable_str()
        )
        count = found.get_space().get_simple_extent_npoints()
        if not plain or not 1 <= count * kind.get_size() <= LONGEST_ATTRIBUTE:
            raise UnsafeFile(f"the attribute {name} is no number or short text")
        value = owner.attrs[name]
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return value.item() if isinstance(value, np.generic) else value


def _size(file) -> int:
    """The size in bytes of an open file, whose name may belong to another file by now."""
    return os.fstat(file.id.get_vfd_handle()).st_size


@contextmanager
def _readable(what: str) -> Iterator[None]:
    """Turn HDF5's errors, which come in many classes, into UnsafeFile."""
    try:
        yield
    except ERRORS as error:
        raise UnsafeFile(f"{what} cannot be read") from error


def _follow(parent, name: str | bytes):
    import h5py

    raw = name.encode("utf-8", "surrogateescape") if isinstance(name, str) else name
    try:
        link = parent.id.links.get_info(raw)
    except (KeyError, RuntimeError) as error:
        raise UnsafeFile(f"{_shown(parent, name)} is missing") from error
    if link.type != h5py.h5l.TYPE_HARD:
        raise UnsafeFile(f"{_shown(parent, name)} is a link to somewhere else")
    with _readable(_shown(parent, name)):
        return parent[raw]


def _shown(parent, name: str | bytes) -> str:
    name = name.decode("utf-8", "replace") if isinstance(name, bytes) else name
    return f"{parent.name}/{name}".lstrip("/")
