"""The store: complete or not there, explained by itself, read by this program and by plain h5py."""

import json
import multiprocessing
import os
import pickle
import re
import subprocess
import sys
from itertools import pairwise

import cv2
import h5py
import numpy as np
import pytest

from preprocess.catalog import Source
from preprocess.encode import FLOW_BOUND, FLOW_ZERO
from preprocess.errors import UserError
from preprocess.piece import PieceSettings, extract_piece
from preprocess.stopwatch import Stopwatch
from preprocess.store import FORMAT, VERSION, Rejected, Store, Video, write_index
from preprocess.writer import StoreWriter
from tests.preprocess.commands import ROOT, environment
from tests.preprocess.conftest import FLASH, NOT_UTF8, USED
from tests.videos import drift, write_video

MOVING = "run/moving.mp4"
STREAMS = ("rgb", "flow", "audio")
README = ROOT / "README.md"


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


def test_equal_files_have_equal_content_and_others_do_not(video):
    assert video("jump/copy.mp4").content == video("jump/moving.mp4").content == video(NOT_UTF8).content
    assert video("jump/copy.mp4").content != video(MOVING).content


def test_the_parameters_are_those_of_the_run(store):
    assert store.parameters["short_side"] == 32
    assert store.parameters["mel_bands"] == 64
    assert store.fps == store.parameters["fps"] == 25.0
    assert store.parameters["flow"]["method"] == "tv-l1"


def test_the_index_agrees_with_what_the_groups_hold(store, extracted):
    with h5py.File(extracted.store) as file:
        assert (file.attrs["format"], file.attrs["version"]) == (FORMAT, VERSION)
        for video in store.videos:
            group = file[f"videos/{video.path}".encode("utf-8", "surrogateescape")]
            assert set(group) == {stream for stream, there in video.streams.items() if there}
            assert group.attrs["frames"] == video.frames
            assert len(group["rgb/ends"]) == video.frames + 1
            assert group["rgb/ends"][-1] == len(group["rgb/data"])
            if video.streams["flow"]:
                assert len(group["flow/ends"]) == video.frames
            if video.streams["audio"]:
                assert group["audio/data"].shape == (4 * video.frames, 64)
            for stream in video.why:
                assert group.attrs[f"why_no_{stream}"] == video.why[stream]


def test_every_stream_of_a_video_is_one_contiguous_stretch_of_the_file(store):
    for video in store.videos:
        for stream in store.group(video).values():
            for item in stream.values():
                assert item.chunks is None and item.compression is None and not item.is_virtual
                assert item.id.get_offset() is not None


def test_a_clip_is_five_lines_of_plain_h5py(extracted, store, video):
    with h5py.File(extracted.store) as file:
        clip = file["videos/run/moving.mp4"]
        data, ends = clip["rgb/data"], clip["rgb/ends"][2:7]
        frames = [cv2.imdecode(data[a:b], cv2.IMREAD_COLOR)[..., ::-1] for a, b in pairwise(ends)]
        sound = clip["audio/data"][4 * 2 : 4 * 6]
    np.testing.assert_array_equal(np.stack(frames), store.frames(video(MOVING), "rgb", [2, 3, 4, 5]))
    np.testing.assert_array_equal(sound, store.mel(video(MOVING), 8, 24))


def test_the_readmes_five_lines_read_a_clip(tmp_path, monkeypatch):
    (code,) = (
        block for block in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL) if "h5py.File(" in block
    )
    path = re.search(r'\["videos/(.+?)"\]', code)[1]
    file = write_video(tmp_path / "a.mkv", drift(20), codec="ffv1")
    with StoreWriter(tmp_path / "out.h5", overwrite=False) as writer:
        piece = writer.folder / "0.piece"
        settings = PieceSettings(short_side=32)
        writer.add(piece, extract_piece(Source(str(file), path, "run", None, None), piece, settings, Stopwatch()))
        writer.publish(parameters=settings.parameters(), notes=[])
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(code, names)
    assert len([line for line in code.splitlines() if not line.startswith("import")]) <= 5
    store = Store("out.h5")
    ours = store.frames(store.videos[0], "rgb", range(16))
    np.testing.assert_array_equal(np.stack(names["clip"])[..., ::-1], ours)
    names["video"].file.close()


def test_flow_read_with_plain_h5py_is_in_pixels_by_its_own_attributes(extracted, store, video):
    with h5py.File(extracted.store) as file:
        flow = file["videos/run/moving.mp4/flow"]
        begin, end = flow["ends"][3:5]
        x, y = np.split(cv2.imdecode(flow["data"][begin:end], cv2.IMREAD_GRAYSCALE).astype(float), 2)
        pixels = (np.stack([x, y], -1) - flow.attrs["zero"]) * flow.attrs["bound"] / 127
    ours = (store.frames(video(MOVING), "flow", [3])[0].astype(float) - FLOW_ZERO) * FLOW_BOUND / 127
    np.testing.assert_allclose(pixels, ours)
    assert np.median(pixels[6:-6, 8:-8, 0]) == pytest.approx(2 * 32 / 36, abs=0.4)


@pytest.mark.parametrize("steps", [[0], [11], [0, 1, 2], [1, 4, 9], [5, 5, 5], [0, 11], np.arange(3, 9, 2)])
def test_frames_come_in_the_order_and_number_asked_for(store, video, steps):
    whole = store.frames(video(MOVING), "rgb", range(12))
    np.testing.assert_array_equal(store.frames(video(MOVING), "rgb", steps), whole[np.array(steps)])


@pytest.mark.parametrize(("stream", "steps"), [("rgb", [12]), ("rgb", [3, 40]), ("flow", [11])])
def test_a_frame_beyond_the_end_is_an_error_and_not_another_frame(store, video, stream, steps):
    with pytest.raises(IndexError):
        store.frames(video(MOVING), stream, steps)


def test_shapes_and_types_are_as_the_reader_says(store, video):
    flash = video(FLASH)
    assert store.frames(flash, "rgb", [0, 1]).shape == (2, 32, 43, 3)
    assert store.frames(flash, "flow", [0, 1]).shape == (2, 32, 43, 2)
    assert store.frames(flash, "flow", [0]).dtype == np.uint8
    assert store.mel(flash, 4, 20).shape == (16, 64)
    assert store.mel(flash, 4, 20).dtype == np.float16
    assert store.stream_bytes(flash, "audio") == 4 * 15 * 64 * 2
    assert store.stream_bytes(video("jump/moving.mp4"), "audio") == 0


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


def rewrite(source, target, change) -> str:
    target.write_bytes(source.read_bytes())
    with h5py.File(target, "r+") as file:
        change(file)
    return target


def test_a_store_of_another_version_names_both_versions_and_the_release(extracted, tmp_path):
    path = rewrite(extracted.store, tmp_path / "new.h5", lambda file: file.attrs.modify("version", VERSION + 1))
    with pytest.raises(UserError, match=rf"new\.h5 is a store of version {VERSION + 1}, .* reads version {VERSION}"):
        Store(path)


@pytest.mark.parametrize("kind", ["missing", "a folder", "text", "empty", "cut", "another program's HDF5"])
def test_what_is_no_store_is_one_clear_line(extracted, tmp_path, kind):
    path = tmp_path / "out.h5"
    if kind == "a folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("not a store")
    elif kind == "empty":
        path.touch()
    elif kind == "cut":
        path.write_bytes(extracted.store.read_bytes()[:-5000])
    elif kind == "another program's HDF5":
        h5py.File(path, "w").close()
    with pytest.raises(UserError, match=r"out\.h5") as caught:
        Store(path)
    assert "\n" not in str(caught.value)
    assert "extract" in str(caught.value)


def test_an_index_survives_writing_and_reading(tmp_path):
    none = dict.fromkeys(STREAMS, False)
    videos = [
        Video("b/ü \udcff.mp4", "b\udce9", "g", "train", 1.5, 37, 32, 43, "0f", 2, dict.fromkeys(STREAMS, True)),
        Video("a.mp4", None, None, None, 1 / 3, 1, 1, 2, "", 0, none, dict.fromkeys(STREAMS, "?")),
    ]
    rejected = [Rejected("z.mp4", "corrupt: " + "x" * 300), Rejected("c\n.mp4", "größer")]
    with h5py.File(tmp_path / "out.h5", "w") as file:
        write_index(file, videos, rejected, parameters={"fps": 30.0, "note": "ü"}, notes=["one", "two \udcfe"])
    store = Store(tmp_path / "out.h5")
    assert store.videos == videos[::-1]
    assert store.rejected == rejected[::-1]
    assert store.classes == ["b\udce9"]
    assert store.notes == ["one", "two \udcfe"]
    assert store.parameters == json.loads(json.dumps({"fps": 30.0, "note": "ü"}))


def test_a_store_of_unlabelled_videos_alone_has_no_classes(tmp_path):
    video = Video("a.mp4", None, None, None, 1.0, 25, 32, 43, "0f", 0, dict.fromkeys(STREAMS, True))
    with h5py.File(tmp_path / "out.h5", "w") as file:
        write_index(file, [video], [], parameters={"fps": 25.0}, notes=[])
    store = Store(tmp_path / "out.h5")
    assert (store.classes, store.rejected, store.notes, store.videos) == ([], [], [], [video])
