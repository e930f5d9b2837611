"""Turn a folder of videos into one store of RGB, TV-L1 optical flow and log-mel sound.

    python -m preprocess.extract videos/ out.h5                       # videos/<class>/<video>, at any depth
    python -m preprocess.extract videos/ out.h5 --labels labels.csv   # columns: path,label[,split][,group]
    python -m preprocess.extract videos/ out.h5 --test '*_g0[1-7]_*'  # a split by patterns of paths
    python -m preprocess.extract videos/ out.h5 --part 3/64           # one part of a job array; the last joins all

Run it again after it was interrupted, or after videos were added or changed: only what is missing is done.
Look at the result with python -m preprocess.info out.h5 and python -m preprocess.show out.h5 VIDEO.
"""

import errno
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from preprocess.common.command import available_cores, parse_command, run_command
from preprocess.common.errors import UserError, at_least, one_line
from preprocess.extraction import sources
from preprocess.extraction.job import Extraction, part_of
from preprocess.extraction.report import print_run, print_stages
from preprocess.extraction.sources import Catalog
from preprocess.info import print_summary
from preprocess.store import Store
from preprocess.video.piece import PieceSettings
from preprocess.workers.pool import Containment

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True)
class ExtractSettings:
    """The command line of preprocess.extract."""

    videos: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="VIDEOS")]
    """folder of videos: <class>/<video>, at any depth below the class"""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """the store to write, for instance out.h5"""
    labels: Path | None = None
    """CSV file with columns path (relative to the folder), label, and optionally split (train, val, test) and group"""
    val: tuple[str, ...] = ()
    """patterns of the paths of validation videos, like '*_g1[23]_*' (in quotes); what matches neither these nor --test
    is for training"""
    test: tuple[str, ...] = ()
    """patterns of the paths of test videos, which no training reads, like '*_g0[1-7]_*' or 'test/*'"""
    follow_links: bool = False
    """also take files and folders that links in VIDEOS lead to outside of it"""
    workers: int = field(default_factory=available_cores)
    """worker processes, one thread each; the default is one for each core"""
    part: str = "1/1"
    """do one part of the job, for instance 3/64; parts on a shared file system are joined by the one that ends last"""
    separate: bool = False
    """write the part as a store of its own, for machines without a common file system; join with preprocess.merge"""
    engine: Literal["local", "ray"] = "local"
    """where the work is done: on this machine, or on a Ray cluster that shares its file system"""
    ray_address: str | None = None
    """the Ray cluster, for instance auto or ray://head:10001; without it one is started on this machine"""
    overwrite: bool = False
    """start over, and replace the store if there is one"""
    retry_rejected: bool = False
    """try files again that an earlier run rejected; those that could not be read are always tried again"""
    dry_run: bool = False
    """say what would be done, how long it will take and how large it will be; nothing is written"""
    profile: bool = False
    """print how much of the CPU time each stage took"""
    strict: bool = False
    """end with status 1 if any video could not be used"""
    shard_size: float = 2.0
    """GB of a file of the store; what is more goes to others in OUT.shards"""
    store: Annotated[PieceSettings, tyro.conf.arg(name="")] = field(default_factory=PieceSettings)
    containment: Annotated[Containment, tyro.conf.arg(name="")] = field(default_factory=Containment)


def plan(settings: ExtractSettings) -> Extraction:
    """The run that the settings ask for.

    Raises UserError for input that cannot be worked on.
    """
    parameters = check(settings)
    found = find(settings)
    for note in found.notes:
        print(f"note: {one_line(note)}")
    if settings.separate:
        mine = [source for source in found.sources if part_of(source.path, settings.part)]
        found, settings = replace(found, sources=mine), replace(settings, part="1/1")
    return Extraction(settings, parameters, found)


def extract(settings: ExtractSettings) -> Store | None:
    """Extract every video and write the store; None if it is not complete yet, or no video can be used.

    Raises UserError for input that cannot be worked on.
    """
    extraction = plan(settings)
    try:
        store = extraction.run()
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(extraction.what_is_kept()) from stop
    except OSError as error:  # not a video's fault: the disk is full, the target is read-only
        what = f"{error.strerror or error}: {error.filename or settings.out}"
        do = f"make room for {settings.out}: " if error.errno in FULL else ""
        raise UserError(f"{what}; {do}{extraction.what_is_kept()}") from error
    print_run(extraction.progress, len(extraction.outcomes) - extraction.progress.done)
    if settings.profile:
        print_stages(extraction.progress.cpu)
    return store


def find(settings: ExtractSettings) -> Catalog:
    """The videos that the settings name."""
    links = {"follow_links": settings.follow_links}
    if settings.labels:
        found = sources.from_csv(settings.videos, settings.labels, **links)
    else:
        found = sources.from_folder(settings.videos, **links)
    return sources.with_splits(found, val=settings.val, test=settings.test)


def check(settings: ExtractSettings) -> dict:
    """The parameters that the store will record.

    Raises UserError for settings that cannot be worked with.
    """
    if not settings.videos.is_dir():
        raise UserError(f"{settings.videos} is no folder of videos")
    out = settings.out
    if out.is_dir() or not out.parent.is_dir():
        raise UserError(f"cannot write {out}: {'it is a folder' if out.is_dir() else 'its folder does not exist'}")
    at_least(1, workers=settings.workers, mel_bands=settings.store.mel_bands)
    at_least(8, short_side=settings.store.short_side)
    at_least(0.0001, shard_size=settings.shard_size)
    if not 0 < settings.store.fps <= 1000:
        raise UserError(f"--fps must be positive, and 1000 at most, not {settings.store.fps}")
    number, slash, count = settings.part.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise UserError(f"--part is a number and a count like 3/64, not {settings.part}")
    try:
        return settings.store.parameters()
    except ValueError as error:
        raise UserError(str(error)) from error


def main() -> int:
    settings = parse_command(ExtractSettings, prog="python -m preprocess.extract", doc=__doc__)
    if settings.dry_run:
        from preprocess.extraction.estimate import print_plan

        extraction = plan(settings)
        extraction.look()
        print_plan(extraction)
        return 0
    store = extract(settings)
    if store is None:
        if settings.part == "1/1":
            print(f"error: none of the videos in {settings.videos} can be used; no store was written", file=sys.stderr)
            return 1
        return 0
    print_summary(store)
    return 1 if settings.strict and store.rejected else 0


if __name__ == "__main__":
    run_command(main)
