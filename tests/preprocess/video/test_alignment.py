"""What a store says of any moment of any video is that moment of that video, however the store came about."""

import os
import signal
import subprocess
import time
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest

from preprocess.merge import merge
from preprocess.store import Store
from preprocess.store.seal import write_seal
from tests.support.commands import command, environment, run
from tests.support.oracle import STORED, objections, recordings

pytestmark = pytest.mark.slow
RECORDINGS = {recording.name: recording for recording in recordings()}
TWINS = ("b/A.mp4", "b/k.mp4")  # as long as each other
SMALL_SHARDS = ("--shard-size", 0.001)


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """All recordings, the files' times in no order."""
    root = tmp_path_factory.mktemp("alignment") / "videos"
    for name, recording in RECORDINGS.items():
        recording.write(root / name)
        moment = 1_600_000_000 + recording.number * 7919 % 10_007
        os.utime(root / name, (moment, moment))
    return root


@pytest.fixture(scope="module")
def parted(videos) -> tuple[Path, Path]:
    """Two stores: one that two parts made side by side, and one that was merged of two."""
    joined, *some = (videos.parent / name for name in ("joined.h5", "1.h5", "2.h5"))
    runs = [start(videos, joined, "--part", f"{k}/2") for k in (1, 2)]
    runs += [start(videos, out, "--part", f"{k}/2", "--separate") for k, out in enumerate(some, start=1)]
    for process in runs:
        said = process.communicate(timeout=170)[0]
        assert process.returncode == 0, said
    merged = videos.parent / "merged.h5"
    result = run("preprocess.merge", *some, merged, *SMALL_SHARDS)
    assert result.returncode == 0, result.stderr
    return joined, merged


@pytest.fixture(scope="module")
def whole(videos) -> Path:
    """A store that was killed twice on its way."""
    out = videos.parent / "killed.h5"
    process = start(videos, out, "--workers", 2)
    wait_for_videos(out, 1)
    os.kill(worker_of(process.pid), signal.SIGKILL)
    wait_for_videos(out, 5)
    process.kill()
    process.communicate(timeout=170)
    assert not out.exists()
    process = start(videos, out, "--workers", 2)
    said = process.communicate(timeout=170)[0]
    assert process.returncode == 0, said
    return out


def start(videos: Path, out: Path, *options: object) -> subprocess.Popen:
    return subprocess.Popen(
        command("preprocess.extract", videos, out, "--short-side", STORED, *SMALL_SHARDS, "--workers", 1, *options),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_videos(out: Path, number: int) -> None:
    journal = out.with_name(out.name + ".partial") / "journal/1-of-1.jsonl"
    end = time.monotonic() + 60
    while not (journal.exists() and journal.read_bytes().count(b"\n") >= number):
        assert time.monotonic() < end
        time.sleep(0.005)


def worker_of(parent: int) -> int:
    """A worker process of a run."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return next(int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes())


def all_objections(path: Path) -> dict[str, list[str]]:
    store = Store(path)
    assert sorted(RECORDINGS) == [video.path for video in store.videos]
    found = {video.path: objections(store, video, RECORDINGS[video.path]) for video in store.videos}
    return {name: what for name, what in found.items() if what}


def test_after_kills_every_frame_pair_and_row_is_that_of_its_video_and_its_moment(whole):
    assert len(Store(whole).shards) >= 2
    assert all_objections(whole) == {}


@pytest.mark.parametrize("way", [0, 1], ids=["parts", "merge"])
def test_made_in_parts_every_frame_pair_and_row_is_that_of_its_video_and_its_moment(parted, way):
    assert len(Store(parted[way]).shards) >= 2
    assert all_objections(parted[way]) == {}


def late(group: h5py.Group) -> None:
    """Make a stream one frame late: everything comes a frame, or four rows, after its time."""
    if "ends" not in group:
        rows = group["data"][:]
        group["data"][:] = np.concatenate([rows[:4], rows[:-4]])
        return
    ends, data = group["ends"][:], group["data"][:]
    jpegs = [data[begin:end] for begin, end in pairwise(ends)]
    jpegs = [jpegs[0], *jpegs[:-1]]
    del group["data"]
    group["data"] = np.concatenate(jpegs)
    group["ends"][:] = np.cumsum([0, *map(len, jpegs)])


def swap(file: h5py.File, stream: str, one: str, other: str) -> None:
    """Exchange a stream of two videos, and what the index knows of it."""
    rows = [list(file["index/content"][:]).index(content.encode()) for content in (one, other)]
    for name, column in file["index"].items():
        if name.startswith((f"at_{stream}_", f"bytes_{stream}")):
            values = column[:]
            values[rows] = values[rows[::-1]]
            column[:] = values
    one, other = f"videos/{one}/{stream}", f"videos/{other}/{stream}"
    file.move(one, "aside")
    file.move(other, one)
    file.move("aside", other)


@pytest.mark.parametrize("stream", ["rgb", "flow", "audio"])
@pytest.mark.parametrize("harm", ["swapped", "late"])
def test_the_oracle_objects_to_a_stream_that_is_not_where_it_belongs(whole, parted, tmp_path, stream, harm):
    store = merge([whole, parted[0]], tmp_path / "one file.h5")
    assert all_objections(store.path) == {}
    one, other = (video for video in store.videos if video.path in TWINS)
    with h5py.File(store.path, "r+") as file:
        if harm == "swapped":
            swap(file, stream, one.content, other.content)
        else:
            late(file[f"videos/{one.content}/{stream}"])
    write_seal(store.path)
    found = all_objections(store.path)
    assert list(found) == ([one.path, other.path] if harm == "swapped" else [one.path])
    # directions are the same by chance in a quarter; of the four rows of a tone two are within the tolerance
    length = {"rgb": one.frames, "flow": one.frames, "audio": 4 * one.frames}[stream]
    assert len(found[one.path]) > length / 3
