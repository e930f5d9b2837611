"""UnsafeFile stores: each is refused in one line, and nothing is read through it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from preprocess import check, info, merge, show
from preprocess.check import check_video
from preprocess.common.errors import UserError
from preprocess.store import Store, safe_hdf5
from preprocess.store.format import shard_folder
from preprocess.store.seal import BLOCK, write_seal
from tests.support.commands import ROOT, assert_one_line_error, environment
from tests.support.forged import SPECS, altered, forged_pictures, linked, patched, read_all
from tests.support.hostile_stores import INDEX, SECONDS, STREAM, UNREAD
from tests.support.runs import copy_store, extract_here, files, run_here
from tests.support.stores import make_store, three_bit


@pytest.fixture
def path(tmp_path) -> Path:
    """Where a hostile store may be written. A file that it might lead to lies beside it."""
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["seconds"] = SECONDS
    return tmp_path / "bad.h5"


def test_the_store_that_is_altered_is_good(path):
    read_all(altered(path, lambda file: None))


def call(module, monkeypatch, capsys, *arguments: object) -> subprocess.CompletedProcess:
    """A command line, within this process."""
    return run_here(monkeypatch, capsys, *arguments, main=module.main)


def test_every_hostile_index_is_refused_and_what_is_wrong_with_it_named(path):
    for kind, (change, name) in INDEX.items():
        path.unlink(missing_ok=True)
        altered(path, change)
        with pytest.raises(UserError) as caught:
            Store(path)
            pytest.fail(f"{kind} was not refused")
        told = str(caught.value)
        assert str(path) in told and name in told and "\n" not in told, kind


@pytest.mark.parametrize("kind", ["external link", "parameters nested deeply"])
def test_a_hostile_index_is_one_line_from_every_command(path, kind, monkeypatch, capsys, tmp_path):
    altered(path, INDEX[kind][0])
    good = make_store(tmp_path / "good.h5", SPECS[:1]).path
    for module, arguments in (
        (info, [path]),
        (info, [path, "--json"]),
        (show, [path, "b.mp4", "--out", tmp_path / "b.png"]),
        (merge, [good, path, tmp_path / "out.h5"]),
        (check, [path]),
    ):
        assert_one_line_error(call(module, monkeypatch, capsys, *arguments), "bad.h5")
    assert sorted(os.listdir(tmp_path)) == ["bad.h5", "good.h5", "secret.h5"]


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    """A store of the video that no hostile one has tampered with."""
    return make_store(tmp_path_factory.mktemp("good") / "good.h5", SPECS[:1]).path


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> dict[str, tuple[int, ...]]:
    """What every hostile store claims to hold."""
    return {
        name: values.shape
        for name, values in read_all(make_store(tmp_path_factory.mktemp("s") / "s.h5", SPECS).path).items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", STREAM)
def test_nothing_is_read_through_a_hostile_stream_nor_copied_and_check_names_it(path, good, shapes, kind):
    """Who reads goes to the places that the index tells: bytes of this file, of the right shape, or one line."""
    change, name = STREAM[kind]
    store = Store(altered(path, change))
    try:
        found = read_all(path)
    except UserError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    else:
        assert {name: values.shape for name, values in found.items()} == shapes
    problems = list(check.check(path))
    assert any(name in problem for problem in problems) and all("\n" not in problem for problem in problems)
    assert list(check_video(store, store.videos[1], decode=True)) == []
    out = path.with_name("out.h5")
    if kind in UNREAD:
        merge.merge([good, path], out)
        assert list(check.check(out)) == []
    else:
        with pytest.raises(UserError, match=r"bad\.h5"):
            merge.merge([good, path], out)
        assert sorted(os.listdir(path.parent)) == ["bad.h5", "secret.h5"]


@pytest.mark.parametrize("kind", ["pictures that claim gigabytes", "external link"])
def test_a_hostile_stream_is_one_line_from_the_commands_that_read_it(path, good, kind, monkeypatch, capsys, tmp_path):
    altered(path, STREAM[kind][0])
    assert_one_line_error(call(merge, monkeypatch, capsys, good, path, tmp_path / "out.h5"), "bad.h5")
    result = call(show, monkeypatch, capsys, path, "b.mp4", "--out", tmp_path / "b.png")
    if result.returncode:
        assert_one_line_error(result, "bad.h5")


def test_streams_that_changed_places_are_found_by_check(path):
    """All names, types, sizes and sums are right, but the index leads to another video's bytes."""

    def exchange(file):
        for column in ("at_rgb_data", "at_rgb_ends"):
            file["index"][column][:] = file["index"][column][:][::-1]

    store = Store(altered(path, exchange))
    for video in store.videos:
        (problem,) = check_video(store, video, decode=False)
        assert f"rgb of {video.path}" in problem


@pytest.mark.slow
def test_training_on_a_hostile_stream_ends_in_one_line_also_from_a_reading_process(tmp_path):
    path = make_store(tmp_path / "bad.h5", three_bit(24)).path
    with h5py.File(path, "r+") as file:
        for video in file["videos"].values():
            video["rgb/ends"][:] = video["rgb/ends"][:][::-1]
    write_seal(path)
    small = ("--frames", 2, "--size", 32, "--width", 2, "--epochs", 1, "--workers", 1)
    command = [sys.executable, "train.py", "--data", path, "--run", tmp_path / "run", "--streams", "rgb", *small]
    result = subprocess.run(
        list(map(str, command)), cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=170
    )
    assert_one_line_error(result, "bad.h5: rgb of ")
    assert "Traceback" not in result.stderr and len(result.stderr) < 300


def test_a_frame_that_claims_gigabytes_is_never_given_to_the_decoder(path, monkeypatch):
    altered(path, forged_pictures)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(UserError, match=r"bad\.h5: rgb"):
        Store(path).frames(Store(path).videos[0], "rgb", [0])


@pytest.mark.parametrize("name", ["index/seconds", "videos/{content}/rgb/data"])
def test_a_dataset_whose_bytes_do_not_lie_in_the_file_is_refused(path, name):
    for place in (
        lambda address, size: (1 << 40, size),
        lambda address, size: (address, size * 1000),
        lambda address, size: (address, size - 1),
        lambda address, size: (2**64 - 1, size),
    ):
        path.unlink(missing_ok=True)
        patched(path, name, place)
        if name.startswith("index"):
            with pytest.raises(UserError, match=name):
                Store(path)
        else:
            assert any("rgb of jump/b.mp4" in problem for problem in check.check(path))


def test_the_last_bytes_of_a_file_may_be_data_and_the_first_behind_them_may_not(tmp_path):
    """The guard counts from the first byte of the file, as HDF5 does, with the seal's block."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", userblock_size=BLOCK) as file:
        file["first"] = np.arange(100)
        file["x"] = np.frombuffer(b"0123456789" * 500, np.uint8)
    with h5py.File(path) as file:
        begin = safe_hdf5.dataset(file, "x", np.dtype("u1")).id.get_offset()
    data = path.read_bytes()
    assert data[begin : begin + 5000] == b"0123456789" * 500
    at = np.array([begin - BLOCK, 5000], "<u8").tobytes()
    assert data.count(at) == 1
    for address, fits in ((len(data) - 5000, True), (len(data) - 4999, False), (len(data) - 4600, False)):
        moved = np.array([address - BLOCK, 5000], "<u8").tobytes()
        path.write_bytes(data.replace(at, moved))
        write_seal(path)
        with safe_hdf5.open_file(path) as file:
            if fits:
                assert bytes(safe_hdf5.read(file, "x", np.dtype("u1"))[-1:]) == data[-1:]
            else:
                with pytest.raises(safe_hdf5.UnsafeFile, match="x"):
                    safe_hdf5.dataset(file, "x", np.dtype("u1"))


def test_a_store_whose_seal_is_not_in_order_is_not_opened(path):
    make_store(path, SPECS)
    data = path.read_bytes()
    for spoilt in (
        bytes(BLOCK) + data[BLOCK:],  # no seal
        data[:-1],
        data + b"\0",
        data.replace(b"blake2b ", b"blake3b ", 1),
        data[BLOCK:],
    ):
        path.write_bytes(spoilt)
        with pytest.raises(UserError, match=r"bad\.h5"):
            Store(path)


def test_a_shard_that_is_not_the_one_that_the_store_means_is_not_read(tmp_path):
    make_store(tmp_path / "one.h5", SPECS)
    store = merge.merge([tmp_path / "one.h5"], tmp_path / "out.h5", shard_bytes=1)
    (shard,) = {store.shards[video.shard] for video in store.videos[:1]}
    with h5py.File(shard, "r+") as file:
        file.attrs["more"] = 1
    write_seal(shard)
    with pytest.raises(UserError, match=shard.name):
        read_all(tmp_path / "out.h5")
    shard.unlink()
    with pytest.raises(UserError, match=shard.name):
        read_all(tmp_path / "out.h5")


def test_a_hostile_shard_in_the_folder_is_passed_over_and_swept(engine, ten, undisturbed, tmp_path):
    """An extraction takes in all shards that lie there, whoever put them there."""
    out = copy_store(undisturbed, tmp_path / "store")
    bad = shard_folder(out) / ("f" * 32 + ".h5")
    altered(bad, linked("index/seconds", h5py.SoftLink("/index/expected")))
    with h5py.File(shard_folder(out) / ("e" * 32 + ".h5"), "w"):
        pass
    out.unlink()
    extract_here(ten, out)
    assert files(out) == files(undisturbed)


LOOK = """
import sys
from pathlib import Path
import h5py
from preprocess import check, merge, show
from preprocess.common.errors import UserError
from tests.support.forged import read_all
from preprocess.store import Store

def draw(path):
    show.draw(Store(path), Store(path).videos[0], path.with_suffix(".png"))

good, control, *paths = map(Path, sys.argv[1:])
for path in paths:
    for act in (read_all, draw, lambda path: merge.merge([good, path], path.with_suffix(".merged"))):
        try:
            act(path)
        except UserError:
            continue
        assert act in (read_all, draw) or "stream a link among" in path.name, f"{path} was not refused"
    try:
        store = Store(path)
    except UserError:
        continue
    assert [problem for video in store.videos for problem in check.check_video(store, video, decode=True)]
if control.exists():
    print(h5py.File(control)["index/seconds"][:])
"""
LEADING = ["soft link", "external link", "external storage", "virtual dataset"]


@pytest.mark.slow
def test_no_file_that_a_store_leads_to_is_ever_opened(tmp_path):
    """As the kernel sees it; plain h5py shows that it would see it."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not here")
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["seconds"] = SECONDS
    good = make_store(tmp_path / "good.h5", SPECS[:1]).path
    paths = [altered(tmp_path / f"index {kind}.h5", INDEX[kind][0]) for kind in LEADING]
    paths += [altered(tmp_path / f"stream {kind}.h5", STREAM[kind][0]) for kind in [*LEADING, *UNREAD]]
    opened = {}
    for control, looked_at in ((paths[1], []), (tmp_path / "none", paths)):
        log = tmp_path / "log"
        trace = ["strace", "-f", "-e", "trace=open,openat,openat2", "-o", str(log)]
        command = [*trace, sys.executable, "-c", LOOK, str(good), str(control), *map(str, looked_at)]
        result = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=170)
        if "ptrace" in result.stderr:
            pytest.skip("nothing may be traced here")
        assert result.returncode == 0, result.stderr
        opened[control.name] = log.read_text(errors="replace")
    assert "secret.h5" in opened["index external link.h5"]
    assert "stream soft link.h5" in opened["none"]
    assert "secret.h5" not in opened["none"]


def test_nothing_in_the_repository_unpickles_what_a_file_holds():
    """A file that somebody sent must not be able to run code: torch.load without weights_only, np.load with pickles."""
    unsafe = {
        r"torch\.load\((?![^)]*weights_only=True)": "torch.load without weights_only=True",
        r"allow_pickle\s*=\s*True": "np.load with pickles",
        r"\bpickle\.load\(": "pickle.load",
        r"\b(joblib|dill|cloudpickle|shelve|marshal)\b\.(load|open)": "another unpickler",
        r"\byaml\.(unsafe_)?load\(": "yaml.load",
        r"(?<![\w.])(eval|exec)\(": "eval",
    }
    rooms = ["preprocess", "streams", "fusion", "tasks", "benchmarks"]
    sources = [ROOT / "train.py", *(path for room in rooms for path in sorted((ROOT / room).rglob("*.py")))]
    assert len(sources) > 60
    found = [
        f"{path.relative_to(ROOT)}: {what}"
        for path in sources
        for pattern, what in unsafe.items()
        if re.search(pattern, path.read_text())
    ]
    assert found == []
