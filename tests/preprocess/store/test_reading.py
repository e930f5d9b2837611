"""Reading frames and sound by their place in the file."""

from dataclasses import replace
from itertools import pairwise

import cv2
import h5py
import numpy as np
import pytest

from preprocess.common.errors import UserError
from preprocess.store import Store
from preprocess.store.seal import write_seal
from tests.support.cases import case
from tests.support.stores import HEIGHT, WIDTH, Spec, make_store


@pytest.fixture
def store(tmp_path):
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (12, HEIGHT, WIDTH, 3), dtype=np.uint8)
    flow = rng.normal(0, 4, (11, HEIGHT, WIDTH, 2)).astype(np.float32)
    specs = [Spec("a.mp4", frames=12, rgb=rgb, flow=flow), Spec("b.mp4", frames=7), Spec("c.mp4", frames=3)]
    return make_store(tmp_path / "s.h5", specs)


def by_h5py(store: Store, stream: str) -> np.ndarray:
    """All frames of the first video, with plain h5py and OpenCV: (T, H, W, 3) or (T, 2, H, W)."""
    with h5py.File(store.path) as file:
        group = file[f"videos/{store.videos[0].content}/{stream}"]
        jpegs = [group["data"][a:b] for a, b in pairwise(group["ends"][:])]
    if stream == "rgb":
        return np.stack([cv2.imdecode(jpeg, cv2.IMREAD_COLOR)[..., ::-1] for jpeg in jpegs])
    return np.stack([np.stack(np.split(cv2.imdecode(jpeg, cv2.IMREAD_GRAYSCALE), 2)) for jpeg in jpegs])


def assert_same_pictures(found: np.ndarray, expected: np.ndarray, stream: str) -> None:
    """OpenCV interpolates the planes of colour, we repeat their pixels; but for that, pictures are the same."""
    assert found.shape == expected.shape
    if stream == "flow":
        np.testing.assert_array_equal(found, expected)
        return
    clipped = ((found == 0) | (found == 255) | (expected == 0) | (expected == 255)).any(axis=-1)
    luma, wanted = (pictures @ np.array([0.299, 0.587, 0.114]) for pictures in (found, expected))
    assert clipped.mean() < 0.5
    assert np.abs(luma - wanted)[~clipped].max() < 3


@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_frames_are_those_that_plain_h5py_and_opencv_give(store, stream):
    for steps, window in (
        ([0], None),
        ([7, 2, 2, 9], (slice(3, 20), slice(5, 48))),
        (range(11), (slice(0, 36), slice(12, 48))),
        (np.arange(1, 10, 3), None),
    ):
        with case((steps, window)):
            expected = by_h5py(store, stream)[np.array(steps)]
            given = {}
            if window:
                expected = (
                    expected[:, window[0], window[1]] if stream == "rgb" else expected[:, :, window[0], window[1]]
                )
                given["window"] = window
            found = store.frames(store.videos[0], stream, steps, **given)
            assert found.dtype == np.uint8
            assert_same_pictures(found, expected, stream)
            room = np.full((2, *expected.shape), 77, np.uint8)  # a place within a larger array
            assert np.shares_memory(store.frames(store.videos[0], stream, steps, **given, out=room[1]), room)
            np.testing.assert_array_equal(room[1], found)
            assert (room[0] == 77).all()


def test_a_place_of_another_shape_is_an_error_and_not_filled_with_something_else(store):
    room = np.zeros((2, HEIGHT, HEIGHT, 3), np.uint8)
    with pytest.raises(UserError, match=r"rgb of a\.mp4"):
        store.frames(store.videos[0], "rgb", [0, 1], out=room)
    assert not room.any()


def test_sound_is_what_plain_h5py_gives(store):
    with h5py.File(store.path) as file:
        expected = file[f"videos/{store.videos[0].content}/audio/data"][:]
    for start, stop in ((0, 48), (5, 9), (47, 48), (-3, 7), (40, 99)):
        np.testing.assert_array_equal(store.mel(store.videos[0], start, stop), expected[max(start, 0) : stop])


def forge(store: Store, **columns: int) -> Store:
    """The store with other numbers in the first row of its index."""
    with h5py.File(store.path, "r+") as file:
        for name, value in columns.items():
            file[f"index/{name}"][0] = value
    write_seal(store.path)
    return Store(store.path)


def read_all(store: Store) -> None:
    video = store.videos[0]
    for stream in ("rgb", "flow"):
        store.frames(video, stream, range(5))
    store.mel(video, 0, 16)


FAR = 2**62
FORGED = [
    *({f"at_{name}": FAR} for name in ("rgb_data", "rgb_ends", "flow_data", "flow_ends", "audio_data")),
    {"at_rgb_data": 2**63 - 1},
    {"at_rgb_data": 0},
    {"at_rgb_ends": 0},
    {"at_flow_ends": 3},
    {"at_rgb_data": 600},
    {"bytes_rgb": 0},
    {"bytes_flow": 100},
    {"height": 2**40},
    {"width": 7},
    {"height": 65535, "width": 65535},
    {"frames": 2**50, "at_rgb_ends": FAR},
]


def test_an_index_that_points_to_what_is_no_frame_is_one_clear_line(store):
    good = store.path.read_bytes()
    for columns in FORGED:
        store.path.write_bytes(good)
        with pytest.raises(UserError) as caught:
            read_all(forge(store, **columns))
            pytest.fail(f"{columns} was not refused")
        assert "s.h5" in str(caught.value) and "\n" not in str(caught.value)


def test_the_place_of_another_video_is_read_as_that_video_at_worst(store):
    """Nothing tells frames of one shape apart, but nothing beyond the file is ever read."""
    other = store.videos[1]
    places = {f"at_{name}": at for name, at in other.at.items()}
    lengths = {f"bytes_{name}": size for name, size in other.bytes.items()}
    expected = store.frames(other, "rgb", [0, 1])
    forged = forge(store, **places, **lengths)
    np.testing.assert_array_equal(forged.frames(forged.videos[0], "rgb", [0, 1]), expected)
    with pytest.raises(UserError, match=r"rgb of a\.mp4"):
        forged.frames(forged.videos[0], "rgb", [0, 11])


def overwrite(store: Store, stream: str, change) -> Store:
    with h5py.File(store.path, "r+") as file:
        group = file[f"videos/{store.videos[0].content}/{stream}"]
        data, ends = group["data"][:], group["ends"][:]
        change(data, ends)
        group["data"][:], group["ends"][:] = data, ends
    write_seal(store.path)
    return Store(store.path)


def _size_of(data: np.ndarray, begin: int) -> int:
    """Where the height stands in the first JPEG's header."""
    at = begin + 2
    while data[at + 1] not in (0xC0, 0xC1, 0xC2):
        at += 2 + int(data[at + 2]) * 256 + int(data[at + 3])
    return at + 5


def _huge(frame: int):
    def change(data, ends):
        at = _size_of(data, ends[frame])
        data[at : at + 4] = 255

    return change


def _set(where: str, index, value):
    def change(data, ends):
        (data if where == "data" else ends)[index] = value

    return change


HOSTILE = {
    "the first frame claims 65535×65535 pixels": _huge(0),
    "a later frame claims 65535×65535 pixels": _huge(3),
    "zeros": _set("data", slice(None), 0),
    "no JPEG at the start": _set("data", 0, 0),
    "a segment that never ends": _set("data", slice(4, 6), 255),
    "a segment of no length": _set("data", slice(4, 6), 0),
    "ends that fall": _set("ends", 2, 1),
    "ends below zero": _set("ends", 0, -5),
    "ends beyond the data": _set("ends", 5, 2**40),
    "an empty frame": lambda data, ends: ends.__setitem__(2, ends[1]),
    "a frame of four bytes": lambda data, ends: ends.__setitem__(2, ends[1] + 4),
}


@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_a_frame_that_is_not_what_it_should_be_is_one_clear_line(store, stream):
    good = store.path.read_bytes()
    for kind, change in HOSTILE.items():
        store.path.write_bytes(good)
        with pytest.raises(UserError, match=rf"s\.h5: {stream} of a\.mp4") as caught:
            read_all(overwrite(store, stream, change))
            pytest.fail(f"{kind} was not refused")
        assert "\n" not in str(caught.value)


def test_index_and_headers_that_agree_on_a_giant_picture_are_one_clear_line(store):
    def change(data, ends):
        for frame in range(12):
            _huge(frame)(data, ends)

    giant = forge(overwrite(store, "rgb", change), height=65535, width=65535)
    with pytest.raises(UserError, match=r"rgb of a\.mp4"):
        giant.frames(giant.videos[0], "rgb", [0])


def test_whatever_bytes_a_store_holds_they_are_frames_of_its_size_or_one_clear_line(store):
    rng, good = np.random.default_rng(0), store.path.read_bytes()
    for number in range(40):

        def change(data, ends, most=(200, None)[number % 2]):  # in the first frame's headers, or anywhere
            data[rng.integers(0, most or len(data), 5)] = rng.integers(0, 256, 5)

        store.path.write_bytes(good)
        hostile = overwrite(store, "rgb", change)
        try:
            assert hostile.frames(hostile.videos[0], "rgb", range(12)).shape == (12, HEIGHT, WIDTH, 3)
        except UserError as error:
            assert "\n" not in str(error)


def test_a_video_that_claims_flow_and_has_one_frame_is_refused(store):
    video = replace(store.videos[2], frames=1)
    with pytest.raises((UserError, IndexError)):
        store.frames(video, "flow", [0])
