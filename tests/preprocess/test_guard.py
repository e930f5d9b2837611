"""Hostile stores: each is refused in one line, and nothing is read through it."""

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

from preprocess import check, guard, info, merge, show
from preprocess.check import check_video
from preprocess.errors import UserError
from preprocess.seal import BLOCK, write_seal
from preprocess.store import Store, shard_folder
from tests.preprocess.commands import ROOT, assert_one_line_error, environment
from tests.preprocess.forged import (
    SPECS,
    altered,
    first_video,
    forged_pictures,
    linked,
    low_level,
    patched,
    read_all,
    replaced,
    with_attribute,
    with_parameters,
)
from tests.preprocess.runs import copy_store, extract_here, files, run_here
from tests.stores import make_store, three_bit

CONTIGUOUS, CHUNKED, COMPACT = h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED, h5py.h5d.COMPACT
TEXT = np.frombuffer(b"jump/b.mp4\0run/a.mp4\0", np.uint8)
SECONDS = np.array([0.2, 0.24])


def external(file: h5py.File) -> h5py.ExternalLink:
    """A link to the file that lies beside every hostile store here."""
    return h5py.ExternalLink(str(Path(file.filename).with_name("secret.h5")), "/seconds")


def stored_elsewhere(name: str, shape: tuple[int, ...], dtype: str):
    """A dataset whose bytes are those of another file."""

    def change(file: h5py.File) -> None:
        group, last = (file, name) if not name.startswith("video/") else (first_video(file), name[6:])
        secret = str(Path(file.filename).with_name("secret.h5"))
        del group[last]
        group.create_dataset(last, shape, dtype, external=[(secret, 0, h5py.h5f.UNLIMITED)])

    return change


def mapped(name: str, dtype: str):
    """A virtual dataset over another file."""

    def change(file: h5py.File) -> None:
        group, last = (file, name) if not name.startswith("video/") else (first_video(file), name[6:])
        secret = str(Path(file.filename).with_name("secret.h5"))
        shape = group[last].shape
        layout = h5py.VirtualLayout(shape, dtype)
        layout[:] = h5py.VirtualSource(secret, "seconds", shape)
        del group[last]
        group.create_virtual_dataset(last, layout)

    return change


def committed(file: h5py.File) -> None:
    del file["index/frames"]
    file["index/frames"] = np.dtype("i8")


def of_sequences(file: h5py.File) -> None:
    del file["index/label"]
    file["index"].create_dataset("label", (2,), h5py.vlen_dtype(np.int32))


def of_compound(file: h5py.File) -> None:
    rows = np.zeros(2, [("a", "i4"), ("b", "f4")])
    replaced("index/seconds", rows)(file)


def of_opaque(file: h5py.File) -> None:
    replaced("index/seconds", np.zeros(2, "V8"))(file)


def odd_integer(file: h5py.File) -> None:
    """An integer of three bytes, which NumPy does not have."""
    kind = h5py.h5t.STD_I64LE.copy()
    kind.set_size(3)
    kind.set_precision(24)
    del file["index/frames"]
    h5py.h5d.create(file["index"].id, b"frames", kind, h5py.h5s.create_simple((2,)))


def root_in_a_circle(file: h5py.File) -> None:
    del file["index"]
    file["index"] = file["/"]


def shard_names(*names: str):
    def change(file: h5py.File) -> None:
        replaced("shards/name", np.frombuffer("".join(f"{name}\0" for name in names).encode(), np.uint8))(file)
        replaced("shards/digest", np.array([b"0" * 32] * len(names), "S32"))(file)
        replaced("index/shard", np.zeros(2, "i4"))(file)

    return change


def nested(depth: int):
    def change(file: h5py.File) -> None:
        file.attrs["parameters"] = np.bytes_("[" * depth + "]" * depth)

    return change


def raw_parameters(text: bytes):
    return with_attribute("parameters", np.bytes_(text))


def without(name: str):
    """Leave it out."""

    def change(file: h5py.File) -> None:
        del file[name]

    return change


REFERENCE = np.array([None, None], h5py.ref_dtype)
INDEX = {  # what is wrong → how to make it of a good store, and what the line says
    "soft link": (linked("index/seconds", h5py.SoftLink("/index/expected")), "link to somewhere else"),
    "soft link to nowhere": (linked("index/seconds", h5py.SoftLink("/nowhere")), "link to somewhere else"),
    "soft link in the place of a group": (linked("rejected", h5py.SoftLink("/shards")), "link to somewhere else"),
    "external link": (linked("index/seconds", external), "link to somewhere else"),
    "external storage": (stored_elsewhere("index/seconds", (2,), "f8"), "not stored plainly"),
    "virtual dataset": (mapped("index/seconds", "f8"), "not stored plainly"),
    "texts of any length": (replaced("classes", ["jump", "run"], dtype=h5py.string_dtype()), "not of type uint8"),
    "references to objects": (replaced("index/label", REFERENCE, dtype=h5py.ref_dtype), "not of type int32"),
    "references to regions": (replaced("index/label", REFERENCE, dtype=h5py.regionref_dtype), "not of type int32"),
    "sequences of any length": (
        of_sequences,
        "not of type int32",
    ),
    "compound": (of_compound, "not of type float64"),
    "enumeration": (replaced("index/has_rgb", [1, 1], dtype=h5py.enum_dtype({"A": 1}, "u1")), "not of type uint8"),
    "opaque": (of_opaque, "not of type float64"),
    "odd integer": (odd_integer, "not of type int64"),
    "other byte order": (replaced("index/frames", np.array([5, 6], ">i8")), "not of type int64"),
    "longer texts": (replaced("index/content", np.array([b"0" * 33] * 2, "S33")), r"not of type \|S32"),
    "committed datatype": (committed, "no dataset"),
    "gzip": (replaced("index/seconds", SECONDS, compression="gzip"), "not stored plainly"),
    "a filter that nobody has": (low_level("index/seconds", layout=CHUNKED, filters=(32_123,)), "not stored plainly"),
    "chunks": (replaced("index/seconds", SECONDS, chunks=(1,)), "not stored plainly"),
    "compact": (low_level("index/seconds", layout=COMPACT), "not stored plainly"),
    "absurdly many rows": (low_level("index/seconds", layout=CONTIGUOUS, rows=2**58), "rows, not 2"),
    "absurdly many rows in all columns": (
        low_level("index/content", layout=CONTIGUOUS, dtype="S32", rows=2**55),
        "bytes that are not in the file",
    ),
    "absurdly long text": (low_level("classes", layout=CONTIGUOUS, dtype="u1", rows=2**60), "bytes that are not in"),
    "bytes that were never written": (low_level("index/seconds", layout=CONTIGUOUS), "bytes that are not in the file"),
    "two axes": (replaced("index/seconds", SECONDS[:, None]), "has not 1 axes"),
    "a single number": (replaced("index/seconds", 1.0), "has not 1 axes"),
    "no rows at all": (replaced("index/seconds", h5py.Empty("f8")), "has not 1 axes"),
    "columns of different lengths": (replaced("index/seconds", [0.2, 0.2, 0.2]), "3 rows, not 2"),
    "texts of another number": (replaced("index/group", TEXT[:11]), "1 rows, not 2"),
    "text without an end": (replaced("index/path", TEXT[:-1]), "does not end"),
    "label out of range": (replaced("index/label", np.array([0, 2], "i4")), "label points beyond its table"),
    "label below none": (replaced("index/label", np.array([0, -2], "i4")), "label points beyond its table"),
    "shard out of range": (replaced("index/shard", np.array([0, -1], "i4")), "shard points beyond its table"),
    "shard in another folder": (shard_names("../" + "0" * 32 + ".h5"), "a name that no shard has"),
    "shard at an absolute path": (shard_names("/etc/passwd"), "a name that no shard has"),
    "shard with a line break": (shard_names("0" * 32 + ".h5\n"), "a name that no shard has"),
    "content that is a path": (replaced("index/content", np.array([b"../" * 10, b"0" * 32], "S32")), "no digest"),
    "content in capitals": (replaced("index/content", np.array([b"A" * 32] * 2, "S32")), "no digest"),
    "not a number of seconds": (replaced("index/seconds", [np.nan, 1.0]), "no length"),
    "infinitely long": (replaced("index/seconds", [np.inf, 1.0]), "no length"),
    "no frames": (replaced("index/frames", np.array([0, 5])), "below one"),
    "negative width": (replaced("index/width", np.array([-48, 48])), "below one"),
    "negative bytes": (replaced("index/bytes_rgb", np.array([-1, 5])), "below zero"),
    "a flag of 255": (replaced("index/has_rgb", np.array([1, 255], "u1")), "neither 0 nor 1"),
    "dataset in the place of a group": (linked("index", lambda file: file["classes"]), "index is no group"),
    "group in the place of a dataset": (linked("index/seconds", lambda file: file["videos"]), "is no dataset"),
    "group that holds itself": (root_in_a_circle, "content is missing"),
    "missing column": (without("index/seconds"), "seconds is missing"),
    "missing table": (without("shards"), "shards is missing"),
    "parameters of another kind": (raw_parameters(b"[25.0]"), "not JSON of this program"),
    "parameters that are no JSON": (raw_parameters(b"{'fps': 25}"), "not JSON of this program"),
    "parameters nested deeply": (nested(30_000), "not JSON of this program"),
    "parameters that lack the rate": (with_parameters(lambda all: {"flow": all["flow"]}), "not JSON of this program"),
    "parameters with a text for the rate": (with_parameters(lambda all: all | {"fps": "25"}), "numbers that cannot be"),
    "parameters with no number": (raw_parameters(b'{"fps": NaN, "short_side": 3, "mel_bands": 6, "flow": {}}'), "JSON"),
    "parameters with NaN": (with_parameters(lambda all: all | {"fps": float("nan")}), "numbers that cannot be"),
    "parameters with a huge number": (with_parameters(lambda all: all | {"mel_bands": 10**400}), "cannot be"),
    "parameters without flow": (with_parameters(lambda all: all | {"flow": 7}), "not JSON of this program"),
    "parameters with odd flow": (
        with_parameters(lambda all: all | {"flow": {"method": {}, "engine": 1, "preset": []}}),
        "what flow it holds",
    ),
    "parameters missing": (with_attribute("parameters", None), "attribute parameters is missing"),
    "parameters of any length": (
        with_attribute("parameters", "{}", dtype=h5py.string_dtype()),
        "no number or short text",
    ),
    "parameters too long": (low_level("classes", layout=CONTIGUOUS, dtype="u1", rows=2**40), "bytes that are not in"),
    "format of another type": (with_attribute("format", 5), "not a store of this program"),
    "format of any length": (with_attribute("format", "tristream"), "not a store of this program"),
    "version as a text": (with_attribute("version", np.bytes_("2")), "not a store of this program"),
    "version as a table": (with_attribute("version", np.array([2, 2])), "not a store of this program"),
    "version as a structure": (with_attribute("version", np.zeros((), [("a", "i4")])), "not a store of this program"),
    "version as a reference": (
        with_attribute("version", h5py.Reference(), dtype=h5py.ref_dtype),
        "not a store of this program",
    ),
    "version of nothing": (with_attribute("version", h5py.Empty("i8")), "not a store of this program"),
    "wrong version": (with_attribute("version", 3), "version 3, this program reads version 2"),
    "version missing": (with_attribute("version", None), "not a store of this program"),
}
STREAM = {
    "pictures end before they begin": (
        replaced("video/rgb/ends", lambda ends: ends[::-1].copy()),
        "begin and end where they cannot",
    ),
    "pictures begin before the file": (
        replaced("video/rgb/ends", lambda ends: ends - 100),
        "begin and end where they cannot",
    ),
    "pictures end behind the data": (
        replaced("video/rgb/ends", lambda ends: ends * 1000),
        "begin and end where they cannot",
    ),
    "pictures end far behind everything": (
        replaced("video/rgb/ends", lambda ends: ends + (np.arange(6) == 5) * (2**62)),
        "begin and end where they cannot",
    ),
    "too few pictures": (replaced("video/rgb/ends", lambda ends: ends[:-1]), "5 rows, not 6"),
    "pictures that claim gigabytes": (forged_pictures, "no JPEG of 48×36|no JPEG of the size that the index says"),
    "pictures that are none": (
        replaced("video/rgb/data", lambda data: np.zeros_like(data)),
        "no JPEG of 48×36|a frame is no JPEG of the size",
    ),
    "soft link": (linked("video/rgb", h5py.SoftLink("/index")), "link to somewhere else"),
    "external link": (linked("video/rgb", external), "link to somewhere else"),
    "external storage": (stored_elsewhere("video/rgb/data", (5000,), "u1"), "not stored plainly"),
    "virtual dataset": (mapped("video/rgb/data", "u1"), "not stored plainly"),
    "compressed": (replaced("video/rgb/data", lambda data: data, compression="gzip"), "not stored plainly"),
    "dataset in the place of a video": (
        linked(lambda file: f"videos/{file['index/content'][0].decode()}", lambda file: file["classes"]),
        "is no group",
    ),
    "video that holds itself": (linked("video/rgb", lambda file: first_video(file)), "ends is missing"),
    "a link among the pictures": (
        lambda file: first_video(file)["rgb"].__setitem__("more", external(file)),
        "more or less than the index says",
    ),
    "a link among the sound": (
        lambda file: first_video(file)["audio"].__setitem__("ends", external(file)),
        "more or less than the index says",
    ),
    "a link among the streams": (
        lambda file: first_video(file).__setitem__("smell", external(file)),
        "holds more than its streams",
    ),
    "video that is not there": (
        lambda file: file["videos"].pop(file["index/content"][0].decode()),
        "is missing",
    ),
    "sound with other bands": (
        replaced("video/audio/data", np.zeros((20, 17), "f2")),
        "17 bands, not 16",
    ),
    "sound of another length": (replaced("video/audio/data", np.zeros((19, 16), "f2")), "19 rows, not 20"),
    "sound as numbers of another size": (replaced("video/audio/data", np.zeros((20, 16), "f8")), "not of type float16"),
}


UNREAD = [kind for kind in STREAM if kind.startswith("a link among")]  # no reader comes near, and no copy has it


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


@pytest.mark.parametrize("kind", INDEX)
def test_a_hostile_index_is_refused_by_every_command_in_one_line(path, kind, monkeypatch, capsys, tmp_path):
    change, says = INDEX[kind]
    altered(path, change)
    with pytest.raises(UserError, match=says) as caught:
        Store(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
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


@pytest.mark.parametrize("kind", STREAM)
def test_a_hostile_stream_is_refused_at_the_first_read_in_one_line(path, kind, monkeypatch, capsys, tmp_path):
    change, says = STREAM[kind]
    store = Store(altered(path, change))
    if kind not in UNREAD:
        with pytest.raises(UserError, match=says) as caught:
            read_all(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert any(re.search(says, problem) for problem in check_video(store, store.videos[0], decode=False))
    assert list(check_video(store, store.videos[1], decode=True)) == []
    if kind not in UNREAD:
        result = call(show, monkeypatch, capsys, path, "b.mp4", "--out", tmp_path / "b.png")
        assert_one_line_error(result, "bad.h5")


@pytest.mark.parametrize("kind", STREAM)
def test_merging_copies_nothing_that_a_stream_only_leads_to(path, kind, monkeypatch, capsys, tmp_path):
    """Nor what is not what its checksum says; so no hostile store gets into a good one."""
    altered(path, STREAM[kind][0])
    good = make_store(tmp_path / "good.h5", SPECS[:1]).path
    result = call(merge, monkeypatch, capsys, good, path, tmp_path / "out.h5")
    if kind in UNREAD:
        assert result.returncode == 0
        assert list(check.check(tmp_path / "out.h5")) == []
        return
    assert_one_line_error(result, "bad.h5 is damaged")
    assert sorted(os.listdir(tmp_path)) == ["bad.h5", "good.h5", "secret.h5"]


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
    assert_one_line_error(result, "bad.h5: rgb of ", "is damaged: frames begin and end where they cannot")
    assert "Traceback" not in result.stderr and len(result.stderr) < 300


def test_check_finds_hostile_streams(tmp_path):
    """The whole of it, on a few of them."""
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["seconds"] = SECONDS
    for number, (change, says) in enumerate(list(STREAM.values())[::6]):
        path = altered(tmp_path / f"bad{number}.h5", change)
        problems = list(check.check(path))
        assert any(re.search(says, problem) for problem in problems), problems
        assert all("\n" not in problem for problem in problems)


def test_a_frame_that_claims_gigabytes_is_never_given_to_the_decoder(path, monkeypatch):
    altered(path, forged_pictures)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(UserError, match="no JPEG of 48×36"):
        Store(path).frames(Store(path).videos[0], "rgb", [0])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda address, size: (1 << 40, size), "bytes that are not in the file|cannot be read"),
        (lambda address, size: (address, size * 1000), "bytes that are not in the file|cannot be read"),
        (lambda address, size: (address, size - 1), "bytes that are not in the file|cannot be read"),
        (lambda address, size: (2**64 - 1, size), "bytes that are not in the file|cannot be read"),
    ],
    ids=["behind the end", "too many", "too few", "nowhere"],
)
@pytest.mark.parametrize("name", ["index/seconds", "videos/{content}/rgb/data"])
def test_a_dataset_whose_bytes_do_not_lie_in_the_file_is_refused(path, name, change, says):
    patched(path, name, change)
    with pytest.raises(UserError, match=says):
        read_all(path)


def test_the_last_bytes_of_a_file_may_be_data_and_the_first_behind_them_may_not(tmp_path):
    """The guard counts from the first byte of the file, as HDF5 does, with the seal's block."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", userblock_size=BLOCK) as file:
        file["first"] = np.arange(100)
        file["x"] = np.frombuffer(b"0123456789" * 500, np.uint8)
    with h5py.File(path) as file:
        begin = guard.dataset(file, "x", np.dtype("u1")).id.get_offset()
    data = path.read_bytes()
    assert data[begin : begin + 5000] == b"0123456789" * 500
    at = np.array([begin - BLOCK, 5000], "<u8").tobytes()
    assert data.count(at) == 1
    for address, fits in ((len(data) - 5000, True), (len(data) - 4999, False), (len(data) - 4600, False)):
        moved = np.array([address - BLOCK, 5000], "<u8").tobytes()
        path.write_bytes(data.replace(at, moved))
        write_seal(path)
        with guard.open_file(path) as file:
            if fits:
                assert bytes(guard.read(file, "x", np.dtype("u1"))[-1:]) == data[-1:]
            else:
                with pytest.raises(guard.Hostile, match=r"not in the file|cannot be read"):
                    guard.dataset(file, "x", np.dtype("u1"))


@pytest.mark.parametrize("what", ["no seal", "cut short", "longer", "another digest", "no block"])
def test_a_store_whose_seal_is_not_in_order_is_not_opened(path, what):
    make_store(path, SPECS)
    data = path.read_bytes()
    if what == "no seal":
        path.write_bytes(bytes(BLOCK) + data[BLOCK:])
    elif what == "cut short":
        path.write_bytes(data[:-1])
    elif what == "longer":
        path.write_bytes(data + b"\0")
    elif what == "another digest":
        path.write_bytes(data.replace(b"blake2b ", b"blake3b ", 1))
    else:
        path.write_bytes(data[BLOCK:])
    with pytest.raises(UserError, match=r"bad\.h5 is damaged or was cut short"):
        Store(path)


def test_a_shard_that_is_not_the_one_that_the_store_means_is_not_read(tmp_path):
    make_store(tmp_path / "one.h5", SPECS)
    store = merge.merge([tmp_path / "one.h5"], tmp_path / "out.h5", shard_bytes=1)
    (shard,) = {store.shards[video.shard] for video in store.videos[:1]}
    with h5py.File(shard, "r+") as file:
        file.attrs["more"] = 1
    write_seal(shard)
    with pytest.raises(UserError, match=f"{shard.name}.*another has taken its place"):
        read_all(tmp_path / "out.h5")
    shard.unlink()
    with pytest.raises(UserError, match=f"{shard.name} is missing"):
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
from preprocess import check, guard, merge, show
from preprocess.errors import UserError
from tests.preprocess.forged import read_all
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
        assert "stream a link among" in path.name, f"{path} was not refused"
    try:
        store = Store(path)
    except UserError:
        continue
    assert [problem for video in store.videos for problem in check.check_video(store, video, decode=True)]
if control.exists():
    print(h5py.File(control)["index/seconds"][:])
"""
LEADING = ["soft link", "external link", "external storage", "virtual dataset"]


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
    sources = [ROOT / "train.py", *(path for room in rooms for path in sorted((ROOT / room).glob("*.py")))]
    assert len(sources) > 60
    found = [
        f"{path.relative_to(ROOT)}: {what}"
        for path in sources
        for pattern, what in unsafe.items()
        if re.search(pattern, path.read_text())
    ]
    assert found == []
