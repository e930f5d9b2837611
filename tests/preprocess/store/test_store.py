"""The store: complete or not there, explained by itself, read by this program and by plain h5py."""

import multiprocessing
import os
import pickle
import subprocess
import sys

import cv2
import h5py
import numpy as np
import pytest

from preprocess.common.errors import UserError
from preprocess.store import Store
from preprocess.store.format import FLOW_BOUND, FLOW_ZERO, FORMAT, VERSION
from preprocess.store.seal import write_seal
from tests.preprocess.conftest import NOT_UTF8, USED
from tests.support.commands import environment
from tests.support.stores import Spec, make_store, three_bit

MOVING = "run/moving.mp4"


def read_in_a_worker(store: Store, path: str, pipe) -> None:
    video = next(video for video in store.videos if video.path == path)
    pipe.send((store.frames(video, "rgb", [0, 3]).sum(), store.mel(video, 0, 8).sum()))
    pipe.close()


def open_files(path) -> int:
    """How often this process has a file open."""
    links = (os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd"))
    return sum(os.path.exists(link) and os.path.samefile(link, path) for link in links)


def test_the_index_says_what_each_video_is(store, video):
    moving = video(MOVING)
    assert (moving.label, moving.group, moving.split) == ("run", None, None)
    assert (moving.frames, moving.height, moving.width, moving.damaged) == (12, 32, 43, 0)
    assert moving.seconds == pytest.approx(0.48)
    assert (video("run/portrait.mp4").height, video("run/portrait.mp4").width) == (43, 32)
    assert [row.path for row in store.videos] == sorted(USED)
    assert store.classes == ["jump", "run"]


def test_the_parameters_are_those_of_the_run(store):
    assert store.parameters["short_side"] == 32
    assert store.parameters["mel_bands"] == 64
    assert store.fps == store.parameters["fps"] == 25.0
    assert store.parameters["flow"]["method"] == "tv-l1"


def test_the_index_agrees_with_what_the_groups_hold(store, extracted):
    with h5py.File(extracted.store) as file:
        assert (file.attrs["format"].decode(), file.attrs["version"]) == (FORMAT, VERSION)
        assert set(file["videos"]) == {video.content for video in store.videos}
        for video in store.videos:
            group = file[f"videos/{video.content}"]
            assert set(group) == {stream for stream, there in video.streams.items() if there}
            assert len(group["rgb/ends"]) == video.frames + 1
            assert group["rgb/ends"][-1] == len(group["rgb/data"])
            if video.streams["flow"]:
                assert len(group["flow/ends"]) == video.frames
            if video.streams["audio"]:
                assert group["audio/data"].shape == (4 * video.frames, 64)
            for stream in video.streams:
                there = group[stream].values() if video.streams[stream] else []
                assert video.bytes[stream] == sum(data.nbytes for data in there)


def test_equal_files_lie_in_the_store_once(store):
    copies = [video for video in store.videos if video.path in ("jump/copy.mp4", "jump/moving.mp4", NOT_UTF8)]
    assert len(copies) == 3
    assert {store.group(video).name for video in copies} == {f"/videos/{copies[0].content}"}


def test_every_stream_of_a_video_is_one_contiguous_stretch_of_the_file(store):
    for video in store.videos:
        for stream in store.group(video).values():
            for item in stream.values():
                assert item.chunks is None and item.compression is None and not item.is_virtual
                assert item.id.get_offset() is not None


def test_a_column_of_texts_is_read_with_plain_h5py_by_splitting_at_zero_bytes(extracted, store):
    with h5py.File(extracted.store) as file:
        blob = bytes(file["index/path"][:])
        classes = bytes(file["classes"][:])
    assert blob.endswith(b"\0")
    assert [os.fsdecode(path) for path in blob.split(b"\0")[:-1]] == [video.path for video in store.videos]
    assert classes == b"jump\0run\0"


def test_flow_read_with_plain_h5py_is_in_pixels_by_its_own_attributes(extracted, store, video):
    with h5py.File(extracted.store) as file:
        flow = file[f"videos/{video(MOVING).content}/flow"]
        begin, end = flow["ends"][3:5]
        x, y = np.split(cv2.imdecode(flow["data"][begin:end], cv2.IMREAD_GRAYSCALE).astype(float), 2)
        pixels = (np.stack([x, y]) - flow.attrs["zero"]) * flow.attrs["bound"] / 127
    ours = (store.frames(video(MOVING), "flow", [3])[0].astype(float) - FLOW_ZERO) * FLOW_BOUND / 127
    np.testing.assert_allclose(pixels, ours)
    assert np.median(pixels[0, 6:-6, 8:-8]) == pytest.approx(2 * 32 / 36, abs=0.4)


def test_a_frame_beyond_the_end_is_an_error_and_not_another_frame(store, video):
    for stream, steps in (("rgb", [12]), ("rgb", [3, 40]), ("flow", [11])):
        with pytest.raises(IndexError):
            store.frames(video(MOVING), stream, steps)


def test_names_of_any_bytes_lead_to_their_videos(store, video):
    copies = [store.frames(video(path), "rgb", [4]) for path in ("jump/moving.mp4", "jump/li\nne.mp4", NOT_UTF8)]
    np.testing.assert_array_equal(copies[0], copies[1])
    np.testing.assert_array_equal(copies[0], copies[2])


def test_the_file_is_opened_at_the_first_read_and_not_before(extracted, tmp_path):
    path = tmp_path / "own.h5"  # which no other test has open
    path.write_bytes(extracted.store.read_bytes())
    store = Store(path)
    assert open_files(path) == 0
    for _ in range(3):
        store.frames(store.videos[0], "rgb", [0])
    assert open_files(path) == 1


def test_a_pickled_store_is_small_and_reads_the_same(store, video):
    expected = store.frames(video(MOVING), "rgb", [3])
    packed = pickle.dumps(store)
    assert len(packed) < 10_000
    np.testing.assert_array_equal(pickle.loads(packed).frames(video(MOVING), "rgb", [3]), expected)


@pytest.mark.parametrize("way", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_store_that_was_read_from_works_in_another_process(store, video, way):
    expected = (store.frames(video(MOVING), "rgb", [0, 3]).sum(), store.mel(video(MOVING), 0, 8).sum())
    context = multiprocessing.get_context(way)
    pipe, end = context.Pipe(duplex=False)
    process = context.Process(target=read_in_a_worker, args=(store, MOVING, end))
    process.start()
    end.close()
    assert pipe.recv() == expected
    process.join()
    assert process.exitcode == 0


def test_reading_needs_neither_a_decoder_nor_torch(extracted):
    """A training machine may lack PyAV and librosa; reading a store must not load them."""
    code = (
        "import sys; from preprocess.store import Store; s = Store(sys.argv[1]); s.frames(s.videos[-1], 'rgb', [0]);"
        "print([name for name in ('av', 'librosa', 'torch', 'torchaudio') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(extracted.store)]
    result = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_store_of_another_version_names_both_versions_and_the_release(extracted, tmp_path):
    path = tmp_path / "new.h5"
    path.write_bytes(extracted.store.read_bytes())
    with h5py.File(path, "r+") as file:
        file.attrs.modify("version", VERSION + 1)
    write_seal(path)
    with pytest.raises(UserError, match=rf"new\.h5 .*{VERSION + 1}.*{VERSION}"):
        Store(path)


def test_a_store_of_version_1_is_told_by_its_number_though_it_has_no_seal(tmp_path):
    path = tmp_path / "old.h5"
    with h5py.File(path, "w") as file:
        file.attrs.update({"format": "tristream", "version": 1, "written_by": "tristream 0.1.0"})
    with pytest.raises(UserError, match=rf"old\.h5 .*1.*{VERSION}"):
        Store(path)


def test_what_is_no_store_is_one_clear_line(extracted, tmp_path):
    path = tmp_path / "out.h5"
    for make in (
        lambda: None,
        path.touch,
        lambda: path.write_text("not a store"),
        lambda: path.write_bytes(extracted.store.read_bytes()[:-5000]),
        lambda: h5py.File(path, "w").close(),
        lambda: (path.unlink(), path.mkdir()),
    ):
        make()
        with pytest.raises(UserError, match=r"out\.h5") as caught:
            Store(path)
        assert "\n" not in str(caught.value)


def test_a_store_that_is_open_reads_on_when_its_name_comes_to_mean_another(tmp_path):
    store = make_store(tmp_path / "out.h5", three_bit(8))
    before = store.frames(store.videos[7], "rgb", [3])
    make_store(tmp_path / "other.h5", three_bit(1)).path.replace(store.path)  # a shorter file
    np.testing.assert_array_equal(store.frames(store.videos[7], "rgb", [3]), before)


def test_a_store_that_was_replaced_while_a_loader_had_it_says_so(tmp_path):
    """A worker of a loader that starts later would read other videos than the index of its parent says."""
    packed = pickle.dumps(make_store(tmp_path / "out.h5", [Spec("a.mp4")]))
    make_store(tmp_path / "out.h5", [Spec("b.mp4")])
    with pytest.raises(UserError, match=r"out\.h5"):
        pickle.loads(packed)
