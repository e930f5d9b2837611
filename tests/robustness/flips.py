"""Flip single bits anywhere in the files of a store, and see that preprocess.check finds every one.

    python -m tests.robustness.flips                  # 1,000 flips: half anywhere, half where no picture or sound lies
    python -m tests.robustness.flips --flips 100 --seed 1

Each flip is in a copy of a small store of several files. The checks run in worker processes that outlive a check; a
flip that ends or stops one, since HDF5 cannot read what it has made, is checked again as the command does it, which
must survive. The last line is JSON; the status is 1 if anything was not found, or not as it must be.
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest.mock import patch

import h5py

from preprocess import check
from preprocess.common.command import available_cores
from preprocess.common.console import progress
from preprocess.merge import merge
from preprocess.store import Store
from preprocess.store.seal import BLOCK
from preprocess.workers.pool import Failure, WorkerLimits, supervise
from preprocess.workers.worker import Heartbeat
from tests.support.stores import make_store, three_bit

HANGS = WorkerLimits(stall_seconds=20.0)


@dataclass(frozen=True)
class Flip:
    """One bit of one file."""

    file: str  # relative to the store's folder
    byte: int
    bit: int
    owner: str | None = None  # the video whose stream the byte belongs to


def write_store(folder: Path) -> Path:
    """A store of eight videos in shards and its own file."""
    folder.mkdir()
    one = make_store(folder / "one.h5", three_bit(8, frames=6)).path
    store = merge([one], folder / "out.h5", shard_bytes=32_000)
    one.unlink()
    assert len(store.shards) >= 2 and (store.columns["shard"] < 0).any()
    return store.path


def extents(store: Store) -> dict[Path, list[tuple[int, int, str | None]]]:
    """Where datasets lie: file → (begin, end, path of the video that it is a stream of)."""
    owners = {video.content: video.path for video in store.videos}
    found: dict[Path, list[tuple[int, int, str | None]]] = {path: [] for path in store.files()}
    for path, places in found.items():

        def take(name: str, item: object, places=places) -> None:
            if isinstance(item, h5py.Dataset) and item.nbytes:
                begin = item.id.get_offset()
                owner = owners.get(name.split("/")[1]) if name.startswith("videos/") else None
                places.append((begin, begin + item.nbytes, owner))

        with h5py.File(path) as file:
            file.visititems(take)
    return found


def choose(path: Path, count: int, *, seed: int) -> Iterator[Flip]:
    """Bits: one anywhere in all files, the next in the seals and in HDF5's own notes."""
    rng = random.Random(seed)
    places = extents(Store(path))
    files = list(places)
    sizes = [file.stat().st_size for file in files]
    for number in range(count):
        while True:
            file = rng.choices(files, sizes)[0] if number % 2 == 0 else rng.choice(files)
            byte = rng.randrange(file.stat().st_size) if rng.random() < 0.98 else rng.randrange(BLOCK)
            inside = [owner for begin, end, owner in places[file] if begin <= byte < end]
            if number % 2 == 0 or not inside:
                break
        yield Flip(str(file.relative_to(path.parent)), byte, rng.randrange(8), inside[0] if inside else None)


def flip(path: Path, target: Path, one: Flip) -> Path:
    """A copy of the store with that bit flipped."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(path.parent, target)
    flip_bit(target / one.file, one.byte, one.bit)
    return target / path.name


def flip_bit(path: Path, byte: int, bit: int) -> None:
    """Flip a bit of a file."""
    with open(path, "r+b") as file:
        file.seek(byte)
        (value,) = file.read(1)
        file.seek(byte)
        file.write(bytes([value ^ 1 << bit]))


def check_flipped(path: Path, scratch: Path, one: Flip, heartbeat: Heartbeat) -> list[str]:
    """What preprocess.check finds in a copy with that bit flipped, without processes of its own."""

    def contained(jobs, work, **_: object) -> Iterator[str]:
        for job in jobs:
            yield from work(job, heartbeat)

    check._store.cache_clear()  # of another flip
    copy = flip(path, scratch / str(os.getpid()), one)
    with patch.object(check, "_contained", contained), patch.object(check, "progress", lambda items, **_: items):
        return list(check.check(copy))


def run_flips(path: Path, scratch: Path, count: int, *, seed: int, workers: int) -> dict:
    """Flip, check, and count: all flips, those that were found, those that the command itself had to look at."""
    flips = list(choose(path, count, seed=seed))
    work = partial(check_flipped, path, scratch)
    wrong, hard = [], []
    done = supervise(flips, work, workers=workers, worker_limits=HANGS, limit_address_space=False)
    for one, problems in progress(done, total=count, unit="flip", name="flips"):
        if isinstance(problems, Failure):
            hard.append((one, problems.reason))
        else:
            wrong += faults(one, problems)
    for one, _ in hard:
        wrong += faults(one, list(check.check(flip(path, scratch / "hard", one))))
    return {
        "flips": count,
        "found": count - len(wrong),
        "in_streams": sum(one.owner is not None for one in flips),
        "cost_their_reader": len(hard),
        "how": dict(Counter(reason for _, reason in hard)),
        "wrong": wrong,
    }


def faults(one: Flip, problems: list[str]) -> list[str]:
    """What is wrong with what was found: nothing, or not the file, or not the video."""
    named = [one.file in problem for problem in problems]
    if not any(named):
        return [f"{one}: not found" if not problems else f"{one}: the file is not named: {problems}"]
    if one.owner and not any(one.owner in problem for problem in problems):
        return [f"{one}: the video is not named: {problems}"]
    return []


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.robustness.flips", description=__doc__)
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=available_cores())
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        path = write_store(Path(name) / "good")
        found = run_flips(path, Path(name), arguments.flips, seed=arguments.seed, workers=arguments.workers)
    for fault in found["wrong"]:
        print(fault)
    print(json.dumps(found | {"wrong": len(found["wrong"])}))
    return 1 if found["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
