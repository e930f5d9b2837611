"""Verify a store: every byte, every checksum, every count.

    python -m preprocess.check out.h5             # as fast as the disk
    python -m preprocess.check out.h5 --decode    # and decode every frame

Each file's seal tells whether any bit of it has changed, wherever it lies; the streams' own checksums tell which videos
that has hurt. To mend a store, remove the damaged shard, or a damaged out.h5, and run the same extraction again: only
what was in it is done anew.
"""

import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from time import monotonic
from typing import Annotated

import numpy as np
import tyro

from preprocess import guard
from preprocess.checksum import stream_checksum
from preprocess.command import available_cores, parse_command, run_command
from preprocess.encode import check_jpegs, decode_flow, decode_rgb, frame_count
from preprocess.errors import UserError, at_least, one_line
from preprocess.index import STREAMS, Video
from preprocess.info import total_bytes
from preprocess.progress import progress
from preprocess.seal import Broken, verify
from preprocess.store import Store, frame_datasets, mel_dataset
from preprocess.table import human_bytes, plural

BATCH = 64  # videos that are looked at together


@dataclass(frozen=True)
class CheckSettings:
    """The command line of preprocess.check."""

    store: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="STORE")]
    """the store, for instance out.h5"""
    decode: bool = False
    """decode every frame, instead of looking at where it begins and ends and at its size"""
    workers: int = field(default_factory=available_cores)
    """files and videos that are looked at at the same time; the default is one for each core"""


def check(path: Path, *, decode: bool = False, workers: int = 1) -> Iterator[str]:
    """What is wrong with a store, a line each; nothing if it is as it was written.

    Raises UserError if there is no store, or it is so damaged that its index cannot be read.
    """
    if path.is_file():
        yield from _check_file(path)
    store = Store(path)
    with ThreadPoolExecutor(workers) as threads:
        for problems in threads.map(_check_file, store.shards, store.digests):
            yield from problems
    # HDF5 may end the process that reads a damaged file
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        batches = [range(begin, min(begin + BATCH, len(store))) for begin in range(0, len(store), BATCH)]
        try:
            yield from pool.submit(check_members, store).result()
            found = pool.map(partial(_check_rows, store, decode), batches)
            for problems in progress(found, total=len(batches), unit="batch", name="check"):
                yield from problems
        except BrokenProcessPool:
            yield f"{path}: reading its videos ends the process"


def check_members(store: Store) -> list[str]:
    """What is wrong between the videos that the index knows and those that are in the files."""
    problems = []
    contents_of = [set() for _ in store.files()]
    for content, shard in zip(store.columns["content"].tolist(), store.columns["shard"].tolist(), strict=True):
        contents_of[shard].add(content.decode())  # the last, row -1, is the store's own file
    for path, contents in zip(store.files(), contents_of, strict=True):
        if not path.is_file():
            continue
        try:
            with guard.open_file(path) as file:
                there = set(guard.group(file, "videos"))
        except (guard.Hostile, OSError, RuntimeError) as error:
            problems.append(f"{path}: {error}")
            continue
        if there != contents:
            many, missing = len(there - contents), len(contents - there)
            problems.append(f"{path}: holds {many} videos that are not in the index, and misses {missing}")
    return problems


def check_video(store: Store, video: Video, *, decode: bool) -> Iterator[str]:
    """What is wrong with the streams of one video."""
    try:
        group = store.group(video)
    except (UserError, OSError, RuntimeError, KeyError) as error:
        yield str(error)
        return
    for stream in STREAMS:
        try:
            if video.streams[stream] != (stream in group):
                raise guard.Hostile("it is there and should not be" if stream in group else "it is not there")
            if not video.streams[stream]:
                continue
            if stream == "audio":
                _check_audio(group, store, video)
            else:
                _check_frames(group, video, stream, decode=decode)
            found = guard.group(group, stream)
            if stream_checksum(found) != guard.attribute(found, "checksum"):
                raise guard.Hostile("its bytes are not those that were written")
            if sum(data.nbytes for data in found.values()) != video.bytes[stream]:
                raise guard.Hostile("it has another size than the index says")
        except (guard.Hostile, OSError, RuntimeError, KeyError, ValueError) as error:
            yield f"{stream} of {one_line(video.path)}: {error}"


def _check_file(path: Path, digest: str | None = None) -> list[str]:
    try:
        seal = verify(path)
    except FileNotFoundError:
        return [f"{path}: is missing"]
    except Broken as error:
        return [f"{path}: {error}"]
    return [] if digest in (None, seal.digest) else [f"{path}: is not the file that the store means"]


def _check_rows(store: Store, decode: bool, rows: range) -> list[str]:
    return [problem for row in rows for problem in check_video(store, store.videos[row], decode=decode)]


def _check_frames(group, video: Video, stream: str, *, decode: bool) -> None:
    ends, data = frame_datasets(group, video, stream)
    _check_place(video, f"{stream}_ends", ends)
    _check_place(video, f"{stream}_data", data)
    ends, data = ends[:], data[:]
    if ends[0] != 0 or ends[-1] != len(data) or (np.diff(ends) < 4).any():
        raise guard.Hostile("frames begin and end where they cannot")
    check_jpegs(data, ends, (video.height * (2 if stream == "flow" else 1), video.width))
    lasts = ends[1:] - 2
    if (data[lasts] != 0xFF).any() or (data[lasts + 1] != 0xD9).any():
        raise guard.Hostile("a frame does not end")
    for begin, end in pairwise(ends) if decode else ():
        {"rgb": decode_rgb, "flow": decode_flow}[stream](data[begin:end])


def _check_place(video: Video, name: str, data) -> None:
    if video.at.get(name) != data.id.get_offset():
        raise guard.Hostile("it lies elsewhere than the index says")


def _check_audio(group, store: Store, video: Video) -> None:
    data = mel_dataset(group, store.parameters)
    _check_place(video, "audio_data", data)
    if len(data) != frame_count(video.seconds):
        raise guard.Hostile(f"{len(data)} rows for {video.seconds} s")
    if not np.isfinite(data[:]).all():
        raise guard.Hostile("it holds what is no number")


def main() -> int:
    settings = parse_command(CheckSettings, prog="python -m preprocess.check", doc=__doc__)
    at_least(1, workers=settings.workers)
    begun, count = monotonic(), 0
    for problem in check(settings.store, decode=settings.decode, workers=settings.workers):
        count += 1
        print(f"damaged: {problem}")
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
