"""What somebody may do to a store: by what is wrong, how it is made of a good one, and what the line names."""

from pathlib import Path

import h5py
import numpy as np

from preprocess.store.format import VERSION
from tests.support.forged import (
    first_video,
    forged_pictures,
    linked,
    low_level,
    replaced,
    with_attribute,
    with_parameters,
)

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


def root_in_a_circle(file: h5py.File) -> None:
    del file["index"]
    file["index"] = file["/"]


def shard_name(name: str):
    def change(file: h5py.File) -> None:
        replaced("shards/name", np.frombuffer(f"{name}\0".encode(), np.uint8))(file)
        replaced("shards/digest", np.array([b"0" * 32], "S32"))(file)
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


INDEX = {  # what is wrong → how to make it of a good store, and what the line names
    "soft link": (linked("index/seconds", h5py.SoftLink("/index/expected")), "index/seconds"),
    "soft link in the place of a group": (linked("rejected", h5py.SoftLink("/shards")), "rejected"),
    "external link": (linked("index/seconds", external), "index/seconds"),
    "external storage": (stored_elsewhere("index/seconds", (2,), "f8"), "index/seconds"),
    "virtual dataset": (mapped("index/seconds", "f8"), "index/seconds"),
    "texts of any length": (replaced("classes", ["jump", "run"], dtype=h5py.string_dtype()), "classes"),
    "references": (replaced("index/label", np.array([None, None], h5py.ref_dtype)), "index/label"),
    "sequences of any length": (of_sequences, "index/label"),
    "enumeration": (replaced("index/has_rgb", [1, 1], dtype=h5py.enum_dtype({"A": 1}, "u1")), "index/has_rgb"),
    "other byte order": (replaced("index/frames", np.array([5, 6], ">i8")), "index/frames"),
    "longer texts": (replaced("index/content", np.array([b"0" * 33] * 2, "S33")), "index/content"),
    "committed datatype": (committed, "index/frames"),
    "gzip": (replaced("index/seconds", SECONDS, compression="gzip"), "index/seconds"),
    "a filter that nobody has": (low_level("index/seconds", layout=CHUNKED, filters=(32_123,)), "index/seconds"),
    "compact": (low_level("index/seconds", layout=COMPACT), "index/seconds"),
    "absurdly many rows": (low_level("index/seconds", layout=CONTIGUOUS, rows=2**58), "index/seconds"),
    "absurdly many rows in all columns": (
        low_level("index/content", layout=CONTIGUOUS, dtype="S32", rows=2**55),
        "index/content",
    ),
    "absurdly long text": (low_level("classes", layout=CONTIGUOUS, dtype="u1", rows=2**60), "classes"),
    "bytes that were never written": (low_level("index/seconds", layout=CONTIGUOUS), "index/seconds"),
    "two axes": (replaced("index/seconds", SECONDS[:, None]), "index/seconds"),
    "no rows at all": (replaced("index/seconds", h5py.Empty("f8")), "index/seconds"),
    "columns of different lengths": (replaced("index/seconds", [0.2, 0.2, 0.2]), "index/seconds"),
    "texts of another number": (replaced("index/group", TEXT[:11]), "group"),
    "text without an end": (replaced("index/path", TEXT[:-1]), "path"),
    "label out of range": (replaced("index/label", np.array([0, 2], "i4")), "index/label"),
    "label below none": (replaced("index/label", np.array([0, -2], "i4")), "index/label"),
    "shard out of range": (replaced("index/shard", np.array([0, -1], "i4")), "index/shard"),
    "shard in another folder": (shard_name("../" + "0" * 32 + ".h5"), "shard"),
    "shard with a line break": (shard_name("0" * 32 + ".h5\n"), "shard"),
    "content that is a path": (replaced("index/content", np.array([b"../" * 10, b"0" * 32], "S32")), "index/content"),
    "not a number of seconds": (replaced("index/seconds", [np.nan, 1.0]), "index/seconds"),
    "no frames": (replaced("index/frames", np.array([0, 5])), "index/frames"),
    "negative bytes": (replaced("index/bytes_rgb", np.array([-1, 5])), "index"),
    "a flag of 255": (replaced("index/has_rgb", np.array([1, 255], "u1")), "index"),
    "dataset in the place of a group": (linked("index", lambda file: file["classes"]), "index"),
    "group in the place of a dataset": (linked("index/seconds", lambda file: file["videos"]), "index/seconds"),
    "group that holds itself": (root_in_a_circle, "index/content"),
    "missing column": (without("index/seconds"), "index/seconds"),
    "missing table": (without("shards"), "shards"),
    "parameters that are no JSON": (raw_parameters(b"{'fps': 25}"), "parameters"),
    "parameters nested deeply": (nested(30_000), "parameters"),
    "parameters that lack the rate": (with_parameters(lambda all: {"flow": all["flow"]}), "parameters"),
    "parameters with a text for the rate": (with_parameters(lambda all: all | {"fps": "25"}), "parameters"),
    "parameters with NaN": (with_parameters(lambda all: all | {"fps": float("nan")}), "parameters"),
    "parameters with a huge number": (with_parameters(lambda all: all | {"mel_bands": 10**400}), "parameters"),
    "parameters without flow": (with_parameters(lambda all: all | {"flow": 7}), "parameters"),
    "parameters with odd flow": (
        with_parameters(lambda all: all | {"flow": {"method": {}, "engine": 1, "preset": []}}),
        "parameters",
    ),
    "parameters missing": (with_attribute("parameters", None), "parameters"),
    "parameters of any length": (with_attribute("parameters", "{}", dtype=h5py.string_dtype()), "parameters"),
    "format of any length": (with_attribute("format", "tristream"), ""),
    "version as a table": (with_attribute("version", np.array([3, 3])), ""),
    "version as a reference": (with_attribute("version", h5py.Reference(), dtype=h5py.ref_dtype), ""),
    "wrong version": (with_attribute("version", VERSION + 1), f"version {VERSION + 1}"),
    "version missing": (with_attribute("version", None), ""),
}
STREAM = {
    "pictures end before they begin": (replaced("video/rgb/ends", lambda ends: ends[::-1].copy()), "rgb"),
    "pictures begin before the file": (replaced("video/rgb/ends", lambda ends: ends - 100), "rgb"),
    "pictures end behind the data": (replaced("video/rgb/ends", lambda ends: ends * 1000), "rgb"),
    "pictures end far behind everything": (
        replaced("video/rgb/ends", lambda ends: ends + (np.arange(6) == 5) * (2**62)),
        "rgb",
    ),
    "too few pictures": (replaced("video/rgb/ends", lambda ends: ends[:-1]), "rgb"),
    "pictures that claim gigabytes": (forged_pictures, "rgb"),
    "pictures that are none": (replaced("video/rgb/data", lambda data: np.zeros_like(data)), "rgb"),
    "soft link": (linked("video/rgb", h5py.SoftLink("/index")), "rgb"),
    "external link": (linked("video/rgb", external), "rgb"),
    "external storage": (stored_elsewhere("video/rgb/data", (5000,), "u1"), "rgb"),
    "virtual dataset": (mapped("video/rgb/data", "u1"), "rgb"),
    "compressed": (replaced("video/rgb/data", lambda data: data, compression="gzip"), "rgb"),
    "dataset in the place of a video": (
        linked(lambda file: f"videos/{file['index/content'][0].decode()}", lambda file: file["classes"]),
        "jump/b.mp4",
    ),
    "video that holds itself": (linked("video/rgb", lambda file: first_video(file)), "rgb"),
    "a link among the pictures": (lambda file: first_video(file)["rgb"].__setitem__("more", external(file)), "rgb"),
    "a link among the streams": (lambda file: first_video(file).__setitem__("smell", external(file)), "jump/b.mp4"),
    "video that is not there": (lambda file: file["videos"].pop(file["index/content"][0].decode()), "jump/b.mp4"),
    "sound with other bands": (replaced("video/audio/data", np.zeros((20, 17), "f2")), "audio"),
    "sound of another length": (replaced("video/audio/data", np.zeros((19, 16), "f2")), "audio"),
    "sound as numbers of another size": (replaced("video/audio/data", np.zeros((20, 16), "f8")), "audio"),
}


UNREAD = [kind for kind in STREAM if kind.startswith("a link among")]  # no reader comes near, and no copy has it
