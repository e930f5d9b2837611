"""Verify a store: every byte, every checksum, every count.

    python -m preprocess.check out.h5             # as fast as the disk
    python -m preprocess.check out.h5 --decode    # and decode every frame

Each file's seal shows whether any of its bits has changed; the checksums of the streams show which videos are
affected. To repair a store, remove the damaged shard, or a damaged out.h5, and run the same extraction again: only
its videos are extracted anew.
"""

from preprocess.common.stopping import stop_at_once

if __name__ == "__main__":
    stop_at_once()

import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path
from time import monotonic
from typing import Annotated

import numpy as np
import tyro

from preprocess.common.command import available_cores, parse_command, run_command
from preprocess.common.console import human_bytes, plural, progress
from preprocess.common.errors import UserError, at_least, one_line
from preprocess.info import total_bytes
from preprocess.store import Store, safe_hdf5
from preprocess.store.codec import check_jpegs
from preprocess.store.index import Video
from preprocess.store.kinds import Pictures
from preprocess.store.reader import stream_datasets
from preprocess.store.seal import COPY_BLOCK, Broken, new_hasher, verify
from preprocess.workers.pool import Failure, WorkerLimits, supervise
from preprocess.workers.worker import Heartbeat

BATCH = 64  # videos that one job checks
CONTAINMENT = WorkerLimits(stall_seconds=120.0, memory_mb=16_000)  # a slow disk makes reading slow


@dataclass(frozen=True)
class CheckSettings:
    """The command line of preprocess.check."""

    store: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="STORE")]
    """the store, for instance out.h5"""
    decode: bool = False
    """decode every frame, instead of checking only its place and its size"""
    workers: int = field(default_factory=available_cores)
    """files and videos that are checked at the same time; the default is one for each core"""


@dataclass(frozen=True)
class Rows:
    """A job: check some videos of the store."""

    rows: range


@dataclass(frozen=True)
class Members:
    """A job: compare the videos in one file of the store with the index."""

    number: int  # in Store.files()


@dataclass(frozen=True)
class Opening:
    """A job: open the store's own file, which is damaged."""


Job = Rows | Members | Opening


def check(path: Path, *, decode: bool = False, workers: int = 1) -> Iterator[str]:
    """The problems of a store, a line each; none if it is as it was written.

    Raises UserError if there is no store, or one that no run of this program wrote.
    """
    work = partial(_work, path, decode)
    damages = _check_file(path) if path.is_file() else []
    yield from damages
    if damages:  # HDF5 may end the process that reads such a file, or never come back
        problems = list(_contained([Opening()], work, workers=1, show=lambda _: str(path)))
        if problems:
            yield from problems
            return
    store = Store(path)
    with ThreadPoolExecutor(workers) as threads:
        files = threads.map(_check_file, store.shards, store.digests)
        for problems in progress(files, total=len(store.shards), unit="file", name="check files"):
            yield from problems
    jobs: list[Job] = [Members(number) for number in range(len(store.files()))]
    jobs += [Rows(range(begin, min(begin + BATCH, len(store)))) for begin in range(0, len(store), BATCH)]
    bar = progress(jobs, unit="batch", name="check videos")
    yield from _contained(bar, work, workers=workers, show=partial(_show, store))


def check_members(store: Store, number: int) -> list[str]:
    """Differences between the videos that a file holds and those that the index lists for it."""
    path = store.files()[number]
    if not path.is_file():
        return []
    shard = number if number < len(store.shards) else -1
    known = {content.decode() for content in store.columns["content"][store.columns["shard"] == shard].tolist()}
    try:
        with safe_hdf5.open_file(path) as file:
            there = set(safe_hdf5.group(file, "videos"))
    except (safe_hdf5.UnsafeFile, *safe_hdf5.ERRORS) as error:
        return [f"{path}: {error}"]
    if there == known:
        return []
    return [f"{path}: holds {len(there - known)} videos that are not in the index, and misses {len(known - there)}"]


def check_video(store: Store, video: Video, *, decode: bool) -> Iterator[str]:
    """The problems of one video's streams."""
    try:
        group = store.group(video)
        there = set(group)
    except (UserError, *safe_hdf5.ERRORS) as error:
        yield f"{one_line(video.path)}: {error}"
        return
    if not there.issubset(store.kinds):
        yield f"{one_line(video.path)}: holds more than its streams"
    for stream in store.kinds:
        try:
            if video.streams[stream] != (stream in there):
                raise safe_hdf5.UnsafeFile("it is there and should not be" if stream in there else "it is not there")
            if video.streams[stream]:
                _check_stream(group, store, video, stream, decode=decode)
        except (safe_hdf5.UnsafeFile, *safe_hdf5.ERRORS) as error:
            yield f"{stream} of {one_line(video.path)}: {error}"


def _check_stream(group, store: Store, video: Video, stream: str, *, decode: bool) -> None:
    found, hasher = safe_hdf5.group(group, stream), new_hasher()
    datasets = stream_datasets(group, video, stream, store.parameters)
    kind = store.kinds[stream]
    if isinstance(kind, Pictures):
        _check_pictures(datasets["data"], datasets["ends"][:], hasher, video, kind, decode=decode)
    else:
        _check_numbers(datasets["data"], hasher)
    if any(video.at.get(f"{stream}_{name}") != data.id.get_offset() for name, data in datasets.items()):
        raise safe_hdf5.UnsafeFile("it lies elsewhere than the index says")
    if hasher.hexdigest() != safe_hdf5.attribute(found, "checksum"):
        raise safe_hdf5.UnsafeFile("its bytes are not those that were written")
    if set(found) != set(datasets) or sum(data.nbytes for data in datasets.values()) != video.bytes[stream]:
        raise safe_hdf5.UnsafeFile("it holds more or less than the index says")


def _check_pictures(data, ends: np.ndarray, hasher, video: Video, kind: Pictures, *, decode: bool) -> None:
    if ends[0] != 0 or ends[-1] != len(data) or (np.diff(ends) < 4).any():
        raise safe_hdf5.UnsafeFile("frames begin and end where they cannot")
    begin = 0
    while begin < len(ends) - 1:  # a few frames at a time: a video may be long
        end = max(begin + 1, int(np.searchsorted(ends, ends[begin] + COPY_BLOCK, side="right")) - 1)
        jpegs = data[ends[begin] : ends[end]]
        hasher.update(jpegs)
        _check_jpegs(jpegs, ends[begin : end + 1] - ends[begin], video, kind, decode=decode)
        begin = end
    hasher.update(ends)


def _check_jpegs(jpegs: np.ndarray, ends: np.ndarray, video: Video, kind: Pictures, *, decode: bool) -> None:
    check_jpegs(jpegs, ends, kind.size(video.height, video.width))
    lasts = ends[1:] - 2
    if (jpegs[lasts] != 0xFF).any() or (jpegs[lasts + 1] != 0xD9).any():
        raise safe_hdf5.UnsafeFile("a frame does not end")
    for begin, end in pairwise(ends) if decode else ():
        kind.decode(jpegs[begin:end])


def _check_numbers(data, hasher) -> None:
    step = max(1, COPY_BLOCK // max(1, data.shape[1] * data.dtype.itemsize))
    for begin in range(0, len(data), step):
        block = np.ascontiguousarray(data[begin : begin + step])
        hasher.update(block)
        if not np.isfinite(block).all():
            raise safe_hdf5.UnsafeFile("it holds what is no number")


def _check_file(path: Path, digest: str | None = None) -> list[str]:
    try:
        seal = verify(path)
    except FileNotFoundError:
        return [f"{path}: is missing"]
    except (Broken, OSError) as error:
        return [f"{path}: {error}"]
    return [] if digest in (None, seal.digest) else [f"{path}: is not the file that the store means"]


def _contained(
    jobs: Iterable[Job], work: Callable[[Job, Heartbeat], list[str]], *, workers: int, show: Callable[[Job], str]
) -> Iterator[str]:
    """Problems that jobs find in worker processes; a job that ends its process is a problem itself.

    If a batch ends its process, each of its videos is checked alone, to find which one did. `show` names a job.
    """
    alone: list[Job] = []
    for job, found in supervise(jobs, work, workers=workers, worker_limits=CONTAINMENT, limit_address_space=False):
        if not isinstance(found, Failure):
            yield from found
        elif isinstance(job, Rows) and len(job.rows) > 1:
            alone += [Rows(range(row, row + 1)) for row in job.rows]
        else:
            yield f"{show(job)}: cannot be read ({found.reason.replace('decoding', 'reading')})"
    if alone:
        yield from _contained(alone, work, workers=workers, show=show)


def _show(store: Store, job: Job) -> str:
    """The name of a job for people: its file, or its first video."""
    if isinstance(job, Rows):
        return one_line(store.columns["path"][job.rows[0]])
    return str(store.files()[job.number] if isinstance(job, Members) else store.path)


def _work(path: Path, decode: bool, job: Job, heartbeat: Heartbeat) -> list[str]:
    """Do a job, in a worker process."""
    try:
        store = _store(path)
    except UserError as error:
        return [str(error)]
    if isinstance(job, Members):
        return check_members(store, job.number)
    problems, seconds = [], 0.0
    for row in job.rows if isinstance(job, Rows) else ():
        video = store.videos[row]
        problems += check_video(store, video, decode=decode)
        seconds += video.seconds
        heartbeat.beat(seconds)
    return problems


@lru_cache(maxsize=1)
def _store(path: Path) -> Store:
    """The store; each worker opens it once."""
    return Store(path)


def main(settings: CheckSettings | None = None) -> int:
    settings = settings or parse_command(CheckSettings, prog="python -m preprocess.check", doc=__doc__)
    at_least(1, workers=settings.workers)
    begun, count = monotonic(), 0
    for problem in check(settings.store, decode=settings.decode, workers=settings.workers):
        count += 1
        print(f"damaged: {one_line(problem)}")
    if count:
        print(f"error: {settings.store} is damaged: {plural(count, 'problem')}", file=sys.stderr)
        return 1
    store, took = Store(settings.store), monotonic() - begun
    size = total_bytes(store)
    files = plural(len(store.files()), "file")
    speed = f"{human_bytes(size)}, {human_bytes(size / took)}/s"
    print(f"{store.path} is whole: {plural(len(store), 'video')}, {files}, {speed}")
    return 0


if __name__ == "__main__":
    run_command(main)
