"""Seals: whatever happens to a file, it is found; and names that appear whole or not at all."""

import errno
import hashlib
import json
import os
import random
import re
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import h5py
import numpy as np
import pytest

from preprocess.common import files
from preprocess.common.files import make_folder, publish, replace, write_aside
from preprocess.extraction.partial import PartialStore
from preprocess.store.format import VERSION
from preprocess.store.new_file import NewFile
from preprocess.store.seal import BLOCK, Broken, digest, read_seal, verify, write_seal


@pytest.fixture
def sealed(tmp_path):
    """A small sealed HDF5 file."""
    path = tmp_path / "a.h5"
    with NewFile(path) as file:
        file["some/data"] = np.random.default_rng(0).integers(0, 256, 3000, np.uint8)
        file.attrs["version"] = 2
    write_seal(path)
    return path


def test_a_sealed_file_is_whole_and_plain_h5py_reads_it(sealed):
    assert verify(sealed) == read_seal(sealed)
    with h5py.File(sealed) as file:
        assert file.userblock_size == BLOCK
        assert file["some/data"].shape == (3000,)


def test_the_seal_is_text_that_anybody_can_check(sealed):
    data = sealed.read_bytes()
    form = rb"tristream\nblake2b ([0-9a-f]{32})\nbytes (\d+)\n\0+"
    match = re.fullmatch(form, data[:512])
    assert match[1].decode() == hashlib.blake2b(data[512:], digest_size=16).hexdigest()
    assert int(match[2]) == len(data)


def test_any_single_flipped_bit_is_found_wherever_it_lies(sealed):
    data = bytearray(sealed.read_bytes())
    rng = random.Random(0)
    places = [(byte, rng.randrange(8)) for byte in range(BLOCK)]  # all of the seal itself
    places += [(rng.randrange(BLOCK, len(data)), rng.randrange(8)) for _ in range(500)]
    for byte, bit in places:
        data[byte] ^= 1 << bit
        sealed.write_bytes(data)
        with pytest.raises(Broken):
            verify(sealed)
        data[byte] ^= 1 << bit
    sealed.write_bytes(data)
    verify(sealed)


def test_another_length_is_told_without_reading_the_file(sealed):
    size = sealed.stat().st_size
    for other in (size + 4096, size + 1, size - 1, size - 100):
        os.truncate(sealed, other)
        with pytest.raises(Broken, match=f"{other}.* {size}$"):
            read_seal(sealed)
    for other in (513, 512, 511, 1, 0):  # too short for a seal
        os.truncate(sealed, other)
        with pytest.raises(Broken):
            read_seal(sealed)


def test_a_block_that_is_no_seal_is_none(tmp_path):
    path = tmp_path / "a.h5"
    for block in (
        b"\0" * BLOCK,
        b"tristream\nblake2b " + b"0" * 32 + b"\nbytes 0004096\n",  # a number in another form
        b"tristream\nblake2b " + b"0" * 32 + b"\nbytes 4096\n" + b"\0" * 100 + b"and more",
        b"tristream\nblake2b " + b"A" * 32 + b"\nbytes 4096\n",
        b"tristream\nblake2b " + b"0" * 31 + b"\nbytes 4096\n",
        b"tristream\nblake2b " + b"0" * 32 + b"\nbytes 99999999999999999999\n",
        b"tristream\nblake2b " + b"0" * 32 + "\nbytes ٤٠٩٦\n".encode(),
    ):
        path.write_bytes(block.ljust(BLOCK, b"\0").ljust(4096, b"x"))
        with pytest.raises(Broken, match="seal"):
            read_seal(path)


def test_a_digest_calls_back_now_and_then_so_that_slow_is_told_from_stuck(tmp_path):
    path = tmp_path / "large"
    path.write_bytes(os.urandom(3 << 20))
    calls = []
    assert digest(path, each=lambda: calls.append(1)) == digest(path)
    assert len(calls) >= 3


def test_a_published_name_never_replaces_one_that_stands_for_the_same(tmp_path):
    name, written = tmp_path / "name", tmp_path / "written"
    name.write_text("first")
    written.write_text("second")
    publish(written, name)
    assert name.read_text() == "first"
    assert not written.exists()


@pytest.mark.parametrize("there", [False, True])
def test_names_are_published_also_where_there_are_no_hard_links(tmp_path, monkeypatch, there):
    name, written = tmp_path / "name", tmp_path / "written"
    written.write_text("new")
    if there:
        name.write_text("old")
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(errno.EPERM, "no links here")))
    publish(written, name)
    assert name.read_text() == ("old" if there else "new")
    assert not written.exists()


def test_a_name_is_given_only_when_the_bytes_are_on_the_disk_and_then_the_folder_is(tmp_path, monkeypatch):
    """Else a power failure leaves a name without its bytes, or no name at all."""
    calls = []
    monkeypatch.setattr(files, "sync", lambda path: calls.append(f"sync {path.name}"))
    for act in ("link", "replace"):
        real = getattr(os, act)
        monkeypatch.setattr(os, act, lambda *paths, act=act, real=real: (calls.append(act), real(*paths)))
    for give in (publish, replace):
        written = tmp_path / "written"
        written.write_text("x")
        give(written, tmp_path / f"name of {give.__name__}")
    folder = f"sync {tmp_path.name}"
    assert calls == ["sync written", "link", folder, "sync written", "replace", folder]


def test_a_file_is_replaced_whole_and_an_error_leaves_the_old_one_and_nothing_else(tmp_path):
    name = tmp_path / "a.json"
    write_aside(name, lambda part: part.write_text("[1]"))

    def fail(part):
        part.write_text("[")
        raise TypeError

    with pytest.raises(TypeError):
        write_aside(name, fail)
    assert json.loads(name.read_text()) == [1]
    assert os.listdir(tmp_path) == ["a.json"]


def test_many_parts_of_a_job_may_begin_at_the_same_moment(tmp_path):
    together = Barrier(8)

    def begin(number: int) -> dict:
        partial_store = PartialStore(tmp_path / "out.h5")
        together.wait()
        with partial_store.begin(f"{number}-of-8", parameters={"fps": 25}, overwrite=False):
            together.wait()
            return json.loads((partial_store.folder / "job.json").read_text())

    for _ in range(20):
        with ThreadPoolExecutor(8) as threads:
            job = {"version": VERSION, "parameters": {"fps": 25}, "overwrite": False}
            assert list(threads.map(begin, range(8))) == 8 * [job]


def test_many_may_make_a_folder_at_the_same_moment(tmp_path):
    make_folder(tmp_path / "a")
    make_folder(tmp_path / "a")
    with pytest.raises(FileNotFoundError):
        make_folder(tmp_path / "none" / "a")


class Full:
    """A file on a disk that is full after some bytes."""

    def __init__(self, file, left: int) -> None:
        self.file, self.left = file, left

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, data) -> int:
        if len(data) > self.left:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.left -= len(data)
        return self.file.write(data)


@pytest.mark.parametrize("left", [0, 3000, 40_000])
def test_hdf5_on_a_full_disk_ends_with_the_error_of_the_disk_whatever_was_being_written(tmp_path, left):
    """HDF5 itself ends with errors of any kind then, and now and then with the process."""
    with pytest.raises(OSError, match=r"a\.h5") as caught, NewFile(tmp_path / "a.h5") as file:
        file._sink.file = Full(file._sink.file, left)
        for number in range(30):
            group = file.create_group(f"videos/{number}")
            group["data"] = np.arange(2000, dtype="u1")
            group.attrs["checksum"] = np.bytes_("0" * 32)
            group["data"][:]
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(tmp_path / "a.h5")


def test_a_file_that_could_be_written_raises_nothing_and_an_error_of_the_caller_stays(tmp_path):
    with NewFile(tmp_path / "a.h5") as file:
        file["data"] = np.arange(10)
        file.check()
    file.close()
    with pytest.raises(ZeroDivisionError), NewFile(tmp_path / "b.h5") as file:
        file["data"] = np.arange(10) // 1
        raise ZeroDivisionError
