"""Damage of any kind is found, and said with the names of the file and the video."""

import ctypes
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest

from preprocess import check as module
from preprocess.check import Members, Rows, check
from preprocess.common.errors import UserError
from preprocess.merge import merge
from preprocess.store import Store
from preprocess.store.seal import stream_checksum, write_seal
from preprocess.workers.pool import WorkerLimits
from tests.robustness import flips
from tests.support.commands import assert_one_line_error, environment, run
from tests.support.stores import make_store, three_bit


@pytest.fixture(scope="session")
def whole(tmp_path_factory) -> Path:
    """A store of eight videos, in shards and its own file. Nobody may change it."""
    return flips.write_store(tmp_path_factory.mktemp("whole") / "good")


@pytest.fixture
def store(whole, tmp_path) -> Store:
    """The same, to be changed."""
    return Store(shutil.copytree(whole.parent, tmp_path / "store") / whole.name)


def video_of(store: Store, shard: int):
    """A video that lies in that shard."""
    return next(video for video in store.videos if video.shard == shard)


def reseal(path: Path) -> Path:
    """Seal a file that was changed; in a shard's case under its new name, as the store does not know it."""
    write_seal(path)
    return path


def test_an_intact_store_gives_nothing_and_says_that_it_is_whole(whole):
    assert list(check(whole)) == []
    assert list(check(whole, decode=True, workers=2)) == []
    result = run("preprocess.check", whole, "--decode")
    assert result.returncode == 0, result.stderr
    assert "out.h5" in result.stdout and "8 videos" in result.stdout


def test_what_an_extraction_has_made_is_whole(extracted, undisturbed):
    assert list(check(extracted.store, decode=True)) == []
    assert list(check(undisturbed)) == []


@pytest.mark.slow
def test_every_one_of_200_flipped_bits_is_found_and_named_wherever_it_lies(whole, tmp_path):
    """Half of them anywhere, half in the seals and in what HDF5 notes for itself. tests.robustness.flips has more."""
    found = flips.run_flips(whole, tmp_path, 200, seed=1, workers=2)
    assert found["wrong"] == []
    assert found["found"] == found["flips"] == 200
    assert found["in_streams"] > 20


@pytest.mark.parametrize(
    "where",
    ["in a stream", *(pytest.param(f"in the {p}", marks=pytest.mark.slow) for p in ("index", "seal", "superblock"))],
)
def test_a_flipped_bit_ends_the_command_with_status_1_and_lines_that_name_file_and_video(store, where):
    video = video_of(store, 0)
    with h5py.File(store.shards[0]) as file:
        stream = file[f"videos/{video.content}/rgb/data"].id.get_offset()
    with h5py.File(store.path) as file:
        index = file["index/frames"].id.get_offset()
    file, byte = {
        "in a stream": (store.shards[0], stream + 1000),
        "in the index": (store.path, index),
        "in the seal": (store.path, 20),
        "in the superblock": (store.path, 512 + 1),
    }[where]
    flips.flip_bit(file, byte, 0)
    result = run("preprocess.check", store.path)
    lines = result.stdout.splitlines()
    assert result.returncode == 1, result.stderr
    assert all(line.startswith("damaged: ") for line in lines)
    assert any(str(file) in line for line in lines)
    if where != "in the index":  # its first row may be this video's, whose frames are then too many for their bytes
        assert any(f"rgb of {video.path}: " in line for line in lines) == (where == "in a stream")
    assert "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith(f"error: {store.path} ")


def test_a_missing_shard_is_named_and_so_are_its_videos(store):
    store.shards[0].unlink()
    problems = list(check(store.path))
    assert problems[0].startswith(f"{store.shards[0]}: ")
    hurt = {video.path for video in store.videos if video.shard == 0}
    assert {path for path in hurt if any(path in problem for problem in problems[1:])} == hurt


def test_shards_that_have_changed_places_are_both_named(store):
    first, second = store.shards
    aside = first.with_name("aside")
    first.rename(aside)
    second.rename(first)
    aside.rename(second)
    problems = list(check(store.path))
    assert all(any(problem.startswith(f"{shard}: ") for problem in problems) for shard in (first, second))


@pytest.mark.parametrize(("which", "change"), [("store", -1), ("store", 4096), ("shard", -5000), ("shard", 1)])
def test_a_file_that_is_shorter_or_longer_is_named(store, which, change):
    path = store.path if which == "store" else store.shards[1]
    size = path.stat().st_size
    os.truncate(path, size + change)
    problems = list(check(store.path))
    assert problems[0].startswith(f"{path}: ") and str(size + change) in problems[0] and str(size) in problems[0]


def test_a_store_of_another_extraction_beside_the_shards_is_told(store, tmp_path):
    """The store's own file from one folder, its shards from another."""
    make_store(tmp_path / "a.h5", three_bit(8, frames=7))
    (tmp_path / "other").mkdir()
    other = merge([tmp_path / "a.h5"], tmp_path / "other" / "out.h5", shard_bytes=30_000)
    shutil.copy(other.path, store.path)
    missing = [store.path.with_name("out.h5.shards") / path.name for path in other.shards]
    for path, problem in zip(missing, check(store.path), strict=False):
        assert problem.startswith(f"{path}: ")


def copy_stream(file: h5py.File, source, target, stream: str, *, checksum: bool) -> None:
    """Put one video's stream in the place of another's, with its checksum or the old one."""
    old = file[f"videos/{target.content}/{stream}"].attrs["checksum"]
    del file[f"videos/{target.content}/{stream}"]
    file.copy(f"videos/{source.content}/{stream}", f"videos/{target.content}/{stream}")
    if not checksum:
        file[f"videos/{target.content}/{stream}"].attrs["checksum"] = old


@pytest.mark.parametrize(("stream", "checksum"), [("rgb", True), ("flow", False), ("audio", True)])
def test_a_stream_replaced_by_a_valid_one_is_found_by_its_checksum_or_its_counts(tmp_path, stream, checksum):
    store = make_store(tmp_path / "out.h5", three_bit(2, frames=6) + three_bit(2, prefix="w", frames=8))
    longer = next(video for video in store.videos if video.frames == 8)
    shorter = next(video for video in store.videos if video.frames == 6)
    with h5py.File(store.path, "r+") as file:
        copy_stream(file, longer, shorter, stream, checksum=checksum)
    reseal(store.path)
    problems = list(check(store.path))
    assert len(problems) == 1
    assert problems[0].startswith(f"{stream} of {shorter.path}: ")


def test_a_stream_of_the_same_length_under_the_old_checksum_is_found(tmp_path):
    store = make_store(tmp_path / "out.h5", three_bit(4, frames=6))
    first, second = store.videos[:2]
    with h5py.File(store.path, "r+") as file:
        copy_stream(file, first, second, "audio", checksum=False)
    reseal(store.path)
    (problem,) = check(store.path)
    assert problem.startswith(f"audio of {second.path}: ")


def test_a_replaced_stream_in_a_shard_is_found_whatever_its_own_seal_says(store):
    """The store knows the seals of its shards."""
    first, second = [video for video in store.videos if video.shard == 0][:2]
    with h5py.File(store.shards[0], "r+") as file:
        copy_stream(file, first, second, "rgb", checksum=True)
    reseal(store.shards[0])
    assert any(problem.startswith(f"{store.shards[0]}: ") for problem in check(store.path))


def change_video(path: Path, change) -> list[str]:
    """What is wrong after a change to the first video's group."""
    store = make_store(path, three_bit(2, frames=6))
    with h5py.File(path, "r+") as file:
        change(file[f"videos/{store.videos[0].content}"])
    reseal(path)
    return list(check(path, decode=True))


def with_checksum(group: h5py.Group) -> None:
    group.attrs["checksum"] = np.bytes_(stream_checksum(group))


def broken_picture(group: h5py.Group) -> None:
    """A picture whose headers are in order and whose pixels are missing."""
    data = group["rgb/data"][:]
    scan = data.tobytes().index(b"\xff\xda")
    data[scan : group["rgb/ends"][1] - 2] = 0
    group["rgb/data"][:] = data
    with_checksum(group["rgb"])


def no_number(group: h5py.Group) -> None:
    group["audio/data"][3, 4] = np.nan
    with_checksum(group["audio"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda group: group.pop("rgb"), "rgb of 000/v000.mp4: "),
        (lambda group: group["rgb"].attrs.pop("checksum"), "checksum"),
        (lambda group: group.create_group("smell"), "000/v000.mp4: "),
        (lambda group: group["rgb"].create_dataset("more", data=[1]), "rgb of 000/v000.mp4: "),
        (broken_picture, "rgb of 000/v000.mp4: "),
        (no_number, "audio of 000/v000.mp4: "),
    ],
)
def test_what_contradicts_the_index_is_said(tmp_path, change, says):
    problems = change_video(tmp_path / "out.h5", change)
    assert len(problems) == 1 and says in problems[0]


def test_videos_that_no_row_of_the_index_means_are_counted(tmp_path):
    store = make_store(tmp_path / "out.h5", three_bit(2))
    with h5py.File(store.path, "r+") as file:
        file.copy(f"videos/{store.videos[0].content}", "videos/" + "0" * 32)
    reseal(store.path)
    (problem,) = check(store.path)
    assert problem.startswith(f"{store.path}: ") and "1 video" in problem


def test_long_streams_are_looked_at_block_by_block(whole, monkeypatch):
    """Blocks smaller than a frame, and than a row of sound."""
    monkeypatch.setattr(module, "COPY_BLOCK", 1)
    store = Store(whole)
    assert [problem for video in store.videos for problem in module.check_video(store, video, decode=True)] == []


def deadly(row: int, way: str, job: Rows | Members, heartbeat) -> list[str]:
    """Stands in for what HDF5 may do to a process."""
    if isinstance(job, Rows) and row in job.rows:
        if way == "crash":
            os.kill(os.getpid(), 11)
        ctypes.PyDLL(None).sleep(1000)
    return [f"looked at {number}" for number in job.rows]


@pytest.mark.slow
@pytest.mark.parametrize("way", ["crash", "hang"])
def test_a_video_whose_reading_ends_or_stops_the_process_is_told_and_the_others_are_looked_at(monkeypatch, way):
    monkeypatch.setattr(module, "CONTAINMENT", WorkerLimits(stall_seconds=1.0))
    work = partial(deadly, 2, way)
    jobs = [Rows(range(4)), Rows(range(4, 6))]
    problems = list(module._contained(jobs, work, workers=2, show=lambda job: f"video {job.rows[0]}"))
    (told,) = [problem for problem in problems if not problem.startswith("looked at")]
    assert told.startswith("video 2: ") and {"crash": "crashed: ", "hang": "hang: "}[way] in told
    assert sorted(set(problems) - {told}) == [f"looked at {number}" for number in (0, 1, 3, 4, 5)]


def test_what_is_no_store_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"gone\.h5"):
        list(check(tmp_path / "gone.h5"))
    assert_one_line_error(run("preprocess.check", tmp_path / "gone.h5"), "gone.h5")


def test_the_command_is_fast_for_it_loads_no_decoder(whole):
    code = """
import sys
from pathlib import Path
from preprocess.check import check
assert list(check(Path(sys.argv[1]))) == []
print([name for name in ("torch", "av", "cv2", "librosa", "numba", "scipy") if name in sys.modules])
"""
    command = [sys.executable, "-c", code, str(whole)]
    result = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60)
    assert result.stdout.strip() == "[]", result.stderr
