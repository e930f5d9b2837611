"""What somebody may do to a store: by what is wrong, how it is made of a good one, and what the line says."""

from pathlib import Path

import h5py
import numpy as np

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
    "version as a text": (with_attribute("version", np.bytes_("3")), "not a store of this program"),
    "version as a table": (with_attribute("version", np.array([3, 3])), "not a store of this program"),
    "version as a structure": (with_attribute("version", np.zeros((), [("a", "i4")])), "not a store of this program"),
    "version as a reference": (
        with_attribute("version", h5py.Reference(), dtype=h5py.ref_dtype),
        "not a store of this program",
    ),
    "version of nothing": (with_attribute("version", h5py.Empty("i8")), "not a store of this program"),
    "wrong version": (with_attribute("version", 4), "version 4, this program reads version 3"),
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
    "pictures that claim gigabytes": (forged_pictures, "no JPEG of 48×36"),
    "pictures that are none": (
        replaced("video/rgb/data", lambda data: np.zeros_like(data)),
        "a frame is no JPEG",
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
    "video that holds itself": (linked("video/rgb", lambda file: first_video(file)), "data is missing"),
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
