"""Join stores into one.

    python -m preprocess.merge a.h5 b.h5 out.h5

All must have been extracted with the same settings. A video in several stores is taken once; the same path with other
content, or another label, group or split, is refused. The input stores are not changed.
"""

from preprocess.common.stopping import stop_at_once

if __name__ == "__main__":
    stop_at_once()

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from preprocess.common.command import parse_command, run_command
from preprocess.common.console import progress
from preprocess.common.errors import UserError, at_least, one_line
from preprocess.extraction.partial import PartialStore, differences
from preprocess.info import print_summary
from preprocess.store import Store
from preprocess.store.index import Rejected, Video
from preprocess.store.locations import Locations
from preprocess.store.writer import StoreWriter


@dataclass(frozen=True)
class MergeSettings:
    """The command line of preprocess.merge."""

    stores: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="STORE STORE … OUT")]
    """the stores to join, and last the one to write"""
    overwrite: bool = False
    """replace OUT if it is there"""
    shard_size: float = 2.0
    """GB of a file of the store; what is more goes to others in OUT.shards"""


def merge(paths: list[Path], out: Path, *, overwrite: bool = False, shard_bytes: float = 2e9) -> Store:
    """Write a store with all videos of the stores.

    Raises UserError if they do not fit together, or `out` exists already.
    """
    partial_store = PartialStore(out)
    if out.exists() and (not overwrite or out.resolve() in [path.resolve() for path in paths]):
        partial_store.tidy()  # a merge killed at its very end has written the store and left its folder
        raise UserError(f"{out} exists: give another name for the result, last, or --overwrite to replace it")
    if not out.parent.is_dir():
        raise UserError(f"cannot write {out}: its folder does not exist")
    stores = [Store(path) for path in paths]
    parameters = stores[0].parameters
    for store in stores[1:]:
        if store.parameters != parameters:
            what = differences(parameters, store.parameters)
            raise UserError(f"{stores[0].path} and {store.path} were extracted with different settings: {what}")
    videos = join_videos(stores)
    partial_store.check(parameters, overwrite=overwrite)
    locations = Locations(parameters)
    with partial_store.begin("merge", parameters=parameters, overwrite=overwrite), partial_store.joining():
        locations.add_store(out, newer_than=partial_store.job_time())  # shards that a killed merge has written
        for store in stores:
            locations.add_store(store.path)
            if missing := sorted(set(store.shards).difference(locations.files())):
                raise UserError(
                    f"{missing[0]} is missing or damaged: see what python -m preprocess.check {store.path} says"
                )
        scratch = partial_store.scratch("merge")
        with StoreWriter(out, locations=locations, scratch=scratch, shard_bytes=shard_bytes) as writer:
            for video in progress(videos, unit="video", name="merge"):
                writer.place(video.content)
            notes = list(dict.fromkeys(note for store in stores for note in store.notes))
            writer.publish(videos, join_rejected(stores, videos), notes=notes)
        partial_store.discard()
    return Store(out)


def join_videos(stores: list[Store]) -> list[Video]:
    """The videos of all stores, sorted by path.

    Raises UserError if two stores contradict each other about a path.
    """
    found: dict[str, tuple[Video, Store]] = {}
    for store in stores:
        for video in store.videos:
            before, other = found.setdefault(video.path, (video, store))
            if before != video:
                names = ("content", "label", "group", "split")
                what = next((name for name in names if getattr(before, name) != getattr(video, name)), "content")
                raise UserError(
                    f"{one_line(video.path)} is in {other.path} and in {store.path} with another {what}: "
                    f"a path stands for one video in a store"
                )
    return [found[path][0] for path in sorted(found)]


def join_rejected(stores: list[Store], videos: list[Video]) -> list[Rejected]:
    """The rejected files that no store has as a video."""
    used = {video.path for video in videos}
    found = {reject.path: reject for store in stores for reject in store.rejected if reject.path not in used}
    return list(found.values())


def main(settings: MergeSettings | None = None) -> None:
    settings = settings or parse_command(MergeSettings, prog="python -m preprocess.merge", doc=__doc__)
    if len(settings.stores) < 2:
        raise UserError("name the stores to join, and last the one to write: a.h5 b.h5 out.h5")
    at_least(0.0001, shard_size=settings.shard_size)
    *paths, out = settings.stores
    print_summary(merge(paths, out, overwrite=settings.overwrite, shard_bytes=settings.shard_size * 1e9))


if __name__ == "__main__":
    run_command(main)
